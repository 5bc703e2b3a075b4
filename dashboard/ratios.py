"""Two sides of a comparison, row by row: the ratio, how far it may be off, and the factor that all rows share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import msgspec

from edgelut.blocks import HEAD, KINDS
from edgelut.compose import FREE
from edgelut.drift import ENOUGH
from edgelut.gate import GatePolicy
from edgelut.sequences import REFERENCE, SEQUENCES
from edgelut.types import Scalar

from .rows import Found, Spec

NORMAL_95 = 1.96
CLASSES = 1000  # of a head, unless it says otherwise
SESSION_ERROR = GatePolicy().session_error  # by which a ratio moves between two sessions, one standard error


class Shape(Protocol):
    """What of a spec says where it lies on a map: a BlockSpec, or the Spec of a row."""

    @property
    def kind(self) -> str: ...
    @property
    def width_in(self) -> int: ...
    @property
    def width_out(self) -> int: ...
    @property
    def resolution(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def params(self) -> Mapping[str, Scalar]: ...


class Pair(msgspec.Struct, frozen=True, gc=False):
    """A block that both sides have. `ratio` is the other side's time over the one's, after `factor` was divided out.

    `low` and `high` bound it at 95 %: the rows' own intervals, and what moves between two sessions where the rows are of two.
    """

    spec: Spec
    group: str  # the map that it is a cell of
    one: Found
    other: Found
    ratio: float
    low: float
    high: float

    @property
    def beyond(self) -> bool:
        """Say whether the difference is more than its interval."""
        return not self.low <= 1.0 <= self.high

    @property
    def doubtful(self) -> bool:
        """Say whether either row is in doubt."""
        return not (self.one.latency.stable and self.other.latency.stable)


@dataclass(frozen=True, slots=True)
class Common:
    """The factor that all pairs share: the median ratio, which a block that really changed does not move."""

    factor: float
    spread: float  # median deviation of the pairs from it, relative
    rows: int

    @property
    def believed(self) -> bool:
        """Say whether there are rows enough to call it drift."""
        return self.rows >= ENOUGH


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two sides have in common and what only one of them has."""

    pairs: tuple[Pair, ...]
    only_one: tuple[Spec, ...]
    only_other: tuple[Spec, ...]
    unlike: tuple[Spec, ...]  # counted in instructions on one side alone: no ratio means anything
    common: Common | None

    @property
    def movers(self) -> list[Pair]:
        """Return the pairs, those beyond their interval first, each by how far they moved."""
        return sorted(self.pairs, key=lambda pair: (not pair.beyond, -abs(math.log(pair.ratio))))


def compare(ones: Iterable[Found], others: Iterable[Found], *, without_common: bool = False) -> Comparison:
    """Pair the rows of two sides by their specs; `without_common` divides the common factor out of every ratio.

    Chains, cold rows, whole networks, references and what costs nothing are left out: they are no blocks.
    """
    left = {row.spec.identity: row for row in ones if _is_block(row)}
    right = {row.spec.identity: row for row in others if _is_block(row)}
    both = [(row, right[name]) for name, row in left.items() if name in right]
    alike = [pair for pair in both if _are_alike(*pair)]
    common = _common([_log(one, other) for one, other in alike])
    factor = common.factor if common is not None and common.believed and without_common else 1.0
    return Comparison(
        tuple(sorted((_pair(one, other, factor) for one, other in alike), key=_place)),
        tuple(row.spec for name, row in left.items() if name not in right),
        tuple(row.spec for name, row in right.items() if name not in left),
        tuple(pair[0].spec for pair in both if not _are_alike(*pair)),
        common,
    )


def group_of(spec: Shape) -> str:
    """Return the name of the map that a block is a cell of: its kind, and what it has beyond width and resolution.

    Parameters at their defaults are not named.
    """
    kind = KINDS.get(spec.kind)
    usual = kind.params if kind is not None else {}
    extras = [f"{name}={value}" for name, value in spec.params.items() if usual.get(name) != value]
    if spec.batch != 1:
        extras.append(f"batch={spec.batch}")
    if spec.kind == HEAD.name and spec.width_out != CLASSES:
        extras.append(f"classes={spec.width_out}")
    return " ".join([spec.kind, *extras])


def column_of(spec: Shape) -> str:
    """Return the width of a cell: both where they differ, but the output's of a stem and the input's of a head."""
    kind = KINDS.get(spec.kind)
    if spec.kind == HEAD.name:
        return str(spec.width_in)
    if kind is not None and kind.width_in is not None:
        return str(spec.width_out)
    return str(spec.width_in) if spec.width_in == spec.width_out else f"{spec.width_in}>{spec.width_out}"


def columns(specs: Sequence[Shape]) -> list[str]:
    """Return the columns of a map, narrow to wide."""
    return list(dict.fromkeys(column_of(spec) for spec in sorted(specs, key=lambda one: (one.width_in, one.width_out))))


def resolutions(specs: Sequence[Shape]) -> list[int]:
    """Return the rows of a map, from the bottom: small to large."""
    return sorted({spec.resolution for spec in specs})


def percent(ratio: float) -> str:
    """Return a ratio as a change: `+4.1 %`."""
    return f"{(ratio - 1) * 100:+.1f} %"


def _place(pair: Pair) -> tuple[object, ...]:
    """Return the place of a pair in lists: as the table sorts, maps from large to small."""
    spec = pair.spec
    return spec.kind, spec.width_in, spec.width_out, -spec.resolution, spec.batch, pair.group


def _is_block(row: Found) -> bool:
    return row.spec.kind not in SEQUENCES and row.spec.kind not in (REFERENCE, *FREE)


def _are_alike(one: Found, other: Found) -> bool:
    """Say whether a ratio of two rows means anything."""
    return one.is_time == other.is_time and one.latency.p10_ns > 0 and other.latency.p10_ns > 0


def _log(one: Found, other: Found) -> float:
    return math.log(other.latency.p10_ns) - math.log(one.latency.p10_ns)


def _common(logs: Sequence[float]) -> Common | None:
    if not logs:
        return None
    centre = median(logs)
    return Common(math.exp(centre), median(abs(value - centre) for value in logs), len(logs))


def _pair(one: Found, other: Found, factor: float) -> Pair:
    centre = _log(one, other) - math.log(factor)
    half = math.hypot(_half(one), _half(other), 0.0 if _same_sweep(one, other) else NORMAL_95 * SESSION_ERROR)
    bounds = math.exp(centre - half), math.exp(centre + half)
    return Pair(one.spec, group_of(one.spec), one, other, math.exp(centre), *bounds)


def _half(row: Found) -> float:
    """Return half of a row's interval, as a log; an instruction count has none."""
    low, high = row.latency.low_ns, row.latency.high_ns
    return abs(math.log(high / low)) / 2 if low > 0 and high > 0 else 0.0


def _same_sweep(one: Found, other: Found) -> bool:
    """Say whether two rows were measured interleaved, so that nothing moved between sessions. A count does not move either."""
    return not one.is_time or (one.sweep != "" and one.sweep == other.sweep)
