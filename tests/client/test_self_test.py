"""The gate's test of itself, on sessions that are drawn instead of measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgelut.gate import GatePolicy, Key, Pair
from edgelut.self_test import Rate, Trial, evaluate, run_trial, self_test, slowed
from tests.client.gate_data import Noise, session, spec

ROWS = 10
PINNED = ROWS


class Drawn:
    """Measures nothing: draws equal artifacts' sessions of ten rows and a pinned network; a row may be slower in some."""

    def __init__(self, noise: Noise | None = None, slow_first: float = 1.0) -> None:
        self._rng = np.random.default_rng(0)
        self._noise = noise
        self._slow_first = slow_first
        self.asked: list[list[int] | None] = []

    def __call__(self, keys: Sequence[Key] | None) -> list[Pair]:
        numbers = list(range(ROWS + 1)) if keys is None else [n for n in range(ROWS + 1) if spec(n) in dict(keys)]
        self.asked.append(None if keys is None else numbers)
        factors = [self._slow_first if number == 3 and keys is None else 1.0 for number in numbers]
        pinned = [place for place, number in enumerate(numbers) if number == PINNED]
        rounds = 6 if keys is None else 12
        return session(self._rng, factors, rounds=rounds, numbers=numbers, pinned=pinned, noise=self._noise)


@pytest.mark.parametrize(
    ("found", "of", "low", "high"),
    [(0, 60, 0.0, 0.0602), (60, 60, 0.9398, 1.0), (30, 60, 0.3774, 0.6226), (1, 10, 0.0179, 0.4042)],
)
def test_a_rate_has_wilsons_interval(found: int, of: int, low: float, high: float) -> None:
    rate = Rate(found, of)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert str(of) in str(rate)


def test_a_rate_of_nothing_says_nothing() -> None:
    assert math.isnan(Rate(0, 0).share) and (Rate(0, 0).low, Rate(0, 0).high) == (0.0, 1.0)


def test_equal_artifacts_raise_no_alarm_and_large_slowdowns_are_found() -> None:
    told: list[int] = []
    result = self_test(Drawn(), 6, slowdowns=(0.2,), drawn=4, progress=lambda number, trial: told.append(number))
    assert (result.rows, result.runs, result.unclear) == (Rate(0, 6 * (ROWS + 1)), Rate(0, 6), Rate(0, 6))
    assert result.found[0.2].of == 24 and result.found[0.2].share > 0.9
    assert result.wrong[0.2].found == 0 and told == [1, 2, 3, 4, 5, 6]


def test_small_slowdowns_are_within_the_tolerance() -> None:
    result = self_test(Drawn(Noise(0.02)), 3, slowdowns=(0.03,), drawn=4)
    assert result.found[0.03] == Rate(0, 12)


def test_each_row_comes_round_and_a_pinned_network_every_third_time() -> None:
    measure = Drawn(Noise(0.01))
    trials = [run_trial(measure, number, GatePolicy(), drawn=4) for number in range(5)]
    seconds = [asked for asked in measure.asked if asked is not None]
    assert sorted(n for numbers in seconds for n in numbers if n != PINNED) == sorted([*range(ROWS)] * 2)
    assert [PINNED in numbers for numbers in seconds] == [True, False, False, True, False]
    assert all(len(trial.drawn) == 4 and len(trial.first) == ROWS + 1 for trial in trials)


def test_a_slowdown_of_everything_is_looked_for_where_a_pinned_network_was_measured_again() -> None:
    result = self_test(Drawn(Noise(0.02)), 4, slowdowns=(0.2,), drawn=4)
    assert result.uniform == Rate(2, 2) and result.everything == {0.2: Rate(2, 2)}


def test_suspects_are_measured_again_and_cleared() -> None:
    measure = Drawn(Noise(0.02), slow_first=1.3)
    result = self_test(measure, 3, slowdowns=(), drawn=2)
    assert all(3 in asked for asked in measure.asked if asked is not None)
    assert result.suspects == Rate(3, 3) and result.runs == Rate(0, 3)


def test_a_row_that_is_slower_in_both_sessions_is_a_false_alarm_of_a_run() -> None:
    rng = np.random.default_rng(0)
    slow = [1.3 if number == 3 else 1.0 for number in range(ROWS)]
    first, second = (tuple(session(rng, slow)) for _ in range(2))
    result = evaluate([Trial(first, second, ())], slowdowns=())
    assert (result.rows, result.runs) == (Rate(1, ROWS), Rate(1, 1))


def test_a_slowdown_changes_the_new_side_of_one_row_only() -> None:
    pairs = session(np.random.default_rng(0), [1.0] * 3)
    slower = slowed(pairs, 0.5, (spec(1), pairs[1].target))
    assert slower[0] == pairs[0] and slower[2] == pairs[2] and slower[1].baseline == pairs[1].baseline
    assert slower[1].new[0].cpu_ns == tuple(round(1.5 * value) for value in pairs[1].new[0].cpu_ns)
    assert all(after.new != before.new for after, before in zip(slowed(pairs, 0.5), pairs, strict=True))
