"""The reference kernel: a fixed piece of work that shows how fast the machine is at this moment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIDE = 192  # sgemm of 14 MFLOP: a third of a millisecond on a 2020s core
STREAM = 1 << 18  # 1 MiB of float32, read and written: what a block's weights and maps do to the caches
VERSION = 1


def kernel() -> Callable[[], None]:
    """Return the kernel: one matrix product and one pass over memory, in numpy, so that every worker has it."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    product = np.empty_like(left)
    source = rng.standard_normal(STREAM, dtype=np.float32)
    sink = np.empty_like(source)

    def run() -> None:
        np.matmul(left, right, out=product)
        np.add(source, 1.0, out=sink)

    return run
