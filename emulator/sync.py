"""The service `sync:`: files in both directions, attributes and lists, as adb's clients ask for them."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from .adbd import Stream
from .faults import Faults
from .userland import Userland
from .wire import ProtocolError

REQUEST = struct.Struct("<4sI")
STAT_V1 = struct.Struct("<4s3I")  # mode, size, time of change
STAT_V2 = struct.Struct("<4sI2Q4I1Q3q")  # error, dev, ino, mode, links, uid, gid, size, three times
ENTRY_V1 = struct.Struct("<4s4I")  # the same, and the length of the name that follows
ENTRY_V2 = struct.Struct("<4sI2Q4I1Q3qI")
CHUNK = 64 * 1024
LONGEST_PATH = 1024


class Sync:
    """One `sync:` stream."""

    def __init__(self, stream: Stream, userland: Userland, faults: Faults) -> None:
        self._stream, self._userland, self._faults = stream, userland, faults

    async def serve(self) -> None:
        """Answer requests until QUIT."""
        answers = {
            b"STAT": self._stat_v1,
            b"STA2": self._stat_v2,
            b"LST2": self._lstat_v2,
            b"LIST": self._list_v1,
            b"LIS2": self._list_v2,
            b"SEND": self._receive_file,
            b"RECV": self._send_file,
        }
        while True:
            name, length = REQUEST.unpack(await self._stream.read(REQUEST.size))
            if name == b"QUIT":
                return
            if name not in answers or length > LONGEST_PATH:
                await self._fail(f"unknown request {name!r}" if name not in answers else "path too long")
                return
            argument = os.fsdecode(await self._stream.read(length))
            await answers[name](argument)

    async def _stat_v1(self, path: str) -> None:
        _, found = _look(self._userland.place(path, follow=False), os.lstat)
        mode, size, changed = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
        await self._stream.write(STAT_V1.pack(b"STAT", mode, size & 0xFFFFFFFF, changed))

    async def _stat_v2(self, path: str) -> None:
        await self._stream.write(_attributes(STAT_V2, b"STA2", self._userland.place(path), os.stat))

    async def _lstat_v2(self, path: str) -> None:
        await self._stream.write(_attributes(STAT_V2, b"LST2", self._userland.place(path, follow=False), os.lstat))

    async def _list_v1(self, path: str) -> None:
        parts = []
        for entry in _entries(self._userland.place(path)):
            _, found = _look(entry, os.lstat)
            if found is not None:
                name = os.fsencode(entry.name)
                head = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
                parts.append(ENTRY_V1.pack(b"DENT", *head, len(name)) + name)
        await self._stream.write(b"".join(parts) + ENTRY_V1.pack(b"DONE", 0, 0, 0, 0))

    async def _list_v2(self, path: str) -> None:
        parts = []
        for entry in _entries(self._userland.place(path)):
            name = os.fsencode(entry.name)
            parts.append(_attributes(ENTRY_V2, b"DNT2", entry, os.lstat, len(name)) + name)
        await self._stream.write(b"".join(parts) + ENTRY_V2.pack(b"DONE", *[0] * 12))

    async def _send_file(self, path: str) -> None:
        """Answer RECV: what the phone sends."""
        try:
            with self._userland.place(path).open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
                while data := await asyncio.to_thread(file.read, CHUNK):
                    if self._faults.holds("wrong-output"):
                        data = _flip(data)
                    await self._stream.write(REQUEST.pack(b"DATA", len(data)) + data)
        except ConnectionError:
            raise
        except OSError as error:
            await self._fail(f"open failed: {error.strerror}")
            return
        await self._stream.write(REQUEST.pack(b"DONE", 0))

    async def _receive_file(self, argument: str) -> None:
        """Answer SEND: what the host sends; `argument` is `path,mode`."""
        content = _Content(self._stream)
        try:
            path, _, mode = argument.rpartition(",")
            if not (path and mode.isdigit()):
                raise OSError(errno.EINVAL, f"{argument!r} is no path with a mode")
            await self._store(path, int(mode), content)
        except ConnectionError:
            raise
        except OSError as error:
            await self._fail(f"couldn't create file: {error.strerror}")
            async for _ in content:  # the client may send all of it before it looks at the answer
                pass
            return
        await self._stream.write(REQUEST.pack(b"OKAY", 0))

    async def _store(self, path: str, mode: int, content: _Content) -> None:
        """Write a file or a link; nothing is left of one that failed."""
        if not self._userland.writable(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        place = self._userland.place(path, follow=not stat.S_ISLNK(mode))
        self._require_room()
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_dir():
            place.unlink(missing_ok=True)
        if stat.S_ISLNK(mode):
            target = b"".join([data async for data in content])
            place.symlink_to(os.fsdecode(target.rstrip(b"\0")))
            return
        try:
            with place.open("wb") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(mode) | 0o600)
                async for data in content:
                    self._require_room()
                    await asyncio.to_thread(file.write, data)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        os.utime(place, (content.changed, content.changed))

    def _require_room(self) -> None:
        if self._faults.holds("disk-full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def _fail(self, message: str) -> None:
        text = message.encode()
        await self._stream.write(REQUEST.pack(b"FAIL", len(text)) + text)


class _Content:
    """The DATA that follows a SEND; `changed` is the file's time once all of it has come."""

    def __init__(self, stream: Stream) -> None:
        self.changed = 0
        self._stream, self._done = stream, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._done:
            name, value = REQUEST.unpack(await self._stream.read(REQUEST.size))
            if name == b"DONE":
                self.changed, self._done = value, True
            elif name == b"DATA" and value <= CHUNK:
                yield await self._stream.read(value)
            else:
                raise ProtocolError(f"{name!r} of {value} bytes inside a file")


def _look(place: Path, how: Callable[[Path], os.stat_result]) -> tuple[int, os.stat_result | None]:
    """Return an error number and, where it is 0, what was found."""
    try:
        return 0, how(place)
    except OSError as error:
        return error.errno or errno.EIO, None


def _attributes(
    form: struct.Struct, name: bytes, place: Path, how: Callable[[Path], os.stat_result], *more: int
) -> bytes:
    problem, found = _look(place, how)
    if found is None:
        return form.pack(name, problem, *[0] * 10, *more)
    sizes = (found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size)
    return form.pack(name, 0, *sizes, int(found.st_atime), int(found.st_mtime), int(found.st_ctime), *more)


def _entries(folder: Path) -> list[Path]:
    """List a folder; one that is not there has nothing in it, as on a phone."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _flip(data: bytes) -> bytes:
    """Flip a high bit of every 16th little-endian word."""
    flipped = bytearray(data)
    for index in range(3, len(flipped), 64):
        flipped[index] ^= 0x40
    return bytes(flipped)
