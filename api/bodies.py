"""What requests and answers hold, in the bounds that storage has: stated once, for the code and for the OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edgelut.check import TableCheck
from edgelut.coverage import Coverage
from edgelut.errors import InvalidSpec
from edgelut.figures import figures
from edgelut.notation import MOST_BLOCKS
from edgelut.quality import Quality
from edgelut.query import BlockListing, Page, Row
from edgelut.types import BlockSpec, Clock, Entry, EntryKind, Latency, Measure, Params, Run, Target

LIMIT = 10_000
SMALL = 2**31 - 1  # what an integer column holds
LARGE = 2**63 - 1  # what a big one holds

Whole = Annotated[int, Meta(ge=1, le=SMALL)]
Count = Annotated[int, Meta(ge=0, le=SMALL)]
Amount = Annotated[int, Meta(ge=0, le=LARGE)]
Nanoseconds = Annotated[float, Meta(ge=0, le=1e18)]
Text = Annotated[str, Meta(max_length=2000)]
Word = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$(?!\n)")]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f/]+$(?!\n)")]  # as a target's
Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
Line = Annotated[str, Meta(max_length=20_000)]  # of blocks: a network of 100 different ones has 6,000 characters
Moment = Annotated[datetime, Meta(tz=True)]
Value = int | float | Text
Values = Annotated[dict[Word, Value], Meta(max_length=100)]


class SpecIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What is timed. `key` may be left out; where it is given it must be the one that this version computes."""

    kind: Name
    width_in: Whole
    width_out: Whole
    resolution: Whole
    batch: Whole = 1
    params: Annotated[dict[Word, int | float | Line], Meta(max_length=100)] = msgspec.field(default_factory=dict)
    key: Key | None = None

    def value(self) -> BlockSpec:
        """Return the spec; raise InvalidSpec for another key than its own."""
        spec = BlockSpec(self.kind, self.width_in, self.width_out, self.resolution, self.batch, Params(self.params))
        _check_key(f"{spec}", self.key, spec.key)
        return spec


class TargetIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how a block is timed. `key` may be left out, as a spec's."""

    device: Name
    runtime: Name
    precision: Name = "fp32"
    threads: Whole = 1
    unit: Name = "cpu"
    key: Key | None = None

    def value(self) -> Target:
        """Return the target; raise InvalidSpec for another key than its own."""
        target = Target(self.device, self.runtime, self.precision, self.threads, self.unit)
        _check_key(f"{target}", self.key, target.key)
        return target


class LatencyIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What comparable runs say of one call, in nanoseconds (in instructions where that is the `clock`); no doubts = stable."""

    p10_ns: Nanoseconds
    p50_ns: Nanoseconds
    p90_ns: Nanoseconds
    low_ns: Nanoseconds
    high_ns: Nanoseconds
    runs: Count
    samples: Count
    clock: Clock = "cpu"
    wall_p10_ns: Nanoseconds | None = None
    wall_p50_ns: Nanoseconds | None = None
    chain_ns: Nanoseconds | None = None
    slope_ns: Annotated[float, Meta(ge=-1e18, le=1e18)] | None = None
    context_ns: Annotated[float, Meta(ge=-1e18, le=1e18)] | None = None
    cold_ns: Nanoseconds | None = None
    load_ns: Amount | None = None
    compile_ns: Amount | None = None
    peak_memory_bytes: Amount | None = None
    doubts: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()

    def value(self) -> Latency:
        """Return the latency."""
        return Latency(**{name: getattr(self, name) for name in self.__struct_fields__})


class EntryIn(Struct, frozen=True, forbid_unknown_fields=True):
    """One row to be stored."""

    spec: SpecIn
    target: TargetIn
    latency: LatencyIn
    kind: EntryKind = "measured"
    provenance: Values = msgspec.field(default_factory=dict)

    def value(self) -> Entry:
        """Return the entry."""
        return Entry(self.spec.value(), self.target.value(), self.latency.value(), self.kind, Params(self.provenance))


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Many specs on one target: the table as it is, or as it was at a time, or when a mark was made.

    Where `require_unit` is given, a row that did not run on that compute unit alone is null.
    """

    specs: Annotated[list[SpecIn], Meta(max_length=LIMIT)]
    target: TargetIn
    at: Moment | None = None
    mark: Word | None = None
    require_unit: Name | None = None


class HistoryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One spec on one target."""

    spec: SpecIn
    target: TargetIn


class NetworkRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A network on a target: `network` is a name that GET /networks lists, or `blocks` are a line of blocks or their specs.

    `align` divides out the drift of older sweeps against the target's newest one. `estimate` estimates the rows that the table
    lacks, where that is possible, with the help of the target `like` if one is given. Where `require_unit` is given, a row that
    did not run on that compute unit alone refuses the sum.
    """

    target: TargetIn
    network: Word | None = None
    blocks: Line | Annotated[list[SpecIn], Meta(min_length=1, max_length=MOST_BLOCKS)] | None = None
    align: bool = False
    estimate: bool = False
    like: TargetIn | None = None
    require_unit: Name | None = None


EntriesIn = Annotated[list[EntryIn], Meta(max_length=LIMIT)]


