"""Agents: who they are, what they have, that they live, and what they are given to do."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import describe, job_bodies, job_examples
from api.auth import Guarded
from api.deps import Body, CallerDep, Named, ServiceDep, answer
from api.polls import wait_for_claim
from edgelut import wire
from edgelut.jobs import Claim, Pulse, Welcome

router = APIRouter(tags=["agents"], route_class=Guarded)

NOTHING: dict[int, dict[str, Any]] = {204: {"description": "There was nothing to do"}}


@router.get(
    "/agents",
    summary="List the agents",
    **describe.endpoint(job_bodies.AgentsOut, job_bodies.AgentsOut([job_examples.AGENT]), "storage"),
)
async def get_agents(service: ServiceDep) -> Response:
    """Return every agent that announced itself, and whether it is heard of."""
    return await service.work(lambda: answer(job_bodies.AgentsOut(service.jobs.agents())))


@router.get(
    "/fleet",
    summary="List the devices of the agents",
    **describe.endpoint(job_bodies.FleetOut, job_bodies.FleetOut([job_examples.FLEET_DEVICE]), "storage"),
)
async def get_fleet(service: ServiceDep) -> Response:
    """Return every device that an agent announced, with its facts and runtimes, what it is doing and what waits for it.

    `GET /devices` lists the devices that have rows.
    """
    return await service.work(lambda: answer(job_bodies.FleetOut(service.jobs.fleet())))


@router.post(
    "/agents",
    summary="Announce an agent",
    **describe.endpoint(
        Welcome,
        job_examples.WELCOME,
        "conflict",
        "protocol",
        "too-large",
        "invalid",
        "storage",
        scope="agent",
        takes=job_bodies.AnnouncementIn,
        sends=job_examples.ANNOUNCEMENT,
    ),
)
async def announce_agent(service: ServiceDep, caller: CallerDep, body: Body) -> Response:
    """Take up an agent's session and its devices; a new session of the same installation ends the old one at once.

    409 where the name or a device is another live agent's, or where no protocol is spoken by both; 403 where the token is
    bound to other devices.
    """

    def announce() -> Response:
        asked: job_bodies.AnnouncementIn = wire.decode(job_bodies.AnnouncementIn, body)
        caller.require_devices([device.name for device in asked.devices])
        return answer(service.jobs.announce(asked.value(), caller.devices))

    return await service.work(announce)


@router.post(
    "/agents/{name}/pulse",
    summary="Say that an agent lives",
    **describe.endpoint(
        Pulse,
        job_examples.PULSE,
        "session",
        "conflict",
        "too-large",
        "invalid",
        "storage",
        scope="agent",
        takes=job_bodies.PulseIn,
        sends={"session": job_examples.ANNOUNCEMENT.session},
    ),
)
async def send_pulse(service: ServiceDep, caller: CallerDep, name: Named, body: Body) -> Response:
    """Renew the leases of an agent's session; answer which of its batches are not its own any more.

    409 `session` where the session is not known: announce the agent again.
    """

    def pulse() -> Response:
        asked: job_bodies.PulseIn = wire.decode(job_bodies.PulseIn, body)
        devices = None if asked.devices is None else [device.value() for device in asked.devices]
        caller.require_devices([device.name for device in devices or ()])
        return answer(service.jobs.pulse(name, asked.session, devices))

    return await service.work(pulse)


@router.post(
    "/agents/{name}/claim",
    summary="Ask for work",
    **describe.endpoint(
        Claim,
        job_examples.CLAIM,
        "session",
        "too-large",
        "invalid",
        "storage",
        scope="agent",
        takes=job_bodies.ClaimIn,
        sends={"session": job_examples.ANNOUNCEMENT.session, "devices": ["lab-1"], "wait_s": 0},
        responses=NOTHING,
    ),
)
async def claim_batch(service: ServiceDep, request: Request, name: Named, body: Body) -> Response:
    """Lease the most urgent batch for one of the devices that are named, which are free; wait for one up to `wait_s`.

    204 where there was none in time, or where the service is stopping: ask again.
    """
    asked = wire.decode(job_bodies.ClaimIn, body)
    claim = await wait_for_claim(service, request, name, asked.session, asked.devices, asked.wait_s)
    return Response(status_code=204) if claim is None else answer(claim)
