"""Ratios of runs: centres that heavy tails do not move, and errors that hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgelut.errors import UnlikeMeasures
from edgelut.gate import Pair
from edgelut.ratios import Ratio, apart, interleaved, locate, p10_ns
from edgelut.types import Run
from tests.client.gate_data import QUIET, Noise, run, session, spec
from tests.client.gate_data import apart as sessions_apart


def ratio(pair: Pair) -> Ratio:
    found = interleaved(pair.new, pair.baseline)
    assert found is not None
    return found


def test_p10_is_numpys() -> None:
    for samples in ((5,), (4, 9), (7, 1, 3), tuple(range(40, 0, -3))):
        one = replace(run(spec(0), "new", "p", 0, 1.0), cpu_ns=samples, wall_ns=samples)
        assert p10_ns(one, True) == pytest.approx(float(np.quantile(samples, 0.1)) / 4)


def test_equal_times_have_a_ratio_of_one_and_no_error() -> None:
    (pair,) = session(np.random.default_rng(0), [1.0], noise=QUIET)
    found = ratio(pair)
    assert (found.log, found.error, found.spread, found.shared) == (0, 0, 0, 0)
    assert (found.generations, found.rounds, found.freedom, found.doubts) == (3, 18, 15, ())


def test_what_processes_differ_by_is_in_the_spread_and_not_in_the_error_of_the_rounds() -> None:
    rng = np.random.default_rng(8)
    found = [ratio(session(rng, [1.0], noise=Noise(0.01, 0.05, 0.0))[0]) for _ in range(40)]
    assert np.median([one.error for one in found]) < 0.006 < 0.02 < np.median([one.spread for one in found])
    true = np.std([one.log for one in found])
    assert true == pytest.approx(math.sqrt(np.mean([one.spread**2 for one in found])), rel=0.35)


def test_counts_of_instructions_have_a_ratio_and_none_with_times() -> None:
    def counted(sweep: str, ns: float) -> list[Run]:
        runs = [
            run(spec(0), sweep, "p", round_, ns, clock="instructions", reference=1.0 + round_) for round_ in range(8)
        ]
        return [replace(one, cpu_ns=()) for one in runs]

    new, old = counted("new", 1.1e6), counted("old", 1e6)
    beside, before = interleaved(new, old), apart(new, old, 0.03)
    assert beside is not None and beside.log == pytest.approx(math.log(1.1), abs=1e-4)
    assert before is not None and before.log == pytest.approx(math.log(1.1), abs=1e-4)  # whatever the reference took
    timed = [run(spec(0), "old", "p", round_, 1e6) for round_ in range(8)]
    for compare in (interleaved, lambda one, other: apart(one, other, 0.03)):
        with pytest.raises(UnlikeMeasures, match="new runs are measured in instructions, those before in time"):
            compare(new, timed)


def test_drift_that_both_sides_share_cancels() -> None:
    (pair,) = session(np.random.default_rng(0), [1.1], noise=Noise(0, 0, 0, 0.5))
    assert ratio(pair).log == pytest.approx(math.log(1.1), abs=1e-5)


def test_rounds_in_which_one_side_was_held_up_have_no_say() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.01, 18)
    clean, _ = locate(values)
    values[[3, 9, 12]] += 0.8
    held, error = locate(values)
    assert abs(held - clean) < 0.005 and error < 0.01 and values.mean() > 0.12


def test_an_interval_of_two_errors_holds_the_centre_as_often_as_it_should() -> None:
    rng = np.random.default_rng(2)
    for freedom in (2, 100):
        found = [locate(0.05 * rng.standard_t(freedom, 18)) for _ in range(300)]
        covered = np.mean([abs(centre) <= 2.11 * error for centre, error in found])
        assert 0.92 <= covered <= 0.985


def test_values_that_are_mostly_equal_have_a_centre() -> None:
    centre, error = locate(np.asarray([1.0] * 15 + [2.0] * 3))
    assert centre == pytest.approx(1.0, abs=1e-3) and math.isfinite(error)
    assert locate(np.asarray([3.0])) == (3.0, math.inf) and locate(np.asarray([3.0, 3.0])) == (3.0, 0.0)


def test_runs_without_a_partner_in_their_round_are_left_out() -> None:
    (pair,) = session(np.random.default_rng(0), [1.0])
    assert interleaved(pair.new[:4], pair.baseline[8:]) is None
    some = interleaved(pair.new[:7], pair.baseline[5:])
    assert some is not None and some.rounds == 2 and "only 2 rounds" in some.doubts[0]


def test_only_the_newest_artifact_and_conditions_of_a_side_count() -> None:
    (pair,) = session(np.random.default_rng(0), [1.2], noise=QUIET)
    older = [replace(one, artifact_sha256="cd" * 32, cpu_ns=(1, 1, 1)) for one in pair.new[:6]]
    found = interleaved([*older, *pair.new[6:]], pair.baseline)
    assert found is not None and found.rounds == 12 and found.log == pytest.approx(math.log(1.2), abs=1e-5)


def test_a_device_without_a_cpu_clock_is_read_by_the_wall_on_both_sides() -> None:
    (pair,) = session(np.random.default_rng(0), [1.0], noise=QUIET)
    new = [replace(one, cpu_ns=()) for one in pair.new]
    found = interleaved(new, pair.baseline)
    assert found is not None and found.log == 0


def test_sessions_apart_are_compared_by_their_references() -> None:
    rng = np.random.default_rng(4)
    logs, errors = [], []
    for _ in range(60):
        (pair,) = sessions_apart(rng, [1.1], between=0.02)
        found = apart(pair.new, pair.baseline, 0.03)
        assert found is not None
        logs.append(found.log)
        errors.append(math.hypot(found.error, found.shared))
    assert np.mean(logs) == pytest.approx(math.log(1.1), abs=0.02)
    assert np.std(logs) == pytest.approx(0.03, abs=0.008) and np.mean(errors) == pytest.approx(0.032, abs=0.004)


def test_several_earlier_sessions_show_how_far_one_may_be_off() -> None:
    rng = np.random.default_rng(5)

    def error(between: float) -> float:
        (pair,) = sessions_apart(rng, [1.0], between=between, sessions=12)
        found = apart(pair.new, pair.baseline, 0.03)
        assert found is not None
        return found.error

    assert error(0.005) < 0.02 and error(0.12) > 0.06


def test_sessions_of_another_machine_are_in_doubt_and_another_runtime_is_what_is_compared() -> None:
    def side(sweep: str, **facts: str) -> list[Run]:
        return [run(spec(0), sweep, "p", number, 1e6, **facts) for number in range(8)]

    other = apart(side("new", governor="powersave"), side("old", governor="performance"), 0.03)
    assert other is not None and other.doubts == (
        "measured apart, and governor differs: powersave, before performance",
    )
    newer = apart(side("new", runtime_version="2"), side("old", runtime_version="1"), 0.03)
    assert newer is not None and newer.doubts == ()
    assert apart(side("new"), [], 0.03) is None and apart([], side("old"), 0.03) is None
