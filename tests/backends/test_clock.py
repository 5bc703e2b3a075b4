from __future__ import annotations

from time import perf_counter_ns, thread_time_ns

import pytest

from backends import clock


@pytest.mark.parametrize("inner", [1, 4])
def test_calls_as_often_as_was_asked(inner: int) -> None:
    calls: list[int] = []
    timing = clock.time_calls(lambda: calls.append(1), 5, inner)
    assert len(calls) == 5 * inner
    assert len(timing.wall_ns) == len(timing.cpu_ns) == 5


def test_the_wall_clock_sees_nothing_but_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"wall": 0, "cpu": 0}

    def read_wall() -> int:
        return now["wall"]

    def read_cpu() -> int:
        now["wall"] += 1000  # a slow system call, half of which the thread's clock sees
        now["cpu"] += 500
        return now["cpu"]

    def call() -> None:
        now["wall"] += 70
        now["cpu"] += 60

    monkeypatch.setattr(clock, "perf_counter_ns", read_wall)
    monkeypatch.setattr(clock, "thread_time_ns", read_cpu)
    timing = clock.time_calls(call, 3, inner=2)
    assert timing.wall_ns == (140, 140, 140)
    assert timing.cpu_ns == (620, 620, 620)


def test_a_sample_is_no_longer_than_the_whole() -> None:
    wall, cpu = perf_counter_ns(), thread_time_ns()
    timing = clock.time_calls(lambda: sum(range(1000)), 50)
    cpu, wall = thread_time_ns() - cpu, perf_counter_ns() - wall
    assert 0 < sum(timing.wall_ns) <= wall
    assert 0 < sum(timing.cpu_ns) <= cpu
