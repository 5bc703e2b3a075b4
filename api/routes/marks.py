"""Marks: named states of the table, to compare with later."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api import describe, job_bodies, job_examples
from api.auth import Guarded
from api.deps import Named, ServiceDep, answer
from api.problems import missing
from edgelut.jobs import Mark

router = APIRouter(tags=["marks"], route_class=Guarded)


@router.get(
    "/marks",
    summary="List the marks",
    **describe.endpoint(job_bodies.MarksOut, job_bodies.MarksOut([job_examples.MARK]), "storage"),
)
async def get_marks(service: ServiceDep) -> Response:
    """Return the named states of the table."""
    return await service.work(lambda: answer(job_bodies.MarksOut(service.store.marks())))


@router.put(
    "/marks/{name}",
    summary="Name the table's present state",
    **describe.endpoint(Mark, job_examples.MARK, "invalid", "storage", scope="submit"),
)
async def put_mark(service: ServiceDep, name: Named) -> Response:
    """Mark the table as it is now; a mark of that name is moved. `"baseline": "mark:NAME"` of a job compares with it."""
    return await service.work(lambda: answer(service.store.put_mark(name)))


@router.delete(
    "/marks/{name}",
    summary="Delete a mark",
    **describe.endpoint(Mark, job_examples.MARK, "no-such-mark", "invalid", "storage", scope="submit"),
)
async def delete_mark(service: ServiceDep, name: Named) -> Response:
    """Delete a mark and return what it was; the rows stay."""

    def delete() -> Response:
        with missing("no-such-mark"):
            return answer(service.store.delete_mark(name))

    return await service.work(delete)
