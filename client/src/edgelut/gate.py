"""The regression gate: from the runs of a new and an old artifact of each row to a verdict on the build; pure arithmetic."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .significance import q_values, student_quantile, student_tail
from .types import BlockSpec, Run, Target

Floats = npt.NDArray[np.float64]
RowOutcome: TypeAlias = Literal["regression", "improvement", "unchanged", "unclear", "new", "doubtful"]
Outcome: TypeAlias = Literal["passed", "regression", "unclear"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a build: the runs of its new artifact and of the one that it is compared with.

    `interleaved`: both were timed in the same rounds on one device (`profiler.paired`); otherwise the baseline's runs are of an
    earlier session. `pinned`: a reference network, which shows what slowed down everything. `doubts` are what speaks against the
    row; a row that has any cannot fail a build. No baseline runs: the row is new.
    """

    spec: BlockSpec
    target: Target
    new: tuple[Run, ...]
    baseline: tuple[Run, ...]
    interleaved: bool = True
    pinned: bool = False
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("new", "baseline", "doubts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What is declared before the measuring. Slowdowns are relative: 0.05 = 5 %."""

    tolerance: float = 0.05  # a slowdown up to this is accepted
    fdr: float = 0.05  # of the rows that are called slower, the share that may be wrong
    excluded: float = 0.10  # a row is `unchanged` where a slowdown of this size is ruled out, else `unclear`


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """What came of one row. `ratio` is new over old (1.1 = 10 % slower) with a 95 % interval from `low` to `high`.

    The common factor is removed from all three, save for a pinned network's. `p_value` is one-sided, for "slower than the
    tolerance"; `q_value` is corrected for the number of rows. All five are NaN where there is nothing to compare. `logs` holds
    the log ratio of each generation of worker processes: what a second session is combined by.
    """

    spec: BlockSpec
    target: Target
    ratio: float
    low: float
    high: float
    p_value: float
    q_value: float
    outcome: RowOutcome
    reason: str = ""
    interleaved: bool = True
    pinned: bool = False
    logs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a build.

    `common` is the factor that all rows shared and that was removed from them. `uniform` is the slowest pinned network, None
    where there is none. `suspects` are the rows (pinned ones too) to be measured in a second session: `confirm` decides.
    """

    rows: tuple[RowVerdict, ...]
    common: float
    uniform: RowVerdict | None
    outcome: Outcome
    suspects: tuple[RowVerdict, ...] = ()
    reason: str = ""
    policy: GatePolicy = field(default_factory=GatePolicy)


def judge(pairs: Sequence[Pair], policy: GatePolicy | None = None) -> Verdict:
    """Return what one session says. Rows that it calls slower are suspects, to be measured again in new processes."""
    policy = policy or GatePolicy()
    logs = [_generation_logs(pair) for pair in pairs]
    factors = _common(pairs, logs)
    rows = []
    for pair, own in zip(pairs, logs, strict=True):
        others = [value for other, value in zip(pairs, logs, strict=True) if other is not pair]
        shift = 0.0 if pair.pinned else _common([p for p in pairs if p is not pair], others)
        rows.append(_row(pair, own - shift, policy))
    return _verdict(rows, factors, policy)


def confirm(first: Verdict, second: Verdict) -> Verdict:
    """Return the verdict of both sessions together: a suspect counts only where the second session finds it again."""
    again = {(row.spec, row.target): row for row in second.rows}
    rows = []
    for row in first.rows:
        other = again.get((row.spec, row.target))
        if row.outcome != "regression" or other is None:
            rows.append(row)
        elif other.outcome == "regression":
            rows.append(row)
        else:
            rows.append(replace(row, outcome="unchanged", reason="not found again by a second session"))
    return replace(_verdict(rows, math.log(first.common), first.policy), suspects=())


def _generation_logs(pair: Pair) -> Floats:
    """Return the log ratio of each generation of processes."""
    old = {(run.round): run for run in pair.baseline}
    by: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in pair.new:
        other = old.get(run.round)
        if other is not None:
            by[run.process, other.process].append(math.log(_p10(run) / _p10(other)))
    return np.asarray([float(np.mean(values)) for values in by.values()])


def _p10(run: Run) -> float:
    raw = run.cpu_ns if run.target.threads == 1 and run.cpu_ns else run.wall_ns
    return float(np.quantile(np.asarray(raw, dtype=np.float64) / run.inner, 0.1))


def _common(pairs: Sequence[Pair], logs: Sequence[Floats]) -> float:
    values = [float(value.mean()) for pair, value in zip(pairs, logs, strict=True) if len(value) and not pair.pinned]
    return float(np.median(values)) if values else 0.0


def _row(pair: Pair, logs: Floats, policy: GatePolicy) -> RowVerdict:
    nan = math.nan
    if not len(logs):
        return RowVerdict(
            pair.spec,
            pair.target,
            nan,
            nan,
            nan,
            nan,
            nan,
            "new",
            "nothing to compare with",
            pair.interleaved,
            pair.pinned,
        )
    n = len(logs)
    error = max(float(logs.std(ddof=1)) if n > 1 else 0.03, 0.01) / math.sqrt(n)
    centre, freedom = float(logs.mean()), max(n - 1, 3)
    wide = student_quantile(0.025, freedom) * error
    p = student_tail((centre - math.log1p(policy.tolerance)) / error, freedom)
    return RowVerdict(
        pair.spec,
        pair.target,
        math.exp(centre),
        math.exp(centre - wide),
        math.exp(centre + wide),
        p,
        p,
        "doubtful" if pair.doubts else "unchanged",
        "; ".join(pair.doubts),
        pair.interleaved,
        pair.pinned,
        tuple(map(float, logs)),
    )


def _verdict(rows: Sequence[RowVerdict], common: float, policy: GatePolicy) -> Verdict:
    judged = [row for row in rows if row.outcome not in ("new", "doubtful")]
    q = dict(zip(map(id, judged), q_values([row.p_value for row in judged]), strict=True))
    done = []
    for row in rows:
        outcome = row.outcome
        if id(row) in q:
            outcome = (
                "regression" if q[id(row)] <= policy.fdr else "unclear" if row.high > 1 + policy.excluded else outcome
            )
        done.append(replace(row, outcome=outcome, q_value=q.get(id(row), math.nan)))
    pinned = [row for row in done if row.pinned]
    suspects = tuple(row for row in done if row.outcome == "regression")
    outcome_: Outcome = "regression" if suspects else "passed" if judged else "unclear"
    uniform = max(pinned, key=lambda row: row.ratio, default=None)
    return Verdict(tuple(done), math.exp(common), uniform, outcome_, suspects, "", policy)
