"""Leases die by silence on a clock that nobody can set."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pytest

from jobs.leases import LEASE_S, Watch


@dataclass(frozen=True)
class Lease:
    token: str
    beat: int


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch_for(watch: Watch, clock: Clock, lease: Lease, seconds: float, step: float = 2.0) -> list[tuple[str, int]]:
    """Look every `step` seconds for that long; return what was dead at the last look."""
    dead = watch.dead([lease])
    for _ in range(round(seconds / step)):
        clock.now += step
        dead = watch.dead([lease])
    return dead


def test_a_lease_whose_beat_stands_still_for_its_time_is_dead_and_not_before(clock: Clock) -> None:
    watch = Watch(clock=clock)
    assert watch_for(watch, clock, Lease("a", 7), LEASE_S - 2) == []
    clock.now += 2
    assert watch.dead([Lease("a", 7)]) == [("a", 7)]


def test_a_lease_that_beats_lives(clock: Clock) -> None:
    watch = Watch(clock=clock)
    lease = Lease("a", 0)
    for _ in range(100):
        assert watch_for(watch, clock, lease, LEASE_S - 2) == []
        lease = replace(lease, beat=lease.beat + 1)


def test_a_beat_that_comes_at_the_last_moment_gives_the_full_time_again(clock: Clock) -> None:
    watch = Watch(clock=clock)
    watch_for(watch, clock, Lease("a", 1), LEASE_S - 2)
    assert watch_for(watch, clock, Lease("a", 2), LEASE_S - 2) == []


def test_each_lease_is_judged_by_its_own_beat(clock: Clock) -> None:
    watch = Watch(clock=clock)
    for beat in range(100):
        dead = watch.dead([Lease("silent", 1), Lease("lively", beat)])
        clock.now += 2
    assert dead == [("silent", 1)]


def test_a_dead_lease_is_told_until_it_is_gone(clock: Clock) -> None:
    watch = Watch(clock=clock)
    assert watch_for(watch, clock, Lease("a", 1), 2 * LEASE_S) == [("a", 1)]
    assert watch.dead([Lease("a", 1)]) == [("a", 1)]
    assert watch.dead([]) == []
    assert watch.dead([Lease("a", 1)]) == []  # the same name again is a new lease


@pytest.mark.parametrize("jump_s", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_wall_clock_that_jumps_neither_kills_a_lease_nor_keeps_one(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    watch = Watch(clock=clock)
    assert watch_for(watch, clock, Lease("a", 1), LEASE_S / 2) == []
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert watch.dead([Lease("a", 1)]) == []
    assert watch_for(watch, clock, Lease("a", 1), LEASE_S) == [("a", 1)]


def test_time_in_which_nobody_looked_is_not_held_against_agents(clock: Clock) -> None:
    watch = Watch(clock=clock)
    watch.dead([Lease("a", 1)])
    clock.now += 3600  # the process was stopped, or the database away
    assert watch.dead([Lease("a", 1)]) == []
    assert watch_for(watch, clock, Lease("a", 1), LEASE_S) == [("a", 1)]


def test_a_new_watch_gives_every_lease_its_full_time(clock: Clock) -> None:
    watch_for(Watch(clock=clock), clock, Lease("a", 1), LEASE_S)
    assert watch_for(Watch(clock=clock), clock, Lease("a", 1), LEASE_S - 2) == []


def test_the_watch_reads_the_monotonic_clock_by_itself() -> None:
    watch = Watch(lease_s=0.05)
    watch.dead([Lease("a", 1)])
    time.sleep(0.06)
    assert watch.dead([Lease("a", 1)]) == [("a", 1)]
