"""Drift that all rows of a sweep share: estimated on rows measured in two sweeps, and divided out where it is asked for.

A host that is slower today is slower for every block. The factor common to the rows that two sweeps both measured is that
drift; what is left of each row after dividing it out is the row's own change.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import cast

from .errors import InvalidSpec, LatencyNotFound, UnlikeMeasures
from .placement import placed
from .query import Page, Query, Row
from .table import LatencySource, LatencyTable, Searchable
from .types import BlockSpec, Entry, Params, Target

ENOUGH = 5  # rows in common, before a factor is believed
MOST_HISTORIES = 300  # rows whose past is read: a median of so many is sharp to a part in a thousand
MOST_ROWS = 20_000  # of a target, looked through for its sweeps
TIMES = ("p10", "p50", "p90", "low", "high", "wall_p10", "wall_p50", "chain", "slope", "context", "cold")  # scaled


@dataclass(frozen=True, slots=True)
class Drift:
    """How much slower one sweep was than another: `factor` 1.02 = 2 % slower, from `rows` rows measured in both.

    `spread` is the median deviation of the rows from the factor, relative: what was not common to them.
    """

    target: Target
    sweep: str
    against: str
    factor: float
    spread: float
    rows: int


def estimate(target: Target, sweep: Sequence[Entry], against: Sequence[Entry]) -> Drift | None:
    """Return the drift between two sweeps of one target, or None where they have too few rows in common.

    The factor is the median ratio: a row that really changed does not move it. Raises UnlikeMeasures for rows that count
    instructions among rows that are times.
    """
    measures = {entry.latency.measure for entry in (*sweep, *against)}
    if len(measures) > 1:
        raise UnlikeMeasures(f"on {target}, rows that count instructions are not compared with rows that are times")
    before = {entry.spec: entry.latency.p10_ns for entry in against if entry.latency.p10_ns > 0}
    now = {entry.spec: entry.latency.p10_ns for entry in sweep if entry.latency.p10_ns > 0}
    ratios = [math.log(ns) - math.log(before[spec]) for spec, ns in now.items() if spec in before]
    if len(ratios) < ENOUGH:
        return None
    centre = median(ratios)
    spread = median(abs(ratio - centre) for ratio in ratios)
    return Drift(target, _sweep(sweep[0]), _sweep(against[0]), math.exp(centre), spread, len(ratios))


def drifts(target: Target, history: Iterable[Entry], newest: Entry) -> dict[str, Drift]:
    """Return, by sweep, the drift against the sweep that measured `newest`.

    Only rows under that entry's conditions are compared; a sweep that shares too few of them has no drift.
    """
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in history:
        if _is_swept(entry) and _conditions(entry) == _conditions(newest):
            groups[_sweep(entry)].append(entry)
    against = groups.pop(_sweep(newest), [])
    found = {sweep: estimate(target, rows, against) for sweep, rows in groups.items()}
    return {sweep: drift for sweep, drift in found.items() if drift is not None}


def divide_out(entry: Entry, drift: Drift) -> Entry:
    """Return an entry of the drifted sweep as the other one would have measured it; its provenance says what was done."""
    times = {f"{name}_ns": getattr(entry.latency, f"{name}_ns") for name in TIMES}
    scaled = {name: value / drift.factor for name, value in times.items() if value is not None}
    said = {
        "drift_factor": drift.factor,
        "drift_rows": drift.rows,
        "drift_against": drift.against,
        "drift_raw_p10_ns": entry.latency.p10_ns,
    }
    return replace(entry, latency=replace(entry.latency, **scaled), provenance=Params({**entry.provenance, **said}))


class AlignedSource(LatencySource):
    """A source whose rows on one target have the drift of their sweep against that target's newest sweep divided out.

    The source must keep history (a database, a service, a table in memory); a snapshot does not, and InvalidSpec says so.
    Drifts are estimated once, when a row is first asked for. Rows of other targets, rows under other conditions than the
    newest sweep's, and those of sweeps that share too few rows with it are handed on as they are; so is a row's slope from a
    chain of another sweep. Every scaled row's provenance holds `drift_factor`.
    """

    def __init__(self, source: Searchable, target: Target) -> None:
        if not hasattr(source, "history"):
            raise InvalidSpec(f"{source!r} keeps no history of its rows: align over a database or a service")
        self._source = source
        self._target = target

    def find_many(
        self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None
    ) -> list[Entry | None]:
        """Return the current rows in order, aligned; None where there is none."""
        found = placed(self._source.find_many(specs, target), require_unit)
        return [None if entry is None else self._aligned(entry) for entry in found]

    def search(self, query: Query) -> Page:
        """Return the rows that match, aligned."""
        page = self._source.search(query)
        return replace(page, rows=tuple(Row(row.id, self._aligned(row.entry)) for row in page.rows))

    @property
    def drifts(self) -> dict[str, Drift]:
        """The drift of each sweep against the newest one, by sweep."""
        return self._found[0]

    @cached_property
    def _found(self) -> tuple[dict[str, Drift], object]:
        """The drifts, and the conditions of the rows that they are of."""
        rows = [entry for entry in self._rows() if _is_swept(entry)]
        newest = max(rows, key=_measured_at, default=None)
        if newest is None:
            return {}, None
        in_both = [entry.spec for entry in rows if _sweep(entry) == _sweep(newest)][:MOST_HISTORIES]
        history = cast("LatencyTable", self._source).history
        entries = [entry for spec in in_both for entry in history(spec, self._target)]
        return drifts(self._target, entries, newest), _conditions(newest)

    def _rows(self) -> Iterator[Entry]:
        """Yield the target's current rows; raise InvalidSpec where they are too many to look through."""
        target, seen = self._target, 0
        query = Query(
            device=target.device,
            runtime=target.runtime,
            precision=target.precision,
            threads=target.threads,
            unit=target.unit,
            limit=1000,
        )
        while True:
            try:
                page = self._source.search(query)
            except LatencyNotFound:  # REST says "no match" where others answer an empty page
                return
            yield from (row.entry for row in page.rows if row.entry.target == target)
            seen += len(page.rows)
            if page.next_cursor is None:
                return
            if seen >= MOST_ROWS:
                raise InvalidSpec(f"{target} has more than {MOST_ROWS:,} rows: too many to look through for drift")
            query = replace(query, cursor=page.next_cursor)

    def _aligned(self, entry: Entry) -> Entry:
        if entry.target != self._target or not _is_swept(entry):
            return entry
        found, conditions = self._found
        drift = found.get(_sweep(entry))
        return divide_out(entry, drift) if drift is not None and _conditions(entry) == conditions else entry


def _is_swept(entry: Entry) -> bool:
    return entry.kind == "measured" and "sweep" in entry.provenance


def _sweep(entry: Entry) -> str:
    return str(entry.provenance.get("sweep", ""))


def _measured_at(entry: Entry) -> str:
    return str(entry.provenance.get("measured_at", ""))


def _conditions(entry: Entry) -> object:
    return entry.provenance.get("conditions")
