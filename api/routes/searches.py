"""Searches for networks: written down by the search as it goes, read by whoever watches."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import describe, filters, search_bodies
from api.auth import Guarded
from api.bodies import SMALL
from api.deps import Body, Ident, ServiceDep, answer
from api.problems import missing
from edgelut import wire
from edgelut.searches import MOST_EVENTS, SearchRun

router = APIRouter(tags=["searches"], route_class=Guarded)

NONE = "no-such-search"
LIST = (filters.limit(100, 50), filters.cursor())
EVENTS = (
    filters.Filter(
        "after",
        "Events with numbers above this; all where it is left out",
        {"type": "integer", "minimum": 0, "maximum": SMALL},
        lambda text: filters.whole_of("after", text, SMALL, 0),
        default=-1,
    ),
    filters.limit(MOST_EVENTS, MOST_EVENTS),
)


@router.get(
    "/searches",
    summary="List the searches",
    **describe.endpoint(
        search_bodies.SearchesOut,
        search_bodies.SearchesOut([search_bodies.SEARCH], None),
        NONE,
        "invalid",
        "storage",
        parameters=[one.described() for one in LIST],
    ),
)
async def get_searches(service: ServiceDep, request: Request) -> Response:
    """Return searches, newest first, a page at a time."""
    asked = filters.read_filters(request.scope["query_string"], LIST)

    def read() -> Response:
        most = asked["limit"]
        with missing(NONE):  # the cursor is a search's id
            found = service.store.list_searches(most + 1, asked["cursor"])
        more = found[most - 1].id if len(found) > most else None
        return answer(search_bodies.SearchesOut(found[:most], more))

    return await service.work(read)


@router.get(
    "/searches/{search_id}",
    summary="Read one search",
    **describe.endpoint(SearchRun, search_bodies.SEARCH, NONE, "invalid", "storage"),
)
async def get_search(service: ServiceDep, search_id: Ident) -> Response:
    """Return a search: its state, what it is for, and how far it is as its events tell."""

    def read() -> Response:
        with missing(NONE):
            return answer(service.store.get_search(search_id))

    return await service.work(read)


@router.get(
    "/searches/{search_id}/events",
    summary="Read what happened in a search",
    **describe.endpoint(
        search_bodies.SearchEventsOut,
        search_bodies.SearchEventsOut(search_bodies.EVENTS),
        NONE,
        "invalid",
        "storage",
        parameters=[one.described() for one in EVENTS],
    ),
)
async def get_search_events(service: ServiceDep, search_id: Ident, request: Request) -> Response:
    """Return events in order of their numbers; ask for those after the last one's until there are none."""
    asked = filters.read_filters(request.scope["query_string"], EVENTS)

    def read() -> Response:
        with missing(NONE):
            found = service.store.search_events(search_id, asked["after"], asked["limit"])
        return answer(search_bodies.SearchEventsOut(found))

    return await service.work(read)


@router.put(
    "/searches/{search_id}",
    summary="Put a search",
    **describe.endpoint(
        SearchRun,
        search_bodies.SEARCH,
        "conflict",
        "too-large",
        "invalid",
        "storage",
        scope="submit",
        takes=search_bodies.SearchIn,
        sends=search_bodies.PUT,
    ),
)
async def put_search(service: ServiceDep, search_id: Ident, body: Body) -> Response:
    """Begin a search, or change the name, state and `about` of the one of that id; 409 where that one has another target."""

    def put() -> Response:
        asked: search_bodies.SearchIn = wire.decode(search_bodies.SearchIn, body)
        return answer(service.store.put_search(asked.value(search_id)))

    return await service.work(put)


@router.post(
    "/searches/{search_id}/events",
    summary="Add what happened in a search",
    **describe.endpoint(
        SearchRun,
        search_bodies.SEARCH,
        NONE,
        "conflict",
        "too-large",
        "invalid",
        "storage",
        scope="submit",
        takes=search_bodies.SearchEventsIn,
        sends=search_bodies.ADDED,
    ),
)
async def add_search_events(service: ServiceDep, search_id: Ident, body: Body) -> Response:
    """Store at most 1000 events, all or none, and return the search. Their numbers go on where those that are stored end.

    Events that are stored already may come again; one with other content than before is a 409.
    """

    def add() -> Response:
        asked: search_bodies.SearchEventsIn = wire.decode(search_bodies.SearchEventsIn, body)
        with missing(NONE):
            service.store.add_search_events(search_id, asked.value())
            return answer(service.store.get_search(search_id))

    return await service.work(add)


@router.post(
    "/searches/{search_id}/end",
    summary="End a search",
    **describe.endpoint(
        SearchRun,
        search_bodies.SEARCH,
        NONE,
        "too-large",
        "invalid",
        "storage",
        scope="submit",
        takes=search_bodies.SearchEndIn,
        sends=search_bodies.END,
    ),
)
async def end_search(service: ServiceDep, search_id: Ident, body: Body) -> Response:
    """Say that a search is done, failed or interrupted. Putting it with the state `running` lets it go on."""

    def end() -> Response:
        asked: search_bodies.SearchEndIn = wire.decode(search_bodies.SearchEndIn, body)
        with missing(NONE):
            return answer(service.store.end_search(search_id, asked.state))

    return await service.work(end)
