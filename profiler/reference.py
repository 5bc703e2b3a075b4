"""The reference kernels: fixed pieces of work that show how fast the machine is at this moment, and what fills its caches."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

FLUSH_BYTES = 64 << 20  # more than the last cache of today's phones, laptops and most servers has for one core
VERSION = 2

Kernel = Callable[[], object]


def kernels() -> Mapping[str, Kernel]:
    """Return the kernels, in numpy, so that every worker has them: products of the shapes that blocks are made of, and a map.

    One kernel alone follows the drift of some rows and not of others. The geometric mean of four left half of the deviation
    between sessions that dividing by the best single one left (docs/measuring.md, "Why these figures").
    """
    rng = np.random.default_rng(0)
    return {
        "small": _product(rng, 192, 192, 192),  # stays in the first caches
        "wide": _product(rng, 1792, 448, 49),  # an MLP at 7x7: 3 MiB of weights
        "tall": _product(rng, 3136, 48, 192),  # an MLP at 56x56
        "map": _pointwise(rng, 48 * 56 * 56),  # an activation at 56x56
    }


def flusher() -> Kernel:
    """Return what fills the caches with other data: one pass of reads and writes over memory."""
    buffer = np.zeros(FLUSH_BYTES // 4, np.float32)
    return lambda: np.add(buffer, 1.0, out=buffer)


def _product(rng: np.random.Generator, rows: int, inner: int, columns: int) -> Kernel:
    left = rng.standard_normal((rows, inner), dtype=np.float32)
    right = rng.standard_normal((inner, columns), dtype=np.float32)
    out = np.empty((rows, columns), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _pointwise(rng: np.random.Generator, size: int) -> Kernel:
    source = rng.standard_normal(size, dtype=np.float32)
    out = np.empty_like(source)

    def run() -> None:
        np.multiply(source, 0.5, out=out)
        np.tanh(out, out=out)
        np.multiply(out, source, out=out)

    return run
