"""GET /latency and POST /latency/batch: what a person asks of the table, and what a search asks in a loop."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import bodies, describe
from api.advice import explain
from api.auth import Guarded
from api.deps import Body, Service, ServiceDep, answer
from api.image import Image
from api.parameters import parse_query
from api.problems import Problem
from edgelut import wire
from edgelut.errors import InvalidSpec
from edgelut.jobs import Mark
from edgelut.placement import placed, unit_name
from edgelut.query import Query

router = APIRouter(tags=["latency"], route_class=Guarded)


async def get_latency(request: Request) -> Response:
    """Answer every current row that matches, a page at a time.

    A plain Starlette endpoint: FastAPI's own dispatch would take longer than the look-up. `describe.latency` describes it.
    """
    service: Service = request.app.state.service
    asked: bytes = request.scope["query_string"]
    answers = service.answers
    fresh = answers.is_fresh()
    body = answers.find(asked) if fresh else None
    if body is None:
        body = await _page(service, asked, parse_query(asked), fresh)
    return Response(body, media_type="application/json")


async def _page(service: Service, asked: bytes, query: Query, fresh: bool) -> bytes:
    """Return the page from memory where it is there, else from SQL."""
    if not fresh:
        await service.answers.refresh()
    image = service.images.image
    page = None if image is None else image.page(query)
    if page is None:
        return await service.answers.get(asked, lambda: service.call(_look_up, service, query))
    service.answers.keep(asked, page)
    return page


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
        "no-such-mark",
        "too-large",
        "invalid",
        "storage",
        takes=bodies.BatchRequest,
        sends={"specs": [describe.SPEC, describe.OTHER_SPEC], "target": describe.TARGET},
    ),
)
async def find_batch(service: ServiceDep, body: Body) -> Response:
    """Return the current row of each spec in order, null where there is none; at most 10,000 specs. A search uses this.

    With `at` (an ISO 8601 time with its zone) or `mark` (a name that GET /marks lists) it is the row that was current then.
    """

    if not service.answers.is_fresh():
        await service.answers.refresh()
    image = service.images.image
    return await service.call(_find_batch, service, body, image)


def _find_batch(service: Service, body: bytes, image: Image | None) -> Response:
    """Answer from the image, where there is one and the table is asked for as it is; else from SQL."""
    known = None if image is None else service.asked.read(body, image.keys)
    if image is not None and known is not None:
        unit = None if known.require_unit is None else unit_name(known.require_unit)
        found, left_out = image.entries(known.keys, known.target_key, unit)
        content = b'{"entries":[%b],"left_out":%d}' % (b",".join(found), left_out)
        return Response(content, media_type="application/json")
    asked: bodies.BatchRequest = wire.decode(bodies.BatchRequest, body)
    specs, target, when = [spec.value() for spec in asked.specs], asked.target.value(), _when(service, asked)
    store = service.store
    rows = store.find_many(specs, target) if when is None else store.entries_at(when, specs, target)
    served = placed(rows, asked.require_unit)
    return answer(bodies.BatchOut(served, served.count(None) - rows.count(None)))


def _when(service: Service, asked: bodies.BatchRequest) -> Mark | datetime | None:
    """Return the moment that a batch asks for; raise the 404 problem for a mark that is not there."""
    if asked.at is not None and asked.mark is not None:
        raise InvalidSpec("give `at`, a time, or `mark`, the name of one, but not both")
    if asked.at is not None:
        try:
            return asked.at.astimezone(UTC)
        except OverflowError:  # the first or last day of the calendar, in a zone far from UTC
            raise InvalidSpec(f"`at` is beyond the calendar: {asked.at.isoformat()}") from None
    if asked.mark is None:
        return None
    mark = service.store.find_mark(asked.mark)
    if mark is None:
        raise Problem("no-such-mark", f"there is no mark {asked.mark!r}; GET /marks lists them")
    return mark
