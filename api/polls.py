"""Long polls: an agent's claim waits for work without a thread, and ends with its connection or with the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from edgelut.jobs import Claim
from jobs.service import POLL_S

from .deps import Service


async def wait_for_claim(
    service: Service, request: Request, name: str, session: str, devices: Sequence[str], wait_s: float
) -> Claim | None:
    """Return a batch for one of the devices as soon as there is one, or None after `wait_s`.

    Who waits is woken by what happens in this process, and looks every second for what happened in others.
    """
    deadline = time.monotonic() + wait_s
    with service.jobs.work.listen() as bell:
        found = await service.work(service.jobs.claim, name, session, devices)
        if found is not None or not devices:
            return found
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            while (left := deadline - time.monotonic()) > 0:
                rung = asyncio.ensure_future(bell.wait(min(POLL_S, left)))
                waited: set[asyncio.Future[Any]] = {rung, gone, service.ending}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() or service.ending.done():
                    rung.cancel()
                    return None
                await service.guard.still(request, "agent")
                if await service.work(service.jobs.has_work, devices):
                    found = await service.work(service.jobs.claim, name, session, devices)
                    if found is not None:
                        return found
            return None
        finally:
            gone.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client has gone; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
