"""A connection to a service: requests that are tried again, refusals raised as what they mean, the token in no message."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import httpx
import msgspec

from . import wire
from .compose import IncompleteNetwork
from .errors import (
    Conflict,
    EdgelutError,
    Forbidden,
    InvalidSpec,
    LatencyNotFound,
    NotEstimable,
    OtherUnit,
    ServiceError,
)
from .types import BlockSpec

PROBLEM = "urn:problem-type:edgelut:"
BUSY = (429, 502, 503, 504)
LONGEST_WAIT_S = 5.0

T = TypeVar("T")


class Connection:
    """Connections to one service. Close it, or use it in a `with` block; safe for threads.

    Every call is bounded in time and may safely be sent twice, so each is tried again on a lost connection and on a busy
    service. A refusal is raised as LatencyNotFound, InvalidSpec, Conflict, Forbidden or ServiceError with the service's own
    words; Conflict and ServiceError have the problem's name in `problem`.

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

        self.url = checked_url(url)
        self._token = checked_token(token)
        self._retries = retries
        self._sleep = sleep
        headers = {"User-Agent": f"edgelut/{__version__}", "EdgeLUT-Version": __version__}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        type_: type[T],
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> T:
        """Send a request until it is answered; return the answer or raise what the refusal means.

        `timeout` is for this call alone: a long poll waits longer than others. An empty answer (204) is None.
        """
        content = None if body is None else wire.encode(body)
        sent = {**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
        wait = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        request = self._client.build_request(method, path, content=content, params=params, headers=sent, timeout=wait)
        response = self._send(request)
        if not response.is_success:
            raise refusal(response, self.url, self._hide)
        try:
            return wire.decode(type_, b"null" if response.status_code == httpx.codes.NO_CONTENT else response.content)
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
                    raise self._unreachable(error) from None
                self._sleep(_wait_s(attempt))
                continue
            if response.status_code not in BUSY or last:
                return response
            self._sleep(_wait_s(attempt, response.headers.get("Retry-After")))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _lines(self, response: httpx.Response) -> Iterator[str]:
        try:
            yield from response.iter_lines()
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.TransportError) -> ServiceError:
        why = self._hide(str(error)) or type(error).__name__
        return ServiceError(f"cannot reach {self.url}: {why}; is 'edgelut serve' running there?")

    def _hide(self, text: str) -> str:
        return text.replace(self._token, "***") if self._token else text

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Iterator[Iterator[str]]:
        """Yield an iterator over the lines of an answer that stays open; raise what a refusal or a lost connection means.

        It is asked for once. `timeout` is how long the service may say nothing, in seconds.
        """
        wait = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        try:
            with self._client.stream("GET", path, headers=dict(headers or {}), timeout=wait) as response:
                if not response.is_success:
                    response.read()
                    raise refusal(response, self.url, self._hide)
                yield self._lines(response)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None


CONFLICTS = ("conflict", "session", "protocol")
_RAISED: Mapping[str, type[EdgelutError]] = {
    "no-match": LatencyNotFound,
    "no-estimate": NotEstimable,
    "no-such-entry": LatencyNotFound,
    "no-such-job": LatencyNotFound,
    "no-such-batch": LatencyNotFound,
    "no-such-mark": LatencyNotFound,
    "no-such-search": LatencyNotFound,
    "no-such-token": LatencyNotFound,
    "no-baseline": LatencyNotFound,
    "unknown-name": LatencyNotFound,
    "empty-table": LatencyNotFound,
    "forbidden": Forbidden,
    "invalid": InvalidSpec,
    "too-large": InvalidSpec,
}


class _Missing(msgspec.Struct, frozen=True):
    spec: BlockSpec


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    missing: tuple[_Missing, ...] = ()
    commands: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def refusal(response: httpx.Response, url: str, hide: Callable[[str], str] = str) -> EdgelutError:
    """Return the exception that a refusal is: by the problem's type where there is one. `hide` takes secrets out of a text."""
    try:
        problem = wire.decode(_Problem, response.content)
    except InvalidSpec:
        return ServiceError(f"{url} answered {response.status_code} and is perhaps no EdgeLUT service")
    detail = hide(problem.detail or problem.title or f"status {response.status_code}")
    if problem.type == f"{PROBLEM}incomplete-network":
        return IncompleteNetwork(detail, [one.spec for one in problem.missing], problem.commands)
    name = problem.type.removeprefix(PROBLEM) if problem.type.startswith(PROBLEM) else ""
    if name == "other-unit":
        return OtherUnit(detail, problem.known)
    if name in CONFLICTS:
        return Conflict(detail, problem=name)
    return _RAISED[name](detail) if name in _RAISED else ServiceError(f"{url}: {detail}", problem=name)


def _wait_s(attempt: int, retry_after: str | None = None) -> float:
    """Return how long to wait: what the service asks for, else twice as long each time, spread out."""
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), LONGEST_WAIT_S)
    return min(0.1 * 2.0**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def checked_url(url: str) -> str:
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


def checked_token(token: str | None) -> str | None:
    """Return a token that a header can carry; an empty one is none. Raises InvalidSpec, and repeats nothing of it."""
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidSpec(
            "the token holds a space, a line end or a letter that no header carries; is it quoted wrongly?"
        )
    return token or None
