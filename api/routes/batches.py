"""Messages about a batch, from the agent that holds it: what it measured, how far it is, how it ended.

Each may be sent twice. Each is answered with how the sender stands: what comes from a lease that was lost is taken for points
that are still open, and dropped for those that are not.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import describe, filters, job_bodies, job_examples
from api.auth import Guarded
from api.deps import Body, Ident, ServiceDep, answer
from api.problems import missing
from edgelut import wire
from edgelut.jobs import Standing

router = APIRouter(tags=["batches"], route_class=Guarded)

SIDE = (
    filters.one_of("side", "Of a comparing batch: the new artifact's or its baseline's", ("new", "baseline"), "new"),
)


def _message(takes: type[Any], sends: Any, example: Standing = job_examples.STANDING) -> dict[str, Any]:
    return describe.endpoint(
        Standing,
        example,
        "no-such-batch",
        "too-large",
        "invalid",
        "storage",
        scope="agent",
        takes=takes,
        sends=sends,
    )


@router.post(
    "/batches/{batch_id}/runs",
    summary="Store a round's runs",
    **_message(job_bodies.BatchRunsIn, job_examples.RUNS),
)
async def put_batch_runs(service: ServiceDep, batch_id: Ident, body: Body) -> Response:
    """Store a round as it was measured: a crash loses at most the round that it was in."""

    def store() -> Response:
        sent: job_bodies.BatchRunsIn = wire.decode(job_bodies.BatchRunsIn, body)
        runs, baseline = [run.value() for run in sent.runs], [run.value() for run in sent.baseline_runs]
        progress = None if sent.progress is None else sent.progress.value()
        with missing("no-such-batch"):
            return answer(service.jobs.put_runs(batch_id, sent.lease, runs, baseline, progress))

    return await service.work(store)


@router.get(
    "/batches/{batch_id}/runs",
    summary="Read what a batch has stored",
    **describe.endpoint(
        job_bodies.JobRunsOut,
        job_bodies.JobRunsOut([describe.RUN]),
        "no-such-batch",
        "invalid",
        "storage",
        parameters=[one.described() for one in SIDE],
    ),
)
async def get_batch_runs(service: ServiceDep, batch_id: Ident, request: Request) -> Response:
    """Return every run of a batch: whoever claims it again goes on from there."""
    asked = filters.read_filters(request.scope["query_string"], SIDE)

    def read() -> Response:
        with missing("no-such-batch"):
            return answer(
                job_bodies.JobRunsOut(service.jobs.batch_runs(batch_id, baseline=asked["side"] == "baseline"))
            )

    return await service.work(read)


@router.post(
    "/batches/{batch_id}/entries",
    summary="Store a batch's rows",
    **_message(job_bodies.BatchEntriesIn, job_examples.ENTRIES, job_examples.STORED),
)
async def put_batch_entries(service: ServiceDep, batch_id: Ident, body: Body) -> Response:
    """Store rows, close their points as measured, and say for each whether it is now the current row."""

    def store() -> Response:
        sent: job_bodies.BatchEntriesIn = wire.decode(job_bodies.BatchEntriesIn, body)
        entries = [entry.value() for entry in sent.entries]
        with missing("no-such-batch"):
            return answer(service.jobs.put_entries(batch_id, sent.lease, entries))

    return await service.work(store)


@router.post(
    "/batches/{batch_id}/closed",
    summary="Close points that got no row of their own",
    **_message(job_bodies.BatchClosedIn, job_examples.CLOSED),
)
async def close_batch_points(service: ServiceDep, batch_id: Ident, body: Body) -> Response:
    """Close points whose row was known, that were compared, or that failed, with the reason."""

    def close() -> Response:
        sent: job_bodies.BatchClosedIn = wire.decode(job_bodies.BatchClosedIn, body)
        closed = [one.value() for one in sent.closed]
        with missing("no-such-batch"):
            return answer(service.jobs.close_points(batch_id, sent.lease, closed))

    return await service.work(close)


@router.post(
    "/batches/{batch_id}/artifacts",
    summary="Store what is known of exported files",
    **_message(job_bodies.BatchArtifactsIn, job_examples.ARTIFACTS),
)
async def put_batch_artifacts(service: ServiceDep, batch_id: Ident, body: Body) -> Response:
    """Store hashes, sizes and parity of what the agent exported; the files stay on its host."""

    def store() -> Response:
        sent: job_bodies.BatchArtifactsIn = wire.decode(job_bodies.BatchArtifactsIn, body)
        artifacts = [artifact.value() for artifact in sent.artifacts]
        with missing("no-such-batch"):
            return answer(service.jobs.put_artifacts(batch_id, sent.lease, artifacts))

    return await service.work(store)


@router.post(
    "/batches/{batch_id}/progress",
    summary="Say how far a batch is",
    **_message(job_bodies.BatchProgressIn, job_examples.message(progress=job_examples.PROGRESS)),
)
async def put_batch_progress(service: ServiceDep, batch_id: Ident, body: Body) -> Response:
    """Note how far a batch is, for the job's time left."""

    def store() -> Response:
        sent: job_bodies.BatchProgressIn = wire.decode(job_bodies.BatchProgressIn, body)
        with missing("no-such-batch"):
            return answer(service.jobs.put_progress(batch_id, sent.lease, sent.progress.value()))

    return await service.work(store)


@router.post(
    "/batches/{batch_id}/finish",
    summary="Give a batch back",
    **_message(job_bodies.FinishIn, job_examples.message(interrupted=False, reason="")),
)
async def finish_batch(service: ServiceDep, batch_id: Ident, body: Body) -> Response:
    """Release a batch and its device. Points still open fail by the reason; of an interrupted batch they wait to be claimed."""

    def finish() -> Response:
        sent: job_bodies.FinishIn = wire.decode(job_bodies.FinishIn, body)
        with missing("no-such-batch"):
            found = service.jobs.finish(batch_id, sent.lease, interrupted=sent.interrupted, reason=sent.reason)
        return answer(found)

    return await service.work(finish)
