"""Jobs: submitted, watched, cancelled and retried."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api import bodies, describe, filters, job_bodies, job_examples
from api.auth import Guarded
from api.deps import Body, CallerDep, Ident, Service, ServiceDep, answer
from api.feeds import stream
from api.problems import Problem, missing
from edgelut import wire
from edgelut.errors import LatencyNotFound, StorageError
from edgelut.jobs import Job, JobState, PointState

router = APIRouter(tags=["jobs"], route_class=Guarded)

LIST = (
    filters.one_of("state", "Jobs in this state", get_args(JobState)),
    filters.word("name", "Jobs of this series", "nightly"),
    filters.limit(100, 50),
    filters.cursor(),
)
POINTS = (
    filters.one_of("state", "Points in this state", get_args(PointState)),
    filters.limit(1000, 1000),
    filters.cursor(),
)
LOG = (filters.whole("after", "Lines with ids above this", default=0, least=0), filters.limit(1000, 1000))
RUNS = (
    filters.numbers("points", "Numbers of points, with commas between them", job_bodies.POINTS_OF_RUNS),
    filters.one_of("side", "Of a comparing job: the new artifact's runs or its baseline's", ("new", "baseline"), "new"),
)
STREAM: dict[int, dict[str, Any]] = {
    200: {
        "description": "Events, until the job has ended: `job` with the job, `log` with a line of its log",
        "content": {
            "text/event-stream": {
                "schema": {
                    "title": "Event",
                    "type": "object",
                    "properties": {
                        "event": {"type": "string", "enum": ["job", "log"]},
                        "id": {"type": "string", "description": "Of a line of the log: for Last-Event-ID"},
                        "data": {"type": "string", "contentMediaType": "application/json"},
                    },
                    "required": ["data"],
                }
            }
        },
    }
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes it one job however often it is sent: 1 to 200 printable ASCII characters",
    "schema": {"type": "string", "pattern": r"^[!-~]([ -~]{0,198}[!-~])?$"},
}
LAST = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Go on after the log line of that id",
    "schema": {"type": "string", "pattern": r"^[0-9]{1,18}$"},
}


@router.post(
    "/jobs",
    summary="Submit a job",
    **describe.endpoint(
        Job,
        job_examples.JOB,
        "no-baseline",
        "conflict",
        "too-large",
        "invalid",
        "storage",
        scope="submit",
        status=202,
        takes=job_bodies.JobIn,
        sends=job_examples.SUBMITTED,
        parameters=[KEY],
    ),
)
async def submit_job(
    service: ServiceDep,
    caller: CallerDep,
    body: Body,
    idempotency_key: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Plan what is asked for by what the fleet's devices can do, store it, and answer at once with the job and its link.

    A device, runtime or precision that there is not is a 422 that says what there is.
    """
    key = None if idempotency_key is None else _key(idempotency_key)

    def submit() -> Job:
        asked: job_bodies.JobIn = wire.decode(job_bodies.JobIn, body)
        with missing("no-baseline"):
            return service.jobs.submit(asked.value(), key=key, submitter=caller.name)

    job = await service.work(submit)
    accepted = answer(job, 202)
    accepted.headers["Location"] = f"/jobs/{job.id}"
    return accepted


@router.get(
    "/jobs",
    summary="List the jobs",
    **describe.endpoint(
        job_bodies.JobsOut,
        job_bodies.JobsOut([job_examples.JOB], None),
        "no-such-job",
        "invalid",
        "storage",
        parameters=[one.described() for one in LIST],
    ),
)
async def get_jobs(service: ServiceDep, request: Request) -> Response:
    """Return jobs, newest first, a page at a time."""
    asked = filters.read_filters(request.scope["query_string"], LIST)

    def read() -> Response:
        most = asked["limit"]
        with missing("no-such-job"):  # the cursor is a job's id
            found = service.jobs.jobs(state=asked["state"], name=asked["name"], before=asked["cursor"], limit=most + 1)
        more = found[most - 1].id if len(found) > most else None
        return answer(job_bodies.JobsOut(found[:most], more))

    return await service.work(read)


@router.get(
    "/jobs/{job_id}",
    summary="Read one job",
    **describe.endpoint(Job, job_examples.JOB, "no-such-job", "invalid", "storage"),
)
async def get_job(service: ServiceDep, job_id: Ident) -> Response:
    """Return a job: its state, how many of its points are in which state, how long the rest will take, and what was asked."""
    return await service.work(lambda: answer(_job(service, job_id)))


