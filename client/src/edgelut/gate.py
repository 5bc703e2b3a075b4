"""The regression gate: from the runs of a new and an old artifact of each row to a verdict on the build; pure arithmetic.

A row is slower where its ratio, less the factor that all rows share, lies above the declared tolerance by more than chance
explains; the share of false ones among all that are called slower is controlled. One session only names suspects; `confirm`
asks a second one, in new processes. docs/gate.md says why each step is there, and what it cannot tell.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from .ratios import Floats, Ratio, apart, interleaved
from .significance import q_values, student_quantile, student_tail
from .types import BlockSpec, Run, Target

RowOutcome: TypeAlias = Literal["regression", "improvement", "unchanged", "unclear", "new", "doubtful"]
Outcome: TypeAlias = Literal["passed", "regression", "unclear"]
Key: TypeAlias = tuple[BlockSpec, Target]

ENOUGH = 5  # other rows, before the median of their ratios is taken for what all share
ALIKE = 2.5  # errors of a row, that rows may scatter by around a factor that they share
BELIEVED = 8.0  # degrees of freedom that the error of all rows counts against a row's own generations
INTERVAL = 0.95


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a build: the runs of its new artifact and of the one that it is compared with.

    `interleaved`: both were timed in the same rounds on one device (`profiler.paired`); otherwise the baseline's runs are of
    earlier sessions, one or several. `pinned`: a reference network, which shows what slowed down everything. `doubts` are what
    speaks against the row; a row that has any cannot fail a build. No baseline runs: the row is new. `tolerance` is the row's
    own, where it has one.
    """

    spec: BlockSpec
    target: Target
    new: tuple[Run, ...]
    baseline: tuple[Run, ...]
    interleaved: bool = True
    pinned: bool = False
    doubts: tuple[str, ...] = ()
    tolerance: float | None = None

    def __post_init__(self) -> None:
        for name in ("new", "baseline", "doubts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What is declared before the measuring. Slowdowns and errors are relative: 0.05 = 5 %."""

    tolerance: float = 0.05  # a slowdown up to this is accepted
    fdr: float = 0.05  # of the rows that are called slower, the share that may be wrong
    suspicion: float = 0.35  # chance below which a row is measured again; generous, for the second session decides
    again: float = 0.05  # chance that the second session alone must be below
    excluded: float = 0.10  # a row is `unchanged` where a slowdown of this size is ruled out, else `unclear`
    process_error: float = 0.01  # by which a row moves between two processes, at the least
    session_error: float = 0.03  # by which a ratio moves between two sessions, where they are not interleaved
    judged: float = 0.5  # the share of rows that must be judged for a build to pass


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """What came of one row. `ratio` is new over old (1.1 = 10 % slower) with a 95 % interval from `low` to `high`.

    The factor `common` is removed from all three; it is 1 where nothing was removed, as from a pinned network. `p_value` is
    one-sided, for "slower than `tolerance`"; `q_value` is corrected for the number of rows. All five are NaN where there is
    nothing to compare. `error`, `shared` and `freedom` are those of the logarithm of the ratio (`edgelut.ratios.Ratio`).
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
    tolerance: float = 0.05
    common: float = 1.0
    error: float = math.nan
    shared: float = 0.0
    freedom: float = math.inf

    @property
    def key(self) -> Key:
        """What the row is of."""
        return self.spec, self.target


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a build.

    `common` is the factor that rows shared and that was removed from them; of several targets, the one furthest from 1.
    `uniform` is the slowest pinned network, None where there is none. `suspects` are the rows, pinned ones too, to be measured
    in a second session, together with some others that tell the common factor there; `confirm` then decides.
    """

    rows: tuple[RowVerdict, ...]
    common: float
    uniform: RowVerdict | None
    outcome: Outcome
    suspects: tuple[RowVerdict, ...] = ()
    reason: str = ""
    policy: GatePolicy = field(default_factory=GatePolicy)
    hidden: str = ""  # what was removed as common, in words, where it was more than the tolerance


def judge(
    pairs: Sequence[Pair], policy: GatePolicy | None = None, measured: Sequence[Ratio | None] | None = None
) -> Verdict:
    """Return what one session says. `measured` are the pairs' ratios (`ratio_of`) where they are known already."""
    policy = policy or GatePolicy()
    found = measured if measured is not None else [ratio_of(pair, policy) for pair in pairs]
    ratios = _with_processes(pairs, dict(enumerate(found)), policy)
    commons = _commons(pairs, ratios)
    rows = [_row(pair, ratios[n], commons.get(n, _Common()), policy) for n, pair in enumerate(pairs)]
    return _verdict(rows, policy, _hidden(pairs, commons, policy))


def confirm(first: Verdict, second: Verdict) -> Verdict:
    """Return the verdict of both sessions together.

    A suspect is a regression only where both sessions together say so and the second one, whose processes are new, says so by
    itself too. One that was not measured again is unclear, and so is the build then, unless it is a regression anyway.
    """
    again = {row.key: row for row in second.rows if row.outcome != "doubtful" and not math.isnan(row.ratio)}
    why = {row.key: row.reason for row in second.rows}
    suspects = {row.key for row in first.suspects}
    rows = list(first.rows)
    for index, row in enumerate(rows):
        if row.key in suspects and row.key in again:
            rows[index] = _combined(row, again[row.key])
        elif row.key in suspects:
            rows[index] = replace(row, reason=f"not measured again: {why.get(row.key) or 'it failed'}")
    held = {key for key in suspects if key in again and again[key].p_value <= first.policy.again}
    missing = len(suspects - again.keys())
    open_ = f"{missing} of {len(suspects)} suspects could not be measured again" if missing else first.hidden
    verdict = _verdict(rows, first.policy, open_, suspects - held)
    return replace(verdict, suspects=(), hidden=first.hidden)


def ratio_of(pair: Pair, policy: GatePolicy) -> Ratio | None:
    """Return a pair's ratio as its runs alone tell it, or None where there is nothing to compare."""
    if pair.interleaved:
        return interleaved(pair.new, pair.baseline)
    return apart(pair.new, pair.baseline, policy.session_error)


def _with_processes(
    pairs: Sequence[Pair], ratios: Mapping[int, Ratio | None], policy: GatePolicy
) -> dict[int, Ratio | None]:
    """Return ratios whose errors hold what rows move by between processes, too.

    Three generations tell little of one row, but those of all rows together do, as variances of many genes are moderated in
    limma (Smyth 2004): what processes add is taken to be the same for all rows of a target, at least what is declared, and
    gives way to a row's own by 2 parts in 10.
    """
    paired = {index: ratio for index, ratio in ratios.items() if ratio is not None and ratio.generations}
    of_target: dict[Target, list[Ratio]] = defaultdict(list)
    for index, ratio in paired.items():
        of_target[pairs[index].target] += [ratio] if ratio.generations > 1 else []
    added_by = {target: _added(several) for target, several in of_target.items()}
    found = dict(ratios)
    for index, ratio in paired.items():
        added = added_by[pairs[index].target]
        own = ratio.generations - 1
        rounds = ratio.error**2
        variance = rounds + max(added, policy.process_error**2) / ratio.generations
        if own:
            variance = max(variance, (BELIEVED * variance + own * ratio.spread**2) / (BELIEVED + own))
        share = rounds / variance if variance else 1.0  # of the variance: what the rounds tell
        freedom = 1 / (share**2 / ratio.freedom + (1 - share) ** 2 / (BELIEVED + own))  # Satterthwaite's
        found[index] = replace(ratio, error=math.sqrt(variance), freedom=freedom)
    return found


def _added(ratios: Sequence[Ratio]) -> float:
    """Return the variance of a row between two generations of processes, pooled over rows, quiet ones before noisy ones."""
    if not ratios:
        return 0.0
    typical = float(np.median([ratio.spread for ratio in ratios])) ** 2
    weights = np.asarray([1 / max(ratio.error**2 + typical, 1e-12) ** 2 for ratio in ratios])
    more = np.asarray([ratio.generations * (ratio.spread**2 - ratio.error**2) for ratio in ratios])
    return max(0.0, float((weights * more).sum() / weights.sum()))


@dataclass(frozen=True, slots=True)
class _Common:
    """The log of a factor that rows share, and its error; both 0 where it is not known."""

    log: float = 0.0
    error: float = 0.0


def _commons(pairs: Sequence[Pair], ratios: Mapping[int, Ratio | None]) -> dict[int, _Common]:
    """Return, for each pair, the factor that the other rows of its target share, where they do.

    The row itself has no say in it, and of five others two may have changed: the median does not follow them. Of interleaved
    pairs no factor below 1 is removed: they share the machine's drift, and what made the others faster slowed down none.
    """
    groups: dict[tuple[Target, bool], list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        if not pair.pinned and ratios[index] is not None:
            groups[pair.target, pair.interleaved].append(index)
    found: dict[int, _Common] = {}
    for (_, drifts_alike), group in groups.items():
        known = [ratio for ratio in map(ratios.get, group) if ratio is not None]
        logs = np.asarray([ratio.log for ratio in known])
        error = float(np.median([math.hypot(ratio.error, ratio.shared) for ratio in known]))
        for place, index in enumerate(group):
            common = _common(np.delete(logs, place), error)
            found[index] = _Common() if drifts_alike and common.log < 0 else common
    return found


def _common(logs: Floats, error: float) -> _Common:
    """Return the factor of rows, none where they differ by far more than their errors: then there is nothing that they share.

    Between two versions of a runtime the ratios of 21 blocks were found to lie from 0.37 to 1.06; less their median, blocks
    that nothing had happened to were 20 % slower.
    """
    if len(logs) < ENOUGH:
        return _Common()
    centre = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - centre)))
    if spread > ALIKE * error:
        return _Common()
    return _Common(centre, 1.2533 * spread / math.sqrt(len(logs)))


