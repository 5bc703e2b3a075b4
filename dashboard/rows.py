"""The rows of one target, as light as a table of thousands needs them, read once for everybody who looks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from edgelut.blocks import KINDS
from edgelut.coverage import COLUMNS
from edgelut.types import Entry, Latency, Scalar, Target

from .colours import standing
from .rest import Call, Calls

PAGE = 20_000
JOINED = "; "  # between the doubts of a row
DEFAULTS = "defaults"  # the variant whose parameters all are


class Spec(msgspec.Struct, frozen=True, gc=False):
    """What of a spec is shown; no key is computed of it."""

    kind: str
    width_in: int
    width_out: int
    resolution: int
    batch: int = 1
    params: Mapping[str, Scalar] = {}

    @property
    def width(self) -> str:
        """The width as a word."""
        return f"{self.width_in}" if self.width_in == self.width_out else f"{self.width_in}>{self.width_out}"

    @property
    def identity(self) -> tuple[object, ...]:
        """What equal specs have in common and others do not."""
        params = tuple(sorted(self.params.items()))
        return self.kind, self.width_in, self.width_out, self.resolution, self.batch, params

    def __str__(self) -> str:
        width = self.width.replace(">", "->")
        return f"{self.kind} {width} @{self.resolution}" + (f" x{self.batch}" if self.batch > 1 else "")


class Found(msgspec.Struct, frozen=True, gc=False):
    """One row."""

    id: int
    spec: Spec
    latency: Latency
    kind: str
    measured_at: str = ""
    variant: str = ""  # its parameters and batch in words
    sweep: str = ""  # rows of one sweep were measured interleaved; empty where it is not known

    @classmethod
    def of(cls, entry: Entry) -> Found:
        """Return an entry as a row that has no id."""
        spec, said = entry.spec, entry.provenance.get
        light = Spec(spec.kind, spec.width_in, spec.width_out, spec.resolution, spec.batch, spec.params)
        variant = variant_of(spec.kind, spec.params, spec.batch)
        return cls(0, light, entry.latency, entry.kind, str(said("measured_at", "")), variant, str(said("sweep", "")))

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


class Columns(msgspec.Struct, frozen=True):
    """The answer of GET /table."""

    names: tuple[str, ...]
    columns: tuple[list[Any], ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a target as they were at `version`, and how many there are of what: (measure, kind, variant)."""

    target: Target
    version: str
    rows: tuple[Found, ...]
    counts: Mapping[tuple[str, str, str], int]

    @property
    def measures(self) -> list[str]:
        """What the rows are: time, instructions, or both."""
        return sorted({measure for measure, _, _ in self.counts}, reverse=True)

    def kinds(self, measure: str) -> Counter[str]:
        """Return how many rows each kind of block has."""
        found: Counter[str] = Counter()
        for (of, kind, _), number in self.counts.items():
            if of == measure:
                found[kind] += number
        return found

    def variants(self, measure: str, kind: str) -> Counter[str]:
        """Return how many rows each set of parameters has."""
        counts = self.counts.items()
        return Counter({variant: number for (of, block, variant), number in counts if (of, block) == (measure, kind)})


class RowCache:
    """The rows of the targets that were looked at last; asked for once however many pages want them."""

    def __init__(self, most: int = 6) -> None:
        self._most = most
        self._kept: dict[tuple[str | None, Target], Rows] = {}
        self._reading: dict[tuple[str | None, Target, str], asyncio.Task[Rows]] = {}

    async def get(self, calls: Calls, target: Target, version: str, remark: str = "") -> Rows:
        """Return a target's rows as of a version that its coverage gave; the remark tells its call from others in the footer."""
        token = calls.token()
        calls.note(replace(Call.of("GET", "/table", asked(target)), remark=remark))
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
        pages: list[Columns] = []
        cursor: str | None = None
        while cursor is not None or not pages:
            call = Call.of("GET", "/table", {**asked(target), "limit": PAGE, "cursor": cursor})
            pages.append(await service.ask(Columns, call, token))
            cursor = pages[-1].next_cursor
        found = await asyncio.to_thread(_rows, target, version, pages)
        self._kept.pop((token, target), None)
        self._kept[(token, target)] = found
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return found


def _rows(target: Target, version: str, pages: Sequence[Columns]) -> Rows:
    """Return the rows of pages of columns, each distinct set of parameters put into words once."""
    words: dict[tuple[str, int, tuple[tuple[str, Scalar], ...]], str] = {}
    rows: list[Found] = []
    for page in pages:
        place = {name: number for number, name in enumerate(page.names)}
        columns = [page.columns[place[name]] for name in COLUMNS]
        for values in zip(*columns, strict=True):
            id, kind, width_in, width_out, resolution, batch, params, entry_kind, clock, *figures = values
            p10, p50, p90, low, high, slope, context, cold, runs, samples, doubts, at, sweep = figures
            key = (kind, batch, tuple(params.items()))
            if key not in words:
                words[key] = variant_of(kind, params, batch)
            spec = Spec(kind, width_in, width_out, resolution, batch, params)
            said = tuple(doubts.split(JOINED)) if doubts else ()
            latency = Latency(
                p10,
                p50,
                p90,
                low,
                high,
                runs,
                samples,
                clock,
                slope_ns=slope,
                doubts=said,
                context_ns=context,
                cold_ns=cold,
            )
            rows.append(Found(id, spec, latency, entry_kind, at, words[key], sweep))
    rows.sort(key=lambda row: (row.spec.kind, row.spec.width_in, row.spec.width_out, row.spec.resolution))
    counts = Counter(("time" if row.is_time else "instructions", row.spec.kind, row.variant) for row in rows)
    return Rows(target, version, tuple(rows), counts)


def variant_of(kind: str, params: Mapping[str, Scalar], batch: int = 1) -> str:
    """Return what of parameters and batch is not at its default: rows of one variant differ in width and resolution only."""
    usual = KINDS[kind].params if kind in KINDS else {}
    words = [f"{name}={value}" for name, value in sorted(params.items()) if usual.get(name) != value]
    return ", ".join(words + ([f"batch={batch}"] if batch != 1 else [])) or DEFAULTS


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
