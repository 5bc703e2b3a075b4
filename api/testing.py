"""The app without a network: an httpx transport that runs it in this process, for tests of clients."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import httpx
from fastapi import FastAPI

LONGEST_S = 60.0  # between two pieces of an answer

Message = MutableMapping[str, Any]


class InProcess(httpx.BaseTransport):
    """A transport for a synchronous httpx client; the app runs in an event loop of its own until `close`, started and stopped.

    An answer that stays open is given as it comes, and a client that closes it is seen to have gone.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edgelut-in-process", daemon=True)
        self._thread.start()
        self._life = app.router.lifespan_context(app)
        self._run(self._life.__aenter__()).result(timeout=LONGEST_S)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the app's response; what it still has to say is read from its stream."""
        if self._loop.is_closed():
            raise httpx.ConnectError("the app was stopped", request=request)
        request.read()  # a body that is streamed becomes one that can be given at once
        exchange = _Exchange(self._app, request)
        exchange.task = self._run(exchange.run())
        status, headers = exchange.started()
        return httpx.Response(status, headers=headers, stream=_Stream(exchange, self._loop), request=request)

    def close(self) -> None:
        """Stop the app and end the loop."""
        if not self._loop.is_closed():
            self._run(self._life.__aexit__(None, None, None)).result(timeout=LONGEST_S)
            self._run(_end_tasks()).result(timeout=LONGEST_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
            self._loop.close()

    def _run(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


class _Exchange:
    """One request and its answer, between the client's thread and the app's loop."""

    task: Future[Any]

    def __init__(self, app: FastAPI, request: httpx.Request) -> None:
        self._app, self._request = app, request
        self._said: queue.Queue[Message | None] = queue.Queue()
        self._asked = False
        self._gone = asyncio.Event()

    async def run(self) -> None:
        """Run the app on the request; the end of what it says is None."""
        try:
            with suppress(Exception):  # the app has answered 500 and raises it again for its server's log
                await self._app(_scope(self._request), self._receive, self._send)
        finally:
            self._gone.set()
            self._said.put(None)

    def started(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Return the status and headers."""
        message = self._next()
        return (500, []) if message is None else (message["status"], list(message.get("headers", [])))

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes."""
        while (message := self._next()) is not None:
            if message.get("body"):
                yield message["body"]

    def leave(self) -> None:
        """Tell the app that the client has gone. In the loop."""
        self._gone.set()

    def _next(self) -> Message | None:
        wait = self._request.extensions.get("timeout", {}).get("read")
        try:
            return self._said.get(timeout=LONGEST_S if wait is None else min(wait, LONGEST_S))
        except queue.Empty:
            raise httpx.ReadTimeout("the app said nothing in time", request=self._request) from None

    async def _receive(self) -> Message:
        if self._asked:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": self._request.content, "more_body": False}

    async def _send(self, message: Message) -> None:
        if not (self._request.method == "HEAD" and message["type"] == "http.response.body"):
            self._said.put(message)


class _Stream(httpx.SyncByteStream):
    """The body of an answer."""

    def __init__(self, exchange: _Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange, self._loop = exchange, loop

    def __iter__(self) -> Iterator[bytes]:
        return self._exchange.pieces()

    def close(self) -> None:
        """Leave, whether all was read or not."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._exchange.leave)


async def _end_tasks() -> None:
    """End what requests left behind, so that no task outlives its loop."""
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _scope(request: httpx.Request) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 123),
        "root_path": "",
    }


__all__ = ["InProcess"]