def _row(pair: Pair, ratio: Ratio | None, common: _Common, policy: GatePolicy) -> RowVerdict:
    tolerance = policy.tolerance if pair.tolerance is None else pair.tolerance
    nan = math.nan
    if ratio is None:
        outcome: RowOutcome = "new" if not pair.baseline else "doubtful"
        reason = "nothing to compare with" if not pair.baseline else "no round has both sides"
        if not pair.new:
            outcome, reason = "doubtful", "not measured"
        said = "; ".join((reason, *pair.doubts))
        return RowVerdict(
            pair.spec, pair.target, nan, nan, nan, nan, nan, outcome, said, pair.interleaved, pair.pinned, tolerance
        )
    doubts = (*pair.doubts, *ratio.doubts)
    row = RowVerdict(
        pair.spec,
        pair.target,
        nan,
        nan,
        nan,
        nan,
        nan,
        "doubtful" if doubts else "unchanged",
        "; ".join(doubts),
        pair.interleaved,
        pair.pinned,
        tolerance,
        math.exp(common.log),
        math.hypot(ratio.error, common.error),
        ratio.shared,
        ratio.freedom,
    )
    return _at(row, ratio.log - common.log)


def _at(row: RowVerdict, log: float) -> RowVerdict:
    """Return the row with ratio, interval and chance for that log ratio and the row's errors."""
    error = math.hypot(row.error, row.shared)
    wide = error * student_quantile((1 - INTERVAL) / 2, row.freedom)
    above = log - math.log1p(row.tolerance)
    p_value = student_tail(above / error, row.freedom) if error else float(above <= 0)
    return replace(row, ratio=math.exp(log), low=math.exp(log - wide), high=math.exp(log + wide), p_value=p_value)


