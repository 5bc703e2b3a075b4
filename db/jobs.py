"""Jobs with their batches, points and log: submitted, listed, cancelled, tried again, ended, forgotten."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgelut import wire
from edgelut.errors import Conflict, InvalidSpec
from edgelut.jobs import ENDED, MOST_POINTS, BatchPoint, Job, JobEvent, JobPoint, JobRequest, JobState, PointState

from .batches import close_open
from .connect import Database, reading, writing
from .job_rows import JOB, POINT, Level, get_job, job_point_of, job_row_id, jobs_of, log, now, words
from .rows import spec_ids, storable, target_ids
from .schema import batches, job_events, jobs, leases, points

MOST_IN_BATCH = 128  # points of a batch
LONGEST_KEY = 200  # of an idempotency key

_RETRIED: tuple[PointState, ...] = ("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Points of one device that are measured interleaved."""

    device: str
    points: Sequence[BatchPoint]


class SqlJobs(Database):
    """Jobs in SQLite or PostgreSQL. A job that is not there raises LatencyNotFound, except where None is said."""

    def submit_job(
        self,
        request: JobRequest,
        plan: Sequence[PlannedBatch],
        *,
        idempotency_key: str | None = None,
        submitter: str = "",
        baseline_job: str = "",
    ) -> tuple[Job, bool]:
        """Store a job and its plan; return it, and whether it is new: the same key gives the same job.

        Raises Conflict for a key that came with another request, InvalidSpec for a plan of nothing or with a point twice.
        """
        _check_plan(plan)
        with writing(self.engine) as connection:
            known = _keyed(connection, request, idempotency_key)
            if known is not None:
                return get_job(connection, known), False
            row = _job_row(request) | {"idempotency_key": idempotency_key or None}
            row |= {"submitter": submitter, "baseline_job": baseline_job}
            job_id = connection.execute(jobs.insert().values(row).returning(jobs.c.id)).scalar_one()
            _store_plan(connection, job_id, request, plan)
            count = sum(len(part.points) for part in plan)
            log(connection, job_id, "info", f"submitted{submitter and f' by {submitter}'}: {_said(count, len(plan))}")
            return get_job(connection, job_id), True

    def find_keyed(self, request: JobRequest, idempotency_key: str) -> Job | None:
        """Return the job that the key came with before, or None; raise Conflict if it came with another request."""
        with reading(self.engine) as connection:
            known = _keyed(connection, request, idempotency_key)
            return None if known is None else get_job(connection, known)

    def find_job(self, id: str) -> Job | None:
        """Return a job as it is now, or None."""
        with reading(self.engine) as connection:
            rows = connection.execute(JOB.where(jobs.c.key == id)).mappings().all()
            return jobs_of(connection, rows)[0] if rows else None

    def jobs(
        self, *, state: JobState | None = None, name: str | None = None, before: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Return jobs, newest first, those before a job where one is named."""
        statement = JOB.order_by(jobs.c.id.desc()).limit(limit)
        if state is not None:
            statement = statement.where(jobs.c.state == state)
        if name is not None:
            statement = statement.where(jobs.c.name == name)
        with reading(self.engine) as connection:
            if before is not None:
                statement = statement.where(jobs.c.id < job_row_id(connection, before))
            return jobs_of(connection, connection.execute(statement).mappings().all())

    def job_points(
        self, id: str, *, state: PointState | None = None, after: int = -1, limit: int = 1000
    ) -> list[JobPoint]:
        """Return a job's points in order of their numbers, those after a number."""
        with reading(self.engine) as connection:
            statement = POINT.where(points.c.job_id == job_row_id(connection, id), points.c.number > after)
            if state is not None:
                statement = statement.where(points.c.state == state)
            return [job_point_of(row) for row in connection.execute(statement.limit(limit)).mappings()]

    def log_job(self, id: str, level: Level, text: str) -> None:
        """Add a line to a job's log."""
        with writing(self.engine) as connection:
            log(connection, job_row_id(connection, id), level, text)

    def job_events(self, id: str, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        """Return the lines of a job's log after that of an id, oldest first."""
        with reading(self.engine) as connection:
            which = (job_events.c.job_id == job_row_id(connection, id), job_events.c.id > after)
            rows = connection.execute(sa.select(job_events).where(*which).order_by(job_events.c.id).limit(limit))
            return [JobEvent(row.id, row.at, row.level, row.text) for row in rows]

    def cancel_job(self, id: str) -> Job:
        """End a job: its open points are cancelled. One that has ended stays as it is.

        An agent that measures for it is told by its next message, and holds its device until it has said that it stopped.
        """
        with writing(self.engine) as connection:
            job_id = job_row_id(connection, id)
            if not _end(connection, job_id, "cancelled"):
                return get_job(connection, job_id)
            count = close_open(connection, points.c.job_id == job_id, "cancelled", "")
            change = batches.update().where(batches.c.job_id == job_id, batches.c.state != "closed")
            connection.execute(change.values(state="closed", cancelled=True, closed_at=now()))
            log(connection, job_id, "warning", f"cancelled with {count} points open")
            return get_job(connection, job_id)

    def retry_job(self, id: str) -> tuple[Job, int]:
        """Open what failed or was cancelled again, in new batches; return the job, and how many points that is.

        Raises Conflict for a job that has not ended, or of which nothing failed.
        """
        with writing(self.engine) as connection:
            job_id = job_row_id(connection, id)
            state = connection.execute(sa.select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one()
            if state not in ENDED:
                raise Conflict(f"job {id} is {state}: what failed of it can be tried again when it has ended")
            count = _reopen(connection, job_id)
            if not count:
                raise Conflict(f"nothing of job {id} failed or was cancelled")
            change = jobs.update().where(jobs.c.id == job_id)
            connection.execute(change.values(state="queued", finished_at=None))
            log(connection, job_id, "info", f"tried again: {count} points")
            return get_job(connection, job_id), count

    def close_job(self, id: str) -> Job:
        """End a job of which nothing is open as done; any other stays as it is."""
        with writing(self.engine) as connection:
            job_id = job_row_id(connection, id)
            job = get_job(connection, job_id)
            if job.points.open or not _end(connection, job_id, "done"):
                return job
            job = get_job(connection, job_id)
            log(connection, job_id, "warning" if job.points.failed else "info", f"done: {_counted(job)}")
            return job

    def unfinished_jobs(self) -> list[str]:
        """Return the ids of the jobs that have not ended, oldest first."""
        with reading(self.engine) as connection:
            unfinished = sa.select(jobs.c.key).where(jobs.c.state.not_in(ENDED))
            return list(connection.execute(unfinished.order_by(jobs.c.id)).scalars())

    def complete_jobs(self) -> list[str]:
        """Return the ids of the jobs that have not ended and of which nothing is open: they are to be closed."""
        left = sa.exists().where(batches.c.job_id == jobs.c.id, batches.c.state != "closed")
        with reading(self.engine) as connection:
            complete = sa.select(jobs.c.key).where(jobs.c.state.not_in(ENDED), ~left)
            return list(connection.execute(complete.order_by(jobs.c.id)).scalars())

    def is_complete(self, id: str) -> bool:
        """Say whether nothing of a job is open."""
        with reading(self.engine) as connection:
            which = (batches.c.job_id == job_row_id(connection, id), batches.c.state != "closed")
            return connection.execute(sa.select(batches.c.id).where(*which).limit(1)).first() is None

    def forget_jobs(self, before: datetime) -> int:
        """Delete jobs that ended before a moment, with their points and logs; return how many.

        Runs, sweeps and rows stay, and so does a job that an agent still holds a batch of.
        """
        held = sa.exists().where(batches.c.job_id == jobs.c.id, leases.c.batch_id == batches.c.id)
        with reading(self.engine) as connection:
            which = (jobs.c.state.in_(ENDED), jobs.c.finished_at < before, ~held)
            old = list(connection.execute(sa.select(jobs.c.id).where(*which)).scalars())
        return sum(self._forget(job_id, before) for job_id in old)

    def _forget(self, job_id: int, before: datetime) -> int:
        """Delete one job, in a writer's turn of its own: it may have 50,000 points."""
        with writing(self.engine) as connection:
            still = sa.select(jobs.c.id).where(
                jobs.c.id == job_id, jobs.c.state.in_(ENDED), jobs.c.finished_at < before
            )
            held = sa.select(leases.c.id).join(batches, batches.c.id == leases.c.batch_id)
            if connection.execute(still).first() is None:
                return 0
            if connection.execute(held.where(batches.c.job_id == job_id)).first() is not None:
                return 0
            for table in (points, batches, job_events):
                connection.execute(table.delete().where(table.c.job_id == job_id))
            connection.execute(jobs.delete().where(jobs.c.id == job_id))
            return 1


def _check_plan(plan: Sequence[PlannedBatch]) -> None:
    """Raise InvalidSpec for a plan that is no plan."""
    planned = [(part, point) for part in plan for point in part.points]
    if not planned or not all(part.points for part in plan):
        raise InvalidSpec("a job needs at least one point, and so does each of its batches")
    if len(planned) > MOST_POINTS:
        raise InvalidSpec(f"a job has at most {MOST_POINTS} points, not {len(planned)}: submit several")
    seen: set[object] = set()
    for part, point in planned:
        place = (point.point.spec.key, point.point.target.key)
        if place in seen or point.number in seen:
            raise InvalidSpec(f"point {point.number} ({point.point}) is in the plan twice")
        if point.point.target.device != part.device:
            raise InvalidSpec(f"point {point.number} ({point.point}) is in a batch of {part.device}")
        seen |= {place, point.number}


def _keyed(connection: sa.Connection, request: JobRequest, key: str | None) -> int | None:
    """Return the row id of the job that a key came with, or None."""
    if not key:
        return None
    if len(key) > LONGEST_KEY or not key.isprintable() or not storable(key):
        raise InvalidSpec(f"an idempotency key has at most {LONGEST_KEY} printable characters")
    known = sa.select(jobs.c.id, jobs.c.key, jobs.c.request_key).where(jobs.c.idempotency_key == key)
    found = connection.execute(known).one_or_none()
    if found is None:
        return None
    if found.request_key != request.key:
        raise Conflict(f"the idempotency key {key!r} came with another request before, for job {found.key}")
    return int(found.id)


def _job_row(request: JobRequest) -> dict[str, Any]:
    return {
        "key": uuid.uuid4().hex,
        "name": request.name,
        "state": "queued",
        "request": wire.dump(request),
        "request_key": request.key,
        "labels": dict(request.labels),
        "policy": wire.dump(request.policy()),
        "again": request.again,
        "compares": bool(request.baseline),
        "environment": words(request.environment),
        "created_at": now(),
    }


def _store_plan(connection: sa.Connection, job_id: int, request: JobRequest, plan: Sequence[PlannedBatch]) -> None:
    ids = _new_batches(connection, job_id, -request.priority, [(part.device, len(part.points)) for part in plan])
    planned = [(id_, point) for id_, part in zip(ids, plan, strict=True) for point in part.points]
    of_spec = spec_ids(connection, [point.point.spec for _, point in planned])
    of_target = target_ids(connection, [point.point.target for _, point in planned])
    rows = [
        {
            "job_id": job_id,
            "number": point.number,
            "batch_id": id_,
            "spec_id": of_spec[point.point.spec.key],
            "target_id": of_target[point.point.target.key],
            "format": point.point.format,
            "options": dict(point.point.options),
            "state": "open",
            "reason": "",
            "baseline": None if point.baseline is None else wire.dump(point.baseline),
        }
        for id_, point in planned
    ]
    connection.execute(points.insert(), rows)


def _new_batches(connection: sa.Connection, job_id: int, rank: int, parts: Sequence[tuple[str, int]]) -> list[int]:
    """Store batches of devices and numbers of points after those that the job has; return their row ids in order."""
    last = sa.select(sa.func.coalesce(sa.func.max(batches.c.number), -1)).where(batches.c.job_id == job_id)
    first = connection.execute(last).scalar_one() + 1
    fresh = {"job_id": job_id, "rank": rank, "state": "open", "cancelled": False, "agent": ""}
    fresh |= dict.fromkeys(("rounds", "attempts", "fruitless"), 0)
    rows = [
        fresh | {"key": uuid.uuid4().hex, "number": first + place, "device": device, "points": count}
        for place, (device, count) in enumerate(parts)
    ]
    connection.execute(batches.insert(), rows)
    new = sa.select(batches.c.id).where(batches.c.job_id == job_id, batches.c.number >= first)
    return list(connection.execute(new.order_by(batches.c.number)).scalars())


def _end(connection: sa.Connection, job_id: int, state: JobState) -> bool:
    """End a job that has not ended; return whether it had not."""
    change = jobs.update().where(jobs.c.id == job_id, jobs.c.state.not_in(ENDED))
    return connection.execute(change.values(state=state, finished_at=now())).rowcount > 0


def _reopen(connection: sa.Connection, job_id: int) -> int:
    """Open points that failed or were cancelled, in new batches; return how many."""
    which = (points.c.job_id == job_id, points.c.state.in_(_RETRIED))
    columns = (points.c.batch_id, batches.c.device, batches.c.rank, sa.func.count().label("size"))
    statement = sa.select(*columns).join(batches, batches.c.id == points.c.batch_id).where(*which)
    grouped = statement.group_by(points.c.batch_id, batches.c.device, batches.c.rank, batches.c.number)
    old = connection.execute(grouped.order_by(batches.c.device, batches.c.number)).all()
    if not old:
        return 0
    groups = list(_merged(old))
    sizes = [(group[0].device, sum(part.size for part in group)) for group in groups]
    for new, group in zip(_new_batches(connection, job_id, old[0].rank, sizes), groups, strict=True):
        change = points.update().where(*which, points.c.batch_id.in_([part.batch_id for part in group]))
        fresh = {"batch_id": new, "state": "open", "reason": "", "entry_id": None, "closed_at": None}
        connection.execute(change.values(fresh))
    return sum(part.size for part in old)


def _merged(old: Sequence[sa.Row[Any]]) -> Iterable[list[sa.Row[Any]]]:
    """Put what is left of a device's batches together while it fits: what is measured interleaved is compared best.

    A family is within one batch, and so it stays.
    """
    group: list[sa.Row[Any]] = []
    for part in old:
        fits = sum(other.size for other in group) + part.size <= MOST_IN_BATCH
        if group and not (fits and group[0].device == part.device):
            yield group
            group = []
        group.append(part)
    yield group


def _said(count: int, parts: int) -> str:
    return f"{count} point{'s' * (count != 1)} in {parts} batch{'es' * (parts != 1)}"


def _counted(job: Job) -> str:
    states = ("measured", "known", "compared", "failed", "cancelled")
    return ", ".join(f"{count} {state}" for state in states if (count := getattr(job.points, state)))
