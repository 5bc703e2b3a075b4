"""How much slower a new artifact is than an old one, from the raw runs of both, and how far that figure may be off."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import UnlikeMeasures
from .types import Measure, Run

Floats = npt.NDArray[np.float64]
OWN = ("runtime_version", "env_", "python")  # conditions that may differ: they belong to what is compared
ENOUGH_ROUNDS = 4
WEIGHT = (
    3.0  # degrees of freedom of the t distribution whose location is estimated: a round that is 60 % off has no say
)
SESSIONS_BELIEVED = 10.0  # what is assumed of the spread between sessions counts as much as this many more of them


@dataclass(frozen=True, slots=True)
class Ratio:
    """The log of new over old and its standard errors.

    `error` is what another session would draw anew, `shared` what all sessions against the same earlier runs have in common.
    Of interleaved runs `error` is what the rounds within a generation of processes show; `spread` is the whole error as the
    generations show it, NaN where there is only one. `freedom` are the degrees of freedom of `error`.
    """

    log: float
    error: float
    shared: float = 0.0
    freedom: float = math.inf
    spread: float = math.nan
    generations: int = 0  # of interleaved runs
    rounds: int = 0
    doubts: tuple[str, ...] = ()


def interleaved(new: Sequence[Run], baseline: Sequence[Run]) -> Ratio | None:
    """Return the ratio of runs of the same rounds, or None where no round has both.

    Where a side's artifact or conditions changed, its newest runs count. Counts of instructions have a ratio like times; raises
    UnlikeMeasures where one side counts them and the other is timed.
    """
    ours, theirs = ({run.round: run for run in _alike(runs)} for runs in (new, baseline))
    _measured_alike([*ours.values()], [*theirs.values()])
    on_cpu = _on_cpu([*ours.values(), *theirs.values()])
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for round_ in sorted(ours.keys() & theirs.keys()):
        one, other = ours[round_], theirs[round_]
        above, below = p10_ns(one, on_cpu), p10_ns(other, on_cpu)
        if above > 0 and below > 0:
            groups[one.process, other.process].append(math.log(above / below))
    if not groups:
        return None
    logs = [np.asarray(values) for values in groups.values()]
    pooled = np.concatenate(logs)
    centre, _ = locate(pooled)
    inside = np.concatenate([values - (np.median(values) if len(values) > 2 else centre) for values in logs])
    freedom = max(len(pooled) - len(logs), 1)
    return Ratio(
        centre,
        locate(inside)[1] * math.sqrt(len(pooled) / freedom),
        freedom=freedom,
        spread=_jackknife(logs),
        generations=len(logs),
        rounds=len(pooled),
        doubts=_too_few(len(pooled)),
    )


def apart(new: Sequence[Run], baseline: Sequence[Run], session_error: float) -> Ratio | None:
    """Return the ratio of runs of different sessions, each told by the reference kernels of its own rounds; None without runs.

    `session_error` is what is assumed that a ratio moves by between two sessions. The baseline may hold the runs of several:
    their spread then has a say in it. Counts of instructions need no reference kernel; raises UnlikeMeasures as `interleaved`.
    """
    ours, theirs = _alike(new), _alike(baseline)
    if not ours or not theirs:
        return None
    on_cpu = _on_cpu([*ours, *theirs])
    by_reference = _measured_alike(ours, theirs) == "time" and all(run.reference_ns > 0 for run in (*ours, *theirs))
    sessions: dict[str, list[Run]] = defaultdict(list)
    for run in theirs:
        sessions[run.sweep].append(run)
    now, now_error = locate(_levels(ours, on_cpu, by_reference))
    past = [locate(_levels(runs, on_cpu, by_reference)) for runs in sessions.values()]
    levels = np.asarray([level for level, _ in past])
    more = len(levels) - 1
    seen = float(levels.var(ddof=1)) if more else 0.0
    assumed = session_error**2 / 2  # of each of the two
    between = math.sqrt((SESSIONS_BELIEVED * assumed + more * seen) / (SESSIONS_BELIEVED + more))
    before_error = math.sqrt(sum(error**2 for _, error in past)) / len(past)
    doubts = [*_too_few(min(len(ours), len(theirs))), *_unlike(ours[-1], theirs[-1])]
    return Ratio(
        now - float(levels.mean()),
        math.hypot(now_error, between),
        shared=math.hypot(before_error, between / math.sqrt(len(levels))),
        freedom=SESSIONS_BELIEVED + more,
        rounds=min(len(ours), len(theirs)),
        doubts=tuple(doubts),
    )


def p10_ns(run: Run, on_cpu: bool) -> float:
    """Return the 10th percentile of a run's samples, in ns a call; interpolated as numpy does, in a tenth of its time."""
    raw = sorted(run.cpu_ns if on_cpu else run.wall_ns)
    if not raw:
        return math.nan
    below, share = divmod(0.1 * (len(raw) - 1), 1.0)
    first = raw[int(below)]
    after = raw[min(int(below) + 1, len(raw) - 1)]
    return (first + share * (after - first)) / run.inner


