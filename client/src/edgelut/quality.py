"""How far a target's sums are from its measured networks: the table's own error bar."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .compose import Composition, IncompleteNetwork, compose, kendall_tau
from .query import Query
from .sequences import NETWORK, blocks_of
from .table import Searchable
from .types import Entry, NetworkSpec, Target

ASSUMED_ERROR = (
    0.05  # where no network was measured: the largest error of 32 networks was below it (docs/composition.md)
)
ENOUGH = 5  # networks, before their spread is believed


@dataclass(frozen=True, slots=True)
class Quality:
    """The errors of a target's sums on the networks that were measured as wholes; relative, 0.01 = 1 %.

    `measured_at` is the newest of those rows'. `lacking` counts measured networks whose sums lack rows.
    """

    target: Target
    networks: int
    mape: float
    largest: float
    bias: float
    kendall_tau: float
    bracketed: float  # share whose measured time lies within the bracket
    measured_at: str
    lacking: int = 0

    @property
    def error(self) -> float:
        """What a sum is off by at most, in 95 of 100 networks as far as these tell."""
        return max(self.largest, ASSUMED_ERROR) if self.networks < ENOUGH else self.largest


def quality(source: Searchable, target: Target) -> Quality | None:
    """Return the quality of a target's sums, or None where no network was measured there."""
    compositions: list[Composition] = []
    rows: list[Entry] = []
    lacking = 0
    for entry in measured_networks(source, target):
        network = NetworkSpec(blocks_of(entry.spec))
        try:
            compositions.append(compose(network, target, source))
            rows.append(entry)
        except IncompleteNetwork:
            lacking += 1
    return summarise(target, compositions, rows, lacking) if compositions else None


def summarise(target: Target, compositions: Sequence[Composition], rows: Sequence[Entry], lacking: int = 0) -> Quality:
    """Return the quality that sums and the measured rows of the same networks show."""
    true = [row.latency.p10_ns for row in rows]
    errors = [composition.total_ns / value - 1 for composition, value in zip(compositions, true, strict=True)]
    inside = [c.low_ns <= value <= c.high_ns for c, value in zip(compositions, true, strict=True)]
    return Quality(
        target,
        len(rows),
        math.fsum(map(abs, errors)) / len(errors),
        max(map(abs, errors)),
        math.fsum(errors) / len(errors),
        kendall_tau([composition.total_ns for composition in compositions], true),
        sum(inside) / len(inside),
        max(str(row.provenance.get("measured_at", "")) for row in rows),
        lacking,
    )


def measured_networks(source: Searchable, target: Target) -> Iterable[Entry]:
    """Iterate over the rows of whole networks on a target."""
    cursor: str | None = None
    while True:
        query = Query(
            block=NETWORK.name,
            device=target.device,
            runtime=target.runtime,
            precision=target.precision,
            threads=target.threads,
            unit=target.unit,
            limit=1000,
            cursor=cursor,
        )
        try:
            page = source.search(query)
        except LookupError:  # REST says "no match" where others answer an empty page
            return
        yield from (row.entry for row in page.rows if row.entry.target == target)
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
