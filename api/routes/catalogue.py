"""What the table holds: block kinds with the values they were measured at, devices, targets."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import bodies, describe, filters
from api.auth import Guarded
from api.deps import Service, ServiceDep, answer
from edgelut import wire
from edgelut.coverage import ColumnPage
from edgelut.quality import qualities
from edgelut.query import BlockListing
from edgelut.sequences import REFERENCE, SEQUENCES
from edgelut.types import Target

router = APIRouter(tags=["catalogue"], route_class=Guarded)
TARGET = (
    replace(filters.word("device", "Of the target", "host"), needed=True),
    replace(filters.word("runtime", "Of the target", "onnxruntime-cpu"), needed=True),
    replace(filters.word("precision", "Of the target", "fp32"), default="fp32"),
    filters.whole("threads", "Of the target", default=1, most=bodies.SMALL),
    replace(filters.word("unit", "Of the target", "cpu"), default="cpu"),
    filters.limit(50_000, 20_000),
    filters.cursor(),
)


@router.get(
    "/blocks",
    summary="List the block kinds",
    **describe.endpoint(bodies.BlocksOut, describe.BLOCKS, "storage"),
)
async def get_blocks(service: ServiceDep) -> Response:
    """Return each kind that has rows, with every value of its widths, resolutions, batches and parameters.

    Values longer than 80 characters are not listed, nor are the lines of chains, networks and cold rows, each a row of its
    own, nor the machines' reference times.
    """

    def listed() -> Response:
        found = [listing for listing in service.store.blocks() if listing.kind != REFERENCE]
        return answer(bodies.BlocksOut(list(map(_brief, found))))

    return await service.call(listed)


def _brief(listing: BlockListing) -> BlockListing:
    return replace(listing, params={}) if listing.kind in SEQUENCES else listing


@router.get(
    "/devices",
    summary="List the devices",
    **describe.endpoint(bodies.DevicesOut, bodies.DevicesOut(["host"]), "storage"),
)
async def get_devices(service: ServiceDep) -> Response:
    """Return the names of the devices that have rows."""
    return await service.call(lambda: answer(bodies.DevicesOut(list(service.store.devices()))))


@router.get(
    "/targets",
    summary="List the targets",
    **describe.endpoint(
        bodies.TargetsOut,
        bodies.TargetsOut([bodies.target_out(describe.TARGET, describe.QUALITY)]),
        "storage",
    ),
)
async def get_targets(service: ServiceDep) -> Response:
    """Return every combination of device, runtime, precision, threads and compute unit that has rows, with its quality:
    what its sums are off by on the networks that were measured as wholes there."""
    body = await service.answers.get(b"GET /targets", lambda: service.call(_targets, service))
    return Response(body, media_type="application/json")


def _targets_of(service: Service) -> list[Target]:
    """Return the targets that blocks were measured on: a machine's reference time is kept on one of its own."""
    return [target for target in service.store.targets() if target.runtime != REFERENCE]


def _targets(service: Service) -> bytes:
    known = qualities(service.store)
    listed = [bodies.target_out(target, known.get(target)) for target in _targets_of(service)]
    return wire.encode(bodies.TargetsOut(listed))


@router.get(
    "/coverage",
    summary="Count what there is",
    **describe.endpoint(bodies.CoverageOut, bodies.CoverageOut([describe.COVERAGE]), "storage"),
)
async def get_coverage(service: ServiceDep) -> Response:
    """Return how many current rows each target has of each kind of block, how many are in doubt, and the newest one's id: what
    changes when a row does."""

    def counted() -> bytes:
        return wire.encode(bodies.CoverageOut([one for one in service.store.coverage() if one.block != REFERENCE]))

    body = await service.answers.get(b"GET /coverage", lambda: service.call(counted))
    return Response(body, media_type="application/json")


@router.get(
    "/table",
    summary="Read a target's rows as columns",
    **describe.endpoint(
        ColumnPage, describe.COLUMNS, "invalid", "storage", parameters=[one.described() for one in TARGET]
    ),
)
async def get_table(service: ServiceDep, request: Request) -> Response:
    """Return the current rows of one target as columns of figures, many at once: for a page or a sheet that shows them all, in a
    tenth of the time that GET /latency takes for as many. Names are written exactly; `doubts` are joined to one text."""
    asked = filters.read_filters(request.scope["query_string"], TARGET)
    limit, cursor = asked.pop("limit"), asked.pop("cursor")
    return await service.call(lambda: answer(service.store.columns(Target(**asked), limit, cursor)))
