"""Jobs as they go on: one event stream from the service for each job that somebody looks at, shared by all who do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from edgelut import __version__, wire
from edgelut.errors import EdgelutError, Forbidden, LatencyNotFound, ServiceError
from edgelut.jobs import JobEvent
from edgelut.rest import refusal

from .jobs_view import JobView
from .rest import AWAY
from .settings import Settings

SILENT_S = 30.0  # a stream that says nothing for so long is dead: a live one says something every 10 s
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 5.0
LOOK_AGAIN_S = 15.0  # at a job that has ended: somebody may retry it
MOST_LINES = 2000  # of a log that are kept
GONE = ("unauthorized", "forbidden")
_log = logging.getLogger("edgelut.dashboard")


@dataclass(eq=False, slots=True)
class Listener:
    """What one page does with what a feed says."""

    on_job: Callable[[JobView], Awaitable[None]]
    on_lines: Callable[[list[JobEvent]], Awaitable[None]]
    on_error: Callable[[EdgelutError], Awaitable[None]]


@dataclass(eq=False, slots=True)
class _Feed:
    id: str
    token: str | None = field(repr=False)
    listeners: list[Listener] = field(default_factory=list)
    job: JobView | None = None
    lines: list[JobEvent] = field(default_factory=list)
    last: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Feeds:
    """The streams of one process. Belongs to one event loop; close it. `transport` replaces the network in tests."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._feeds: dict[tuple[str, str | None], _Feed] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def follow(self, id: str, token: str | None, listener: Listener) -> Callable[[], None]:
        """Tell a listener what happens to a job, from what is known of it on; return what ends that."""
        feed = self._feeds.get((id, token))
        if feed is None:
            feed = self._feeds[(id, token)] = _Feed(id, token)
            feed.task = asyncio.ensure_future(self._run(feed))
        else:
            task = asyncio.ensure_future(self._greet(feed, listener))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        feed.listeners.append(listener)

        def end() -> None:
            if listener in feed.listeners:
                feed.listeners.remove(listener)
            if not feed.listeners and self._feeds.get((id, token)) is feed:
                del self._feeds[(id, token)]
                if feed.task is not None:
                    feed.task.cancel()

        return end

    def hurry(self, id: str) -> None:
        """Look at a job now: something was done to it here."""
        for feed in self._feeds.values():
            if feed.id == id:
                feed.wake.set()

    async def close(self) -> None:
        """End all streams."""
        for feed in self._feeds.values():
            if feed.task is not None:
                feed.task.cancel()
        self._feeds.clear()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _run(self, feed: _Feed) -> None:
        """Follow a job, one stream after another, as long as anybody listens."""
        failures = 0
        while feed.listeners or self._feeds.get((feed.id, feed.token)) is feed:
            feed.wake.clear()
            try:
                await self._stream(feed)
                failures = 0
                wait_s = LOOK_AGAIN_S if feed.job is not None and feed.job.ended else FIRST_WAIT_S
            except EdgelutError as error:
                await self._tell_all(feed, "on_error", error)
                failures += 1
                gone = isinstance(error, LatencyNotFound | Forbidden) or getattr(error, "problem", "") in GONE
                wait_s = LOOK_AGAIN_S if gone else min(FIRST_WAIT_S * 2.0**failures, LONGEST_WAIT_S)
            try:
                await asyncio.wait_for(feed.wake.wait(), wait_s)
            except TimeoutError:
                continue

    async def _stream(self, feed: _Feed) -> None:
        """Pass on what one stream says, until the job has ended or the connection is lost."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(feed.last)}
        if feed.token:
            headers["Authorization"] = f"Bearer {feed.token}"
        async for event, data in self._events(feed, headers):
            if event == "log":
                line = wire.decode(JobEvent, data)
                if line.id > feed.last:
                    feed.last = line.id
                    feed.lines = [*feed.lines[-MOST_LINES:], line]
                    await self._tell_all(feed, "on_lines", [line])
            elif event == "job":
                job = wire.decode(JobView, data)
                if job != feed.job:
                    feed.job = job
                    await self._tell_all(feed, "on_job", job)

    async def _events(self, feed: _Feed, headers: dict[str, str]) -> AsyncIterator[tuple[str, str]]:
        """Yield the events of one stream as names and data; raise ServiceError where there is none, or it is lost."""
        try:
            async with self._connections().stream("GET", f"/jobs/{feed.id}/events", headers=headers) as response:
                if not response.is_success:
                    await response.aread()
                    token = feed.token
                    hide: Callable[[str], str] = lambda text: text.replace(token, "***") if token else text  # noqa: E731
                    raise refusal(response, self._settings.public_url, hide)
                event, data = "", ""
                async for line in response.aiter_lines():
                    name, _, value = line.partition(":")
                    value = value.removeprefix(" ")
                    if name == "event":
                        event = value
                    elif name == "data":
                        data += value
                    elif not line:
                        if event:
                            yield event, data
                        event, data = "", ""
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise ServiceError(f"cannot reach {self._settings.public_url}: {why}", problem=AWAY) from None

    def _connections(self) -> httpx.AsyncClient:
        """Return connections of their own: a stream holds one for as long as it lasts."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=self._settings.url,
                headers={"User-Agent": f"edgelut-dashboard/{__version__}", "EdgeLUT-Version": __version__},
                timeout=httpx.Timeout(self._settings.timeout_s, read=SILENT_S),
                limits=httpx.Limits(max_connections=200, max_keepalive_connections=4),
                transport=self._transport,
            )
        return self._client

    async def _greet(self, feed: _Feed, listener: Listener) -> None:
        """Tell one who comes later what there is."""
        if feed.job is not None:
            await _tell(listener.on_job, feed.job)
        if feed.lines:
            await _tell(listener.on_lines, list(feed.lines))

    async def _tell_all(self, feed: _Feed, what: str, value: object) -> None:
        for listener in list(feed.listeners):
            await _tell(getattr(listener, what), value)


async def _tell(told: Callable[..., Awaitable[None]], value: object) -> None:
    """Tell one page; what goes wrong there is no other page's trouble."""
    try:
        await told(value)
    except Exception:  # noqa: BLE001
        _log.exception("a page could not show what it was told of a job")
