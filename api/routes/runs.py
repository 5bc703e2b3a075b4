"""Raw runs: every sample and fact that an entry was derived from."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api import bodies, describe
from api.auth import Guarded
from api.deps import RowId, ServiceDep, answer
from api.problems import Problem
from edgelut.errors import LatencyNotFound

router = APIRouter(tags=["runs"], route_class=Guarded)


@router.get(
    "/runs/{run_id}",
    summary="Read one raw run",
    **describe.endpoint(bodies.RunOut, bodies.RunOut(31, describe.RUN), "no-such-run", "invalid", "storage"),
)
async def get_run(service: ServiceDep, run_id: RowId) -> Response:
    """Return one process's round of timings with every sample and fact."""

    def read() -> Response:
        try:
            return answer(bodies.RunOut(run_id, service.store.get_run(run_id)))
        except LatencyNotFound:
            detail = f"there is no run {run_id}; GET /entries/{{id}}/runs gives the ids"
            raise Problem("no-such-run", detail) from None

    return await service.call(read)
