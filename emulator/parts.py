"""What the arm64 userland is made of, kept in a cache: programs from the distribution, and our C files built."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import re
import shutil
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelut.errors import DeviceUnusable

from .keeper import tool

SOURCES = Path(__file__).parent / "plugin"
# Package and file: programs that need no other file, so that the phone has no libraries of its own.
PROGRAMS = {"busybox": ("busybox-static", "bin/busybox"), "mksh": ("mksh", "usr/lib/{machine}-linux-musl/bin/mksh")}
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}  # as the distribution calls them
ELF = bytes.fromhex("7f454c460201")
NEWEST_QEMU = 8
FETCH_S, BUILD_S = 180.0, 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Files of this machine: the phone's programs, qemu with its loader and libraries, and what was built.

    Shell and small commands are this machine's own builds: starting one under qemu takes 17 to 30 ms instead of 1, and a command
    of adb starts several. What tells the processor is arm64's.
    """

    busybox: Path
    mksh: Path
    applets: tuple[str, ...]
    foreign: Path  # arm64's busybox
    qemu: Path
    loader: Path
    libraries: tuple[Path, ...]  # folders
    counter: Path
    start: Path


async def find_parts(cache: Path) -> Parts:
    """Return the parts, made where the cache lacks them; raise DeviceUnusable, with what to install."""
    qemu = Path(tool("qemu-aarch64"))
    version = await _qemu_version(qemu)
    loader, libraries = await _libraries(qemu)
    machine = platform.machine() if platform.machine() in ARCHITECTURES else "aarch64"
    programs = await _programs(cache, machine, ["busybox", "mksh"])
    foreign = await _programs(cache, "aarch64", ["busybox"])
    counter = await _built(cache, "counter", ["-O2", "-shared", "-fPIC"])
    places = ":".join(f"/.host/lib{number}" for number in range(len(libraries)))
    start = await _built(cache, "start", ["-O2", "-static", f'-DLIBRARIES="{places}"', f'-DVERSION="{version}"'])
    listed = await _output([str(qemu), str(foreign["busybox"]), "--list"], BUILD_S)
    applets = tuple(name for name in listed.split() if name not in ("sh", "ash", "busybox"))
    own = programs["busybox"], programs["mksh"], applets, foreign["busybox"]
    return Parts(*own, qemu, loader, libraries, counter, start)


async def _qemu_version(qemu: Path) -> str:
    """Return qemu's version; raise DeviceUnusable where its plugin interface is another one."""
    said = await _output([str(qemu), "--version"], BUILD_S)
    found = re.search(r"version (\d+)(\.\d+)*", said)
    if found is None or int(found.group(1)) > NEWEST_QEMU:
        raise DeviceUnusable(
            f"the counter of instructions is for qemu up to {NEWEST_QEMU} (tried with 7.2); {qemu} says {said.splitlines()[:1]}"
        )
    return found.group().removeprefix("version ")


async def _libraries(program: Path) -> tuple[Path, tuple[Path, ...]]:
    """Return a program's dynamic loader and the folders of its libraries."""
    said = await _output([tool("ldd"), str(program)], BUILD_S)
    found = [Path(path).resolve() for path in re.findall(r"(/\S+) \(0x", said)]
    loaders = [path for path in found if path.name.startswith("ld-")]
    if not loaders:
        raise DeviceUnusable(f"{program} has no dynamic loader, so it loads no plugin: apt-get install qemu-user")
    return loaders[0], tuple(sorted({path.parent for path in found}))


async def _programs(cache: Path, machine: str, names: Sequence[str]) -> dict[str, Path]:
    """Return programs of a machine, downloaded once from where this machine's packages come from."""
    folder = cache / ARCHITECTURES[machine]
    places = {name: folder / name for name in names}
    if not all(place.exists() for place in places.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as work:
            await _fetch(Path(work), machine, places)
    return places


async def _fetch(work: Path, machine: str, places: dict[str, Path]) -> None:
    """Ask apt as if this machine were that one, with lists and cache of its own: nothing of the system's is touched."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "state/status").touch()
    architecture = ARCHITECTURES[machine]
    apt = [
        tool("apt-get"), "-qq", "-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures={architecture}",
        "-o", f"Dir::State={work}/state", "-o", f"Dir::State::status={work}/state/status",
        "-o", f"Dir::Cache={work}/cache", "-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none",
    ]  # fmt: skip
    await _output([*apt, "update"], FETCH_S, cwd=work)
    for name, place in places.items():
        package, inside = PROGRAMS[name]
        await _output([*apt, "download", package], FETCH_S, cwd=work)
        archives = list(work.glob(f"{package}_*.deb"))
        if not archives:
            raise DeviceUnusable(f"apt-get has no {package} for {architecture}; put a static {name} of it at {place}")
        unpacked = work / name
        await _output([tool("dpkg-deb"), "--extract", str(archives[0]), str(unpacked)], FETCH_S)
        program = unpacked / inside.format(machine=machine)
        if not program.exists() or program.read_bytes()[: len(ELF)] != ELF:
            raise DeviceUnusable(f"{archives[0].name} has no {program.name}; put a static one at {place}")
        program.replace(place)


async def _built(cache: Path, name: str, flags: Sequence[str]) -> Path:
    """Return what a C file of ours was built to; built anew where file or flags are others."""
    source = SOURCES / f"{name}.c"
    key = hashlib.sha256(source.read_bytes() + "\0".join(flags).encode()).hexdigest()[:16]
    place = cache / f"{name}-{key}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as work:
            staged = Path(work, name)
            await _output([tool("gcc"), "-Wall", "-Wextra", "-Werror", *flags, "-o", str(staged), str(source)], BUILD_S)
            shutil.move(staged, place)
    return place


async def _output(argv: Sequence[str], timeout_s: float, cwd: Path | None = None) -> str:
    """Run a program of this machine; raise DeviceUnusable with what it said where it fails."""
    process = await asyncio.create_subprocess_exec(*argv, stdout=PIPE, stderr=PIPE, cwd=cwd)
    try:
        said, complained = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise DeviceUnusable(f"{argv[0]} did not end within {timeout_s:g} s") from None
    if process.returncode:
        last = complained.decode(errors="replace").strip().splitlines()[-3:]
        raise DeviceUnusable(f"{' '.join(argv[:2])} ended with {process.returncode}: {' | '.join(last)}")
    return said.decode(errors="replace")
