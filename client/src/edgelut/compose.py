"""The latency of a network from the table: a sum with a bracket, an interval, and the rows that it used or lacked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from .errors import LatencyNotFound
from .sequences import label, network_spec
from .table import LatencySource, Searchable
from .types import BlockSpec, Entry, NetworkSpec, Target

FREE = frozenset({"identity"})  # kinds that cost nothing because no runtime keeps them in a graph


@dataclass(frozen=True, slots=True)
class Part:
    """One block's share of a sum: `copies` times `each_ns`, read from `field` of its row."""

    spec: BlockSpec
    copies: int
    each_ns: float
    field: str  # slope_ns, context_ns, or p10_ns where the row has neither
    entry: Entry


@dataclass(frozen=True, slots=True)
class Composition:
    """A network's latency as the table has it, in ns.

    `total_ns` is the estimate. `low_ns` and `high_ns` bracket it: every block hot below, every block cold above.
    `interval_low_ns` and `interval_high_ns` are the estimate's own error bar at 95 %: what its rows say of theirs, or what
    the sums on measured networks of this target were off by, whichever is wider. `measured` is the network's own row.
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

    @property
    def ms(self) -> float:
        """The estimate in milliseconds."""
        return self.total_ns / 1e6

    @property
    def error(self) -> float | None:
        """The estimate against the network's own row, relative; None where it was not measured."""
        return None if self.measured is None else self.total_ns / self.measured.latency.p10_ns - 1


class IncompleteNetwork(LatencyNotFound):
    """The table lacks rows that a sum needs; `missing` lists their specs. A missing row is never counted as zero."""

    def __init__(self, network: NetworkSpec, target: Target, missing: Sequence[BlockSpec]) -> None:
        self.missing = tuple(missing)
        names = ", ".join(label(spec) for spec in self.missing[:8])
        more = f" and {len(self.missing) - 8} more" if len(self.missing) > 8 else ""
        super().__init__(
            f"{network.name or 'the network'} on {target} lacks {names}{more}; measure with 'edgelut profile'"
        )


def compose(
    network: NetworkSpec, target: Target, source: LatencySource | Searchable, error: float = 0.0
) -> Composition:
    """Add up a network's blocks on a target; `error` is the relative error at 95 % that its sums are known to have.

    Each block counts with its slope in a chain, or what it adds in its context; a row that has neither (an older one, or one
    that somebody published) counts with its p10 and says so among the doubts. Raises IncompleteNetwork.
    """
    counted = Counter(network.blocks)
    specs = [spec for spec in counted if spec.kind not in FREE]
    own = network_spec(network)
    found = source.find_many([*specs, own], target)
    missing = [spec for spec, entry in zip(specs, found, strict=False) if entry is None]
    if missing:
        raise IncompleteNetwork(network, target, missing)
    parts = [_part(entry, counted[entry.spec]) for entry in found[:-1] if entry is not None]
    total, hot = _sum(parts), math.fsum(part.entry.latency.p10_ns * part.copies for part in parts)
    high = math.fsum(_cold_ns(part) * part.copies for part in parts)
    spread = max(math.fsum(_half_ns(part) * part.copies for part in parts), error * total)
    return Composition(
        network,
        target,
        total,
        hot,
        min(hot, total),
        max(high, total),
        total - spread,
        total + spread,
        tuple(parts),
        tuple(_doubts(parts)),
        found[-1],
    )


def _part(entry: Entry, copies: int) -> Part:
    latency = entry.latency
    for field, value in (("slope_ns", latency.slope_ns), ("context_ns", latency.context_ns)):
        if value is not None:
            return Part(entry.spec, copies, value, field, entry)
    return Part(entry.spec, copies, latency.p10_ns, "p10_ns", entry)


def _sum(parts: Sequence[Part]) -> float:
    return math.fsum(part.each_ns * part.copies for part in parts)


def _cold_ns(part: Part) -> float:
    latency = part.entry.latency
    return max(latency.cold_ns or 0.0, latency.p10_ns, part.each_ns)


def _half_ns(part: Part) -> float:
    latency = part.entry.latency
    return (latency.high_ns - latency.low_ns) / 2


def _doubts(parts: Sequence[Part]) -> list[str]:
    doubts = [f"{part.spec}: {doubt}" for part in parts for doubt in part.entry.latency.doubts]
    alone = [str(part.spec) for part in parts if part.field == "p10_ns"]
    if alone:
        doubts.append(f"measured alone, without chain or context: {', '.join(alone)}")
    conditions = {part.entry.provenance.get("conditions") for part in parts}
    if len(conditions) > 1:
        doubts.append(f"rows measured under {len(conditions)} different conditions")
    unmeasured = Counter(part.entry.kind for part in parts if part.entry.kind != "measured")
    doubts += [f"{count} rows are {kind}, not measured" for kind, count in sorted(unmeasured.items())]
    return doubts


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Kendall's tau-a of two rankings: 1 where all pairs are in the same order."""
    pairs = list(combinations(range(len(one)), 2))
    agree = sum(_sign(one[i] - one[j]) * _sign(other[i] - other[j]) for i, j in pairs)
    return agree / len(pairs) if pairs else 1.0


def _sign(value: float) -> int:
    return int(value > 0) - int(value < 0)
