"""Drift that all rows of a sweep share: estimated on rows measured in two sweeps, and divided out where it is asked for.

A host that is slower today is slower for every block. The factor common to the rows that two sweeps both measured is that
drift; what is left of each row after dividing it out is the row's own change.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from .types import Entry, Latency, Params, Target

ENOUGH = 5  # rows in common, before a factor is believed


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

    The factor is the median ratio: a row that really changed does not move it.
    """
    before = {entry.spec: entry.latency.p10_ns for entry in against}
    ratios = [
        math.log(entry.latency.p10_ns / before[entry.spec])
        for entry in sweep
        if before.get(entry.spec, 0) > 0 and entry.latency.p10_ns > 0
    ]
    if len(ratios) < ENOUGH:
        return None
    centre = median(ratios)
    spread = median(abs(ratio - centre) for ratio in ratios)
    return Drift(target, _sweep(sweep[0]), _sweep(against[0]), math.exp(centre), spread, len(ratios))


def by_sweep(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Group a target's measured entries by the sweep that made them, newest sweep first."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind == "measured" and "sweep" in entry.provenance:
            groups[_sweep(entry)].append(entry)
    return dict(sorted(groups.items(), key=lambda item: max(_measured_at(entry) for entry in item[1]), reverse=True))


def divide_out(entry: Entry, drift: Drift) -> Entry:
    """Return an entry of the drifted sweep as the other one would have measured it; its provenance says what was done."""
    latency = entry.latency
    factor = drift.factor
    scaled: Latency = replace(
        latency,
        p10_ns=latency.p10_ns / factor,
        p50_ns=latency.p50_ns / factor,
        p90_ns=latency.p90_ns / factor,
        low_ns=latency.low_ns / factor,
        high_ns=latency.high_ns / factor,
        chain_ns=_divided(latency.chain_ns, factor),
        slope_ns=_divided(latency.slope_ns, factor),
        context_ns=_divided(latency.context_ns, factor),
        cold_ns=_divided(latency.cold_ns, factor),
    )
    said = {
        "drift_factor": factor,
        "drift_rows": drift.rows,
        "drift_against": drift.against,
        "raw_p10_ns": latency.p10_ns,
    }
    return replace(entry, latency=scaled, provenance=Params({**entry.provenance, **said}))


def align(entries: Sequence[Entry], history: Iterable[Entry]) -> tuple[list[Entry], list[Drift]]:
    """Return a target's current rows with the drift of their sweeps against the newest one divided out, and those drifts.

    `history` holds older entries too: rows that were measured in several sweeps are what the drift is estimated on. A sweep
    with too few rows in common with the newest stays as it is. Rows under other conditions are never scaled.
    """
    groups = by_sweep(history)
    newest = by_sweep(entries)
    if not newest:
        return list(entries), []
    against = groups[next(iter(newest))]
    drifts: dict[str, Drift] = {}
    for sweep, measured in groups.items():
        alike = [entry for entry in measured if _conditions(entry) == _conditions(against[0])]
        found = estimate(against[0].target, alike, against) if alike and measured is not against else None
        if found is not None:
            drifts[sweep] = found
    aligned = []
    for entry in entries:
        drift = drifts.get(str(entry.provenance.get("sweep")))
        alike_row = _conditions(entry) == _conditions(against[0])
        aligned.append(divide_out(entry, drift) if drift is not None and alike_row else entry)
    used = {str(entry.provenance.get("sweep")) for entry in entries}
    return aligned, [drift for sweep, drift in drifts.items() if sweep in used]


def _divided(value: float | None, factor: float) -> float | None:
    return None if value is None else value / factor


def _sweep(entry: Entry) -> str:
    return str(entry.provenance.get("sweep", ""))


def _measured_at(entry: Entry) -> str:
    return str(entry.provenance.get("measured_at", ""))


def _conditions(entry: Entry) -> object:
    return entry.provenance.get("conditions")
