from __future__ import annotations

import numpy as np
import pytest

from edgelut import gp
from edgelut.gp import Process


def plane(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places on a plane with a trend, a wave and some noise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 4, (n, 2))
    return x, 2 * x[:, 0] - x[:, 1] + 0.3 * np.sin(2 * x[:, 0]) + noise * rng.standard_normal(n)


def test_it_follows_a_curve_between_its_rows_and_says_how_far_off_it_is() -> None:
    x, y = plane(150, 0.02)
    at, true = plane(300, 0.0, seed=1)
    mean, deviation = Process(x, y, 2).predict(at)
    scores = np.abs(mean - true) / deviation
    assert np.abs(mean - true).max() < 0.2 and np.median(np.abs(mean - true)) < 0.02
    assert 0.01 < np.median(deviation) < 0.05
    assert (scores < 2).mean() > 0.9


def test_beyond_its_rows_it_goes_on_with_the_trend_and_says_less() -> None:
    x, y = plane(150, 0.02)
    process = Process(x, y, 2)
    (near, far), (sure, unsure) = process.predict(np.array([[4.0, 2.0], [9.0, 2.0]]))
    assert far - near == pytest.approx(10, abs=2.0)
    assert unsure > 3 * sure


def test_rows_left_out_are_as_far_off_as_when_the_others_are_learnt_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = plane(60, 0.05)
    whole = Process(x, y, 2)
    group = np.array([3, 17, 40])
    errors, deviations = whole.left_out([group])
    rest = np.setdiff1d(np.arange(60), group)
    inner = whole.covariance.between(whole._x[rest], whole._x[rest], 2)
    inner[np.diag_indices_from(inner)] += whole.covariance.noise + gp.JITTER
    across = whole.covariance.between(whole._x[group], whole._x[rest], 2)
    values = (y - whole._mean) / whole._scale
    expected = across @ np.linalg.solve(inner, values[rest])
    own = whole.covariance.own(whole._x[group], 2)
    variance = own - np.einsum("ij,ji->i", across, np.linalg.solve(inner, across.T)) + whole.covariance.noise
    np.testing.assert_allclose(errors, (expected - values[group]) * whole._scale, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(deviations, np.sqrt(variance) * whole._scale, rtol=1e-5)


def test_a_value_that_is_known_to_be_off_counts_for_less() -> None:
    x = np.linspace(0, 4, 30)[:, None]
    y = 2 * x[:, 0]
    y[15] += 3
    known = np.zeros(30)
    known[15] = 9.0
    told, untold = Process(x, y, 1, known=known), Process(x, y, 1)
    at = x[15:16]
    assert abs(told.predict(at)[0][0] - 2 * x[15, 0]) < 0.05 < abs(untold.predict(at)[0][0] - 2 * x[15, 0])


def test_values_and_places_may_be_of_any_size() -> None:
    x, y = plane(80, 0.02)
    at, _ = plane(20, 0.0, seed=2)
    mean, deviation = Process(x, y, 2).predict(at)
    large, spread = Process(1e6 * x - 7e8, 1e9 * y + 5e12, 2).predict(1e6 * at - 7e8)
    np.testing.assert_allclose(large, 1e9 * mean + 5e12, rtol=1e-4)
    np.testing.assert_allclose(spread, 1e9 * deviation, rtol=1e-2)


def test_equal_values_and_a_feature_that_never_changes_are_no_trouble() -> None:
    x = np.stack([np.arange(6.0), np.ones(6)], 1)
    mean, deviation = Process(x, np.full(6, 3.0), 2).predict(np.array([[2.5, 1.0]]))
    assert mean[0] == pytest.approx(3.0, abs=1e-6) and np.isfinite(deviation).all()


def test_of_too_many_rows_some_are_kept_always_the_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp, "MOST_ROWS", 50)
    x, y = plane(200, 0.02)
    one, other = Process(x, y, 2), Process(x, y, 2)
    assert one.kept == 50
    np.testing.assert_array_equal(one.predict(x)[0], other.predict(x)[0])
    assert np.median(np.abs(one.predict(x)[0] - y)) < 0.1
