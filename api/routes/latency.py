"""GET /latency and POST /latency/batch: what a person asks of the table, and what a search asks in a loop."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import bodies, describe
from api.advice import explain
from api.auth import Guarded
from api.deps import Body, Service, ServiceDep, answer
from api.parameters import parse_query
from edgelut import wire
from edgelut.query import Query

router = APIRouter(tags=["latency"], route_class=Guarded)


async def get_latency(request: Request) -> Response:
    """Answer every current row that matches, a page at a time.

    A plain Starlette endpoint: FastAPI's own dispatch would take longer than the look-up. `describe.latency` describes it.
    """
    service: Service = request.app.state.service
    asked: bytes = request.scope["query_string"]
    query = parse_query(asked)
    body = await service.answers.get(asked, lambda: service.call(_look_up, service, query))
    return Response(body, media_type="application/json")


def _look_up(service: Service, query: Query) -> bytes:
    page = service.store.search(query)
    if not page.rows and query.cursor is None:
        raise explain(service.store, query)
    return wire.encode(bodies.page_out(page))


@router.post(
    "/latency/batch",
    summary="Look up many specs on one target",
    **describe.endpoint(
        bodies.BatchOut,
        bodies.BatchOut([describe.ENTRY, None]),
        "too-large",
        "invalid",
        "storage",
        takes=bodies.BatchRequest,
        sends={"specs": [describe.SPEC, describe.OTHER_SPEC], "target": describe.TARGET},
    ),
)
async def find_batch(service: ServiceDep, body: Body) -> Response:
    """Return the current row of each spec in order, null where there is none; at most 10,000 specs. A search uses this."""

    def look_up() -> Response:
        asked: bodies.BatchRequest = wire.decode(bodies.BatchRequest, body)
        specs = [spec.value() for spec in asked.specs]
        return answer(bodies.BatchOut(service.store.find_many(specs, asked.target.value())))

    return await service.call(look_up)
