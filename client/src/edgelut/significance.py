"""Tails of distributions and corrections for many tests, without scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def student_tail(t: float, freedom: float) -> float:
    """Return P(T > t) for Student's t with `freedom` degrees of freedom (inf: the normal distribution)."""
    if math.isnan(t) or freedom <= 0:
        return math.nan
    if math.isinf(freedom):
        return math.erfc(t / math.sqrt(2)) / 2
    half = incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return half if t >= 0 else 1 - half


@lru_cache(maxsize=1024)
def student_quantile(tail: float, freedom: float) -> float:
    """Return the t that P(T > t) = tail belongs to, for 0 < tail <= 0.5.

    Newton's method from 0, where the tail is too large: it falls ever less steeply, so that no step goes too far.
    """
    t = 0.0
    for _ in range(200):
        step = (student_tail(t, freedom) - tail) / _density(t, freedom)
        t += step
        if abs(step) <= 1e-12 * max(t, 1.0):
            break
    return t


def _density(t: float, freedom: float) -> float:
    """Return the density of Student's t."""
    if math.isinf(freedom):
        return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    return math.exp(scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if not 0 < x < 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    return front * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluate the fraction by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1 / (_unless_zero(1 - (a + b) * x / (a + 1), tiny))
    value = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for step in (even, odd):
            d = 1 / _unless_zero(1 + step * d, tiny)
            c = _unless_zero(1 + step / c, tiny)
            value *= c * d
        if abs(value - before) < 1e-15 * abs(value):
            break
    return value


def _unless_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def q_values(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini and Hochberg's adjusted p-values: rows at or below q hold at most a share q of false ones."""
    p = np.asarray(p_values, dtype=np.float64)
    if not len(p):
        return []
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    found = np.empty_like(adjusted)
    found[order] = adjusted
    return [float(value) for value in found]


def rank_test(new: Sequence[float], old: Sequence[float]) -> float:
    """Return Mann and Whitney's two-sided p that neither sample tends to be larger: exact up to 20 a side without ties."""
    a, b = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    n, m = len(a), len(b)
    if not n or not m:
        return 1.0
    above = (a[:, None] > b[None, :]).sum() + 0.5 * (a[:, None] == b[None, :]).sum()
    u = float(min(above, n * m - above))
    both = np.concatenate([a, b])
    counts = np.unique(both, return_counts=True)[1]
    if max(n, m) <= 20 and len(counts) == n + m:
        return min(1.0, 2 * float(_rank_counts(n, m)[: int(u) + 1].sum()) / math.comb(n + m, n))
    ties = float((counts**3 - counts).sum()) / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - ties)
    if variance <= 0:
        return 1.0
    return min(1.0, math.erfc(max(0.0, n * m / 2 - u - 0.5) / math.sqrt(2 * variance)))


def _rank_counts(n: int, m: int) -> Floats:
    """Return how many of the orders of n and m values give each U: the coefficients of the Gaussian binomial."""
    counts = np.zeros(n * m + 1)
    counts[0] = 1
    for k in range(1, n + 1):
        for u in range(m + k, n * m + 1)[::-1]:
            counts[u] -= counts[u - m - k]
        for u in range(k, n * m + 1):
            counts[u] += counts[u - k]
    return counts
