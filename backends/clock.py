"""The timing loop of sessions that live in this process."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns

from .base import Timing


def time_calls(call: Callable[[], object], iterations: int, inner: int = 1) -> Timing:
    """Time `iterations` samples of `inner` calls each: wall time and this thread's CPU time, both in ns.

    The CPU clock is read inside the wall clock's reads, so that its system call does not count as CPU time of the block.
    """
    wall, cpu = [0] * iterations, [0] * iterations
    if inner == 1:
        for index in range(iterations):
            wall_start = perf_counter_ns()
            cpu_start = thread_time_ns()
            call()
            cpu[index] = thread_time_ns() - cpu_start
            wall[index] = perf_counter_ns() - wall_start
    else:
        repeats = range(inner)
        for index in range(iterations):
            wall_start = perf_counter_ns()
            cpu_start = thread_time_ns()
            for _ in repeats:
                call()
            cpu[index] = thread_time_ns() - cpu_start
            wall[index] = perf_counter_ns() - wall_start
    return Timing(tuple(wall), tuple(cpu))
