"""What runs behind the protocol: where a phone's files lie on this machine, and how its commands are started."""

from __future__ import annotations

import asyncio
import os
import tempfile
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from .keeper import Keeper

WRITABLE = ("/data", "/sdcard")
FOLDERS = ("data/local/tmp", "sdcard", "proc", "dev", "sys", "system/bin", "system/etc")
PATH = "/system/bin:/vendor/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
MOST_LINKS = 40


class Userland(ABC):
    """A phone's files and commands. `start` comes first; `stop` may be called at any time and more than once.

    Obligations: nothing is left behind, neither a process nor a mount nor a folder, also where this process is killed; only a
    `home` that was given stays, with what was pushed.
    """

    name: str
    abi: str

    def __init__(self, home: Path | None = None) -> None:
        self.root = Path()  # where the phone's `/` lies
        self.prefix = ""  # before paths in what the phone's scripts read
        self.groups: set[int] = set()  # of the commands that run: process groups, and sessions too
        self._home = home
        self._keeper = Keeper(None)

    async def start(self) -> None:
        """Make the root folder and what else commands need; raise DeviceUnusable, with what to install."""
        if self._home is not None:
            self._home.mkdir(parents=True, exist_ok=True)
            self.root = self._home.resolve()
        else:
            self.root = Path(tempfile.mkdtemp(prefix="edgelut-phone-"))
            self.root.chmod(0o755)
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        await self.boot(None if self._home is not None else self.root)

    async def stop(self) -> None:
        """End everything that runs, and remove the folder unless it was given."""
        await self._keeper.stop()

    @abstractmethod
    async def boot(self, remove: Path | None) -> None:
        """Fill the root folder and start the keeper, which removes that folder in the end."""

    @abstractmethod
    def argv(self, command: str) -> list[str]:
        """Return what starts a command of the phone's shell from here; an empty one is a shell that reads commands."""

    def environment(self) -> dict[str, str]:
        """Return the variables of the phone's shell."""
        return {
            "PATH": PATH,
            "HOME": "/",
            "SHELL": "/system/bin/sh",
            "TMPDIR": "/data/local/tmp",
            "ANDROID_ROOT": "/system",
            "ANDROID_DATA": "/data",
            "USER": "shell",
        }

    @asynccontextmanager
    async def running(self, command: str, stderr: int) -> AsyncIterator[Process]:
        """Start a command in a process group of its own, for as long as a host's stream lasts."""
        async with self.variables() as env:
            process = await asyncio.create_subprocess_exec(
                *self.argv(command), stdin=PIPE, stdout=PIPE, stderr=stderr, env=env, cwd="/", start_new_session=True
            )
            self.groups.add(process.pid)
            try:
                yield process
            finally:
                self.groups.discard(process.pid)

    @asynccontextmanager
    async def variables(self) -> AsyncIterator[Mapping[str, str]]:
        """Give one command's variables."""
        yield self.environment()

    def outward(self, data: bytes) -> bytes:
        """Return what the host shall see of output."""
        return data

    def inward(self, data: bytes) -> bytes:
        """Return what a command shall see of input."""
        return data

    def writable(self, path: str) -> bool:
        """Tell whether files may be pushed there."""
        clean = os.path.normpath("/" + path.lstrip("/"))
        return any(clean == top or clean.startswith(top + "/") for top in WRITABLE)

    def place(self, path: str, *, follow: bool = True) -> Path:
        """Return where a path of the phone lies on this machine; links are followed inside the phone."""
        waiting = _parts(path)
        inside: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop(0)
            if part == "..":
                inside = inside[:-1]
                continue
            here = self.outside([*inside, part])
            if (waiting or follow) and here.is_symlink() and links < MOST_LINKS:
                links += 1
                target = str(here.readlink())
                inside = [] if target.startswith("/") else inside
                waiting = _parts(target) + waiting
            else:
                inside.append(part)
        return self.outside(inside)

    def outside(self, parts: list[str]) -> Path:
        """Return where a path without links lies."""
        return self.root.joinpath(*parts)

    def write(self, path: str, text: str, *, executable: bool = False) -> None:
        """Write a file of the phone, whole at any time."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = place.with_name(f".{place.name}.new")
        staged.write_text(text)
        staged.chmod(0o755 if executable else 0o644)
        staged.replace(place)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
