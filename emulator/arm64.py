"""The userland `arm64`: arm64 programs under qemu in private namespaces, with a counter of the instructions that they execute."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from edgelut import settings

from .cores import usable_cores
from .keeper import Keeper
from .parts import Parts, find_parts
from .userland import Userland

COUNTS = "/data/misc/counts"
TELLING = ("uname", "arch")  # the small commands that tell which processor they run on
# glibc keeps so many small free blocks at hand in each of its lists. With its 7 a call now and then has to look for one, by
# another way each time: counts of a small MB3D varied by 2e-4; with 1000 they are the same to the instruction, or to 2e-5.
STEADY_MALLOC = "glibc.malloc.tcache_count=1000"
# What the kernel knows arm64 programs by (linux/Documentation/admin-guide/binfmt-misc.rst): class, byte order and machine of ELF.
# P: it tells how the program was called. F: the starter is opened now, and not where the program runs.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Of the processor that qemu is told to be; its features are what qemu gives a cortex-a76.
CORE = """processor\t: {core}
BogoMIPS\t: 125.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""


class Arm64Userland(Userland):
    """Busybox and mksh in a root folder of their own; each arm64 program runs under qemu with the counter."""

    name = "arm64"
    abi = "arm64-v8a"

    def __init__(self, home: Path | None = None, cache: Path | None = None) -> None:
        super().__init__(home)
        self._cache = cache or settings.home() / "emulator"
        self._numbers = itertools.count(1)

    async def boot(self, remove: Path | None) -> None:
        """Fill the root folder and make the namespaces around it."""
        self._keeper = Keeper(remove)
        try:
            parts = await find_parts(self._cache)
            self._fill(parts)
        except BaseException:
            if remove is not None:
                shutil.rmtree(remove, ignore_errors=True)
            raise
        cpuinfo = self.root / "system/etc/cpuinfo"
        program = f":arm64:M::{MAGIC}:{MASK}:{self.root}/.host/start:PF"
        await self._keeper.hold_namespaces(self.root, self._show(parts), cpuinfo, program)

    def _fill(self, parts: Parts) -> None:
        """Put the programs and the processor's description into the root folder."""
        places = self.root / "system/bin"
        for name in TELLING:  # a home that was given may have others
            (places / name).unlink(missing_ok=True)
        for source, name in ((parts.busybox, "busybox"), (parts.mksh, "mksh"), (parts.foreign, TELLING[0])):
            shutil.copyfile(source, places / name)
            (places / name).chmod(0o755)
        (places / TELLING[1]).symlink_to(TELLING[0])
        for name, target in (("sh", "mksh"), *((applet, "busybox") for applet in parts.applets)):
            link = places / name
            if not link.is_symlink() and not link.exists():
                link.symlink_to(target)
        self.write("/system/etc/cpuinfo", "\n".join(CORE.format(core=core) for core in usable_cores()))
        for folder in (COUNTS, "/.host/binfmt", *(f"/.host/lib{number}" for number in range(len(parts.libraries)))):
            (self.root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for name in ("qemu", "loader", "start", "counter.so"):
            (self.root / ".host" / name).touch()

    def _show(self, parts: Parts) -> list[tuple[str, str]]:
        """Return what the phone has of this machine, all of it in `/.host`."""
        files = {"qemu": parts.qemu, "loader": parts.loader, "start": parts.start, "counter.so": parts.counter}
        folders = {f"lib{number}": folder for number, folder in enumerate(parts.libraries)}
        return [(str(place), f"/.host/{name}") for name, place in {**files, **folders}.items()]

    def argv(self, command: str) -> list[str]:
        """Run the phone's mksh inside."""
        return [*self._keeper.enter(self.root), "/system/bin/sh", *(["-c", command] if command else [])]

    def environment(self) -> dict[str, str]:
        """Return the variables; there is nothing of this machine's on the path."""
        return {**super().environment(), "PATH": "/system/bin:/vendor/bin", "GLIBC_TUNABLES": STEADY_MALLOC}

    @asynccontextmanager
    async def variables(self) -> AsyncIterator[Mapping[str, str]]:
        """Give each stream a file of its own for counts."""
        place = f"{COUNTS}/{next(self._numbers)}"
        try:
            yield {**self.environment(), "EDGELUT_COUNTER": place}
        finally:
            (self.root / place.lstrip("/")).unlink(missing_ok=True)
