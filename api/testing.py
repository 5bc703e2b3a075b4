"""The app without a network: an httpx transport that runs it in this process, for tests of clients."""

from __future__ import annotations

import asyncio
import threading

import httpx
from fastapi import FastAPI


class InProcess(httpx.BaseTransport):
    """A transport for a synchronous httpx client; the app runs in an event loop of its own until `close`."""

    def __init__(self, app: FastAPI) -> None:
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edgelut-in-process", daemon=True)
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the app's response, read to its end."""
        request.read()  # a body that is streamed becomes one that an asynchronous transport can send
        return asyncio.run_coroutine_threadsafe(self._handle(request), self._loop).result(timeout=60)

    def close(self) -> None:
        """End the loop."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
            self._loop.close()

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content, request=request)
