"""Waking who waits: long polls and event streams of this process are told at once that there is something new."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from contextlib import suppress
from types import TracebackType
from typing import Self


class Listener:
    """What waits for a signal. A ring between two waits is not lost: the next wait returns at once.

    Use it in a `with` block: listen first, then look, then wait, so that nothing falls in between. One waits at a time.
    """

    def __init__(self, signal: Signal, topic: str) -> None:
        self._signal, self._topic = signal, topic
        self._rung = threading.Event()
        self._lock = threading.Lock()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    async def wait(self, timeout_s: float) -> bool:
        """Return True as soon as the signal rang since the last wait, or False after that many seconds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._rung.is_set():
                self._rung.clear()
                return True
            self._waiter = loop, future
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiter = None
                rang = self._rung.is_set()
                self._rung.clear()
        return rang

    def block(self, timeout_s: float) -> bool:
        """Wait as `wait` does, in a thread."""
        rang = self._rung.wait(timeout_s)
        self._rung.clear()
        return rang

    def ring(self) -> None:
        """Wake who waits here, or who will. From any thread."""
        with self._lock:
            self._rung.set()
            if self._waiter is not None:
                loop, future = self._waiter
                with suppress(RuntimeError):  # the loop has ended, and with it who waited
                    loop.call_soon_threadsafe(_finish, future)

    def __enter__(self) -> Self:
        self._signal._add(self._topic, self)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._signal._remove(self._topic, self)


class Signal:
    """A bell that threads ring and that coroutines and threads listen to, by topic. The topic "" is everybody's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Listener]] = defaultdict(set)

    def notify(self, topic: str = "") -> None:
        """Wake those who listen to that topic and those who listen to all; with no topic, everybody."""
        with self._lock:
            named = list(self._listeners) if topic == "" else [topic, ""]
            found = [listener for name in named for listener in self._listeners.get(name, ())]
        for listener in found:
            listener.ring()

    def listen(self, topic: str = "") -> Listener:
        """Return a listener to a topic, or to all; it hears what rings inside its `with` block."""
        return Listener(self, topic)

    def _add(self, topic: str, listener: Listener) -> None:
        with self._lock:
            self._listeners[topic].add(listener)

    def _remove(self, topic: str, listener: Listener) -> None:
        with self._lock:
            self._listeners[topic].discard(listener)
            if not self._listeners[topic]:
                del self._listeners[topic]


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
