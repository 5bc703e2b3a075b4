"""The gate's verdicts on data whose truth is known: how often it is wrong, what it finds, and what it leaves open."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgelut.gate import GatePolicy, Pair, RowVerdict, Verdict, confirm, judge
from tests.client.gate_data import QUIET, TARGET, Noise, apart, run, session, spec

POLICY = GatePolicy()


def outcomes(verdict: Verdict) -> list[str]:
    return [row.outcome for row in verdict.rows]


def slower(verdict: Verdict) -> list[int]:
    return [index for index, row in enumerate(verdict.rows) if row.outcome == "regression"]


def equal(count: int) -> list[float]:
    return [1.0] * count


def one_slower(count: int, factor: float, which: int = 2) -> list[float]:
    return [factor if index == which else 1.0 for index in range(count)]


class TestEqualArtifacts:
    def test_pass(self) -> None:
        verdict = judge(session(np.random.default_rng(0), equal(12), noise=Noise(0.03)))
        assert verdict.outcome == "passed" and verdict.reason == "" and verdict.suspects == ()
        assert set(outcomes(verdict)) == {"unchanged"} and verdict.common == pytest.approx(1.0, abs=0.02)
        for row in verdict.rows:
            assert row.low < row.ratio < row.high and row.p_value <= row.q_value <= 1
            assert row.ratio == pytest.approx(1.0, abs=0.06)

    def test_rarely_become_suspects_and_never_regressions(self) -> None:
        rng = np.random.default_rng(1)
        verdicts = [judge(session(rng, equal(8))) for _ in range(25)]
        assert sum(len(verdict.suspects) for verdict in verdicts) <= 4
        assert all(verdict.outcome == "passed" for verdict in verdicts)

    @pytest.mark.parametrize("noise", [Noise(), Noise(0.01, 0.02), Noise(0.1, 0.0)], ids=["usual", "processes", "loud"])
    def test_lie_in_their_intervals_as_often_as_they_should(self, noise: Noise) -> None:
        rng = np.random.default_rng(2)
        rows = [row for _ in range(25) for row in judge(session(rng, equal(8), noise=noise)).rows]
        covered = np.mean([row.low <= 1.0 <= row.high for row in rows])
        assert 0.92 <= covered <= 1.0

    def test_of_identical_times_are_unchanged(self) -> None:
        verdict = judge(session(np.random.default_rng(0), equal(6), noise=QUIET))
        assert verdict.outcome == "passed" and {row.ratio for row in verdict.rows} == {1.0}


class TestASlowdown:
    def test_of_one_row_is_found_and_no_other_row_is_blamed(self) -> None:
        verdict = judge(session(np.random.default_rng(0), one_slower(12, 1.2)))
        assert verdict.outcome == "regression" and slower(verdict) == [2]
        assert [row.spec for row in verdict.suspects] == [spec(2)]
        assert verdict.rows[2].ratio == pytest.approx(1.2, rel=0.04)
        assert "1 of 12 rows" in verdict.reason

    def test_of_ten_percent_is_found_by_two_sessions_four_times_in_five(self) -> None:
        rng = np.random.default_rng(3)
        found = 0
        for _ in range(15):
            first = judge(session(rng, one_slower(10, 1.1)))
            again = [row.spec for row in first.suspects] + [spec(number) for number in (4, 5, 6, 7, 8, 9)]
            numbers = [number for number in range(10) if spec(number) in again]
            second = judge(
                session(rng, [1.1 if number == 2 else 1.0 for number in numbers], rounds=14, numbers=numbers)
            )
            found += slower(confirm(first, second)) == [2]
        assert found >= 12

    def test_within_the_tolerance_is_accepted_however_sure_it_is(self) -> None:
        verdict = judge(session(np.random.default_rng(0), one_slower(8, 1.04), noise=Noise(0.005, 0.001)))
        assert verdict.outcome == "passed" and verdict.rows[2].low > 1.0 and not verdict.suspects

    def test_at_the_tolerance_is_seldom_called_one(self) -> None:
        rng = np.random.default_rng(4)
        called = [bool(slower(judge(session(rng, [1.05] * 3 + [1.0] * 5)))) for _ in range(30)]
        assert np.mean(called) <= 0.12  # five in a hundred, as counted in 30

    def test_is_measured_by_its_rows_own_tolerance(self) -> None:
        pairs = session(np.random.default_rng(0), [1.15, 1.15, *equal(8)])
        pairs[0] = replace(pairs[0], tolerance=0.25)
        verdict = judge(pairs)
        assert slower(verdict) == [1] and verdict.rows[0].tolerance == 0.25

    def test_the_other_way_is_an_improvement_and_fails_nothing(self) -> None:
        verdict = judge(session(np.random.default_rng(0), one_slower(12, 0.8)))
        assert verdict.outcome == "passed" and verdict.rows[2].outcome == "improvement" and not slower(verdict)

    def test_of_many_rows_is_found_in_each_of_them(self) -> None:
        verdict = judge(session(np.random.default_rng(0), [1.3, 1.3, 1.3, *equal(9)], noise=Noise(0.02)))
        assert slower(verdict) == [0, 1, 2] and verdict.common == pytest.approx(1.0, abs=0.03)


class TestTheCommonFactor:
    def test_is_removed_from_the_rows_and_told(self) -> None:
        pairs = session(np.random.default_rng(0), one_slower(12, 1.2), everything=1.04, noise=Noise(0.01, 0.001))
        verdict = judge(pairs)
        assert slower(verdict) == [2] and verdict.common == pytest.approx(1.04, abs=0.01)
        assert verdict.rows[2].ratio == pytest.approx(1.2, abs=0.02)
        assert verdict.rows[2].common == pytest.approx(1.04, abs=0.01)

    def test_of_few_rows_is_not_guessed(self) -> None:
        verdict = judge(session(np.random.default_rng(0), [1.3, 1.0, 1.0], noise=Noise(0.01)))
        assert slower(verdict) == [0] and verdict.common == 1.0
        assert verdict.rows[1].ratio == pytest.approx(1.0, abs=0.02)

    def test_leaves_out_the_row_that_it_is_removed_from(self) -> None:
        verdict = judge(session(np.random.default_rng(0), one_slower(6, 1.5), noise=Noise(0.01)))
        assert slower(verdict) == [2] and verdict.rows[2].ratio == pytest.approx(1.5, abs=0.03)

    def test_of_rows_that_share_none_is_not_removed(self) -> None:
        factors = [0.4, 0.45, 0.5, 0.6, 0.65, 0.7, 0.8, 1.0, 1.0, 1.0, 1.05, 1.3]
        verdict = judge(session(np.random.default_rng(0), factors, noise=Noise(0.02)))
        assert slower(verdict) == [11] and verdict.common == 1.0
        assert [row.outcome for row in verdict.rows][:7] == ["improvement"] * 7

    def test_that_made_everything_faster_blames_no_row_that_stayed_as_it_was(self) -> None:
        factors = [1 / 0.8 if index == 2 else 1.0 for index in range(12)]
        verdict = judge(session(np.random.default_rng(0), factors, everything=0.8, noise=Noise(0.02)))
        assert verdict.outcome == "passed" and verdict.rows[2].outcome == "unchanged" and not verdict.suspects
        assert verdict.rows[2].ratio == pytest.approx(1.0, abs=0.03) and verdict.common == 1.0

    def test_of_sessions_apart_is_drift_and_is_removed_both_ways(self) -> None:
        for seed in range(6):
            pairs = apart(np.random.default_rng(seed), equal(10), between=0.003)
            faster = [
                replace(pair, new=tuple(replace(r, reference_ns=r.reference_ns * 1.1) for r in pair.new))
                for pair in pairs
            ]
            assert judge(faster).rows[0].ratio == pytest.approx(1.0, abs=0.03)

    def test_is_each_targets_own(self) -> None:
        other = replace(TARGET, runtime="torchscript-cpu")
        slow = session(np.random.default_rng(0), equal(8), everything=1.3, noise=Noise(0.01))
        calm = session(np.random.default_rng(1), equal(8), noise=Noise(0.01))
        verdict = judge([*slow, *(replace(pair, target=other) for pair in calm)])
        assert not slower(verdict) and verdict.common == pytest.approx(1.3, abs=0.02)
        assert {round(row.common, 1) for row in verdict.rows if row.target == other} == {1.0}


class TestASlowdownOfEverything:
    def test_is_shown_by_the_pinned_network(self) -> None:
        verdict = judge(session(np.random.default_rng(0), equal(12), everything=1.2, pinned=[11]))
        assert verdict.outcome == "regression" and slower(verdict) == [11]
        assert verdict.uniform is not None and verdict.uniform.pinned
        assert verdict.uniform.ratio == pytest.approx(1.2, rel=0.05) and verdict.uniform.common == 1.0
        assert "everything is slower" in verdict.reason and verdict.common == pytest.approx(1.2, rel=0.03)

    def test_without_a_pinned_network_is_not_passed_but_could_not_be_told(self) -> None:
        verdict = judge(session(np.random.default_rng(0), equal(12), everything=1.2))
        assert verdict.outcome == "unclear" and verdict.uniform is None and not slower(verdict)
        assert "no pinned network" in verdict.reason and "1.2" in verdict.reason

    def test_that_the_pinned_network_does_not_show_could_not_be_told_either(self) -> None:
        factors = [1.2] * 11 + [1.0]
        verdict = judge(session(np.random.default_rng(0), factors, pinned=[11], noise=Noise(0.02)))
        assert verdict.outcome == "unclear" and not slower(verdict)
        assert "the pinned network does not show it" in verdict.reason

    def test_of_a_pinned_network_alone_does_not_shift_the_rows(self) -> None:
        verdict = judge(session(np.random.default_rng(0), one_slower(12, 1.3), pinned=[2]))
        assert slower(verdict) == [2] and verdict.common == pytest.approx(1.0, abs=0.03)


class TestWhatCannotBeJudged:
    def test_a_doubtful_row_cannot_fail_a_build(self) -> None:
        pairs = session(np.random.default_rng(0), one_slower(8, 1.5))
        pairs[2] = replace(pairs[2], doubts=("the device was hot",))
        verdict = judge(pairs)
        row = verdict.rows[2]
        assert verdict.outcome == "passed" and not verdict.suspects
        assert (row.outcome, row.reason) == ("doubtful", "the device was hot")
        assert row.ratio == pytest.approx(1.5, rel=0.05) and math.isnan(row.q_value)

    def test_a_row_of_few_rounds_is_doubtful(self) -> None:
        pairs = session(np.random.default_rng(0), equal(8))
        pairs[0] = replace(pairs[0], new=pairs[0].new[:3])
        assert judge(pairs).rows[0].outcome == "doubtful" and "only 3 rounds" in judge(pairs).rows[0].reason

    def test_a_row_without_a_baseline_is_new(self) -> None:
        pairs = session(np.random.default_rng(0), equal(8))
        pairs[0] = replace(pairs[0], baseline=())
        verdict = judge(pairs)
        assert verdict.outcome == "passed" and verdict.rows[0].outcome == "new" and math.isnan(verdict.rows[0].ratio)

    def test_a_row_that_was_not_measured_is_doubtful(self) -> None:
        pairs = session(np.random.default_rng(0), equal(8))
        pairs[0] = replace(pairs[0], new=())
        assert (judge(pairs).rows[0].outcome, judge(pairs).rows[0].reason) == ("doubtful", "not measured")

    def test_a_row_that_is_too_uncertain_is_unclear(self) -> None:
        rng = np.random.default_rng(5)
        loud, calm = session(rng, equal(1), noise=Noise(0.4)), session(rng, equal(8), numbers=range(1, 9))
        verdict = judge([*loud, *calm])
        assert verdict.rows[0].outcome == "unclear" and verdict.outcome == "passed"

    def test_a_build_of_mostly_unclear_rows_could_not_tell(self) -> None:
        verdict = judge(session(np.random.default_rng(0), equal(8), noise=Noise(0.5)))
        assert verdict.outcome == "unclear" and "could be judged" in verdict.reason

    def test_a_build_of_nothing_or_of_new_rows_only_could_not_tell(self) -> None:
        new = [Pair(spec(0), TARGET, (run(spec(0), "new", "p", 0, 1.0),), ())]
        for pairs in ([], new):
            verdict = judge(pairs)
            assert (verdict.outcome, verdict.reason) == ("unclear", "there is nothing to compare with")
            assert verdict.common == 1.0 and not verdict.suspects

    def test_one_generation_is_judged_with_the_error_of_processes_that_is_declared(self) -> None:
        verdict = judge(session(np.random.default_rng(0), one_slower(8, 1.3), generations=1, rounds=18))
        assert slower(verdict) == [2] and verdict.rows[0].error >= POLICY.process_error


class TestProcessesThatDiffer:
    def test_widen_every_rows_interval(self) -> None:
        rng = np.random.default_rng(6)

        def width(process: float) -> float:
            rows = [row for _ in range(5) for row in judge(session(rng, equal(8), noise=Noise(0.01, process))).rows]
            return float(np.median([row.high - row.low for row in rows]))

        assert width(0.05) > 2 * width(0.0)

    def test_do_not_raise_alarms(self) -> None:
        rng = np.random.default_rng(7)
        alarms = 0
        for _ in range(25):
            first = judge(session(rng, equal(8), noise=Noise(0.02, 0.04)))
            second = judge(session(rng, equal(8), noise=Noise(0.02, 0.04), rounds=10))
            alarms += confirm(first, second).outcome == "regression"
        assert alarms <= 1


class TestASecondSession:
    def first(self, factor: float = 1.2) -> Verdict:
        return judge(session(np.random.default_rng(0), one_slower(12, factor)))

    def second(self, factor: float, *, numbers: range = range(12), **how: object) -> Verdict:
        slowdowns = [factor if number == 2 else 1.0 for number in numbers]
        return judge(session(np.random.default_rng(9), slowdowns, numbers=numbers, **how))  # type: ignore[arg-type]

    def test_that_finds_a_suspect_again_makes_it_a_regression(self) -> None:
        verdict = confirm(self.first(), self.second(1.2))
        assert verdict.outcome == "regression" and slower(verdict) == [2] and verdict.suspects == ()
        assert verdict.rows[2].ratio == pytest.approx(1.2, abs=0.03)
        assert "in the first session" in verdict.rows[2].reason

    def test_narrows_the_interval_of_a_suspect(self) -> None:
        first = self.first()
        row, before = confirm(first, self.second(1.2)).rows[2], first.rows[2]
        assert row.high - row.low < before.high - before.low

    def test_that_does_not_find_it_again_clears_it(self) -> None:
        verdict = confirm(self.first(), self.second(1.0))
        assert verdict.outcome == "passed" and not slower(verdict)

    def test_can_find_what_the_first_one_only_suspected(self) -> None:
        first = judge(session(np.random.default_rng(2), one_slower(12, 1.1), noise=Noise(0.07)))
        assert not slower(first) and [row.spec for row in first.suspects] == [spec(2)]
        assert slower(confirm(first, self.second(1.1, rounds=20))) == [2]

    def test_without_the_suspect_leaves_it_unclear(self) -> None:
        verdict = confirm(self.first(), self.second(1.0, numbers=range(3, 12)))
        assert not slower(verdict) and verdict.rows[2].outcome == "unclear"
        assert verdict.rows[2].reason == "not measured again: it failed"
        assert verdict.outcome == "unclear" and verdict.reason == "1 of 1 suspects could not be measured again"

    def test_in_which_the_suspect_is_doubtful_leaves_it_unclear(self) -> None:
        second = self.second(1.2)
        rows = tuple(
            replace(row, outcome="doubtful", reason="hot") if row.spec == spec(2) else row for row in second.rows
        )
        verdict = confirm(self.first(), replace(second, rows=rows))
        assert not slower(verdict) and verdict.rows[2].outcome == "unclear" and "hot" in verdict.rows[2].reason
        assert verdict.outcome == "unclear"

    def test_of_the_suspect_alone_takes_the_common_factor_from_the_first(self) -> None:
        noise = Noise(0.01)
        slow = one_slower(12, 1.12)
        first = judge(session(np.random.default_rng(0), slow, everything=1.1, pinned=[11], noise=noise))
        second = judge(session(np.random.default_rng(1), [1.12], numbers=[2], everything=1.1, noise=noise))
        row = confirm(first, second).rows[2]
        assert row.outcome == "regression" and row.ratio == pytest.approx(1.12, abs=0.02)

    def test_changes_nothing_where_nothing_was_suspected(self) -> None:
        first = judge(session(np.random.default_rng(0), equal(8)))
        assert confirm(first, self.second(1.5)).rows == first.rows

    def test_finds_a_slowdown_of_everything_again(self) -> None:
        first, second = (
            judge(session(np.random.default_rng(seed), equal(12), everything=1.2, pinned=[11])) for seed in (0, 1)
        )
        verdict = confirm(first, second)
        assert verdict.outcome == "regression" and slower(verdict) == [11]

    def test_does_not_clear_what_no_pinned_network_shows(self) -> None:
        first = judge(session(np.random.default_rng(0), one_slower(12, 1.2), everything=1.3))
        second = judge(session(np.random.default_rng(1), equal(12), everything=1.3))
        assert confirm(first, second).outcome == "unclear"


class TestSessionsApart:
    def test_raise_no_more_alarms_than_interleaved_ones(self) -> None:
        rng = np.random.default_rng(10)
        alarms = [judge(apart(rng, equal(8))).outcome == "regression" for _ in range(25)]
        assert sum(alarms) <= 2

    def test_raise_none_either_where_rows_move_more_than_assumed_and_the_past_shows_it(self) -> None:
        rng = np.random.default_rng(11)
        alarms = [judge(apart(rng, equal(8), between=0.08, sessions=6)).outcome == "regression" for _ in range(15)]
        assert sum(alarms) <= 2

    def test_find_a_large_slowdown(self) -> None:
        rng = np.random.default_rng(12)
        assert sum(2 in slower(judge(apart(rng, one_slower(10, 1.5), sessions=6))) for _ in range(20)) >= 16

    def test_find_more_with_a_history_of_calm_sessions(self) -> None:
        rng = np.random.default_rng(13)

        def found(sessions: int) -> int:
            return sum(
                2 in slower(judge(apart(rng, one_slower(6, 1.13), between=0.01, sessions=sessions))) for _ in range(12)
            )

        assert found(15) > found(1)

    def test_show_a_slowdown_of_everything_by_the_reference_kernels(self) -> None:
        verdict = judge(apart(np.random.default_rng(14), [1.6] * 10, sessions=8, between=0.01, pinned=9))
        assert verdict.outcome == "regression" and slower(verdict) == [9]

    def test_of_which_the_second_meets_the_same_past_keep_that_error(self) -> None:
        pairs = apart(np.random.default_rng(15), one_slower(10, 1.4), sessions=2)
        first = judge(pairs)
        row = confirm(first, judge(pairs)).rows[2]
        assert math.hypot(row.error, row.shared) > first.rows[2].shared
        assert row.shared == first.rows[2].shared


def test_false_ones_among_many_regressions_are_few() -> None:
    rng = np.random.default_rng(16)
    false = total = 0
    for _ in range(15):
        verdict = judge(session(rng, [1.25] * 4 + [1.05] * 4 + [1.0] * 12, noise=Noise(0.04)))
        called = slower(verdict)
        false += sum(index >= 4 for index in called)
        total += len(called)
    assert total >= 50 and false / total <= 0.05


def test_a_verdict_keeps_the_order_of_its_pairs_and_its_policy() -> None:
    policy = GatePolicy(tolerance=0.5)
    verdict = judge(session(np.random.default_rng(0), one_slower(8, 1.2)), policy)
    assert [row.spec for row in verdict.rows] == [spec(number) for number in range(8)]
    assert verdict.policy == policy and verdict.outcome == "passed"
    assert all(isinstance(row, RowVerdict) and row.tolerance == 0.5 for row in verdict.rows)
