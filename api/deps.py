"""What every route needs: the table behind threads, a body within bounds, and an answer in JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Path
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from db.store import SqlStore
from edgelut import wire
from edgelut.errors import StorageError
from jobs.service import Jobs

from .answers import Answers
from .asked import AskedBefore
from .auth import Caller, Guard, caller_of
from .bodies import LARGE
from .feeds import Feeds
from .image import Images
from .learnt import Learnt
from .problems import Problem
from .settings import Settings

log = logging.getLogger("edgelut.api")

P = ParamSpec("P")
T = TypeVar("T")

RowId = Annotated[int, Path(ge=1, le=LARGE)]
Ident = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["7f3a"])]
Named = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f/]+$", examples=["lab-1"])]


class Service:
    """The store, the jobs, and the threads that talk to both, so that SQL never holds up the event loop."""

    def __init__(self, store: SqlStore, settings: Settings, jobs: Jobs | None = None) -> None:
        self.store = store
        self.settings = settings
        self.jobs = jobs or Jobs(store)
        self.images = Images(store, self.call)
        self.answers = Answers(self.images.read, lambda: None if self.images.waiting else store.tick())
        self.asked = AskedBefore()
        self.learnt = Learnt()
        self.guard = Guard(store, self.call, settings.token, closed=settings.guarded, local=settings.local_token)
        self.feeds = Feeds(self.jobs, self.work)
        self._runs_jobs, self._started = jobs is not None, False
        self._threads: ThreadPoolExecutor | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._ending: asyncio.Future[None] | None = None
        self._warming: asyncio.Task[None] | None = None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the store in a thread and return what it returns."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.settings.threads, thread_name_prefix="edgelut-sql")
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the jobs in a thread: in another than look-ups, as writers wait for each other."""
        if self._workers is None:
            self._workers = ThreadPoolExecutor(self.settings.job_threads, thread_name_prefix="edgelut-jobs")
        return await asyncio.get_running_loop().run_in_executor(self._workers, lambda: function(*args, **kwargs))

    def start(self) -> None:
        """Start the engine and the watch of the jobs that the app was made with. Idempotent; raises StorageError."""
        if self._runs_jobs and not self._started:
            self.jobs.start()
            self._started = True

    def begin(self) -> None:
        """Let requests wait (again), in a new event loop, and begin to read the table into memory."""
        self._ending = None
        self.feeds.begin()
        self._warming = asyncio.ensure_future(self._warm())

    @property
    def ending(self) -> asyncio.Future[None]:
        """Is done once the service is told to stop: whoever waits for long waits for this too."""
        loop = asyncio.get_running_loop()
        if self._ending is None or self._ending.get_loop() is not loop:
            self._ending = loop.create_future()
        return self._ending

    async def _warm(self) -> None:
        try:
            await self.answers.refresh()
        except (
            StorageError,
            RuntimeError,
        ) as error:  # RuntimeError: the service is ending; whoever asks is told of the other
            log.info("the table was not read ahead: %s", error)

    def end(self) -> None:
        """End long polls and event streams. In the event loop; those that come later end at once."""
        if not self.ending.done():
            self.ending.set_result(None)
        self.feeds.end()
        self.images.forget()
        if self._warming is not None:
            self._warming.cancel()

    def close(self) -> None:
        """Stop what `start` started and let the threads go, until the next call; the store stays its owner's."""
        if self._started:
            self.jobs.stop()
            self._started = False
        for threads in (self._threads, self._workers):
            if threads is not None:
                threads.shutdown(wait=False)
        self._threads = self._workers = None


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
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    break
            else:
                return bytes(body)
        except ClientDisconnect:  # a caller that was killed: nobody reads the answer, and the log needs no trace of it
            raise Problem("invalid", "the connection was lost before the body was whole") from None
    detail = f"a body may have {limit:,} bytes; send fewer rows at once"
    raise Problem("too-large", detail, headers={"Connection": "close"}, members={"limit_bytes": limit})


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(wire.encode(value), status, media_type="application/json")


async def caller_dep(request: Request) -> Caller:
    """Return who asks."""
    return caller_of(request)


ServiceDep = Annotated[Service, Depends(service_of)]
CallerDep = Annotated[Caller, Depends(caller_dep)]
Body = Annotated[bytes, Depends(read_body)]
