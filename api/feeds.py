"""What happens to a job, read once for all who watch it, and told as server-sent events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from edgelut import wire
from edgelut.errors import StorageError
from edgelut.jobs import ENDED, Job, JobEvent
from jobs.service import Jobs

SHORTEST_S = 0.25  # between two readings of a job: at most 4 events a second
LONGEST_S = 1.0  # ... and what another process did is seen after so long
BYTES_PER_S = 1_000_000.0  # of one stream: a job of 10,000 specs is told less often
BEAT_S = 10.0  # a stream that has nothing to tell says so
CHECK_S = 4.0  # how often an open stream looks whether its token still holds
KEPT = 1000  # lines of a log; a stream that is further behind reads them itself
PAGE = 1000

T = TypeVar("T")
log = logging.getLogger("edgelut.api")


class Call(Protocol):
    """Runs a function in a thread."""

    def __call__(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Return what it returns."""


class Feed:
    """One job as its watchers see it: the newest reading, and the newest lines of its log."""

    def __init__(self, job_id: str, jobs: Jobs, call: Call) -> None:
        self.id = job_id
        self.watchers = 0
        self.version = 0  # of what is below; 0: nothing was read yet
        self.job_version = 0
        self.job = b""
        self.over = False  # nothing more will come
        self._jobs, self._call = jobs, call
        self._job: Job | None = None
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._read_to = 0
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(self._read_on())

    async def wait(self, seen: int, timeout_s: float) -> None:
        """Return when there is something newer than that version, or after so many seconds."""
        if self.version == seen and not self.over:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout_s)

    async def lines(self, after: int) -> list[tuple[int, bytes]]:
        """Return the log's lines after the one of that id, up to this feed's reading."""
        if len(self._lines) == KEPT and self._lines[0][0] > after + 1:
            until = self._lines[0][0]
            older = await self._call(_read_lines, self._jobs, self.id, after)
            return [*((id_, body) for id_, body in older if id_ < until), *self._lines]
        return [line for line in self._lines if line[0] > after]

    def end(self) -> None:
        """Tell the watchers that nothing more will come."""
        self.over = True
        self._tell()

    def close(self) -> None:
        """Stop reading: nobody watches any more."""
        self._task.cancel()

    def _tell(self) -> None:
        self.version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _read_on(self) -> None:
        """Read the job whenever it changed, until it has ended."""
        with self._jobs.changed.listen(self.id) as bell:
            while True:
                began = time.monotonic()
                try:
                    if await self._look():
                        return
                except StorageError as error:  # the streams stay open meanwhile
                    log.error("storage: %s", error)
                await asyncio.sleep(max(SHORTEST_S, len(self.job) / BYTES_PER_S))
                await bell.wait(max(0.0, LONGEST_S - (time.monotonic() - began)))

    async def _look(self) -> bool:
        """Read once; say whether nothing more will come.

        The job is read before its log: when it has ended, the last line is there too.
        """
        job = await self._call(self._jobs.find_job, self.id)
        lines = await self._call(_read_lines, self._jobs, self.id, self._read_to)
        changed = job is not None and job != self._job
        if changed:
            self._job = job
            self.job = wire.encode(job)
            self.job_version += 1
        if lines:
            self._lines.extend(lines)
            self._read_to = lines[-1][0]
        self.over = self.over or job is None or job.state in ENDED
        if changed or lines or self.over:
            self._tell()
        return self.over


class Feeds:
    """The feeds of the jobs that are being watched; each ends when its last watcher has gone."""

    def __init__(self, jobs: Jobs, call: Call) -> None:
        self._jobs, self._call = jobs, call
        self._feeds: dict[str, Feed] = {}
        self._ended = False

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Feed]:
        """Yield the job's feed, shared with all who watch it."""
        feed = self._feeds.get(job_id)
        if feed is None or feed.over:
            feed = self._feeds[job_id] = Feed(job_id, self._jobs, self._call)
        feed.watchers += 1
        if self._ended:
            feed.end()
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                feed.close()
                if self._feeds.get(job_id) is feed:
                    del self._feeds[job_id]

    def begin(self) -> None:
        """Let feeds be watched (again)."""
        self._ended = False

    def end(self) -> None:
        """End every stream, and those that come later: the service stops."""
        self._ended = True
        for feed in list(self._feeds.values()):
            feed.end()


async def stream(feeds: Feeds, job_id: str, after: int, still: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """Yield a job's events, with the log's lines after that id, until it has ended or the caller may not watch any more."""
    with feeds.watch(job_id) as feed:
        seen, told = 0, 0
        beat_at = time.monotonic() + BEAT_S
        yield b"retry: 1000\n\n"
        while True:
            if feed.version != seen:
                seen, over = feed.version, feed.over
                job, job_version = feed.job, feed.job_version
                lines = await feed.lines(after)
                events = [b"event: log\nid: %d\ndata: %b\n\n" % line for line in lines]
                after = max([after, *(id_ for id_, _ in lines)])
                if job_version != told:
                    told = job_version
                    events.append(b"event: job\ndata: %b\n\n" % job)
                if events:
                    yield b"".join(events)
                    beat_at = time.monotonic() + BEAT_S
                if over:
                    return
            await feed.wait(seen, max(0.0, min(beat_at - time.monotonic(), CHECK_S)))
            if not await still():
                return
            if time.monotonic() >= beat_at and feed.version == seen:
                yield b": beat\n\n"
                beat_at = time.monotonic() + BEAT_S


def _read_lines(jobs: Jobs, job_id: str, after: int) -> list[tuple[int, bytes]]:
    """Return the lines of a job's log after that id, as they are told."""
    found: list[JobEvent] = []
    while True:
        page = jobs.events(job_id, after, PAGE)
        found += page
        if len(page) < PAGE:
            return [(line.id, wire.encode(line)) for line in found]
        after = page[-1].id
