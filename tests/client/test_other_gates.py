"""The rules that the gate is compared with, on samples whose answer can be counted."""

from __future__ import annotations

import numpy as np

from edgelut.other_gates import asv_rule, bencher_rule, five_percent_rule


def test_five_percent_looks_at_nothing_but_the_figure() -> None:
    assert five_percent_rule(1.06, 1.0) and not five_percent_rule(1.04, 1.0) and not five_percent_rule(0.5, 1.0)


def test_asv_asks_for_a_factor_and_for_ranks() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(1.0, 0.02, 40)
    assert asv_rule(old * 1.2, old)
    assert not asv_rule(old * 1.05, old)  # sure, but below its factor
    assert not asv_rule([1.2, 1.3], [1.0, 1.1])  # so few samples are never sure
    assert not asv_rule(old, old * 1.2) and not asv_rule([], old)


def test_bencher_asks_whether_a_figure_is_unusual_in_its_history() -> None:
    history = [1.0, 1.02, 0.98, 1.01, 0.99, 1.0]
    limit = 1.0 + 3.364930 * float(np.std(history, ddof=1))  # t at 0.99 with 5 degrees of freedom
    assert bencher_rule(limit + 1e-4, history) and not bencher_rule(limit - 1e-4, history)
    assert not bencher_rule(9.0, [1.0]) and not bencher_rule(0.1, history)
