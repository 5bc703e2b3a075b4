"""What tests of jobs start from: a plan, an agent with devices, a batch that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db.engine import SqlStore
from db.jobs import PlannedBatch
from edgelut.jobs import (
    Announcement,
    Baseline,
    BatchPoint,
    Claim,
    Closed,
    DeviceInfo,
    Job,
    JobRequest,
    Progress,
    Standing,
)
from edgelut.plan import Point
from edgelut.testing import make_entry, make_run, widths
from edgelut.types import BlockSpec, Entry, Params, Run, Target

AGENT, SESSION, DEVICE = "agent", "session", "lab-1"
BASELINE = Baseline("old", "sweep of old", "conditions")


def target(device: str = DEVICE) -> Target:
    return Target(device, "null")


def point(number: int, spec: BlockSpec, device: str = DEVICE, baseline: Baseline | None = None) -> BatchPoint:
    return BatchPoint(number, Point(spec, target(device), "null", Params({"opset": 17})), baseline)


def plan(*sizes: int, device: str = DEVICE, baseline: Baseline | None = None) -> list[PlannedBatch]:
    """Batches of so many points."""
    specs, found, number = widths(sum(sizes)), [], 0
    for size in sizes:
        points = [point(n, specs[n], device, baseline) for n in range(number, number + size)]
        found.append(PlannedBatch(device, points))
        number += size
    return found


def request(**changes: Any) -> JobRequest:
    return JobRequest(**{"blocks": ("MB4D",), "widths": (8,), "resolutions": (14,), "devices": (DEVICE,), **changes})


def submit(store: SqlStore, *sizes: int, device: str = DEVICE, **changes: Any) -> Job:
    baseline = BASELINE if changes.get("baseline") else None
    return store.submit_job(request(**changes), plan(*(sizes or (3,)), device=device, baseline=baseline))[0]


def devices(*names: str) -> tuple[DeviceInfo, ...]:
    return tuple(DeviceInfo(name) for name in names)


def announcement(
    *names: str, name: str = AGENT, session: str = SESSION, installation: str | None = None, **changes: Any
) -> Announcement:
    announced = devices(*(names or (DEVICE,)))
    return Announcement(name, installation or f"of {name}", session, "1.0", devices=announced, **changes)


@dataclass
class Holder:
    """An agent that holds a batch."""

    store: SqlStore
    claim: Claim

    def run(self, number: int, round: int = 0, process: str = "w1", *, baseline: bool = False) -> Run:
        one = next(one for one in self.claim.points if one.number == number)
        sweep = self.claim.baseline_sweep if baseline else self.claim.sweep
        return make_run(sweep, round, process, one.point.spec, target=one.point.target)

    def entry(self, number: int, p10_ns: float = 1e6, **changes: Any) -> Entry:
        one = next(one for one in self.claim.points if one.number == number)
        provenance = Params({"sweep": self.claim.sweep, "artifact_sha256": "sha", "conditions": "facts"})
        return make_entry(p10_ns, one.point.spec, one.point.target, **{"provenance": provenance, **changes})

    def put_round(self, round: int = 0, numbers: Sequence[int] | None = None, process: str = "w1") -> Standing:
        wanted = [one.number for one in self.claim.points] if numbers is None else numbers
        runs = [self.run(number, round, process) for number in wanted]
        return self.store.put_batch_runs(self.claim.batch, self.claim.lease, runs)

    def put_entries(self, *numbers: int, p10_ns: float = 1e6) -> Standing:
        entries = [self.entry(number, p10_ns) for number in numbers]
        return self.store.put_batch_entries(self.claim.batch, self.claim.lease, entries)

    def close(self, *closed: Closed) -> Standing:
        return self.store.close_points(self.claim.batch, self.claim.lease, closed)

    def progress(self, done: int, seconds_left: float) -> Standing:
        told = Progress(done, len(self.claim.points), 1, seconds_left)
        return self.store.put_batch_progress(self.claim.batch, self.claim.lease, told)

    def finish(self, interrupted: bool = False, reason: str = "") -> Standing:
        return self.store.finish_batch(self.claim.batch, self.claim.lease, interrupted, reason)

    def lose(self) -> list[str]:
        """Have the lease freed, as where the agent was not heard of."""
        found = [(lease.token, lease.beat) for lease in self.store.leases() if lease.token == self.claim.lease]
        return self.store.free_leases(found)


def hold(store: SqlStore, *names: str, name: str = AGENT, session: str = SESSION) -> Holder:
    """Claim the next batch."""
    claim = store.claim(name, session, names or (DEVICE,))
    assert claim is not None
    return Holder(store, claim)


def start(store: SqlStore, *sizes: int, **changes: Any) -> tuple[Job, Holder]:
    """Submit a job, announce an agent, and claim the first batch."""
    job = submit(store, *sizes, **changes)
    store.announce(announcement())
    return job, hold(store)


def found(store: SqlStore, job: Job) -> Job:
    """The job as it is now."""
    again = store.find_job(job.id)
    assert again is not None
    return again


def states(store: SqlStore, job: Job) -> list[str]:
    return [one.state for one in store.job_points(job.id)]


def said(store: SqlStore, job: Job) -> list[str]:
    return [event.text for event in store.job_events(job.id)]
