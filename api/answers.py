"""Answers made before, given again while nothing new is in the table: a look-up in SQL costs fifty times its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

MOST_BYTES = 32 * 2**20
LARGEST = 64 * 2**10  # bytes of one answer that is worth keeping


class Answers:
    """Bodies by query string, each true of the table's current version.

    Nothing stale is ever given: every answer waits for a reading of the version that began after its request came. Other
    processes write the table too, so no event of ours could say that it changed.
    """

    def __init__(self, version: Callable[[], Awaitable[object]]) -> None:
        self._shared = SharedReading(version)
        self._version: object = None
        self._bodies: dict[bytes, bytes] = {}
        self._bytes = 0

    async def get(self, key: bytes, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the body kept for a key, or make it and keep it."""
        version = await self._shared.read()
        if version != self._version:
            self._forget(version)
        kept = self._bodies.get(key)
        if kept is not None:
            return kept
        body = await make()
        if len(body) <= LARGEST and version == self._version:
            self._keep(key, body)
        return body

    def _keep(self, key: bytes, body: bytes) -> None:
        if self._bytes > MOST_BYTES:
            self._forget(self._version)
        self._bytes += len(key) + len(body)
        self._bodies[key] = body

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
