"""The service itself: what there is to ask, and whether it can answer."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import bodies, describe
from api.auth import ANYBODY, Guarded, caller_of
from api.deps import ServiceDep, answer
from api.problems import storage
from edgelut import __version__
from edgelut.errors import StorageError

router = APIRouter(tags=["service"], route_class=Guarded)

LINKS = {
    "latency": "/latency?block=MB3D&width=224",
    "batch": "/latency/batch",
    "networks": "/networks",
    "network": "/networks/latency",
    "entries": "/entries",
    "blocks": "/blocks",
    "devices": "/devices",
    "targets": "/targets",
    "coverage": "/coverage",
    "table": "/table?device=host&runtime=onnxruntime-cpu",
    "check": "/check",
    "jobs": "/jobs",
    "fleet": "/fleet",
    "agents": "/agents",
    "marks": "/marks",
    "searches": "/searches",
    "tokens": "/tokens",
    "caller": "/caller",
    "health": "/healthz",
    "openapi": "/openapi.json",
}


@router.get(
    "/",
    summary="Show what there is to ask",
    **describe.endpoint(bodies.IndexOut, bodies.IndexOut("EdgeLUT", __version__, LINKS)),
)
async def get_index() -> Response:
    """Return the service's name, version and links."""
    return answer(bodies.IndexOut("EdgeLUT", __version__, LINKS))


@router.get(
    "/healthz",
    summary="Say whether the service can answer",
    **describe.endpoint(bodies.HealthOut, bodies.HealthOut("ok", __version__), "storage", open_to_all=True),
)
async def get_health(service: ServiceDep) -> Response:
    """Return 200 where the database can be read and 503 where it cannot; needs no token."""
    try:
        await service.call(service.store.targets)
    except StorageError as error:
        return storage(error, version=__version__).response()
    return answer(bodies.HealthOut("ok", __version__))


@router.get(
    "/caller",
    summary="Say who asks",
    **describe.endpoint(bodies.CallerOut, bodies.CallerOut("ci", ["read", "submit"], [], True)),
)
async def get_caller(request: Request) -> Response:
    """Return the token's name and every scope that it has, for a page that shows only what can be done."""
    caller = caller_of(request)
    return answer(
        bodies.CallerOut(caller.name, sorted(caller.allowed), sorted(caller.devices), guarded=caller is not ANYBODY)
    )