def locate(values: Floats) -> tuple[float, float]:
    """Return the centre of values with heavy tails and its standard error: the maximum likelihood of a t distribution.

    A round in which the machine was busy with something else on one side only is far off; the mean of 18 rounds of a loaded
    machine is 1.4 times as uncertain.
    """
    centre = float(np.median(values))
    scale = 1.4826 * float(np.median(np.abs(values - centre)))
    if len(values) < 2:
        return centre, math.inf
    if scale == 0:
        scale = float(values.std())
    if scale <= 1e-12:
        return centre, 0.0
    least = scale * 1e-3  # many equal values would draw the scale to nothing
    for _ in range(50):
        weights = (WEIGHT + 1) / (WEIGHT + ((values - centre) / scale) ** 2)
        before, centre = centre, float((weights * values).sum() / weights.sum())
        scale = max(math.sqrt(float((weights * (values - centre) ** 2).mean())), least)
        if abs(centre - before) < 1e-7 * scale:
            break
    units = (values - centre) / scale
    score = (WEIGHT + 1) * units / (WEIGHT + units**2)
    slope = (WEIGHT + 1) * (WEIGHT - units**2) / (WEIGHT + units**2) ** 2
    return centre, scale * math.sqrt(float((score**2).sum())) / max(float(slope.sum()), 0.2 * len(values))


def _jackknife(groups: Sequence[Floats]) -> float:
    """Return the standard error of the pooled centre as leaving out one generation after another shows it."""
    count = len(groups)
    if count < 2:
        return math.nan
    centres = [locate(np.concatenate([*groups[:left], *groups[left + 1 :]]))[0] for left in range(count)]
    return math.sqrt((count - 1) / count * float(((np.asarray(centres) - np.mean(centres)) ** 2).sum()))


def _levels(runs: Sequence[Run], on_cpu: bool, by_reference: bool) -> Floats:
    return np.asarray([math.log(p10_ns(run, on_cpu) / (run.reference_ns if by_reference else 1.0)) for run in runs])


def _on_cpu(runs: Sequence[Run]) -> bool:
    """Say whether both sides are read on the CPU clock: it sees one thread, and some devices have none."""
    return all(run.target.threads == 1 and run.cpu_ns for run in runs)


def _measured_alike(ours: Sequence[Run], theirs: Sequence[Run]) -> Measure:
    """Return what both sides are measured in; raise UnlikeMeasures where it is not the same."""
    measures = {run.measure for run in (*ours, *theirs)}
    if len(measures) > 1:
        run = ours[-1]
        raise UnlikeMeasures(
            f"{run.spec} on {run.target}: the new runs are measured in {run.measure}, those before in "
            f"{theirs[-1].measure}, and the two are not compared"
        )
    return measures.pop() if measures else "time"


def _alike(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have the artifact and the conditions of the newest, oldest first."""
    ordered = sorted((run for run in runs if run.wall_ns), key=lambda run: (run.started_at, run.round))
    newest = _kind(ordered[-1]) if ordered else None
    return [run for run in ordered if _kind(run) == newest]


def _kind(run: Run) -> tuple[str, Mapping[str, object]]:
    return run.artifact_sha256, run.conditions


def _unlike(new: Run, old: Run) -> list[str]:
    """Say in which conditions of the machine two sessions differ."""
    ours, theirs = new.conditions, old.conditions
    names = [name for name in sorted({*ours, *theirs}) if not name.startswith(OWN)]
    return [
        f"measured apart, and {name} differs: {ours.get(name)}, before {theirs.get(name)}"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _too_few(rounds: int) -> tuple[str, ...]:
    return (f"only {rounds} rounds, of at least {ENOUGH_ROUNDS}",) if rounds < ENOUGH_ROUNDS else ()
