"""Entries: stored, read one by one, with their history and the raw runs behind them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api import bodies, describe
from api.auth import Guarded
from api.deps import Body, RowId, Service, ServiceDep, answer
from api.problems import Problem
from edgelut import wire
from edgelut.errors import LatencyNotFound
from edgelut.query import Row

router = APIRouter(tags=["entries"], route_class=Guarded)


@router.put(
    "/entries",
    summary="Store entries",
    **describe.endpoint(
        bodies.StoredOut,
        bodies.StoredOut([True]),
        "too-large",
        "invalid",
        "storage",
        scope="submit",
        takes=bodies.EntriesIn,
        sends=[describe.ENTRY],
    ),
)
async def put_entries(service: ServiceDep, body: Body) -> Response:
    """Store at most 10,000 entries, all or none; say for each whether it is now the current row. Sending twice is harmless."""

    def store() -> Response:
        entries = [entry.value() for entry in wire.decode(bodies.EntriesIn, body)]
        return answer(bodies.StoredOut(service.store.put_many(entries)))

    return await service.call(store)


@router.get(
    "/entries/{entry_id}",
    summary="Read one entry",
    **describe.endpoint(bodies.RowOut, describe.ROW, "no-such-entry", "invalid", "storage"),
)
async def get_entry(service: ServiceDep, entry_id: RowId) -> Response:
    """Return one entry by the id that GET /latency gives."""
    return await service.call(lambda: answer(bodies.row_out(_row(service, entry_id))))


@router.get(
    "/entries/{entry_id}/history",
    summary="Read an entry's history",
    **describe.endpoint(bodies.HistoryOut, bodies.HistoryOut([describe.ENTRY]), "no-such-entry", "invalid", "storage"),
)
async def get_history(service: ServiceDep, entry_id: RowId) -> Response:
    """Return every entry ever stored for the same spec and target, oldest first."""

    def read() -> Response:
        entry = _row(service, entry_id).entry
        return answer(bodies.HistoryOut(service.store.history(entry.spec, entry.target)))

    return await service.call(read)


@router.get(
    "/entries/{entry_id}/runs",
    summary="List the raw runs behind an entry",
    **describe.endpoint(bodies.RunsOut, bodies.RunsOut([describe.RUN_SUMMARY]), "no-such-entry", "invalid", "storage"),
)
async def get_runs(service: ServiceDep, entry_id: RowId) -> Response:
    """List the runs that an entry was derived from, oldest first; GET /runs/{id} has their samples."""

    def read() -> Response:
        _row(service, entry_id)
        return answer(bodies.runs_out(service.store.runs_of(entry_id)))

    return await service.call(read)


@router.post(
    "/history",
    summary="Read the history of a spec on a target",
    **describe.endpoint(
        bodies.HistoryOut,
        bodies.HistoryOut([describe.ENTRY]),
        "too-large",
        "invalid",
        "storage",
        takes=bodies.HistoryRequest,
        sends={"spec": describe.SPEC, "target": describe.TARGET},
    ),
)
async def find_history(service: ServiceDep, body: Body) -> Response:
    """Return every entry ever stored for a spec on a target, oldest first; none where nothing was."""

    def read() -> Response:
        asked: bodies.HistoryRequest = wire.decode(bodies.HistoryRequest, body)
        return answer(bodies.HistoryOut(service.store.history(asked.spec.value(), asked.target.value())))

    return await service.call(read)


def _row(service: Service, entry_id: int) -> Row:
    try:
        return service.store.get_row(entry_id)
    except LatencyNotFound:
        raise Problem("no-such-entry", f"there is no entry {entry_id}; GET /latency gives the ids") from None
