"""What the table holds: block kinds with the values they were measured at, devices, targets."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api import bodies, describe
from api.deps import ServiceDep, answer

router = APIRouter(tags=["catalogue"])


@router.get(
    "/blocks",
    summary="List the block kinds",
    **describe.endpoint(bodies.BlocksOut, describe.BLOCKS, "storage"),
)
async def get_blocks(service: ServiceDep) -> Response:
    """Return each kind that has rows, with every value of its widths, resolutions, batches and parameters."""
    return await service.call(lambda: answer(bodies.BlocksOut(service.store.blocks())))


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
    **describe.endpoint(bodies.TargetsOut, bodies.TargetsOut([describe.TARGET]), "storage"),
)
async def get_targets(service: ServiceDep) -> Response:
    """Return every combination of device, runtime, precision, threads and compute unit that has rows."""
    return await service.call(lambda: answer(bodies.TargetsOut(list(service.store.targets()))))
