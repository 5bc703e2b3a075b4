"""An emulated phone: a listening port, its userland, its state and its faults."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgelut.errors import DeviceUnusable, InvalidSpec

from .adbd import FEATURES, Connection, Service, Stream
from .auth import KeyRing
from .body import Body, banner, properties
from .faults import Faults, check
from .host import HostUserland
from .shell import Shell
from .sync import Sync
from .usage import group_seconds
from .userland import Userland

TICK_S = 0.25
REFUSED = ("reboot:", "remount:", "root:", "unroot:", "tcpip:", "usb:", "disable-verity:", "enable-verity:")


class Phone:
    """A phone on a port of this machine. Belongs to one event loop: `start`, then `stop`, which may be called twice."""

    def __init__(
        self,
        userland: Userland,
        *,
        serial: str = "",
        port: int = 0,
        faults: Sequence[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self.userland, self.host, self.port = userland, host, port
        self.serial = serial or f"emulated-{userland.name}"
        self.faults = Faults(self._fault_changed)
        self._first_faults = [check(text) for text in faults]
        self._keys = KeyRing()
        self._body = Body(userland, self.faults, self.serial, self._busy_s)
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """What `adb connect` takes."""
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Switch it on; raise DeviceUnusable where something is missing or the port is taken."""
        try:
            await self.userland.start()
            self._body.build()
            self._server = await asyncio.start_server(self._connected, self.host, self.port)
        except OSError as error:
            await self.stop()
            raise DeviceUnusable(f"an emulated phone on port {self.port}: {error}; another one: --port 0") from error
        except BaseException:
            await self.stop()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        for text in self._first_faults:
            self.faults.begin(text)
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Switch it off; nothing is left."""
        if self._server is not None:
            self._server.close()
        if self._ticking is not None:
            self._ticking.cancel()
        for connection in list(self._connections):
            connection.drop()
        await asyncio.gather(*self._connections.values(), return_exceptions=True)
        await self.userland.stop()

    def control(self, line: str) -> None:
        """Obey `fault NAME`, `heal NAME` or `heal`; raise InvalidSpec for anything else."""
        words = line.split()
        if len(words) == 2 and words[0] == "fault":
            self.faults.begin(words[1])
        elif words[:1] == ["heal"] and len(words) <= 2:
            self.faults.heal(*words[1:])
        elif words:
            raise InvalidSpec(f"{line.strip()!r}: write 'fault NAME', 'heal NAME' or 'heal'")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.holds("unplugged"):
            writer.transport.abort()
            return
        known = properties(self.serial, self.userland)
        connection = Connection(
            reader,
            writer,
            banner=banner(known, FEATURES),
            keys=self._keys,
            faults=self.faults,
            find_service=self._find_service,
        )
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.serve()
        finally:
            del self._connections[connection]

    def _find_service(self, name: str) -> Service | None:
        """Return what answers a service's name: a command, files, or a polite refusal."""
        head, colon, command = name.partition(":")
        kind, *options = head.split(",")
        if name == "sync:":
            return lambda stream: Sync(stream, self.userland, self.faults).serve()
        if colon and kind in ("shell", "exec"):
            framed = "v2" in options and kind == "shell"
            return lambda stream: self._run(stream, command, framed)
        if any(name.startswith(refused) for refused in REFUSED):
            return lambda stream: stream.write(f"an emulated phone does no {kind}\n".encode())
        return None

    async def _run(self, stream: Stream, command: str, framed: bool) -> None:
        self._body.refresh()
        self.faults.count(commands=1)
        await Shell(stream, self.userland, self.faults, command, framed=framed).serve()

    def _fault_changed(self, name: str) -> None:
        if name in ("unplugged", "unauthorized") and self.faults.holds(name):
            for connection in self._connections:
                connection.drop()
        if self._ticking is not None and name in ("hot", "throttled", "battery"):
            self._body.refresh()

    async def _tick(self) -> None:
        """Let it heat up and cool down."""
        while True:
            await asyncio.sleep(TICK_S)
            if self.faults.holds("hot") or self._body.status:
                self._body.refresh()

    def _busy_s(self) -> float:
        return group_seconds(self.userland.groups) if self.faults.holds("hot") else 0.0


def userland_of(name: str, home: Path | None = None) -> Userland:
    """Return a userland by its name; raise InvalidSpec."""
    if name == "host":
        return HostUserland(home)
    if name == "arm64":
        from .arm64 import Arm64Userland

        return Arm64Userland(home)
    raise InvalidSpec(f"no userland {name!r}; there are arm64 and host")


class Running:
    """A phone in a thread of its own; every method may be called from any thread."""

    def __init__(self, phone: Phone, loop: asyncio.AbstractEventLoop) -> None:
        self._phone, self._loop = phone, loop
        self.serial, self.address, self.userland = phone.serial, phone.address, phone.userland

    def control(self, line: str) -> None:
        """Obey a line as `Phone.control` does."""
        self._do(lambda: self._phone.control(line))

    def _do(self, what: Callable[[], None]) -> None:
        async def call() -> None:
            what()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout=30)


@contextmanager
def running(phone: Phone) -> Iterator[Running]:
    """Run a phone in a thread while the block lasts: for tests."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="emulated phone", daemon=True)
    thread.start()

    def wait(work: Awaitable[None]) -> None:
        async def call() -> None:
            await work

        asyncio.run_coroutine_threadsafe(call(), loop).result(timeout=120)

    try:
        wait(phone.start())
        try:
            yield Running(phone, loop)
        finally:
            wait(phone.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        with suppress(RuntimeError):
            loop.close()
