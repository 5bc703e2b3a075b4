"""What other tools decide by, for benchmarks/gate.py: each looks at separate runs, and none knows what a run's rows share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .significance import rank_test, student_quantile

ASV_FACTOR, ASV_P = 1.1, 0.002
BENCHER_LEVEL = 0.99


def five_percent_rule(new: float, previous: float, more: float = 0.05) -> bool:
    """Say whether a figure is more than 5 % above the previous run's."""
    return new > previous * (1 + more)


def asv_rule(new: Sequence[float], previous: Sequence[float]) -> bool:
    """Say whether `asv continuous` would call it a regression: medians apart by its factor, and Mann-Whitney's p < 0.002."""
    if not len(new) or not len(previous):
        return False
    return bool(np.median(new) > ASV_FACTOR * np.median(previous)) and rank_test(new, previous) < ASV_P


def bencher_rule(new: float, history: Sequence[float]) -> bool:
    """Say whether Bencher's t-test would alert: above mean + t * sd of all earlier runs, t at its upper boundary of 0.99."""
    if len(history) < 2:
        return False
    values = np.asarray(history, dtype=np.float64)
    spread = float(values.std(ddof=1))
    limit = float(values.mean()) + student_quantile(1 - BENCHER_LEVEL, len(values) - 1) * spread
    return math.isfinite(limit) and new > limit