def _combined(first: RowVerdict, second: RowVerdict) -> RowVerdict:
    """Return a suspect with the data of both sessions, each weighted by its precision."""
    again = math.log(second.ratio)
    if second.common == 1.0:  # too few rows to tell it there
        again -= math.log(first.common)
    one, other = (1 / max(row.error, 1e-9) ** 2 for row in (first, second))
    log = (one * math.log(first.ratio) + other * again) / (one + other)
    row = replace(
        first,
        error=1 / math.sqrt(one + other),
        shared=max(first.shared, second.shared),
        freedom=first.freedom + second.freedom,
        reason=f"{first.ratio:.3f} in the first session, {math.exp(again):.3f} in the second",
    )
    return _at(row, log)


def _verdict(rows: Sequence[RowVerdict], policy: GatePolicy, hidden: str, lost: Collection[Key] = ()) -> Verdict:
    """Return the verdict on rows whose chances are known; those of `lost` were not found again."""
    judged = [index for index, row in enumerate(rows) if row.outcome not in ("new", "doubtful")]
    slower = dict(zip(judged, q_values([rows[index].p_value for index in judged]), strict=True))
    faster = dict(zip(judged, q_values([_faster(rows[index]) for index in judged]), strict=True))
    told = list(rows)
    for index in judged:
        row = replace(rows[index], q_value=slower[index])
        told[index] = _told(row, faster[index], policy, row.key in lost)
    suspects = tuple(told[index] for index in judged if rows[index].p_value <= policy.suspicion)
    uniform = max((row for row in told if row.pinned and not math.isnan(row.ratio)), key=_ratio_of, default=None)
    shared = max((row.common for row in told), key=lambda factor: abs(math.log(factor)), default=1.0)
    outcome, reason = _outcome(told, policy, hidden)
    return Verdict(tuple(told), shared, uniform, outcome, suspects, reason, policy, hidden)


