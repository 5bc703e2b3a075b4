"""One connection of a host: who it is, and the streams that it opens. What answers them is in `shell.py` and `sync.py`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress

from .auth import PUBLIC_KEY, SIGNATURE, TOKEN, KeyRing, PublicKey, new_token
from .faults import Faults
from .wire import AUTH, CLSE, CNXN, MAX_PAYLOAD, OKAY, OPEN, VERSION, WRTE, Packet, ProtocolError, read_packet

FEATURES = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"


class StreamClosed(ConnectionError):
    """The other side has closed the stream."""


class Stream:
    """A pipe in both directions. One packet a direction is on its way at any time; it is acknowledged when it is consumed."""

    def __init__(self, connection: Connection, local: int, remote: int) -> None:
        self.local, self.remote = local, remote
        self.closed = asyncio.Event()  # by the host, or with the connection
        self._connection = connection
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._acknowledged = asyncio.Event()
        self._writing = asyncio.Lock()
        self._rest = b""

    async def write(self, data: bytes) -> None:
        """Send all of it; raise StreamClosed."""
        async with self._writing:
            for start in range(0, len(data), self._connection.max_payload):
                if self.closed.is_set():
                    raise StreamClosed
                self._acknowledged.clear()
                part = data[start : start + self._connection.max_payload]
                await self._connection.send(Packet(WRTE, self.local, self.remote, part))
                await self._acknowledged.wait()
        if self.closed.is_set():
            raise StreamClosed

    async def read_some(self) -> bytes:
        """Return what came next; raise StreamClosed."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        while True:
            part = await self._incoming.get()
            if part is None:
                self._incoming.put_nowait(None)
                raise StreamClosed
            await self._connection.send(Packet(OKAY, self.local, self.remote))
            if part:
                return part

    async def read(self, size: int) -> bytes:
        """Return exactly so many bytes; raise StreamClosed."""
        parts, missing = [], size
        while missing:
            data = await self.read_some()
            parts.append(data[:missing])
            self._rest = data[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)

    def take(self, packet: Packet) -> None:
        """Note a packet of the host for this stream."""
        if packet.command == OKAY:
            self._acknowledged.set()
        elif packet.command == WRTE:
            self._incoming.put_nowait(packet.payload)

    def end(self) -> None:
        """Note that the host has closed it."""
        self.closed.set()
        self._acknowledged.set()
        self._incoming.put_nowait(None)


Service = Callable[[Stream], Awaitable[None]]


class Connection:
    """A host's connection. `find_service` returns what answers a name such as `sync:`, or None where it is refused."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        banner: str,
        keys: KeyRing,
        faults: Faults,
        find_service: Callable[[str], Service | None],
    ) -> None:
        self.max_payload = MAX_PAYLOAD
        self._reader, self._writer = reader, writer
        self._banner, self._keys, self._faults, self._find_service = banner, keys, faults, find_service
        self._streams: dict[int, Stream] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._token = b""
        self._trusted = False

    async def serve(self) -> None:
        """Answer until the host goes away."""
        try:
            while True:
                packet = await read_packet(self._reader)
                await self._faults.healed("no-answer")
                self._faults.count(transferred=len(packet.payload))
                await self._answer(packet)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await self._end()

    def drop(self) -> None:
        """Break the connection off, as a cable that is pulled does."""
        self._writer.transport.abort()

    async def send(self, packet: Packet) -> None:
        """Send a packet; raise StreamClosed where the connection has gone."""
        self._faults.count(transferred=len(packet.payload))
        try:
            self._writer.write(packet.encode())
            await self._writer.drain()
        except (ConnectionError, RuntimeError) as error:
            raise StreamClosed from error

    async def _answer(self, packet: Packet) -> None:
        if packet.command == CNXN:
            self.max_payload = min(packet.arg1, MAX_PAYLOAD)
            self._trusted = False
            await self._challenge()
        elif packet.command == AUTH:
            await self._authenticate(packet)
        elif not self._trusted:
            raise ProtocolError("a host that was not accepted")
        elif packet.command == OPEN:
            await self._open(packet)
        elif packet.command in (OKAY, WRTE):
            stream = self._streams.get(packet.arg1)
            if stream is not None:
                stream.take(packet)
            elif packet.command == WRTE:
                await self.send(Packet(CLSE, 0, packet.arg0))
        elif packet.command == CLSE:
            stream = self._streams.pop(packet.arg1, None)
            if stream is not None:
                stream.end()
                await self.send(Packet(CLSE, packet.arg1, packet.arg0))

    async def _challenge(self) -> None:
        self._token = new_token()
        await self.send(Packet(AUTH, TOKEN, 0, self._token))

    async def _authenticate(self, packet: Packet) -> None:
        if packet.arg0 == SIGNATURE:
            known = self._keys.knows(packet.payload, self._token)
            if known and not self._faults.holds("unauthorized"):
                await self._accept()
            else:
                await self._challenge()
        elif packet.arg0 == PUBLIC_KEY:
            try:
                key = PublicKey.parse(packet.payload)
            except ValueError as error:
                raise ProtocolError(str(error)) from error
            self._keep(self._ask_owner(key))

    async def _ask_owner(self, key: PublicKey) -> None:
        """Accept a new key as soon as no fault speaks against it: the dialogue on a phone's screen."""
        await self._faults.healed("unauthorized")
        self._keys.keys.add(key)
        await self._accept()

    async def _accept(self) -> None:
        self._trusted = True
        await self.send(Packet(CNXN, VERSION, MAX_PAYLOAD, self._banner.encode()))

    async def _open(self, packet: Packet) -> None:
        name = packet.payload.rstrip(b"\0").decode(errors="surrogateescape")
        service = self._find_service(name)
        if service is None:
            await self.send(Packet(CLSE, 0, packet.arg0))  # without it the client waits for ever
            return
        stream = Stream(self, next(self._numbers), packet.arg0)
        self._streams[stream.local] = stream
        await self.send(Packet(OKAY, stream.local, stream.remote))
        self._keep(self._run(service, stream))

    async def _run(self, service: Service, stream: Stream) -> None:
        try:
            await service(stream)
        except StreamClosed:
            pass
        finally:
            if self._streams.pop(stream.local, None) is not None:
                with suppress(StreamClosed):
                    await self.send(Packet(CLSE, stream.local, stream.remote))

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        """Close the streams; whoever serves them ends by it, or is cancelled after a moment."""
        for stream in self._streams.values():
            stream.end()
        self._streams.clear()
        self._writer.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=2.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def _quietly(work: Awaitable[None]) -> None:
    with suppress(StreamClosed):
        await work
