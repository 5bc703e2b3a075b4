"""How far a target's sums are from its measured networks: the table's own error bar, and a sum's one JSON form beside it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .compose import ASSUMED_ERROR, Basis, Composition, IncompleteNetwork, compose, kendall_tau
from .errors import InvalidSpec, LatencyNotFound
from .query import Query
from .sequences import NETWORK, blocks_of
from .table import LatencySource, MemoryTable, Searchable
from .types import BlockSpec, Entry, EntryKind, NetworkSpec, Target

ENOUGH = 19  # networks: of 20 that are alike, the last is off by more than the other 19 with a chance of 1 in 20


@dataclass(frozen=True, slots=True)
class Quality:
    """The errors of a target's sums on the networks that were measured as wholes; relative, 0.01 = 1 %.

    `measured_at` is the newest of those rows'. `bracketed` is the share of networks that lie within the bracket of their sum.
    `lacking` counts measured networks whose sums lack rows.
    """

    target: Target
    networks: int
    mape: float
    largest: float
    bias: float
    kendall_tau: float
    bracketed: float
    measured_at: str
    lacking: int = 0

    @property
    def error(self) -> float:
        """What a sum is off by at most, in 95 of 100 networks as far as these tell."""
        return max(self.largest, ASSUMED_ERROR) if self.networks < ENOUGH else self.largest


@dataclass(frozen=True, slots=True)
class PartLatency:
    """One block's share: `copies` times `each_ms`, which is its slope, its context or, lacking both, its time alone."""

    block: BlockSpec
    copies: int
    each_ms: float
    basis: Basis
    kind: EntryKind
    stable: bool


@dataclass(frozen=True, slots=True)
class NetworkLatency:
    """A network's latency with a bracket (hot below, cold above), an interval at 95 % and its parts.

    `measured_ms` is the whole network's own row, and `error` how far the sum is off it, relative; null where it was not
    measured. `quality` is what the target's sums are off by on all its measured networks, null where there are none.
    """

    network: str | None
    target: Target
    latency_ms: float
    bracket_ms: tuple[float, float]
    interval_ms: tuple[float, float]
    hot_sum_ms: float
    measured_ms: float | None
    error: float | None
    aligned: bool
    doubts: tuple[str, ...]
    parts: tuple[PartLatency, ...]
    quality: Quality | None


def estimate(
    network: NetworkSpec,
    target: Target,
    source: LatencySource | Searchable,
    known: Quality | None,
    *,
    require_unit: str | None = None,
) -> Composition:
    """Return a network's sum with the error bar that the target's quality gives it; raises as `compose`."""
    error = known.error if known is not None else ASSUMED_ERROR
    return compose(network, target, source, error, require_unit=require_unit)


def network_latency(composition: Composition, known: Quality | None, *, aligned: bool = False) -> NetworkLatency:
    """Return a composition as it is answered: the same over REST and on the command line."""
    return NetworkLatency(
        composition.network.name or None,
        composition.target,
        composition.ms,
        (composition.low_ns / 1e6, composition.high_ns / 1e6),
        (composition.interval_low_ns / 1e6, composition.interval_high_ns / 1e6),
        composition.hot_ns / 1e6,
        composition.measured.latency.ms if composition.measured else None,
        composition.error,
        aligned,
        composition.doubts,
        tuple(
            PartLatency(
                part.spec, part.copies, part.each_ns / 1e6, part.basis, part.entry.kind, part.entry.latency.stable
            )
            for part in composition.parts
        ),
        known,
    )


def quality(source: Searchable, target: Target) -> Quality | None:
    """Return the quality of a target's sums, or None where no network was measured there."""
    rows = [entry for entry in _measured_networks(source, _query(target)) if entry.target == target]
    return _quality(source, target, rows)


def qualities(source: Searchable) -> dict[Target, Quality]:
    """Return the quality of each target that has measured networks; reads their rows and their blocks', no others."""
    by_target: dict[Target, list[Entry]] = defaultdict(list)
    for entry in _measured_networks(source, Query(block=NETWORK.name, limit=1000)):
        by_target[entry.target].append(entry)
    found = {target: _quality(source, target, rows) for target, rows in by_target.items()}
    return {target: one for target, one in found.items() if one is not None}


def _quality(source: Searchable, target: Target, rows: Sequence[Entry]) -> Quality | None:
    """Compare sums with the rows of the same networks, all their blocks looked up at once."""
    networks = [NetworkSpec(blocks_of(row.spec)) for row in rows]
    specs = list(dict.fromkeys(block for network in networks for block in network.blocks))
    held = MemoryTable(entry for entry in source.find_many(specs, target) if entry is not None)
    sums: list[Composition] = []
    lacking = 0
    for row, network in zip(rows, networks, strict=True):
        try:
            sums.append(replace(compose(network, target, held), measured=row))
        except IncompleteNetwork:
            lacking += 1
        except InvalidSpec:  # emulated blocks, or neighbours that do not fit: no sum to judge
            continue
    return summarise(target, sums, lacking) if sums else None


def summarise(target: Target, sums: Sequence[Composition], lacking: int = 0) -> Quality:
    """Return the quality that sums with their measured rows show."""
    errors = [one.error for one in sums if one.error is not None]
    rows = [one.measured for one in sums if one.measured is not None]
    true = [row.latency.p10_ns for row in rows]
    inside = [one.low_ns <= value <= one.high_ns for one, value in zip(sums, true, strict=True)]
    return Quality(
        target,
        len(sums),
        math.fsum(map(abs, errors)) / len(errors),
        max(map(abs, errors)),
        math.fsum(errors) / len(errors),
        kendall_tau([one.total_ns for one in sums], true),
        sum(inside) / len(inside),
        max(str(row.provenance.get("measured_at", "")) for row in rows),
        lacking,
    )


def _query(target: Target) -> Query:
    return Query(
        block=NETWORK.name,
        device=target.device,
        runtime=target.runtime,
        precision=target.precision,
        threads=target.threads,
        unit=target.unit,
        limit=1000,
    )


def _measured_networks(source: Searchable, query: Query) -> Iterator[Entry]:
    """Yield the measured rows of whole networks that match, page after page; rows whose line nobody can read are none."""
    while True:
        try:
            page = source.search(query)
        except LatencyNotFound:  # REST says "no match" where others answer an empty page
            return
        yield from (row.entry for row in page.rows if _is_measured_network(row.entry))
        if page.next_cursor is None:
            return
        query = replace(query, cursor=page.next_cursor)


def _is_measured_network(entry: Entry) -> bool:
    if entry.spec.kind != NETWORK.name or entry.kind != "measured" or entry.latency.p10_ns <= 0:
        return False
    try:
        return NETWORK.check(entry.spec) is entry.spec
    except InvalidSpec:
        return False
