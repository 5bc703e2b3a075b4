"""From raw runs to one latency, its interval and its doubts; pure functions of their arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgelut.errors import UnlikeRuns
from edgelut.plan import Policy
from edgelut.sequences import COLD
from edgelut.types import Clock, Latency, Run

Floats = npt.NDArray[np.float64]
QUANTILE = 0.10
RESAMPLES = 400
LONGEST_PAUSE_MS = 100.0  # between two samples of a burst: after longer ones a device begins by waking up
COUNT_ROUNDS = 3  # of a row that counts instructions: they repeat
COUNT_SPREAD = 1e-3  # by more they differ only where something else was counted with them


def clock_of(threads: int) -> Clock:
    """Return the clock that a row is read on: thread CPU time sees one thread only."""
    return "cpu" if threads == 1 else "wall"


def clock_of_run(run: Run) -> Clock:
    """Return what a run's samples are told in: wall time where its device has no CPU clock."""
    if run.facts.get("clock") == "instructions":
        return "instructions"
    return "cpu" if clock_of(run.target.threads) == "cpu" and run.cpu_ns else "wall"


def p10(samples: Floats) -> float:
    """Return the 10th percentile: low enough to be free of interruptions, not the minimum, which has no error bar."""
    return float(np.quantile(samples, QUANTILE))


def calls_ns(run: Run, clock: Clock) -> Floats:
    """Return a run's samples in ns a call, on that clock, or instructions; wall where the device has no CPU clock."""
    raw = run.cpu_ns if clock == "cpu" and run.cpu_ns else run.wall_ns
    return np.asarray(raw, dtype=np.float64) / run.inner


