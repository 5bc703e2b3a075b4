"""What the gate does on one's own rows and device: how often it cries wolf on equal artifacts, and which slowdowns it finds.

A trial is a whole build in which new and old are the same (A/A): a session of all rows, and a second one of suspects. Slowdowns
are put into its data by multiplying the new side's samples, one row at a time, in both sessions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .gate import GatePolicy, Key, Pair, Verdict, confirm, judge, ratio_of
from .ratios import Ratio
from .types import Run

SLOWDOWNS = (0.10, 0.20)
DRAWN = 7  # rows of a trial's second session: each in turn the suspect, the others tell what all share
PINNED_EVERY = 3
SURE = 1.959964  # of a normal distribution, for 95 %

Measure = Callable[["Sequence[Key] | None"], Sequence[Pair]]  # a session of new processes: of all rows, or of these


@dataclass(frozen=True, slots=True)
class Trial:
    """The data of one A/A build: a session of all rows, and a second one of some.

    `drawn` are the rows of the second session that were not chosen for what the first one said of them.
    """

    first: tuple[Pair, ...]
    second: tuple[Pair, ...]
    drawn: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of how many, with Wilson's interval at 95 %."""

    found: int
    of: int

    @property
    def share(self) -> float:
        """The share, NaN of none."""
        return self.found / self.of if self.of else math.nan

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self._ends()[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self._ends()[1]

    def _ends(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        share, more = self.share, SURE**2 / self.of
        centre = (share + more / 2) / (1 + more)
        half = math.sqrt(share * (1 - share) * more + more**2 / 4) / (1 + more)
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        return f"{self.share:.1%} ({self.low:.1%} to {self.high:.1%}, {self.found} of {self.of})"


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What trials came to.

    `rows` and `runs` are false alarms after confirmation, `suspects` how many builds needed a second session, `unclear` builds
    that could not tell. `found` has, by slowdown, the rows in which it was found, and `wrong` the runs of them in which some
    other row was called slower. `everything` has, by slowdown, the builds in which a pinned network found that all rows were
    slower; `uniform` is that of the first slowdown.
    """

    rows: Rate
    runs: Rate
    suspects: Rate
    unclear: Rate
    found: Mapping[float, Rate]
    wrong: Mapping[float, Rate]
    uniform: Rate
    everything: Mapping[float, Rate] = field(default_factory=dict)


def self_test(
    measure: Measure,
    runs: int = 20,
    policy: GatePolicy | None = None,
    *,
    slowdowns: Sequence[float] = SLOWDOWNS,
    drawn: int = DRAWN,
    seed: int = 0,
    progress: Callable[[int, Trial], object] | None = None,
) -> SelfTest:
    """Run trials and return what they came to; what `measure` raises ends the test."""
    policy = policy or GatePolicy()
    trials = []
    for number in range(runs):
        trials.append(run_trial(measure, number, policy, drawn, seed))
        if progress is not None:
            progress(number + 1, trials[-1])
    return evaluate(trials, policy, slowdowns)


def run_trial(measure: Measure, number: int, policy: GatePolicy, drawn: int = DRAWN, seed: int = 0) -> Trial:
    """Measure one trial. Its second session has the suspects, and rows that come round every few trials; the pinned networks,
    which take longest, in every third.
    """
    first = tuple(measure(None))
    suspects = [row.key for row in judge(first, policy).suspects]
    rows = [_key(pair) for pair in first if not pair.pinned]
    random.Random(seed).shuffle(rows)
    turn = [rows[(number * drawn + index) % len(rows)] for index in range(min(drawn, len(rows)))]
    pinned = [_key(pair) for pair in first if pair.pinned and number % PINNED_EVERY == 0]
    return Trial(first, tuple(measure(list(dict.fromkeys([*suspects, *turn, *pinned])))), tuple(turn))


def evaluate(
    trials: Sequence[Trial], policy: GatePolicy | None = None, slowdowns: Sequence[float] = SLOWDOWNS
) -> SelfTest:
    """Return the rates of trials."""
    policy = policy or GatePolicy()
    known = [_Known.of(trial, policy) for trial in trials]
    builds = [one.build(policy) for one in known]
    alarms = [sum(row.outcome == "regression" for row in verdict.rows) for verdict, _ in builds]
    found, wrong = {}, {}
    for slowdown in slowdowns:
        told = [_one_slower(one, key, slowdown, policy) for one in known for key in one.trial.drawn]
        found[slowdown] = Rate(sum(hit for hit, _ in told), len(told))
        wrong[slowdown] = Rate(sum(other for _, other in told), len(told))
    everything = {
        slowdown: Rate(sum(seen), len(seen))
        for slowdown in slowdowns
        for seen in [[_all_slower(one, slowdown, policy) for one in known if one.has_pinned]]
    }
    return SelfTest(
        Rate(sum(alarms), sum(len(verdict.rows) for verdict, _ in builds)),
        Rate(sum(count > 0 for count in alarms), len(builds)),
        Rate(sum(suspected for _, suspected in builds), len(builds)),
        Rate(sum(verdict.outcome == "unclear" for verdict, _ in builds), len(builds)),
        found,
        wrong,
        everything[slowdowns[0]] if slowdowns else Rate(0, 0),
        everything,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """A trial with the ratios of its pairs: of all the builds that are made of it, each changes one of them."""

    trial: Trial
    first: tuple[Ratio | None, ...]
    second: tuple[Ratio | None, ...]

    @classmethod
    def of(cls, trial: Trial, policy: GatePolicy) -> _Known:
        first, second = (tuple(ratio_of(pair, policy) for pair in pairs) for pairs in (trial.first, trial.second))
        return cls(trial, first, second)

    @property
    def has_pinned(self) -> bool:
        return any(pair.pinned for pair in self.trial.second)

    def build(self, policy: GatePolicy) -> tuple[Verdict, bool]:
        """Return the build's last verdict, and whether it took a second session."""
        verdict = judge(self.trial.first, policy, self.first)
        if not verdict.suspects:
            return verdict, False
        return confirm(verdict, judge(self.trial.second, policy, self.second)), True

    def slower(self, slowdown: float, key: Key | None, policy: GatePolicy) -> _Known:
        """Return the trial with the new side of one row, or of all rows, slower in both sessions."""
        first = _slower_ratios(self.trial.first, self.first, slowdown, key, policy)
        second = _slower_ratios(self.trial.second, self.second, slowdown, key, policy)
        return replace(self, first=first, second=second)


def _slower_ratios(
    pairs: Sequence[Pair], ratios: Sequence[Ratio | None], slowdown: float, key: Key | None, policy: GatePolicy
) -> tuple[Ratio | None, ...]:
    return tuple(
        ratio_of(slowed([pair], slowdown)[0], policy) if key in (None, _key(pair)) else ratio
        for pair, ratio in zip(pairs, ratios, strict=True)
    )


def slowed(pairs: Sequence[Pair], slowdown: float, key: Key | None = None) -> list[Pair]:
    """Return the pairs with the new side of one row, or of all rows, slower."""
    return [
        replace(pair, new=tuple(_slower(run, 1 + slowdown) for run in pair.new)) if key in (None, _key(pair)) else pair
        for pair in pairs
    ]


def _slower(run: Run, factor: float) -> Run:
    return replace(
        run,
        wall_ns=tuple(round(value * factor) for value in run.wall_ns),
        cpu_ns=tuple(round(value * factor) for value in run.cpu_ns),
    )


def _one_slower(known: _Known, key: Key, slowdown: float, policy: GatePolicy) -> tuple[bool, bool]:
    """Return whether a row that is slower is found, and whether another one is called slower then."""
    verdict, _ = known.slower(slowdown, key, policy).build(policy)
    slower = {row.key for row in verdict.rows if row.outcome == "regression"}
    return key in slower, bool(slower - {key})


def _all_slower(known: _Known, slowdown: float, policy: GatePolicy) -> bool:
    verdict, _ = known.slower(slowdown, None, policy).build(policy)
    return any(row.outcome == "regression" and row.pinned for row in verdict.rows)


def _key(pair: Pair) -> Key:
    return pair.spec, pair.target
