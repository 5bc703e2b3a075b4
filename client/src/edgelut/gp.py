"""Gaussian processes on a few hundred to a few thousand rows, by numpy alone: what estimates are made with.

The covariance is a constant, a linear and a quadratic part, which carry a trend beyond the rows, and Matérn 5/2 bumps with a
length for each feature, which follow the rows where they are (Rasmussen & Williams 2006, chapters 2, 4 and 5). Its
hyperparameters maximise the posterior under broad priors, by steps along one of them at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Places: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

MOST_ROWS = 2000  # that a process holds: its time grows with their cube, 0.5 s for so many
FITTED_ROWS = 300  # that hyperparameters are chosen by
ROUNDS = 4  # through all hyperparameters, in smaller and smaller steps
JITTER = 1e-9
# Means and standard deviations of the logarithms that are expected of hyperparameters, for values scaled to 1
EXPECTED = {"quadratic": (np.log(0.01), 1.5), "bumps": (np.log(0.05), 1.5), "noise": (np.log(1e-3), 1.5)}
EXPECTED_LENGTH = (np.log(2.0), 1.0)  # for features scaled to 1


@dataclass(frozen=True, slots=True)
class Covariance:
    """Hyperparameters: variances of the parts and of the noise, and the bumps' length along each feature."""

    lengths: tuple[float, ...]
    constant: float = 10.0
    linear: float = 10.0
    quadratic: float = 0.01
    bumps: float = 0.05
    noise: float = 1e-3

    def between(self, one: Floats, other: Floats, trend: int) -> Floats:
        """Return the covariance of each row of (n, d) with each of (m, d); the trend goes by the first `trend` features."""
        products = one[:, :trend] @ other[:, :trend].T
        a, b = one / self.lengths, other / self.lengths
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
        r = np.sqrt(5 * np.maximum(squared, 0.0))
        bumps = self.bumps * (1 + r + r * r / 3) * np.exp(-r)
        found: Floats = self.constant + self.linear * products + self.quadratic * products**2 + bumps
        return found

    def own(self, x: Floats, trend: int) -> Floats:
        """Return the covariance of each row with itself."""
        products = (x[:, :trend] ** 2).sum(1)
        found: Floats = self.constant + self.linear * products + self.quadratic * products**2 + self.bumps
        return found


class Process:
    """A Gaussian process through values at places, both as they are: it scales them itself.

    `x` is (n, d), `y` is (n,); the first `trend` features carry the trend. `known` is the variance of each value's own error,
    (n,), as far as it is known: what comes on top is learnt. `trend_scale` is how large a trend is expected, 1 for any. Of more
    than MOST_ROWS rows it keeps that many, chosen by `seed`.
    """

    def __init__(
        self, x: Floats, y: Floats, trend: int, *, known: Floats | None = None, seed: int = 0, trend_scale: float = 1.0
    ) -> None:
        own = np.zeros(len(y)) if known is None else known
        if len(y) > MOST_ROWS:
            kept = np.sort(np.random.default_rng(seed).permutation(len(y))[:MOST_ROWS])
            x, y, own = x[kept], y[kept], own[kept]
        self.kept = len(y)
        self._trend = trend
        self._middle, self._spread = x.mean(0), _scale(x.std(0))
        self._mean, self._scale = float(y.mean()), float(_scale(np.atleast_1d(y.std()))[0])
        self._x = (x - self._middle) / self._spread
        values, own = (y - self._mean) / self._scale, own / self._scale**2
        self.covariance = _fitted(self._x, values, own, trend, seed, trend_scale)
        # By the triangle, for a variance is a small difference of large numbers: by the inverse itself it has half the digits
        self._half = np.linalg.inv(np.linalg.cholesky(_inner(self.covariance, self._x, own, trend)))
        self._inverse = self._half.T @ self._half
        self._weights = self._inverse @ values

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the standard deviation, noise included, of the values at (m, d) places."""
        at = (x - self._middle) / self._spread
        across = self.covariance.between(at, self._x, self._trend)
        variance = self.covariance.own(at, self._trend) - ((across @ self._half.T) ** 2).sum(1)
        deviation = np.sqrt(np.maximum(variance, 0.0) + self.covariance.noise)
        return across @ self._weights * self._scale + self._mean, deviation * self._scale

    def left_out(self, groups: Sequence[Places]) -> tuple[Floats, Floats]:
        """Return how far off the values of each group would be without it, and the deviation that would be said of them.

        By the inverse's blocks (Rasmussen & Williams 2006, equation 5.12, for groups), with the hyperparameters of all rows.
        """
        errors, deviations = [np.empty(0)], [np.empty(0)]
        for group in groups:
            block = np.linalg.inv(self._inverse[np.ix_(group, group)])
            errors.append(-(block @ self._weights[group]) * self._scale)
            deviations.append(np.sqrt(np.maximum(np.diag(block), 0.0)) * self._scale)
        return np.concatenate(errors), np.concatenate(deviations)


def _scale(spread: Floats) -> Floats:
    return np.where(spread > 1e-9, spread, 1.0)


def _inner(covariance: Covariance, x: Floats, own: Floats, trend: int) -> Floats:
    """Return the covariance of values with each other, errors included."""
    inner = covariance.between(x, x, trend)
    inner[np.diag_indices_from(inner)] += covariance.noise + own + JITTER
    return inner


def _fitted(x: Floats, y: Floats, own: Floats, trend: int, seed: int, trend_scale: float) -> Covariance:
    """Return the hyperparameters of the largest posterior that steps along one of them at a time find."""
    chosen = np.random.default_rng(seed).permutation(len(y))[:FITTED_ROWS]
    x, y, own = x[chosen], y[chosen], own[chosen]
    best = Covariance(tuple([2.0] * x.shape[1]), constant=10.0 * trend_scale, linear=10.0 * trend_scale)
    score = _posterior(x, y, own, trend, best)
    names: list[str | int] = [*EXPECTED, *range(x.shape[1])]
    step = 3.0
    for _ in range(ROUNDS):
        for name in names:
            for factor in (1 / step, step):
                while (tried := _stepped(best, name, factor)) and (
                    found := _posterior(x, y, own, trend, tried)
                ) > score + 1e-3:
                    best, score = tried, found
        step = 1 + (step - 1) * 0.6
    return best


def _stepped(from_: Covariance, name: str | int, factor: float) -> Covariance:
    if isinstance(name, int):
        lengths = list(from_.lengths)
        lengths[name] *= factor
        return replace(from_, lengths=tuple(lengths))
    return replace(from_, **{name: getattr(from_, name) * factor})


def _posterior(x: Floats, y: Floats, own: Floats, trend: int, covariance: Covariance) -> float:
    """Return the logarithm of the marginal likelihood times the priors, but for a constant."""
    try:
        lower = np.linalg.cholesky(_inner(covariance, x, own, trend))
    except np.linalg.LinAlgError:
        return -np.inf
    half = np.linalg.solve(lower, y)
    likelihood = -0.5 * half @ half - np.log(np.diag(lower)).sum()
    expected = [(getattr(covariance, name), *said) for name, said in EXPECTED.items()]
    expected += [(length, *EXPECTED_LENGTH) for length in covariance.lengths]
    return float(likelihood - sum(((np.log(value) - mean) / deviation) ** 2 / 2 for value, mean, deviation in expected))
