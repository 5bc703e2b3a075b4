"""What every route needs: the table behind threads, a body within bounds, and an answer in JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from db.store import SqlStore
from edgelut import wire

from .answers import Answers
from .bodies import LARGE
from .problems import Problem
from .settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

RowId = Annotated[int, Path(ge=1, le=LARGE)]


class Service:
    """The store and the threads that talk to it, so that SQL never holds up the event loop."""

    def __init__(self, store: SqlStore, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.answers = Answers(lambda: self.call(store.versions))
        self._threads: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the store in a thread and return what it returns."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.settings.threads, thread_name_prefix="edgelut-sql")
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Let the threads go, until the next call; the store stays its owner's."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None


async def service_of(request: Request) -> Service:
    """Return the service that the app was made with."""
    service: Service = request.app.state.service
    return service


async def read_body(request: Request) -> bytes:
    """Return the body; raise the 413 problem as soon as it is longer than the settings allow."""
    limit = request.app.state.service.settings.body_bytes
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not (declared.isdigit() and int(declared) > limit):
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                break
        else:
            return bytes(body)
    detail = f"a body may have {limit:,} bytes; send fewer rows at once"
    raise Problem("too-large", detail, headers={"Connection": "close"}, members={"limit_bytes": limit})


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(wire.encode(value), status, media_type="application/json")


ServiceDep = Annotated[Service, Depends(service_of)]
Body = Annotated[bytes, Depends(read_body)]
