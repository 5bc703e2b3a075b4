"""The rows that a search begins with: what its table has, what is measured for it, and what is estimated.

With estimates a search measures a share of its space. What a network holds several of is always in it: those blocks are most of a
network's time, and chains of them stand on both sides of whatever else is measured in its context. Of each other kind come first
the ends of all its fields, so that nothing is estimated beyond them, then the block that is farthest from those that are in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from edgelut.errors import InvalidSpec
from edgelut.estimated import EstimatedSource
from edgelut.features import Encoder, fields
from edgelut.gp import Floats
from edgelut.sequences import repeats
from edgelut.table import LatencySource, Searchable
from edgelut.types import BlockSpec, Scalar, Target

from .latency import SHOWN, LatencyModel, Space, lacking, missing_blocks

SHARE = 0.2  # of a space's blocks that are measured where the others are estimated
LEAST = 6  # of a kind: one more than an estimate needs
Measure: TypeAlias = Callable[
    [Sequence[BlockSpec]], None
]  # has rows measured and stored in the table, and waits for them


@dataclass(frozen=True, slots=True)
class Estimating:
    """How a search fills its table's gaps: `share` of its space is in the table before the others are estimated.

    `like` is a target whose table is to help (`edgelut.transfer`).
    """

    share: float = SHARE
    like: Target | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidSpec(f"the share of blocks to measure is above 0 and at most 1, not {self.share:g}")


def fill(
    source: LatencySource,
    target: Target,
    space: Space,
    *,
    measure: Measure | None,
    estimating: Estimating | None,
    tell: Callable[[str], None],
) -> tuple[LatencyModel, LatencySource]:
    """Return the latencies of a space, and the table that they are from, its gaps filled by estimates where that is asked for.

    What is missing is measured where there is a way to, all of it or as much as estimates need, and `tell` is told so first.
    Raises IncompleteNetwork for what is neither there nor estimated.
    """
    missing = missing_blocks(source, target, space)
    if missing and measure is not None:
        first = missing if estimating is None else _planned(missing, space, estimating.share)
        if first:
            others = "" if len(first) == len(missing) else f", and estimating the other {len(missing) - len(first)}"
            tell(f"measuring {len(first)} rows that the table lacks{others}")
            measure(first)
    filled = source
    if missing and estimating is not None:
        filled = _estimated(source, target, space, estimating, measure, tell)
    lacks = missing_blocks(filled, target, space)
    if lacks:
        raise lacking(lacks, target, len(space.blocks()), _why_not(filled, target, lacks))
    return LatencyModel(filled, target, space), filled


def _planned(missing: Sequence[BlockSpec], space: Space, share: float) -> list[BlockSpec]:
    """Return what of the missing belongs to a share of the space: the same after a kill, whatever is in the table by then."""
    wanted = set(chosen(space.blocks(), share))
    return [spec for spec in missing if spec in wanted]


def _estimated(
    source: LatencySource,
    target: Target,
    space: Space,
    estimating: Estimating,
    measure: Measure | None,
    tell: Callable[[str], None],
) -> EstimatedSource:
    """Return a table with estimates, after what cannot be estimated was measured where there is a way to."""
    asked: set[BlockSpec] = set()
    while True:
        filled = EstimatedSource(cast("Searchable", source), like=estimating.like)
        if measure is None:
            return filled
        new = [spec for spec in missing_blocks(filled, target, space) if spec not in asked]
        if not new:
            return filled
        tell(f"measuring {len(new)} rows of which there can be no good estimate")
        measure(new)
        asked |= set(new)


def _why_not(source: LatencySource, target: Target, lacks: Sequence[BlockSpec]) -> str:
    """Say why there is no estimate of some of the blocks; empty where the source does not estimate."""
    if not isinstance(source, EstimatedSource):
        return ""
    estimates = source.estimates(target)
    return "; ".join(dict.fromkeys(estimates.why_not(spec) for spec in lacks[:SHOWN]))


def chosen(blocks: Sequence[BlockSpec], share: float) -> list[BlockSpec]:
    """Return the blocks to measure where a share of them is to do: more where the least of all kinds is more.

    All that a network repeats and LEAST of each other kind; then of the kinds in turn, as many of each as it has, what is
    farthest from those before. The same blocks give the same, whatever their order, and a larger share holds a smaller one.
    """
    by_kind: dict[str, list[BlockSpec]] = defaultdict(list)
    for spec in sorted(blocks, key=lambda spec: spec.key):
        by_kind[spec.kind].append(spec)
    least: list[BlockSpec] = []
    others: list[tuple[float, str, BlockSpec]] = []
    for kind, of_kind in sorted(by_kind.items()):
        if repeats(of_kind[0]):
            least += of_kind
            continue
        ordered = spread(of_kind)
        least += ordered[:LEAST]
        others += [((place + 1) / len(ordered), kind, ordered[place]) for place in range(LEAST, len(ordered))]
    left = max(round(share * len(blocks)) - len(least), 0)
    return least + [spec for _, _, spec in sorted(others, key=lambda other: other[:2])[:left]]


def spread(blocks: Sequence[BlockSpec]) -> list[BlockSpec]:
    """Return blocks of one kind in the order in which they are worth measuring: ends of fields, then the farthest of all."""
    places, ends = _places(blocks), _ends(blocks)
    lacks = set().union(*ends)
    far = np.full(len(blocks), np.inf)
    found: list[BlockSpec] = []
    while len(found) < len(blocks):
        held = far >= 0
        if lacks:  # only those that end most of the fields that still lack an end
            gains = np.array([len(own & lacks) for own in ends]) * held
            held &= gains == gains.max()
        best = int(np.argmax(np.where(held, far, -1.0)))
        lacks -= ends[best]
        far = np.minimum(far, ((places - places[best]) ** 2).sum(1))
        far[best] = -1.0
        found.append(blocks[best])
    return found


def _places(blocks: Sequence[BlockSpec]) -> Floats:
    """Return where blocks are among each other, (n, fields), each field from 0 to 1."""
    encoded = Encoder(blocks).encode(blocks)
    ranges = np.ptp(encoded, axis=0)
    found: Floats = (encoded - encoded.min(0)) / np.where(ranges > 0, ranges, 1.0)
    return found


def _ends(blocks: Sequence[BlockSpec]) -> list[set[tuple[str, Scalar]]]:
    """Return for each block the fields in which it has the least or the largest of all values; of words each is an end."""
    rows = [fields(spec) for spec in blocks]
    ends: set[tuple[str, Scalar]] = set()
    for name in rows[0]:
        values = {row[name] for row in rows}
        numbers = [value for value in values if not isinstance(value, str)]
        ends |= {(name, value) for value in (values if len(numbers) < len(values) else (min(numbers), max(numbers)))}
    return [ends & set(row.items()) for row in rows]


__all__ = ["LEAST", "SHARE", "Estimating", "Measure", "chosen", "fill", "spread"]