def interval(rounds: Sequence[Floats], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bound p10 by a bootstrap over rounds, not samples: samples of one round share its disturbances.

    Returns (low, high). An iid bootstrap over samples of the same data covers 36 % where this covers 95 %.
    """
    width = max(len(samples) for samples in rounds)
    padded = np.full((len(rounds), width), np.nan)
    for row, samples in zip(padded, rounds, strict=True):
        row[: len(samples)] = samples
    rng = np.random.default_rng(seed)
    drawn = padded[rng.integers(0, len(rounds), (RESAMPLES, len(rounds)))].reshape(RESAMPLES, -1)
    values = _nan_p10(drawn)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _nan_p10(drawn: Floats) -> Floats:
    """Return the p10 of each row, NaNs left out; by one sort, ten times quicker than nanquantile."""
    ordered = np.sort(drawn, axis=1)  # NaNs go last
    counts = np.count_nonzero(~np.isnan(ordered), axis=1)
    position = QUANTILE * (counts - 1)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, counts - 1)
    rows = np.arange(len(ordered))
    values: Floats = ordered[rows, below] + (position - below) * (ordered[rows, above] - ordered[rows, below])
    return values


def half_width(rounds: Sequence[Floats]) -> float:
    """Return half of the interval of p10, relative to p10."""
    low, high = interval(rounds)
    middle = p10(np.concatenate(rounds))
    return (high - low) / 2 / middle if middle else math.inf


def spread(rounds: Sequence[Floats]) -> float:
    """Return by how much samples differ at most, relative to the smallest."""
    pooled = np.concatenate(rounds)
    low, high = float(pooled.min()), float(pooled.max())
    return (high - low) / low if low else math.inf


def is_done(rounds: Sequence[Floats], policy: Policy, is_cold: bool = False, counts: bool = False) -> bool:
    """Say whether a row needs no further round; a cold one bounds a sum from above and need not be narrow.

    Counts repeat, so that few rounds show whether they do; where they do not, more would not make them.
    """
    if counts:
        enough, most = min(COUNT_ROUNDS, policy.min_rounds), min(2 * COUNT_ROUNDS, policy.max_rounds)
        return len(rounds) >= most or (len(rounds) >= enough and spread(rounds) <= COUNT_SPREAD)
    if len(rounds) >= policy.max_rounds or (is_cold and len(rounds) >= policy.cold_rounds):
        return True
    return len(rounds) >= policy.min_rounds and half_width(rounds) <= policy.half_width


def drift(reference: Sequence[float]) -> float:
    """Return by how much the reference moved between the halves of a sweep, relative to the first half.

    Lower quartiles are compared: like the rows' p10 they see the machine's speed, and not how often it was interrupted.
    """
    half = len(reference) // 2
    if half < 2:
        return 0.0
    first, second = np.quantile(reference[:half], 0.25), np.quantile(reference[half:], 0.25)
    return float(abs(second - first) / first) if first > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """A latency, and what the reference kernel took while it was measured (0 where there was none)."""

    latency: Latency
    reference_ns: float


def summarise(runs: Sequence[Run], policy: Policy) -> Summary:
    """Pool runs of one spec on one target into a latency; raise UnlikeRuns where their conditions differ."""
    if not runs:
        raise ValueError("no runs to summarise")
    require_alike(runs)
    ordered = sorted(runs, key=lambda run: run.started_at)
    clocks = {clock_of_run(run) for run in ordered}
    clock: Clock = clocks.pop() if len(clocks) == 1 else "wall"
    counts = clock == "instructions"
    rounds = [calls_ns(run, clock) for run in ordered]
    pooled = np.concatenate(rounds)
    wall = None if counts else np.concatenate([calls_ns(run, "wall") for run in ordered])
    low, high = interval(rounds)
    reference = [run.reference_ns for run in ordered if run.reference_ns > 0]
    latency = Latency(
        p10_ns=p10(pooled),
        p50_ns=float(np.median(pooled)),
        p90_ns=float(np.quantile(pooled, 0.9)),
        low_ns=low,
        high_ns=high,
        runs=len(ordered),
        samples=len(pooled),
        clock=clock,
        wall_p10_ns=None if wall is None else p10(wall),
        wall_p50_ns=None if wall is None else float(np.median(wall)),
        load_ns=_median(run.load_ns for run in ordered),
        compile_ns=_median(run.compile_ns for run in ordered),
        peak_memory_bytes=_median(run.peak_memory_bytes for run in ordered),
        doubts=tuple(
            _count_doubts(rounds, policy)
            if counts
            else [*_doubts(rounds, reference, policy, ordered[0].spec.kind == COLD.name), *_pauses(ordered)]
        ),
    )
    return Summary(latency, p10(np.asarray(reference)) if reference else 0.0)


def require_alike(runs: Sequence[Run]) -> None:
    """Raise UnlikeRuns, which names the condition and its values, unless all runs may be pooled."""
    first = runs[0]
    for run in runs[1:]:
        if (run.spec, run.target) != (first.spec, first.target):
            raise UnlikeRuns(f"runs of {first.spec} and {run.spec} on {first.target} and {run.target} are not pooled")
        if run.artifact_sha256 != first.artifact_sha256:
            raise UnlikeRuns(f"runs of {first.spec} on {first.target} are of different artifacts")
        if run.conditions != first.conditions:
            raise UnlikeRuns(f"runs of {first.spec} on {first.target} differ in {_differences(first, run)}")


def _differences(one: Run, other: Run) -> str:
    a, b = one.conditions, other.conditions
    names = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    return ", ".join(f"{name} ({a.get(name)} and {b.get(name)})" for name in names)


def _doubts(rounds: Sequence[Floats], reference: Sequence[float], policy: Policy, is_cold: bool) -> list[str]:
    """Say what speaks against a row, in words that name the figure."""
    doubts = []
    wanted = min(policy.cold_rounds, policy.min_rounds) if is_cold else policy.min_rounds
    if len(rounds) < wanted:
        doubts.append(f"too few rounds: {len(rounds)} of {wanted}")
    width = half_width(rounds)
    if width > policy.half_width and not is_cold:
        doubts.append(f"half-width {width:.1%} not down to {policy.half_width:.0%} after {len(rounds)} rounds")
    moved = drift(reference)
    if moved > policy.drift:
        doubts.append(f"the reference kernel drifted by {moved:.0%} between the halves of the sweep")
    return doubts


def _pauses(runs: Sequence[Run]) -> list[str]:
    """Say that a device rested between samples, where it did so in more than a quarter of the rounds and could tell."""
    told = [float(run.facts.get("observed_pause_ms_after", 0.0)) for run in runs]
    long = sum(pause > LONGEST_PAUSE_MS for pause in told)
    if long <= len(runs) / 4:
        return []
    return [
        f"samples were not contiguous: pauses of up to {max(told):.0f} ms between them in {long} of {len(runs)} rounds"
    ]


def _count_doubts(rounds: Sequence[Floats], policy: Policy) -> list[str]:
    """Say what speaks against a row of counts."""
    wanted = min(COUNT_ROUNDS, policy.min_rounds)
    doubts = [f"too few rounds: {len(rounds)} of {wanted}"] if len(rounds) < wanted else []
    apart = spread(rounds)
    if apart > COUNT_SPREAD:
        doubts.append(f"counts differ by {apart:.2%}, more than {COUNT_SPREAD:.1%}")
    return doubts


def _median(values: object) -> int | None:
    known = [value for value in values if value is not None]  # type: ignore[attr-defined]
    return int(np.median(known)) if known else None
