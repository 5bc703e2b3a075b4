"""The table behind a service's REST API: `HttpTable`, its retries, and what a refusal is raised as."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import httpx
import msgspec

from . import wire
from .compose import IncompleteNetwork
from .errors import EdgelutError, InvalidSpec, LatencyNotFound, ServiceError
from .quality import NetworkLatency
from .query import Page, Query, Row
from .table import LatencyTable
from .types import BlockSpec, Entry, EntryKind, Latency, NetworkSpec, Params, Target

BATCH = 5_000  # specs a request; the service takes 10,000
PUT_LIMIT = 10_000  # entries a request; a put is all or none, so it is never split
PAGE = 1_000
PROBLEM = "urn:problem-type:edgelut:"
BUSY = (429, 502, 503, 504)
LONGEST_WAIT_S = 5.0

T = TypeVar("T")


class HttpTable(LatencyTable):
    """A table behind a service.

    Every call is bounded in time and may safely be sent twice, so each is tried again on a lost connection and on a
    busy service. A refusal is raised as LatencyNotFound, InvalidSpec or ServiceError with the service's own words. The
    token is in no message and no repr.

    `timeout` is in seconds for connecting and for each wait for bytes; `transport` replaces the network in tests.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        from . import __version__

        self.url = _checked_url(url)
        self._token = _checked_token(token)
        self._retries = retries
        self._sleep = sleep
        headers = {"User-Agent": f"edgelut/{__version__}", "EdgeLUT-Version": __version__}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, transport=transport)

    def find_many(self, specs: Sequence[BlockSpec], target: Target) -> list[Entry | None]:
        """Return the current row of each spec on the target, None where there is none."""
        found: list[Entry | None] = []
        for start in range(0, len(specs), BATCH):
            found += self._batch(specs[start : start + BATCH], target)
        return found

    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Store at most 10,000 entries, all or none; return for each whether it is now the current row."""
        if len(entries) > PUT_LIMIT:
            raise InvalidSpec(
                f"put at most {PUT_LIMIT:,} entries at once over HTTP (all or none), not {len(entries):,}"
            )
        return self._call(_Stored, "PUT", "/entries", body=list(entries)).current if entries else []

    def history(self, spec: BlockSpec, target: Target) -> list[Entry]:
        """Return every entry ever put for that spec and target, oldest first."""
        return self._call(_History, "POST", "/history", body={"spec": spec, "target": target}).entries

    def entries(self) -> Iterator[Entry]:
        """Iterate over the current rows, a page a request."""
        cursor: str | None = None
        while True:
            try:
                page = self.search(Query(limit=PAGE, cursor=cursor))
            except LatencyNotFound:  # an empty table is a 404 with advice to a person; here it is no rows
                return
            yield from (row.entry for row in page.rows)
            cursor = page.next_cursor
            if cursor is None:
                return

    def search(self, query: Query) -> Page:
        """Return the rows that match; raise LatencyNotFound, which says what there is nearby, where none does."""
        found = self._call(_Answer, "GET", "/latency", params=_parameters(query))
        return Page(tuple(Row(row.id, row.entry()) for row in found.entries), found.next_cursor)

    def network_latency(self, network: NetworkSpec | str, target: Target, *, align: bool = False) -> NetworkLatency:
        """Return what the service adds up for a network, or for a name or line of blocks.

        Raises IncompleteNetwork where rows are missing. `edgelut.quality.estimate` gives the same sum over any source.
        """
        asked: dict[str, Any] = {"target": target, "align": align}
        if isinstance(network, str):
            asked["blocks" if ":" in network else "network"] = network
        else:
            asked["blocks"] = network.blocks
        found = self._call(NetworkLatency, "POST", "/networks/latency", body=asked)
        return replace(found, network=network.name or None) if isinstance(network, NetworkSpec) else found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> HttpTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HttpTable({self.url!r})"

    def _batch(self, specs: Sequence[BlockSpec], target: Target) -> list[Entry | None]:
        """Return the rows of one chunk, decoding only what the caller lacks: hashing specs again is the slow part."""
        found = self._call(_Batch, "POST", "/latency/batch", body={"specs": list(specs), "target": target}).entries
        if len(found) != len(specs):
            raise ServiceError(f"{self.url} answered {len(found)} rows to {len(specs)} specs")
        for spec, row in zip(specs, found, strict=True):
            if row is not None and (row.spec.key, row.target.key) != (spec.key, target.key):
                raise ServiceError(f"{self.url} answered another row than {spec} on {target}: is its version another?")
        return [
            None if row is None else Entry(spec, target, row.latency, row.kind, row.provenance)
            for spec, row in zip(specs, found, strict=True)
        ]

    def _call(
        self, type_: type[T], method: str, path: str, *, body: Any = None, params: Mapping[str, str | int] | None = None
    ) -> T:
        """Send a request until it is answered; return the answer or raise what the refusal means."""
        content = None if body is None else wire.encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        request = self._client.build_request(method, path, content=content, params=params, headers=headers)
        response = self._send(request)
        if not response.is_success:
            raise self._refusal(response)
        try:
            return wire.decode(type_, response.content)
        except InvalidSpec as error:
            raise ServiceError(f"{self.url} answered what is not EdgeLUT's: {error}") from error

    def _send(self, request: httpx.Request) -> httpx.Response:
        """Return the response, after more tries on lost connections and busy answers; raise ServiceError."""
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._client.send(request)
            except httpx.UnsupportedProtocol as error:
                raise ServiceError(f"cannot reach {self.url}: {self._hide(str(error))}") from None
            except httpx.TransportError as error:
                if last:
                    why = self._hide(str(error)) or type(error).__name__
                    raise ServiceError(f"cannot reach {self.url}: {why}; is 'edgelut serve' running there?") from None
                self._sleep(_wait_s(attempt))
                continue
            if response.status_code not in BUSY or last:
                return response
            self._sleep(_wait_s(attempt, response.headers.get("Retry-After")))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _refusal(self, response: httpx.Response) -> EdgelutError:
        """Return the exception that a refusal is: by the problem's type where there is one."""
        try:
            problem = wire.decode(_Problem, response.content)
        except InvalidSpec:
            return ServiceError(f"{self.url} answered {response.status_code} and is perhaps no EdgeLUT service")
        detail = self._hide(problem.detail or problem.title or f"status {response.status_code}")
        if problem.type == f"{PROBLEM}incomplete-network":
            return IncompleteNetwork(detail, [one.spec for one in problem.missing], problem.commands)
        if problem.type in _RAISED:
            return _RAISED[problem.type](detail)
        return ServiceError(f"{self.url}: {detail}")

    def _hide(self, text: str) -> str:
        return text.replace(self._token, "***") if self._token else text


