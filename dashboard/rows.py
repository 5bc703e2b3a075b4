"""The rows of one target, as light as a table of thousands needs them, read page by page once for everybody who looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edgelut.errors import LatencyNotFound
from edgelut.types import Scalar, Target

from .colours import standing
from .rest import Call, Calls

PAGE = 1000


class Spec(msgspec.Struct, frozen=True):
    """What of a spec is shown; no key is computed of it."""

    kind: str
    width_in: int
    width_out: int
    resolution: int
    batch: int = 1
    params: dict[str, Scalar] = {}

    @property
    def width(self) -> str:
        """The width as a word."""
        return f"{self.width_in}" if self.width_in == self.width_out else f"{self.width_in}>{self.width_out}"


class Figures(msgspec.Struct, frozen=True):
    """What of a latency is shown; ns, or instructions where `clock` says so."""

    p10_ns: float
    p50_ns: float
    p90_ns: float
    low_ns: float
    high_ns: float
    runs: int
    samples: int
    clock: str = "cpu"
    slope_ns: float | None = None
    context_ns: float | None = None
    cold_ns: float | None = None
    doubts: tuple[str, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """One row."""

    id: int
    spec: Spec
    latency: Figures
    kind: str
    provenance: dict[str, Scalar] = {}

    @property
    def standing(self) -> str:
        """The name of its mark."""
        return standing(self.kind, len(self.latency.doubts))

    @property
    def is_time(self) -> bool:
        """False for what counts instructions."""
        return self.latency.clock != "instructions"

    def in_unit(self, value: float) -> float:
        """Return a figure in milliseconds, or as the instructions that it counts."""
        return value / 1e6 if self.is_time else value

    @property
    def variant(self) -> str:
        """Its parameters and batch in a few words: rows of one variant differ in width and resolution only."""
        words = [f"{name}={value}" for name, value in sorted(self.spec.params.items())]
        return ", ".join(words + ([f"batch={self.spec.batch}"] if self.spec.batch != 1 else []))


class _Page(msgspec.Struct, frozen=True):
    entries: list[Found]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a target as they were at `version`."""

    target: Target
    version: str
    rows: tuple[Found, ...]


class RowCache:
    """The rows of the targets that were looked at last; asked for once however many pages want them."""

    def __init__(self, most: int = 6) -> None:
        self._most = most
        self._kept: dict[tuple[str | None, Target], Rows] = {}
        self._reading: dict[tuple[str | None, Target, str], asyncio.Task[Rows]] = {}

    async def get(self, calls: Calls, target: Target, version: str) -> Rows:
        """Return a target's rows as of a version that its coverage gave."""
        token = calls.token()
        calls.note(Call.of("GET", "/latency", {**asked(target), "limit": PAGE}))
        kept = self._kept.get((token, target))
        if kept is not None and kept.version == version:
            return kept
        key = (token, target, version)
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.ensure_future(self._read(calls, target, version))
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    async def _read(self, calls: Calls, target: Target, version: str) -> Rows:
        token, service = calls.token(), calls.service
        rows: list[Found] = []
        cursor: str | None = None
        while True:
            call = Call.of("GET", "/latency", {**asked(target), "limit": PAGE, "cursor": cursor})
            try:
                page = await service.ask(_Page, call, token)
            except LatencyNotFound:  # the service says so where a table has no such rows
                break
            rows += page.entries
            cursor = page.next_cursor
            if cursor is None:
                break
        found = Rows(target, version, tuple(row for row in rows if row.spec.kind != "reference"))
        self._kept.pop((token, target), None)
        self._kept[(token, target)] = found
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return found


def asked(target: Target) -> dict[str, Any]:
    """Return a target as parameters of a query."""
    return target.as_json()


def choose(rows: Sequence[Found], *, block: str = "", variant: str = "", measure: str = "time") -> list[Found]:
    """Return the rows of a kind of block and a variant that are times, or that count instructions."""
    return [
        row
        for row in rows
        if (not block or row.spec.kind == block)
        and (not variant or row.variant == variant)
        and row.is_time == (measure != "instructions")
    ]
