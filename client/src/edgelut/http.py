"""The table behind a service's REST API: `HttpTable`, its retries, and what a refusal is raised as."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import msgspec

from .answers import EntryHistory, EntryPage
from .coverage import ColumnPage
from .errors import InvalidSpec, LatencyNotFound, ServiceError
from .placement import placed
from .quality import NetworkLatency
from .query import Page, Query, Row
from .rest import Connection
from .search_client import HttpSearches
from .table import LatencyTable
from .types import BlockSpec, Entry, EntryKind, Latency, NetworkSpec, Params, Target

BATCH = 5_000  # specs a request; the service takes 10,000
PUT_LIMIT = 10_000  # entries a request; a put is all or none, so it is never split
PAGE = 1_000


class HttpTable(LatencyTable, HttpSearches):
    """A table behind a service, and the place where searches on it are written down (`edgelut.searches.SearchLog`).

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
        self._connection = Connection(url, token, timeout=timeout, retries=retries, transport=transport, sleep=sleep)
        self.url = self._connection.url

    def find_many(
        self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None
    ) -> list[Entry | None]:
        """Return the current row of each spec on the target, None where there is none, or none on the required unit."""
        asked = {} if require_unit is None else {"require_unit": require_unit}
        return placed(self._batches(specs, target, asked), require_unit)

    def find_many_at(self, when: datetime | str, specs: Sequence[BlockSpec], target: Target) -> list[Entry | None]:
        """Return the rows that were current at a time (with its zone), or when the mark of that name was made."""
        return self._batches(specs, target, {"mark" if isinstance(when, str) else "at": when})

    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Store at most 10,000 entries, all or none; return for each whether it is now the current row."""
        if len(entries) > PUT_LIMIT:
            raise InvalidSpec(
                f"put at most {PUT_LIMIT:,} entries at once over HTTP (all or none), not {len(entries):,}"
            )
        return self._connection.call(_Stored, "PUT", "/entries", body=list(entries)).current if entries else []

    def history(self, spec: BlockSpec, target: Target) -> list[Entry]:
        """Return every entry ever put for that spec and target, oldest first."""
        return self._connection.call(EntryHistory, "POST", "/history", body={"spec": spec, "target": target}).entries

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
        found = self._connection.call(EntryPage, "GET", "/latency", params=_parameters(query))
        return Page(tuple(Row(row.id, row.entry()) for row in found.entries), found.next_cursor, found.left_out)

    def columns(self, target: Target, limit: int, cursor: str | None = None) -> ColumnPage:
        """Return current rows of a target as columns, at most 50,000 at once; none where the target has none."""
        asked: dict[str, str | int] = {**target.as_json(), "limit": limit}
        asked |= {} if cursor is None else {"cursor": cursor}
        return self._connection.call(ColumnPage, "GET", "/table", params=asked)

    def network_latency(
        self,
        network: NetworkSpec | str,
        target: Target,
        *,
        align: bool = False,
        estimate: bool = False,
        like: Target | None = None,
        require_unit: str | None = None,
    ) -> NetworkLatency:
        """Return what the service adds up for a network, or for a name or line of blocks.

        With `estimate` it estimates what its table lacks, by the table of another target too if `like` names one. Raises
        IncompleteNetwork where rows are missing, NotEstimable, OtherUnit where rows did not run on the required unit alone.
        `edgelut.quality.estimate` gives the same sum over any source.
        """
        asked: dict[str, Any] = {"target": target, "align": align, "estimate": estimate}
        asked |= {} if like is None else {"like": like}
        asked |= {} if require_unit is None else {"require_unit": require_unit}
        if isinstance(network, str):
            asked["blocks" if ":" in network else "network"] = network
        else:
            asked["blocks"] = network.blocks
        found = self._connection.call(NetworkLatency, "POST", "/networks/latency", body=asked)
        return replace(found, network=network.name or None) if isinstance(network, NetworkSpec) else found

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> HttpTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HttpTable({self.url!r})"

    def _batches(self, specs: Sequence[BlockSpec], target: Target, when: Mapping[str, Any]) -> list[Entry | None]:
        found: list[Entry | None] = []
        for start in range(0, len(specs), BATCH):
            found += self._batch(specs[start : start + BATCH], target, when)
        return found

    def _batch(self, specs: Sequence[BlockSpec], target: Target, when: Mapping[str, Any]) -> list[Entry | None]:
        """Return the rows of one chunk, decoding only what the caller lacks: hashing specs again is the slow part."""
        body = {"specs": list(specs), "target": target, **when}
        found = self._connection.call(_Batch, "POST", "/latency/batch", body=body).entries
        if len(found) != len(specs):
            raise ServiceError(f"{self.url} answered {len(found)} rows to {len(specs)} specs")
        for spec, row in zip(specs, found, strict=True):
            if row is not None and (row.spec.key, row.target.key) != (spec.key, target.key):
                raise ServiceError(f"{self.url} answered another row than {spec} on {target}: is its version another?")
        return [
            None if row is None else Entry(spec, target, row.latency, row.kind, row.provenance)
            for spec, row in zip(specs, found, strict=True)
        ]


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


class _Stored(msgspec.Struct, frozen=True):
    current: list[bool]


def _parameters(query: Query) -> dict[str, str | int]:
    """Return a query as URL parameters; a block parameter is JSON, so that the text "4" is not the number 4."""
    names = [name for name in Query.__dataclass_fields__ if name != "params"]
    given = {name: getattr(query, name) for name in names if getattr(query, name) is not None}
    return given | {f"param.{name}": msgspec.json.encode(value).decode() for name, value in query.params.items()}


__all__ = ["HttpTable"]
