"""How rows become jobs, points and events, and what every part of the jobs' storage says and asks alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from statistics import fmean
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from edgelut import wire
from edgelut.errors import LatencyNotFound
from edgelut.jobs import Baseline, Job, JobCounts, JobPoint, JobRequest
from edgelut.plan import Point
from edgelut.types import Params

from .rows import SPEC, TARGET, spec_of, target_of
from .rows import batches as pieces
from .schema import batches, entries, job_events, jobs, points, specs, sweeps, targets

LARGE = 20_000  # characters of a request; an ordinary one has below a thousand

Level: TypeAlias = Literal["info", "warning", "error"]

# A request is read as text, for one that names 50,000 specs takes longer to decode than all else that is told of a job.
_REQUEST = sa.type_coerce(jobs.c.request, sa.Text).label("request_text")
JOB = sa.select(*(column for column in jobs.c if column.name != "request"), _REQUEST)
POINT = (
    sa.select(
        points.c.id,
        points.c.number,
        *SPEC,
        *TARGET,
        points.c.format,
        points.c.options,
        points.c.state,
        points.c.reason,
        points.c.entry_id,
        points.c.baseline,
        points.c.closed_at,
        batches.c.key.label("batch_key"),
        sweeps.c.key.label("sweep"),
        entries.c.provenance,
    )
    .select_from(points)
    .join(batches, batches.c.id == points.c.batch_id)
    .join(specs, specs.c.id == points.c.spec_id)
    .join(targets, targets.c.id == points.c.target_id)
    .join(sweeps, sweeps.c.id == batches.c.sweep_id, isouter=True)
    .join(entries, entries.c.id == points.c.entry_id, isouter=True)
    .order_by(points.c.number)
)


def now() -> datetime:
    """Return the time, for people: nothing is decided by it that a clock which jumps could spoil."""
    return datetime.now(UTC)


def words(text: str) -> str:
    """Return somebody's words as both databases can hold them."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def log(connection: sa.Connection, job_id: int, level: Level, text: str) -> None:
    """Add a line to a job's log."""
    row = {"job_id": job_id, "at": now(), "level": level, "text": words(text)}
    connection.execute(job_events.insert().values(**row))


def job_row_id(connection: sa.Connection, key: str) -> int:
    """Return a job's row id; raise LatencyNotFound."""
    found = connection.execute(sa.select(jobs.c.id).where(jobs.c.key == key)).scalar_one_or_none()
    if found is None:
        raise LatencyNotFound(f"no job {key!r}; `GET /jobs` lists them")
    return int(found)


def get_job(connection: sa.Connection, job_id: int) -> Job:
    """Return the job of a row id."""
    return jobs_of(connection, connection.execute(JOB.where(jobs.c.id == job_id)).mappings().all())[0]


def jobs_of(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> list[Job]:
    """Return the jobs of rows of JOB, with two statements for what is counted of all of them."""
    ids = [row["id"] for row in rows]
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    for id_, state, count in _counted(connection, ids):
        counts[id_][state] = count
    parts: dict[int, list[sa.RowMapping]] = defaultdict(list)
    for part in _parts(connection, ids):
        parts[part["job_id"]].append(part)
    return [_job(row, counts[row["id"]], parts[row["id"]]) for row in rows]


def _counted(connection: sa.Connection, ids: Sequence[int]) -> Iterable[Sequence[Any]]:
    for piece in pieces(ids):
        statement = sa.select(points.c.job_id, points.c.state, sa.func.count()).where(points.c.job_id.in_(piece))
        yield from connection.execute(statement.group_by(points.c.job_id, points.c.state))


def _parts(connection: sa.Connection, ids: Sequence[int]) -> Iterable[sa.RowMapping]:
    names = ("job_id", "device", "state", "points", "rounds", "progress", "claimed_at", "closed_at")
    for piece in pieces(ids):
        statement = sa.select(*(batches.c[name] for name in names)).where(batches.c.job_id.in_(piece))
        yield from connection.execute(statement.order_by(batches.c.id)).mappings()


def _job(row: sa.RowMapping, counts: Mapping[str, int], parts: Sequence[sa.RowMapping]) -> Job:
    return Job(
        id=row["key"],
        state=row["state"],
        request=_request(row["request_text"]),
        points=JobCounts(**counts),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        submitter=row["submitter"],
        rounds=sum(part["rounds"] for part in parts),
        seconds_left=seconds_left(parts, now()) if row["state"] in ("queued", "running") else None,
        devices=tuple(dict.fromkeys(part["device"] for part in parts)),
        baseline_job=row["baseline_job"],
    )


def _request(text: str) -> JobRequest:
    """Return a request. Streams ask for the same job several times a second; large ones are few, and take much memory."""
    return _small_request(text) if len(text) < LARGE else _large_request(text)


@lru_cache(maxsize=256)
def _small_request(text: str) -> JobRequest:
    return wire.decode(JobRequest, text)


@lru_cache(maxsize=4)
def _large_request(text: str) -> JobRequest:
    return wire.decode(JobRequest, text)


def seconds_left(parts: Sequence[sa.RowMapping], at: datetime) -> float | None:
    """Return how long a job still takes: its devices work side by side, and each takes its batches one after another.

    A batch that is being measured takes what its agent says. One that waits takes, for each of its points, what points took in
    the batches of that device, or of all where none of its own tells; None where no batch tells anything.
    """
    paces: dict[str, list[float]] = defaultdict(list)
    for part in parts:
        if (pace := _pace_s(part, at)) is not None:
            paces[part["device"]].append(pace)
    if not paces:
        return None
    everywhere = fmean(pace for told in paces.values() for pace in told)
    left: dict[str, float] = defaultdict(float)
    for part in parts:
        if part["state"] == "claimed" and part["progress"] is not None:
            left[part["device"]] += part["progress"]["seconds_left"]
        elif part["state"] != "closed":
            told = paces.get(part["device"])
            left[part["device"]] += (fmean(told) if told else everywhere) * part["points"]
    return max(left.values(), default=0.0)


def _pace_s(part: sa.RowMapping, at: datetime) -> float | None:
    """Return the seconds that a batch takes for one of its points, as far as is known."""
    if part["claimed_at"] is None or part["progress"] is None or part["state"] == "open":
        return None
    is_closed = part["state"] == "closed"
    spent: float = ((part["closed_at"] if is_closed else at) - part["claimed_at"]).total_seconds()
    left: float = 0.0 if is_closed else part["progress"]["seconds_left"]
    points_: int = part["points"]
    return (max(0.0, spent) + left) / max(1, points_)


def point_of(row: sa.RowMapping) -> Point:
    """Return the point of a row of POINT."""
    return Point(spec_of(row), target_of(row), row["format"], Params(row["options"]))


def baseline_of(row: sa.RowMapping) -> Baseline | None:
    """Return what the point of a row of POINT is compared with."""
    return None if row["baseline"] is None else Baseline(**row["baseline"])


def job_point_of(row: sa.RowMapping) -> JobPoint:
    """Return the job's point of a row of POINT. A row of the table says itself which sweep its runs are in."""
    sweep = (row["provenance"] or {}).get("sweep") or row["sweep"] or ""
    return JobPoint(
        number=row["number"],
        point=point_of(row),
        state=row["state"],
        batch=row["batch_key"],
        sweep=str(sweep),
        reason=row["reason"],
        entry=row["entry_id"],
        closed_at=row["closed_at"],
        baseline=baseline_of(row),
    )
