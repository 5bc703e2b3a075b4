"""The userland `host`: a plain folder and this machine's own commands, for tests of the protocol and of failures."""

from __future__ import annotations

import os
import platform
import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edgelut.errors import DeviceUnusable

from .keeper import Keeper
from .userland import PATH, Userland

OWN = frozenset({"data", "dev", "proc", "sdcard", "sys", "system", "tmp", "vendor"})  # the phone's
IDLE = frozenset({"boot", "cdrom", "lost+found", "media", "mnt", "run", "srv"})  # no command needs them
PATHS = re.compile(rb"(?<![\w./-])(?=/(?:data|sdcard|sys|system|proc/cpuinfo)(?:[/\s\"';:&|)<>]|$))")


class HostUserland(Userland):
    """Commands of /bin/sh that see the folder as the phone's root.

    Where this machine allows private namespaces, they see the folder's /data, /sys, /system beside the machine's /usr, read-only.
    Where not (or with `private=False`), the paths are rewritten in commands, their input and their output: good enough for tests.
    """

    name = "host"
    abi = {"x86_64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}.get(platform.machine(), platform.machine())

    def __init__(self, home: Path | None = None, *, private: bool = True) -> None:
        super().__init__(home)
        self.private = private

    async def boot(self, remove: Path | None) -> None:
        """Show the machine's folders in the phone's root, or else rewrite."""
        shell = self.root / "system" / "bin" / "sh"
        if not shell.is_symlink():
            shell.symlink_to("/bin/sh")
        self._keeper = Keeper(remove)
        if self.private:
            try:
                await self._keeper.hold_namespaces(self.root, self._show())
            except DeviceUnusable:
                self.private = False
                self.root.mkdir(exist_ok=True)
        if not self.private:
            self.prefix = str(self.root)
            self._keeper = Keeper(remove)
            await self._keeper.hold_groups()

    def _show(self) -> list[tuple[str, str]]:
        """Prepare the places of this machine's top folders; return those to mount."""
        folders = []
        for top in sorted(Path("/").iterdir()):
            place = self.root / top.name
            if top.name in OWN | IDLE or place.is_symlink():
                continue
            if top.is_symlink():
                place.symlink_to(top.readlink())
            elif top.is_dir() and os.access(top, os.X_OK):
                place.mkdir(exist_ok=True)
                folders.append((str(top), str(top)))
        return folders

    def argv(self, command: str) -> list[str]:
        """Run /bin/sh inside."""
        if not self.private:
            return ["/bin/sh", *(["-c", os.fsdecode(self.inward(os.fsencode(command)))] if command else [])]
        return [*self._keeper.enter(self.root), "/bin/sh", *(["-c", command] if command else [])]

    def environment(self) -> dict[str, str]:
        """Return the phone's variables; the scripts in the folder read `PHONE_ROOT`."""
        found = {**super().environment(), "PHONE_ROOT": self.prefix}
        if not self.private:
            found |= {"PATH": f"{self.prefix}/system/bin:{PATH}", "TMPDIR": f"{self.prefix}/data/local/tmp"}
        return found

    @asynccontextmanager
    async def running(self, command: str, stderr: int) -> AsyncIterator[Process]:
        """Start a command; without a namespace the keeper must know its process group."""
        async with super().running(command, stderr) as process:
            if self.private:
                yield process
                return
            self._keeper.note("+", process.pid)
            try:
                yield process
            finally:
                try:
                    os.killpg(process.pid, 0)
                except ProcessLookupError:
                    self._keeper.note("-", process.pid)

    def outside(self, parts: list[str]) -> Path:
        """Look for the machine's folders where they are."""
        if parts and parts[0] not in OWN | IDLE and Path("/", parts[0]).exists():
            return Path("/").joinpath(*parts)
        return super().outside(parts)

    def inward(self, data: bytes) -> bytes:
        """Rewrite the phone's paths to the folder's."""
        return data if self.private else PATHS.sub(os.fsencode(self.prefix), data)

    def outward(self, data: bytes) -> bytes:
        """Rewrite the folder's paths to the phone's."""
        return data if self.private else data.replace(os.fsencode(self.prefix), b"")
