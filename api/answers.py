"""Answers made before, given again while nothing new is in the table: a look-up in SQL costs fifty times its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

MOST_BYTES = 32 * 2**20
LARGEST = 64 * 2**10  # bytes of one answer that is worth keeping


class Answers:
    """Bodies by query string, each true of the table's current version.

    Nothing stale is ever given: every answer waits for a reading of the version that began after its request came, unless `tick`
    says that nothing was written since the last one: it gives another number after any commit of anybody's, or None where it
    cannot tell. Other processes write the table too, so no event of ours could say that it changed.
    """

    def __init__(self, version: Callable[[], Awaitable[object]], tick: Callable[[], int | None] = lambda: None) -> None:
        self._read_version, self._tick = version, tick
        self._shared = SharedReading(self._read)
        self._seen: int | None = None  # the tick before the last reading
        self._version: object = None
        self._bodies: dict[bytes, bytes] = {}
        self._bytes = 0

    def is_fresh(self) -> bool:
        """Say whether what was read last is true now."""
        return self._seen is not None and self._tick() == self._seen

    def find(self, key: bytes) -> bytes | None:
        """Return the body kept for a key, or None. Right after `is_fresh` said so or `refresh`, it is true."""
        return self._bodies.get(key)

    async def refresh(self) -> None:
        """Read the version."""
        await self._shared.read()

    async def get(self, key: bytes, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the body kept for a key, or make it and keep it."""
        if not self.is_fresh():
            await self.refresh()
        version = self._version
        kept = self._bodies.get(key)
        if kept is not None:
            return kept
        body = await make()
        if version == self._version:
            self.keep(key, body)
        return body

    def keep(self, key: bytes, body: bytes) -> None:
        """Keep a body that is true of the version read last, if it is small."""
        if len(body) > LARGEST:
            return
        if self._bytes > MOST_BYTES:
            self._forget(self._version)
        self._bytes += len(key) + len(body)
        self._bodies[key] = body

    async def _read(self) -> object:
        tick = self._tick()  # before the reading: what is written meanwhile makes another
        version = await self._read_version()
        self._seen = tick
        if version != self._version:
            self._forget(version)
        return version

    def _forget(self, version: object) -> None:
        self._version = version
        self._bodies = {}
        self._bytes = 0


class SharedReading:
    """A reading that callers who wait at the same time share; each gets one that began after the caller came."""

    def __init__(self, read: Callable[[], Awaitable[object]]) -> None:
        self._read = read
        self._running: asyncio.Future[object] | None = None
        self._next: asyncio.Future[object] | None = None

    async def read(self) -> object:
        """Return what a reading that begins now or later gives."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._read_after(self._running))
        return await asyncio.shield(self._next)  # a caller that goes away must not end the others' reading

    async def _read_after(self, running: asyncio.Future[object] | None) -> object:
        if running is not None and not running.done():
            await asyncio.wait((running,))
        self._running, self._next = self._next, None
        return await self._read()
