"""`edgelut profile` through a service: the same request as a job of its own, watched until it has ended."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgelut import local_service
from edgelut.errors import InvalidSpec
from edgelut.http import HttpTable
from edgelut.job_client import HttpJobs
from edgelut.jobs import Job, JobEvent, JobPoint, JobRequest
from edgelut.runs import Failure
from edgelut.types import Entry, Target

HOST = "host"  # the device of the agent that a service brings along
AGENT_S = 60.0  # what a service that has just started gives its agent to say which runtimes it has


@dataclass(frozen=True, slots=True)
class Place:
    """A service to measure by. `said` is false where nobody named it: it was found running on the data folder."""

    url: str
    token: str | None
    said: bool


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job came to, as a sweep's result."""

    job: Job
    sweep: str  # of its first point
    measured: list[Entry]
    known: list[Entry]
    failures: list[Failure]


def find_service(url: str | None, home: Path, *, local: bool, database: str | None) -> Place | None:
    """Return the service to measure by, or None where this process is to measure; raise InvalidSpec for both at once.

    That is `--url`, else EDGELUT_URL, else one that runs on the data folder; `--local` and `--database` are without one.
    """
    if url and (local or database):
        raise InvalidSpec("--url measures by a service, --local and --database in this process: give one of them")
    if local or database:
        return None
    token = os.environ.get("EDGELUT_TOKEN") or None
    named = url or os.environ.get("EDGELUT_URL")
    if named:
        return Place(named, token, said=True)
    found = local_service.find(home)
    return None if found is None else Place(found[0], token or found[1], said=False)


def run_job(
    place: Place,
    request: JobRequest,
    on_job: Callable[[Job], None],
    on_event: Callable[[JobEvent], None],
    on_submit: Callable[[Job], None],
) -> JobResult:
    """Submit a job and wait until it has ended; return what came of it. Interrupted, it leaves the job running."""
    with closing(HttpJobs(place.url, place.token)) as jobs, closing(HttpTable(place.url, place.token)) as table:
        submitted = jobs.submit(request) if place.said else _submit_here(jobs, request, place)
        on_submit(submitted)
        job = jobs.wait(submitted.id, on_job, on_event)
        points = jobs.points(job.id)
        rows = _rows(table, [point for point in points if point.state in ("measured", "known")])
    return JobResult(
        job=job,
        sweep=next((point.sweep for point in points if point.sweep), ""),
        measured=[rows[point.number] for point in points if point.state == "measured" and point.number in rows],
        known=[rows[point.number] for point in points if point.state == "known" and point.number in rows],
        failures=[_failure(point) for point in points if point.state in ("failed", "cancelled")],
    )


def _submit_here(jobs: HttpJobs, request: JobRequest, place: Place) -> Job:
    """Submit a job to the service of this machine, whose agent may not have said yet what it can do."""
    deadline = time.monotonic() + AGENT_S
    while True:
        try:
            return jobs.submit(request)
        except InvalidSpec as error:
            if time.monotonic() > deadline or not _may_come(jobs, request):
                hint = f"asked of the service that runs here ({place.url}); --local measures without it"
                raise InvalidSpec(f"{error} ({hint})") from None
        time.sleep(0.3)


def _may_come(jobs: HttpJobs, request: JobRequest) -> bool:
    """Say whether a device that is asked for may be had in a moment: this host, or one whose runtimes are being looked for."""
    from .fleet import LOOKING

    fleet = {device.info.name: device.info for device in jobs.fleet()}
    asked = [(name, fleet.get(name)) for name in request.devices]
    return any(name == HOST if info is None else info.reason == LOOKING for name, info in asked)


def _rows(table: HttpTable, points: Sequence[JobPoint]) -> dict[int, Entry]:
    """Return each point's row by its number: what it was measured as, be it that an older, stable row stays the current one."""
    found: dict[int, Entry] = {}
    by_target: dict[Target, list[JobPoint]] = defaultdict(list)
    for point in points:
        by_target[point.point.target].append(point)
    for target, asked in by_target.items():
        current = table.find_many([point.point.spec for point in asked], target)
        for point, entry in zip(asked, current, strict=True):
            if entry is None:
                continue
            found[point.number] = entry
            if point.state == "measured" and entry.provenance.get("sweep") != point.sweep:
                history = table.history(point.point.spec, target)
                own = [row for row in history if row.provenance.get("sweep") == point.sweep]
                found[point.number] = own[-1] if own else entry
    return found


def _failure(point: JobPoint) -> Failure:
    reason = point.reason or point.state
    return Failure(point.sweep, point.point.spec, point.point.target, reason, point.closed_at or datetime.now(UTC))
