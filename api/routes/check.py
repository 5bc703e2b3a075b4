"""GET /check: what speaks against the table, and what to measure again."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import bodies, describe
from api.advice import explain
from api.auth import Guarded
from api.deps import Service, ServiceDep
from api.openapi import parameter
from api.parameters import parse_query
from api.problems import Problem
from edgelut import wire
from edgelut.check import check
from edgelut.query import Query
from edgelut.types import Entry

router = APIRouter(tags=["catalogue"], route_class=Guarded)
FILTERS = ("device", "runtime", "precision", "threads", "unit")
PAGE, MOST_ROWS = 1000, 10_000


@router.get(
    "/check",
    summary="Check the table",
    **describe.endpoint(
        bodies.ChecksOut,
        describe.CHECKS,
        "no-match",
        "unknown-name",
        "empty-table",
        "invalid",
        "storage",
        parameters=[parameter(name) for name in FILTERS],
    ),
)
async def get_check(service: ServiceDep, request: Request) -> Response:
    """Return, target by target, the rows in doubt, the rows under other conditions than the newest, the blocks without chain,
    context or cold row, and the commands that measure them again. At most 10,000 rows are looked at."""
    asked: bytes = request.scope["query_string"]
    query = parse_query(asked)
    if query != Query(**{name: getattr(query, name) for name in FILTERS}):
        raise Problem("invalid", f"a check takes {', '.join(FILTERS)} alone", members={"known": list(FILTERS)})
    body = await service.answers.get(b"GET /check?" + asked, lambda: service.call(_check, service, query))
    return Response(body, media_type="application/json")


def _check(service: Service, query: Query) -> bytes:
    entries: list[Entry] = []
    page = service.store.search(replace(query, limit=PAGE))
    entries += [row.entry for row in page.rows]
    while page.next_cursor is not None and len(entries) < MOST_ROWS:
        page = service.store.search(replace(query, limit=PAGE, cursor=page.next_cursor))
        entries += [row.entry for row in page.rows]
    if not entries:
        raise explain(service.store, query)
    return wire.encode(bodies.ChecksOut(check(entries), len(entries), page.next_cursor is None))
