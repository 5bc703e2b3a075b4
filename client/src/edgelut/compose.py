"""The latency of a network from the table: a sum with a bracket, an interval, and the rows that it used or lacked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from . import efficientformer
from .check import profile_commands
from .efficientformer import CONFIGS
from .errors import InvalidSpec, LatencyNotFound, UnlikeMeasures
from .placement import UNKNOWN, placed, require
from .sequences import label, network_spec
from .table import LatencySource, Searchable
from .types import BlockSpec, Entry, NetworkSpec, Target, own_unit

FREE = frozenset({"identity"})  # kinds that cost nothing because no runtime keeps them in a graph
GUESSED = frozenset({"interpolated", "predicted", "transferred"})  # kinds of rows that are estimates of times
ASSUMED_ERROR = 0.05  # where no network was measured: the largest of 32 networks' errors was below it
ALONE_ERROR = 0.11  # of blocks measured alone: a hot block keeps its weights in cache, which no network lets it
SHOWN = 8  # specs named in a message

Basis = Literal["slope", "context", "alone"]


@dataclass(frozen=True, slots=True)
class Part:
    """One block's share of a sum: `copies` times `each_ns`, which is its slope, its context or, lacking both, its p10 alone."""

    spec: BlockSpec
    copies: int
    each_ns: float
    basis: Basis
    entry: Entry


@dataclass(frozen=True, slots=True)
class Composition:
    """A network's latency as the table has it, in ns.

    `total_ns` is the estimate. `low_ns` and `high_ns` bracket the network: every block hot below (at the lower end of its
    own interval), every block cold above, and never narrower than the estimate. `interval_low_ns` and `interval_high_ns`
    are the estimate's own error bar at 95 %: what its rows say of theirs, or what the sums on measured networks of this
    target were off by, whichever is wider, and on top `guessed_ns`, what rows that were estimated may be off by. `measured`
    is the network's own row.
    """

    network: NetworkSpec
    target: Target
    total_ns: float
    hot_ns: float
    low_ns: float
    high_ns: float
    interval_low_ns: float
    interval_high_ns: float
    parts: tuple[Part, ...]
    doubts: tuple[str, ...] = ()
    measured: Entry | None = None
    guessed_ns: float = 0.0

    @property
    def ms(self) -> float:
        """The estimate in milliseconds."""
        return self.total_ns / 1e6

    @property
    def error(self) -> float | None:
        """The estimate against the network's own row, relative; None where it was not measured."""
        true = 0.0 if self.measured is None else self.measured.latency.p10_ns
        return self.total_ns / true - 1 if true > 0 else None


