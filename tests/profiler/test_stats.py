"""From raw runs to one latency: intervals that cover, doubts that appear and go, runs that are not pooled."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelut.errors import UnlikeRuns
from edgelut.plan import Policy
from edgelut.testing import START, make_run
from edgelut.types import Params, Run
from profiler import stats
from profiler.stats import Floats, summarise

POLICY = Policy(min_rounds=8)


def rounds_of(rng: np.random.Generator, rounds: int, between: float, within: float, samples: int = 10) -> list[Floats]:
    """Return rounds that each share one disturbance, as a machine that drifts gives them."""
    return [1000 * (1 + rng.normal(0, between) + rng.normal(0, within, samples)) for _ in range(rounds)]


def runs_of(rounds: list[Any], reference: list[float] | None = None, **changes: Any) -> list[Run]:
    made = []
    for number, samples in enumerate(rounds):
        times = tuple(int(value) for value in samples)
        run = make_run("s", number, cpu_ns=times, wall_ns=tuple(2 * time for time in times), inner=1)
        seen = reference[number] if reference else 100.0
        made.append(replace(run, reference_ns=seen, facts=Params({"cpu": "x"}), **changes))
    return made


def steady(rounds: int = 10, spread: int = 2) -> list[Any]:
    return [[100_000 + (number % spread) * 10] * 10 for number in range(rounds)]


def iid_interval(rounds: list[Floats], seed: int) -> tuple[float, float]:
    """Bound p10 by a bootstrap over samples: what `interval` is better than."""
    pooled, rng = np.concatenate(rounds), np.random.default_rng(seed)
    values = np.quantile(rng.choice(pooled, (200, len(pooled))), 0.1, axis=1)
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def test_a_bootstrap_over_rounds_covers_the_truth_where_one_over_samples_does_not() -> None:
    rng, between, within, tries = np.random.default_rng(7), 0.03, 0.01, 150
    truth = 1000 * (1 - 1.2815515655446004 * math.hypot(between, within))
    by_round = by_sample = 0
    for number in range(tries):
        rounds = rounds_of(rng, 24, between, within)
        low, high = stats.interval(rounds)
        by_round += low <= truth <= high
        low, high = iid_interval(rounds, number)
        by_sample += low <= truth <= high
    assert by_round / tries >= 0.88
    assert by_sample / tries <= 0.70


def test_an_interval_is_the_same_for_the_same_rounds_and_holds_p10() -> None:
    rounds = rounds_of(np.random.default_rng(1), 12, 0.02, 0.01)
    low, high = stats.interval(rounds)
    assert (low, high) == stats.interval(rounds)
    assert low < stats.p10(np.concatenate(rounds)) < high


def test_more_rounds_narrow_the_interval() -> None:
    rng = np.random.default_rng(3)
    few, many = rounds_of(rng, 8, 0.02, 0.01), rounds_of(rng, 128, 0.02, 0.01)
    assert stats.half_width(many) < stats.half_width(few) / 2


def test_rounds_may_have_unequal_numbers_of_samples() -> None:
    rounds = [np.full(3, 10.0), np.full(12, 10.0), np.full(1, 10.0)]
    assert stats.interval(rounds) == (10.0, 10.0)


@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=6, max_size=6).filter(
            lambda row: not all(map(math.isnan, row))
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_quick_quantile_is_numpys(rows: list[list[float]]) -> None:
    drawn = np.array(rows)
    np.testing.assert_allclose(stats._nan_p10(drawn), np.nanquantile(drawn, 0.1, axis=1), rtol=1e-9, atol=1e-9)


def test_p10_is_numpys_quantile() -> None:
    assert stats.p10(np.arange(11.0)) == 1.0


def test_a_row_is_done_when_it_is_narrow_enough_or_has_had_its_rounds() -> None:
    narrow, wide = [np.full(5, 100.0)] * 8, [np.full(5, 100.0 + 10 * n) for n in range(30)]
    assert not stats.is_done(narrow[:7], POLICY) and stats.is_done(narrow, POLICY)
    assert not stats.is_done(wide[:29], POLICY) and stats.is_done(wide, POLICY)


def test_a_device_whose_clock_stands_still_has_an_infinite_half_width() -> None:
    assert stats.half_width([np.zeros(5)] * 8) == math.inf
    assert any("half-width" in doubt for doubt in summarise(runs_of([[0] * 5] * 8), POLICY).latency.doubts)


@pytest.mark.parametrize(
    ("reference", "moved"),
    [
        ([], 0.0),
        ([1.0, 2.0, 3.0], 0.0),
        ([100.0] * 4, 0.0),
        ([100.0, 100.0, 110.0, 110.0], 0.1),
        ([100.0, 100, 80, 80], 0.2),
        ([0.0] * 4, 0.0),
    ],
)
def test_drift_is_how_far_the_reference_moved_between_the_halves(reference: list[float], moved: float) -> None:
    assert stats.drift(reference) == pytest.approx(moved)


def test_a_stable_row_has_no_doubts() -> None:
    latency = summarise(runs_of(steady()), POLICY).latency
    assert latency.stable and latency.runs == 10 and latency.samples == 100


def test_too_few_rounds_are_a_doubt_until_there_are_enough() -> None:
    assert summarise(runs_of(steady(7)), POLICY).latency.doubts == ("too few rounds: 7 of 8",)
    assert summarise(runs_of(steady(8)), POLICY).latency.stable


def test_a_wide_interval_is_a_doubt_that_names_its_figure() -> None:
    (doubt,) = summarise(runs_of([[100_000 + 20_000 * n] * 10 for n in range(9)]), POLICY).latency.doubts
    assert "half-width" in doubt and "not down to 2% after 9 rounds" in doubt


def test_a_drifting_reference_is_a_doubt_that_goes_when_the_policy_allows_it() -> None:
    runs = runs_of(steady(), [100.0] * 5 + [107.0] * 5)
    assert summarise(runs, POLICY).latency.doubts == (
        "the reference kernel drifted by 7% between the halves of the sweep",
    )
    assert summarise(runs, Policy(min_rounds=8, drift=0.08)).latency.stable


def test_the_halves_are_those_of_time_whatever_order_the_runs_come_in() -> None:
    runs = runs_of(steady(), [100.0] * 5 + [107.0] * 5)
    assert summarise(runs[::2] + runs[1::2], POLICY) == summarise(runs, POLICY)


def test_rounds_without_a_reference_are_left_out_of_it() -> None:
    summary = summarise(runs_of(steady(), [0.0] * 2 + [100.0] * 8), POLICY)
    assert summary.reference_ns == 100.0 and summary.latency.stable
    assert summarise(runs_of(steady(), [0.0] * 10), POLICY).reference_ns == 0.0


def test_times_are_those_of_one_call() -> None:
    runs = [replace(run, inner=4) for run in runs_of([[4000] * 5] * 8)]
    latency = summarise(runs, POLICY).latency
    assert (latency.p10_ns, latency.wall_p10_ns) == (1000.0, 2000.0)


def test_one_thread_is_read_on_its_cpu_clock_and_several_on_the_wall() -> None:
    one = runs_of(steady())
    two = [replace(run, target=replace(run.target, threads=2)) for run in one]
    assert (summarise(one, POLICY).latency.clock, summarise(two, POLICY).latency.clock) == ("cpu", "wall")
    assert summarise(two, POLICY).latency.p10_ns == 2 * summarise(one, POLICY).latency.p10_ns


def test_a_row_of_a_device_without_a_cpu_clock_says_that_it_was_read_on_the_wall() -> None:
    latency = summarise([replace(run, cpu_ns=()) for run in runs_of(steady())], POLICY).latency
    assert latency.clock == "wall" and latency.p10_ns == latency.wall_p10_ns


def test_costs_are_medians_of_those_that_are_known() -> None:
    runs = [
        replace(run, load_ns=load, compile_ns=None, peak_memory_bytes=5)
        for run, load in zip(runs_of(steady(3)), (1, None, 9), strict=True)
    ]
    latency = summarise(runs, POLICY).latency
    assert (latency.load_ns, latency.compile_ns, latency.peak_memory_bytes) == (5, None, 5)


def test_runs_of_unlike_conditions_are_not_pooled_and_the_condition_is_named() -> None:
    runs = runs_of(steady())
    runs[3] = replace(runs[3], facts=Params({"cpu": "y", "governor": "powersave"}))
    with pytest.raises(UnlikeRuns, match=r"differ in cpu \(x and y\), governor \(None and powersave\)"):
        summarise(runs, POLICY)


def test_what_is_only_observed_may_differ() -> None:
    runs = [replace(run, facts=Params({"cpu": "x", "observed_load": n})) for n, run in enumerate(runs_of(steady()))]
    assert summarise(runs, POLICY).latency.stable


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: replace(run, artifact_sha256="other"), "different artifacts"),
        (lambda run: replace(run, spec=replace(run.spec, batch=2)), "MB4D 96 @14 x2"),
        (lambda run: replace(run, target=replace(run.target, threads=2)), "/2/cpu"),
    ],
)
def test_runs_of_unlike_things_are_not_pooled(change: Any, said: str) -> None:
    runs = runs_of(steady())
    with pytest.raises(UnlikeRuns) as caught:
        summarise([*runs, change(runs[0])], POLICY)
    assert said in str(caught.value)


def test_no_runs_are_no_latency() -> None:
    with pytest.raises(ValueError, match="no runs"):
        summarise([], POLICY)


def test_runs_of_two_processes_are_pooled() -> None:
    runs = runs_of(steady())
    later = [replace(run, process="w2", started_at=START + timedelta(hours=1)) for run in runs]
    assert summarise(runs + later, POLICY).latency.runs == 20


def counted(*counts: int) -> list[Run]:
    facts = Params({"cpu": "x", "clock": "instructions"})
    return [
        replace(make_run("s", number, cpu_ns=(), wall_ns=(count,), inner=1), reference_ns=0.0, facts=facts)
        for number, count in enumerate(counts)
    ]


def test_counts_have_no_times_and_three_that_repeat_are_enough() -> None:
    latency = summarise(counted(1_000_000, 1_000_100, 1_000_000), POLICY).latency
    assert latency.clock == "instructions" and latency.wall_p10_ns is None and latency.stable
    assert 1_000_000 <= latency.p10_ns <= 1_000_100 and latency.runs == 3


@pytest.mark.parametrize(
    ("counts", "doubt"),
    [
        ((1_000_000, 1_000_000), "too few rounds: 2 of 3"),
        ((1_000_000, 1_000_000, 1_004_200), "counts differ by 0.42%, more than 0.1%"),
    ],
)
def test_counts_are_doubted_for_being_few_or_unlike(counts: tuple[int, ...], doubt: str) -> None:
    assert summarise(counted(*counts), POLICY).latency.doubts == (doubt,)


def test_counting_ends_when_counts_repeat_or_would_not_with_more() -> None:
    same, other = [np.array([1e6])] * 3, [np.array([1e6 + 1e4 * number]) for number in range(6)]
    assert not stats.is_done(same[:2], POLICY, counts=True) and stats.is_done(same, POLICY, counts=True)
    assert not stats.is_done(other[:5], POLICY, counts=True) and stats.is_done(other, POLICY, counts=True)


def test_runs_that_count_are_not_pooled_with_runs_that_time() -> None:
    with pytest.raises(UnlikeRuns, match="clock"):
        summarise([*counted(1_000_000), *runs_of([[1000] * 3])], POLICY)
