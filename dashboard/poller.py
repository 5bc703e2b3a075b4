"""What is asked again and again: once for all pages that look at it, and not at all when nobody does.

Fifty open pages cost the service as much as one. While the service is away, everything waits for the one reading that looks
whether it is back; then all of it is read at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from edgelut.errors import EdgelutError, ServiceError

from .rest import AWAY

Read = Callable[[], Awaitable[Any]]
Told = Callable[[Any], Coroutine[Any, Any, None]]
_log = logging.getLogger("edgelut.dashboard")


@dataclass(eq=False, slots=True)
class Watch:
    """One page's look at a resource. `told` hears each value that differs from the one before, `failed` each other error."""

    told: Told
    failed: Told | None = None


@dataclass(eq=False, slots=True)
class _Resource:
    read: Read
    every_s: float
    watches: list[Watch] = field(default_factory=list)
    value: Any = None
    read_once: bool = False
    error: str = ""
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Poller:
    """The shared readings of one process."""

    def __init__(self) -> None:
        self._resources: dict[Any, _Resource] = {}
        self.away: ServiceError | None = None  # why the service could not be reached, the last time
        self._away_watches: list[Told] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, key: Any, read: Read, watch: Watch, every_s: float) -> Callable[[], None]:
        """Read a resource every so often and tell the watch; return what ends that.

        A resource is known by its key; the first who watches it says how it is read. Who joins later is told the value there is.
        """
        resource = self._resources.get(key)
        if resource is None:
            resource = self._resources[key] = _Resource(read, every_s)
        resource.every_s = min(resource.every_s, every_s)
        resource.watches.append(watch)
        if resource.task is None:
            resource.task = asyncio.ensure_future(self._run(key, resource))
        elif resource.read_once:
            self._later(_tell(watch.told, resource.value))

        def end() -> None:
            if watch in resource.watches:
                resource.watches.remove(watch)
            if not resource.watches and self._resources.get(key) is resource:
                del self._resources[key]
                if resource.task is not None:
                    resource.task.cancel()

        return end

    def _later(self, told: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(told)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def watch_away(self, told: Told) -> Callable[[], None]:
        """Tell whenever the service goes away (the error) or is back (None); return what ends that."""
        self._away_watches.append(told)

        def end() -> None:
            if told in self._away_watches:
                self._away_watches.remove(told)

        return end

    def hurry(self) -> None:
        """Read everything now."""
        for resource in self._resources.values():
            resource.wake.set()

    async def note(self, error: ServiceError | None) -> None:
        """Note that the service could not be reached, or could."""
        changed = (error is None) != (self.away is None)
        self.away = error
        if changed:
            for told in list(self._away_watches):
                await _tell(told, error)
            if error is None:
                self.hurry()

    async def _run(self, key: Any, resource: _Resource) -> None:
        while self._resources.get(key) is resource:
            resource.wake.clear()
            await self._read(resource)
            try:
                await asyncio.wait_for(resource.wake.wait(), resource.every_s)
            except TimeoutError:
                continue

    async def _read(self, resource: _Resource) -> None:
        try:
            value = await resource.read()
        except ServiceError as error:
            if error.problem in (AWAY, "storage"):
                await self.note(error)
            else:
                await self._failed(resource, error)
            return
        except EdgelutError as error:
            await self.note(None)
            await self._failed(resource, error)
            return
        await self.note(None)
        resource.error = ""
        if resource.read_once and value == resource.value:
            return
        resource.value, resource.read_once = value, True
        for watch in list(resource.watches):
            await _tell(watch.told, value)

    async def _failed(self, resource: _Resource, error: EdgelutError) -> None:
        if str(error) == resource.error:
            return
        resource.error = str(error)
        for watch in list(resource.watches):
            if watch.failed is not None:
                await _tell(watch.failed, error)


async def _tell(told: Told, value: Any) -> None:
    """Tell one page; what goes wrong there is no other page's trouble."""
    try:
        await told(value)
    except Exception:  # noqa: BLE001
        _log.exception("a page could not show what it was told")
