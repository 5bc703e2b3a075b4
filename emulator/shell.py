"""The services `shell:` and `exec:`: a command, its three streams and its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from asyncio.subprocess import PIPE, STDOUT, Process
from contextlib import suppress

from .adbd import Stream, StreamClosed
from .faults import Faults
from .userland import Userland
from .wire import ProtocolError

FRAME = struct.Struct("<BI")
IN, OUT, ERR, EXIT, CLOSE_IN = range(5)
LONGEST_FRAME = 1 << 20
CHUNK = 32 * 1024


class Shell:
    """One command of a shell, or a shell that reads commands where there is none. There is no terminal."""

    def __init__(self, stream: Stream, userland: Userland, faults: Faults, command: str, *, framed: bool) -> None:
        self._stream, self._userland, self._faults = stream, userland, faults
        self._command, self._framed = command, framed

    async def serve(self) -> None:
        """Run it; where the host goes away its input ends and it is told to hang up."""
        async with self._userland.running(self._command, PIPE if self._framed else STDOUT) as process:
            feeding = asyncio.create_task(self._feed(process))
            working = asyncio.create_task(self._drain(process))
            leaving = asyncio.create_task(self._stream.closed.wait())
            tasks: set[asyncio.Task[None] | asyncio.Task[bool]] = {feeding, working, leaving}
            try:
                await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    _hang_up(process)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                _close_input(process)

    async def _drain(self, process: Process) -> None:
        """Send the output, then the exit code."""
        outputs = [self._copy(process.stdout, OUT)] + ([self._copy(process.stderr, ERR)] if self._framed else [])
        await asyncio.gather(*outputs)
        code = await process.wait()
        await self._faults.healed("timeout")
        if self._framed:
            await self._stream.write(FRAME.pack(EXIT, 1) + bytes([code & 0xFF if code >= 0 else 128 - code]))

    async def _copy(self, reader: asyncio.StreamReader | None, kind: int) -> None:
        assert reader is not None
        while data := await reader.read(CHUNK):
            await self._faults.healed("timeout")
            data = self._userland.outward(data)
            if kind == OUT and self._faults.holds("bad-json"):
                data = data.replace(b'{"', b'{{"')
            await self._stream.write(FRAME.pack(kind, len(data)) + data if self._framed else data)

    async def _feed(self, process: Process) -> None:
        """Pass on what the host types until it closes the input."""
        assert process.stdin is not None
        with suppress(StreamClosed):
            while True:
                kind, data = await self._next()
                if kind == CLOSE_IN:
                    break
                if kind == IN:
                    with suppress(ConnectionError):
                        process.stdin.write(self._userland.inward(data))
                        await process.stdin.drain()
        _close_input(process)

    async def _next(self) -> tuple[int, bytes]:
        """Return the next frame of the host; raise StreamClosed."""
        if not self._framed:
            return IN, await self._stream.read_some()
        kind, length = FRAME.unpack(await self._stream.read(FRAME.size))
        if length > LONGEST_FRAME:
            raise ProtocolError(f"a frame of {length} bytes")
        return kind, await self._stream.read(length)


def _close_input(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _hang_up(process: Process) -> None:
    """Tell the command and its children; what ignores it goes on until the phone is switched off."""
    _close_input(process)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGHUP)