class IncompleteNetwork(LatencyNotFound):
    """The table lacks rows that a sum needs: `missing` are their specs, and `commands` measure them.

    A missing row is never counted as zero.
    """

    def __init__(self, message: str, missing: Sequence[BlockSpec] = (), commands: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.commands = tuple(commands)


def compose(
    network: NetworkSpec,
    target: Target,
    source: LatencySource | Searchable,
    error: float = ASSUMED_ERROR,
    *,
    require_unit: str | None = None,
) -> Composition:
    """Add up a network's blocks on a target; `error` is what sums on it are known to be off by at 95 %, relative.

    Each block counts with its slope in a chain, or what it adds in its context; a row that has neither (an older one, or one
    that somebody published) counts with its p10 and says so among the doubts. A source that estimates (`estimated`) fills its
    gaps, and what estimates may be off by is added to the error bar. Raises IncompleteNetwork; InvalidSpec where
    neighbours do not fit, and for emulated rows, whose times are no milliseconds of any device (UnlikeMeasures where they count
    instructions: `count_instructions` adds those); OtherUnit where a row did not run on the required unit alone.
    """
    counted, rows, whole = _rows(network, target, source)
    require(rows, require_unit)
    _refuse_emulated(rows, target)
    parts = [_part(entry, counted[entry.spec]) for entry in rows]
    total, hot = _sum(parts, lambda part: part.each_ns), _sum(parts, lambda part: part.entry.latency.p10_ns)
    known = _sum(parts, lambda part: abs(part.each_ns) * (max(error, ALONE_ERROR) if part.basis == "alone" else error))
    guessed = _sum(parts, guessed_half_ns)
    spread = max(_sum(parts, _half_ns), known) + guessed
    return Composition(
        network,
        target,
        total,
        hot,
        min(_sum(parts, lambda part: part.entry.latency.low_ns), total),
        max(_sum(parts, _cold_ns), total),
        max(total - spread, 0.0),
        total + spread,
        tuple(parts),
        tuple(_doubts(parts)),
        _measured(whole, require_unit),
        guessed,
    )


def count_instructions(network: NetworkSpec, target: Target, source: LatencySource | Searchable) -> float:
    """Return how many instructions a network's blocks execute on an emulated target, added up as `compose` adds times.

    They order networks and are no time of any device. Raises IncompleteNetwork, and UnlikeMeasures for rows that are times.
    """
    counted, rows, _ = _rows(network, target, source)
    times = [str(entry.spec) for entry in rows if entry.latency.measure != "instructions"]
    if times:
        raise UnlikeMeasures(f"on {target}, rows are times and no counts of instructions: {_some(times)}")
    return _sum([_part(entry, counted[entry.spec]) for entry in rows], lambda part: part.each_ns)


def _rows(
    network: NetworkSpec, target: Target, source: LatencySource | Searchable
) -> tuple[Counter[BlockSpec], list[Entry], Entry | None]:
    """Return how often each block is in a network, the blocks' rows, and the whole network's; raise IncompleteNetwork."""
    own = network_spec(network)
    counted = Counter(spec for spec in network.blocks if spec.kind not in FREE)
    found = source.find_many([*counted, own], target)
    missing = [spec for spec, entry in zip(counted, found, strict=False) if entry is None]
    if missing:
        raise _incomplete(network, target, missing, len(counted), _why_not(source, target, missing))
    return counted, [entry for entry in found[:-1] if entry is not None], found[-1]


def _measured(whole: Entry | None, require_unit: str | None) -> Entry | None:
    """Return a whole network's row where it was measured, and on the unit that is required."""
    found = placed([whole], require_unit)[0]
    return found if found is not None and found.kind == "measured" else None


def _why_not(source: LatencySource | Searchable, target: Target, missing: Sequence[BlockSpec]) -> list[str]:
    """Say why a source that estimates has none of the first missing blocks; empty for one that does not estimate."""
    from .estimated import EstimatedSource  # numpy's import is for those who estimate

    if not isinstance(source, EstimatedSource):
        return []
    estimates = source.estimates(target)
    return [estimates.why_not(spec) for spec in missing[:SHOWN]]


def _incomplete(
    network: NetworkSpec, target: Target, missing: Sequence[BlockSpec], of: int, why_not: Sequence[str]
) -> IncompleteNetwork:
    """Return the error that names the missing rows, why there are no estimates of them, and what measures them."""
    names = ", ".join(label(spec) for spec in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    more += f" (not estimated: {'; '.join(dict.fromkeys(why_not))})" if why_not else ""
    preset = network.name if _published(network.name) == network else ""
    commands = profile_commands(missing, target, preset)
    others = f", and {len(commands) - 1} more for the other blocks" if len(commands) > 1 else ""
    return IncompleteNetwork(
        f"{network.name or 'the network'} on {target}: the table lacks {len(missing)} of {of} rows: {names}{more}; "
        f"'{commands[0]}' measures them{others}",
        missing,
        commands,
    )


def _published(name: str) -> NetworkSpec | None:
    """Return the published network of that very name, or None."""
    return efficientformer.network(CONFIGS[name]) if name in CONFIGS else None


def _refuse_emulated(rows: Sequence[Entry], target: Target) -> None:
    counts = [str(entry.spec) for entry in rows if entry.latency.measure == "instructions"]
    if counts:
        raise UnlikeMeasures(
            f"on {target}, rows count instructions ({_some(counts)}): they order blocks but are no times of any device, and "
            "are never added to milliseconds; ask for a measured target"
        )
    emulated = [str(entry.spec) for entry in rows if entry.kind == "emulated"]
    if emulated:
        raise InvalidSpec(
            f"{target} is emulated: its rows ({', '.join(emulated[:SHOWN])}) order blocks but are no times of any device, "
            "and are never added up; ask for a measured target"
        )


def _part(entry: Entry, copies: int) -> Part:
    latency = entry.latency
    if latency.slope_ns is not None:
        return Part(entry.spec, copies, latency.slope_ns, "slope", entry)
    if latency.context_ns is not None:
        return Part(entry.spec, copies, latency.context_ns, "context", entry)
    return Part(entry.spec, copies, latency.p10_ns, "alone", entry)


def _sum(parts: Sequence[Part], value: Callable[[Part], float]) -> float:
    return math.fsum(value(part) * part.copies for part in parts)


def _cold_ns(part: Part) -> float:
    latency = part.entry.latency
    cold = max(latency.cold_ns or 0.0, latency.p10_ns, part.each_ns)
    if part.entry.kind in GUESSED and latency.p10_ns > 0:  # cold, at the upper end of what it may be
        cold *= max(latency.high_ns / latency.p10_ns, 1.0)
    return cold


def _half_ns(part: Part) -> float:
    latency = part.entry.latency
    return 0.0 if part.entry.kind in GUESSED else abs(latency.high_ns - latency.low_ns) / 2


def guessed_half_ns(part: Part) -> float:
    """Return the half-width of what one copy counts with where it was estimated; 0 of a row that was measured.

    A sum adds these one to one, as it does what sums are known to be off by, and not by their squares: copies of a block share
    one error, and estimates of a kind were learnt from the same rows. An estimate that does not say how far off its slope or
    context is (an older one) is taken to be as far off as its p10, in ns or in its share, whichever is more.
    """
    entry, latency = part.entry, part.entry.latency
    if entry.kind not in GUESSED:
        return 0.0
    said = entry.provenance.get(f"{part.basis}_half_ns")
    if isinstance(said, int | float):
        return float(said)
    half = max(latency.high_ns - latency.p10_ns, latency.p10_ns - latency.low_ns)
    return half * max(1.0, abs(part.each_ns) / latency.p10_ns if latency.p10_ns > 0 else 1.0)


def _doubts(parts: Sequence[Part]) -> list[str]:
    """Say what speaks against a sum: its rows' doubts, and what the rows lack or do not share."""
    doubts = [f"{part.spec}: {doubt}" for part in parts for doubt in part.entry.latency.doubts]
    alone = [str(part.spec) for part in parts if part.basis == "alone"]
    if alone:
        doubts.append(f"measured alone, without chain or context: {_some(alone)}")
    never_cold = [str(part.spec) for part in parts if part.entry.latency.cold_ns is None]
    if never_cold:
        doubts.append(f"never measured cold, so that the upper side may be higher: {_some(never_cold)}")
    measured = [part.entry for part in parts if part.entry.kind == "measured"]
    conditions = {entry.provenance.get("conditions") for entry in measured}
    if len(conditions) > 1:
        doubts.append(f"rows measured under {len(conditions)} different conditions: see 'edgelut table check'")
    doubts += _misplaced(parts)
    unmeasured = Counter(part.entry.kind for part in parts if part.entry.kind != "measured")
    doubts += [f"{count} rows are {kind}, not measured" for kind, count in sorted(unmeasured.items())]
    return doubts


def _misplaced(parts: Sequence[Part]) -> list[str]:
    """Say where rows ran, where it is not on one and the same unit, or not on the target's."""
    counted = Counter(part.entry.ran_on for part in parts)
    own = own_unit(parts[0].entry.target) if parts else None
    if len(counted) <= 1 and (own is None or own in counted):
        return []
    ran = ", ".join(f"{count} on {unit or UNKNOWN}" for unit, count in counted.most_common())
    return [
        f"rows ran on other units than one and the same: {ran}" if len(counted) > 1 else f"rows ran elsewhere: {ran}"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Kendall's tau-a of two rankings: 1 where all pairs are in the same order."""
    pairs = list(combinations(range(len(one)), 2))
    agree = sum(_sign(one[i] - one[j]) * _sign(other[i] - other[j]) for i, j in pairs)
    return agree / len(pairs) if pairs else 1.0


def _sign(value: float) -> int:
    return int(value > 0) - int(value < 0)
