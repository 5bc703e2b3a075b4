"""The reference kernel: a fixed piece of work that shows how fast the machine is at this moment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

HIDDEN, WIDTH, TOKENS = 1792, 448, 49  # the first product of an MB3D's MLP: 39 MFLOP through 3 MiB of weights
FLUSH_BYTES = 96 << 20  # more than the last cache of today's phones, laptops and most servers has for one core
VERSION = 1


def kernel() -> Callable[[], object]:
    """Return the kernel: one matrix product in numpy, so that every worker has it.

    A product of the shape that blocks are made of follows their drift (correlation 0.7-0.95 with rows measured in the same
    rounds); a small one that stays in the first caches, or one that only streams memory, does not (docs/measuring.md).
    """
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((HIDDEN, WIDTH), dtype=np.float32)
    tokens = rng.standard_normal((WIDTH, TOKENS), dtype=np.float32)
    out = np.empty((HIDDEN, TOKENS), np.float32)
    return lambda: np.matmul(weights, tokens, out=out)


def flusher() -> Callable[[], object]:
    """Return what fills the caches with other data: one pass of reads and writes over memory."""
    buffer = np.zeros(FLUSH_BYTES // 4, np.float32)
    return lambda: np.add(buffer, 1.0, out=buffer)
