"""Tails and corrections against printed tables and counted cases."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from edgelut.significance import incomplete_beta, q_values, rank_test, student_quantile, student_tail


@pytest.mark.parametrize(
    ("freedom", "t", "tail"),
    [
        (1, 6.313752, 0.05),
        (1, 318.308839, 0.001),
        (2, 2.919986, 0.05),
        (3, 10.214532, 0.001),
        (5, 4.032143, 0.005),
        (10, 1.812461, 0.05),
        (30, 2.749996, 0.005),
        (120, 1.657651, 0.05),
        (math.inf, 1.644854, 0.05),
    ],
)
def test_the_tail_of_students_t_is_as_in_the_tables(freedom: float, t: float, tail: float) -> None:
    assert student_tail(t, freedom) == pytest.approx(tail, rel=1e-5)
    assert student_tail(-t, freedom) == pytest.approx(1 - tail, rel=1e-5)
    assert student_quantile(tail, freedom) == pytest.approx(t, rel=1e-5)


def test_students_t_becomes_normal_with_many_degrees_of_freedom() -> None:
    assert student_tail(2.0, 1e6) == pytest.approx(student_tail(2.0, math.inf), rel=1e-5)
    assert student_tail(0.0, 7) == 0.5 and math.isnan(student_tail(math.nan, 7)) and math.isnan(student_tail(1.0, 0))


def test_far_tails_keep_their_digits() -> None:
    assert student_tail(50.0, 10) == pytest.approx(1.237345e-13, rel=1e-4)
    assert student_tail(1e9, 17) > 0


@pytest.mark.parametrize(
    ("x", "a", "b", "value"),
    [
        (0.5, 2, 3, 0.6875),
        (0.3, 2, 5, 1 - 0.7**6 - 6 * 0.3 * 0.7**5),
        (0.25, 1, 1, 0.25),
        (0.0, 2, 2, 0),
        (1.0, 2, 2, 1),
    ],
)
def test_the_incomplete_beta_function_sums_binomials(x: float, a: float, b: float, value: float) -> None:
    assert incomplete_beta(x, a, b) == pytest.approx(value, rel=1e-12)


def test_q_values_are_as_benjamini_and_hochberg_have_them() -> None:
    assert q_values([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert q_values([0.5, 0.9, 0.2]) == pytest.approx([0.75, 0.9, 0.6])
    assert q_values([]) == [] and q_values([0.2]) == [0.2]


def test_the_rank_test_counts_orders_where_samples_are_few() -> None:
    new, old = [1.1, 2.2, 3.3, 9.9], [4.4, 5.5, 6.6]
    ranks = sorted([*new, *old])
    observed = sum(a > b for a in new for b in old)
    shifts = []
    for chosen in combinations(range(7), 4):
        group = [ranks[index] for index in chosen]
        rest = [ranks[index] for index in range(7) if index not in chosen]
        shifts.append(sum(a > b for a in group for b in rest))
    extreme = min(observed, 12 - observed)
    expected = 2 * sum(shift <= extreme for shift in shifts) / len(shifts)
    assert rank_test(new, old) == pytest.approx(min(1.0, expected))
    assert rank_test(range(1, 6), range(6, 11)) == pytest.approx(2 / math.comb(10, 5))


def test_the_rank_test_of_many_samples_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.5, 1.0):
        new, old = rng.normal(shift, 1, 20), rng.normal(0, 1, 20)
        exact = rank_test(new, old)
        rough = rank_test([*new, new[0]], [*old, new[0]])  # a tie: by the normal distribution
        assert abs(rough - exact) < 0.08
    assert rank_test(rng.normal(1.5, 1, 40), rng.normal(0, 1, 40)) < 0.0001


def test_equal_samples_do_not_differ() -> None:
    assert rank_test([1.0] * 30, [1.0] * 30) == 1.0
    assert rank_test([], [1.0]) == 1.0 and rank_test([1.0], [2.0]) == 1.0