class RowOut(Struct, frozen=True):
    """One row of the table. `latency_ms` is the headline, the 10th percentile; `kind` and `latency.doubts` say how far to
    trust it.

    Where `measure` is `instructions`, the row counts what an emulated processor executed in a call: `instructions` is the
    headline, `latency_ms` is null, and the fields of `latency` whose names end in `_ns` hold instructions, but for `load_ns` and
    `compile_ns`. `interval` bounds the headline at 95 %, in its unit. `ran_on` is the compute unit that calls really ran on:
    `cpu`, `gpu`, `ne`, several joined by `+`, null where it is not known.
    """

    id: int
    latency_ms: float | None
    instructions: float | None
    measure: Measure
    interval: tuple[float, float]
    ran_on: str | None
    spec: BlockSpec
    target: Target
    latency: Latency
    kind: EntryKind
    provenance: Params


class PageOut(Struct, frozen=True):
    """The rows that match; `next_cursor` goes into `cursor` for the next page and is null on the last.

    `left_out` counts, on the first page, the rows that match but for `require_unit`, up to 1000.
    """

    entries: list[RowOut]
    next_cursor: str | None
    left_out: int = 0


class BatchOut(Struct, frozen=True):
    """The row of each spec, in order; null where there is none, or none that ran on the required unit alone.

    `left_out` counts the latter.
    """

    entries: list[Entry | None]
    left_out: int = 0


class HistoryOut(Struct, frozen=True):
    """Every entry ever stored for a spec on a target, oldest first."""

    entries: list[Entry]


class StoredOut(Struct, frozen=True):
    """For each entry whether it is now the current row."""

    current: list[bool]


class RunSummary(Struct, frozen=True):
    """One process's round of timings, without its samples; `measure` says what those are, ns or instructions."""

    id: int
    sweep: str
    process: str
    round: int
    samples: int
    inner: int
    warmups: int
    started_at: datetime
    measure: Measure


class RunsOut(Struct, frozen=True):
    """The raw runs behind an entry, oldest first."""

    runs: list[RunSummary]


class RunOut(Struct, frozen=True):
    """One raw run with every sample and fact."""

    id: int
    run: Run


class BlocksOut(Struct, frozen=True):
    """Each kind that has rows, with the values they have."""

    blocks: list[BlockListing]


class DevicesOut(Struct, frozen=True):
    """The devices that have rows."""

    devices: list[str]


class TargetOut(Struct, frozen=True):
    """A target, and how far the sums on it are off its measured networks: null where none was measured."""

    device: str
    runtime: str
    precision: str
    threads: int
    unit: str
    key: str
    quality: Quality | None


class TargetsOut(Struct, frozen=True):
    """The targets that have rows."""

    targets: list[TargetOut]


class CoverageOut(Struct, frozen=True):
    """How many rows each target has of each kind of block and entry, and how many of them are in doubt."""

    coverage: list[Coverage]


class NetworkOut(Struct, frozen=True):
    """A network that can be asked for by name, and its blocks as a line."""

    name: str
    blocks: str


class NetworksOut(Struct, frozen=True):
    """The networks that can be asked for by name."""

    networks: list[NetworkOut]


class ChecksOut(Struct, frozen=True):
    """What speaks against the table, target by target, and what to type; `complete` is false where there were more rows."""

    checks: list[TableCheck]
    rows: int
    complete: bool


class HealthOut(Struct, frozen=True):
    """Whether the database can be reached."""

    status: str
    version: str


class CallerOut(Struct, frozen=True):
    """Who asks: the token's name, the scopes it has, those that others include too, and the devices it is bound to. `guarded` is
    false where the service asks for no token."""

    name: str
    scopes: list[str]
    devices: list[str]
    guarded: bool


class IndexOut(Struct, frozen=True):
    """What there is to ask."""

    name: str
    version: str
    links: dict[str, str]


def row_out(row: Row) -> RowOut:
    """Return a row as it is answered."""
    entry = row.entry
    told = figures(entry)
    return RowOut(
        row.id,
        told.latency_ms,
        told.instructions,
        told.measure,
        told.interval,
        told.ran_on,
        entry.spec,
        entry.target,
        entry.latency,
        entry.kind,
        entry.provenance,
    )


def page_out(page: Page) -> PageOut:
    """Return a page as it is answered."""
    return PageOut([row_out(row) for row in page.rows], page.next_cursor, page.left_out)


def target_out(target: Target, quality: Quality | None) -> TargetOut:
    """Return a target as it is listed."""
    return TargetOut(target.device, target.runtime, target.precision, target.threads, target.unit, target.key, quality)


def runs_out(runs: Sequence[tuple[int, Run]]) -> RunsOut:
    """Return runs as they are listed."""
    return RunsOut([run_summary(id_, run) for id_, run in runs])


def run_summary(id_: int, run: Run) -> RunSummary:
    """Return a run as it is listed."""
    samples = len(run.wall_ns)
    return RunSummary(
        id_, run.sweep, run.process, run.round, samples, run.inner, run.warmups, run.started_at, run.measure
    )


def _check_key(what: str, given: str | None, key: str) -> None:
    if given is not None and given != key:
        raise InvalidSpec(f"{what} has the key {key}, not {given}: leave the key out, or use this service's version")