@router.get(
    "/jobs/{job_id}/points",
    summary="List a job's points",
    **describe.endpoint(
        job_bodies.PointsOut,
        job_bodies.PointsOut([job_examples.JOB_POINT], None),
        "no-such-job",
        "invalid",
        "storage",
        parameters=[one.described() for one in POINTS],
    ),
)
async def get_points(service: ServiceDep, job_id: Ident, request: Request) -> Response:
    """Return a job's points in order, each with its state, the reason why it failed, and the row that it became."""
    asked = filters.read_filters(request.scope["query_string"], POINTS)
    after = -1 if asked["cursor"] is None else filters.whole_of("cursor", asked["cursor"], bodies.SMALL, 0)

    def read() -> Response:
        _job(service, job_id)
        most = asked["limit"]
        found = service.jobs.points(job_id, state=asked["state"], after=after, limit=most + 1)
        more = str(found[most - 1].number) if len(found) > most else None
        return answer(job_bodies.PointsOut(found[:most], more))

    return await service.work(read)


@router.get(
    "/jobs/{job_id}/runs",
    summary="Read the raw runs of a job's points",
    **describe.endpoint(
        job_bodies.JobRunsOut,
        job_bodies.JobRunsOut([describe.RUN]),
        "no-such-job",
        "invalid",
        "storage",
        parameters=[one.described() for one in RUNS],
    ),
)
async def get_job_runs(service: ServiceDep, job_id: Ident, request: Request) -> Response:
    """Return what was timed for at most 128 points, every sample: what a gate judges."""
    asked = filters.read_filters(request.scope["query_string"], RUNS)

    def read() -> Response:
        _job(service, job_id)
        found = service.jobs.runs(job_id, asked["points"], baseline=asked["side"] == "baseline")
        return answer(job_bodies.JobRunsOut(found))

    return await service.work(read)


@router.get(
    "/jobs/{job_id}/log",
    summary="Read a job's log",
    **describe.endpoint(
        job_bodies.LogOut,
        job_bodies.LogOut([job_examples.EVENT]),
        "no-such-job",
        "invalid",
        "storage",
        parameters=[one.described() for one in LOG],
    ),
)
async def get_log(service: ServiceDep, job_id: Ident, request: Request) -> Response:
    """Return lines of a job's log, oldest first; ask for those after the last one's id until there are none."""
    asked = filters.read_filters(request.scope["query_string"], LOG)

    def read() -> Response:
        _job(service, job_id)
        return answer(job_bodies.LogOut(service.jobs.events(job_id, asked["after"], asked["limit"])))

    return await service.work(read)


@router.get(
    "/jobs/{job_id}/events",
    summary="Watch a job",
    **describe.endpoint(
        Job, job_examples.JOB, "no-such-job", "invalid", "storage", parameters=[LAST], responses=STREAM
    ),
)
async def watch_job(
    service: ServiceDep,
    job_id: Ident,
    request: Request,
    last_event_id: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Tell what happens to a job as server-sent events, until it has ended.

    `event: job` has the job, at its beginning and whenever it changed, four times a second at most; `event: log` has a line of
    its log, with its `id`, so that a connection that is made again with `Last-Event-ID` goes on there. A comment comes every
    10 s where there is nothing to tell.
    """
    after = 0 if last_event_id is None else filters.whole_of("Last-Event-ID", last_event_id, 10**18, 0)
    await service.work(_job, service, job_id)

    async def still() -> bool:
        try:
            await service.guard.still(request, "read")
        except Problem:
            return False
        except StorageError:  # the token held 4 s ago, and the stream itself has nothing to tell meanwhile
            return True
        return True

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies must not hold lines back
    return StreamingResponse(stream(service.feeds, job_id, after, still), 200, headers, "text/event-stream")


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    **describe.endpoint(Job, job_examples.JOB, "no-such-job", "invalid", "storage", scope="submit"),
)
async def cancel_job(service: ServiceDep, job_id: Ident) -> Response:
    """Cancel what is open of a job; one that has ended stays as it is. What is being measured stops at its next round."""

    def cancel() -> Response:
        with missing("no-such-job"):
            return answer(service.jobs.cancel(job_id))

    return await service.work(cancel)


@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry what failed of a job",
    **describe.endpoint(
        Job, job_examples.JOB, "no-such-job", "conflict", "invalid", "storage", scope="submit", status=202
    ),
)
async def retry_job(service: ServiceDep, job_id: Ident) -> Response:
    """Open a job's failed and cancelled points again; 409 where there are none."""

    def retry() -> Response:
        with missing("no-such-job"):
            job, opened = service.jobs.retry(job_id)
        if not opened:
            raise Problem("conflict", f"nothing of job {job_id} failed or was cancelled, so there is nothing to retry")
        return answer(job, 202)

    return await service.work(retry)


def _job(service: Service, job_id: str) -> Job:
    """Return a job, or raise the 404 problem."""
    with missing("no-such-job"):
        job = service.jobs.find_job(job_id)
        if job is None:
            raise LatencyNotFound(f"there is no job {job_id}; GET /jobs lists them")
        return job


def _key(text: str) -> str:
    if not re.fullmatch(r"[!-~]([ -~]{0,198}[!-~])?", text):
        raise Problem("invalid", "Idempotency-Key must be 1 to 200 printable ASCII characters")
    return text