_RAISED: Mapping[str, type[EdgelutError]] = {
    f"{PROBLEM}no-match": LatencyNotFound,
    f"{PROBLEM}no-such-entry": LatencyNotFound,
    f"{PROBLEM}unknown-name": LatencyNotFound,
    f"{PROBLEM}empty-table": LatencyNotFound,
    f"{PROBLEM}invalid": InvalidSpec,
    f"{PROBLEM}too-large": InvalidSpec,
}


class _Missing(msgspec.Struct, frozen=True):
    spec: BlockSpec


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    missing: tuple[_Missing, ...] = ()
    commands: tuple[str, ...] = ()


class _Keyed(msgspec.Struct, frozen=True):
    key: str


class _Found(msgspec.Struct, frozen=True):
    spec: _Keyed
    target: _Keyed
    latency: Latency
    kind: EntryKind
    provenance: Params


class _Batch(msgspec.Struct, frozen=True):
    entries: list[_Found | None]


class _Numbered(msgspec.Struct, frozen=True):
    id: int
    spec: BlockSpec
    target: Target
    latency: Latency
    kind: EntryKind
    provenance: Params

    def entry(self) -> Entry:
        """Return the row without its id."""
        return Entry(self.spec, self.target, self.latency, self.kind, self.provenance)


class _Answer(msgspec.Struct, frozen=True):
    entries: list[_Numbered]
    next_cursor: str | None = None


class _History(msgspec.Struct, frozen=True):
    entries: list[Entry]


class _Stored(msgspec.Struct, frozen=True):
    current: list[bool]


def _parameters(query: Query) -> dict[str, str | int]:
    """Return a query as URL parameters; a block parameter is JSON, so that the text "4" is not the number 4."""
    names = [name for name in Query.__dataclass_fields__ if name != "params"]
    given = {name: getattr(query, name) for name in names if getattr(query, name) is not None}
    return given | {f"param.{name}": msgspec.json.encode(value).decode() for name, value in query.params.items()}


def _wait_s(attempt: int, retry_after: str | None = None) -> float:
    """Return how long to wait: what the service asks for, else twice as long each time, spread out."""
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), LONGEST_WAIT_S)
    return min(0.1 * 2.0**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _checked_url(url: str) -> str:
    """Return a service's address without a trailing slash. A URL with a password is refused and never repeated."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise InvalidSpec("the service's URL cannot be read; give one like http://127.0.0.1:8321") from None
    if parsed.userinfo:
        raise InvalidSpec("the service's URL holds a user name or password; give the token apart (EDGELUT_TOKEN)")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise InvalidSpec("the service's URL must be like http://127.0.0.1:8321, without a query")
    return str(parsed).rstrip("/")


def _checked_token(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidSpec(
            "the token holds a space, a line end or a letter that no header carries; is it quoted wrongly?"
        )
    return token or None


__all__ = ["HttpTable"]