def _told(row: RowVerdict, faster: float, policy: GatePolicy, lost: bool) -> RowVerdict:
    if row.q_value <= policy.fdr and not lost:
        return replace(row, outcome="regression")
    if faster <= policy.fdr:
        return replace(row, outcome="improvement")
    if row.high > 1 + max(policy.excluded, 2 * row.tolerance):
        return replace(row, outcome="unclear", reason=row.reason or "too uncertain to rule out a slowdown")
    return replace(row, outcome="unchanged")


def _faster(row: RowVerdict) -> float:
    """Return the chance of such a ratio in a row that is not faster than the tolerance."""
    error = math.hypot(row.error, row.shared)
    below = -math.log(row.ratio) - math.log1p(row.tolerance)
    return student_tail(below / error, row.freedom) if error else float(below <= 0)


def _ratio_of(row: RowVerdict) -> float:
    return row.ratio


def _outcome(rows: Sequence[RowVerdict], policy: GatePolicy, hidden: str) -> tuple[Outcome, str]:
    slower = [row for row in rows if row.outcome == "regression"]
    if any(row.pinned for row in slower):
        worst = max(row.ratio for row in slower if row.pinned)
        return "regression", f"everything is slower: the pinned network takes {worst:.2f} times as long"
    if slower:
        return "regression", f"{len(slower)} of {len(rows)} rows are slower than the tolerance allows"
    if hidden:
        return "unclear", hidden
    old = [row for row in rows if row.outcome != "new"]
    if not old:
        return "unclear", "there is nothing to compare with"
    clear = sum(row.outcome in ("unchanged", "improvement") for row in old)
    if clear < policy.judged * len(old):
        return "unclear", f"only {clear} of {len(old)} rows could be judged"
    return "passed", ""


def _hidden(pairs: Sequence[Pair], commons: Mapping[int, _Common], policy: GatePolicy) -> str:
    """Say what removing the common factor hides; empty where there is nothing.

    It counts where no pinned network turns out to be a regression: between interleaved pairs there is no drift to blame.
    """
    pinned = {pair.target for pair in pairs if pair.pinned}
    for index, common in commons.items():
        target = pairs[index].target
        least = common.log - 3 * max(common.error, policy.process_error)
        if pairs[index].interleaved and least > math.log1p(policy.tolerance):
            no_pinned = "no pinned network says whether it is real"
            whether = "the pinned network does not show it" if target in pinned else no_pinned
            return f"all rows on {target} take {math.exp(common.log):.2f} times as long, and {whether}"
    return ""
