"""The arm64 userland of the emulated phone, and the counter of the instructions that its programs execute."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgelut import settings
from edgelut.errors import DeviceUnusable
from emulator import keeper, parts
from emulator.arm64 import Arm64Userland
from emulator.phone import Phone, Running, running
from tests.phones import tools

LOOP = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MARKER = 0x45444C };

static void *wait_for_it(void *what) { sleep(1); return what; }

/* loop LENGTH SAMPLES [threads]: two instructions a turn between the markers, and what it takes to call and return */
int main(int count, char **arguments) {
    long length = atol(arguments[1]), samples = atol(arguments[2]);
    pthread_t other;
    if (count > 3) pthread_create(&other, NULL, wait_for_it, NULL);
    for (long i = 0; i < samples; i++) {
        syscall(MARKER, 1, i);
        __asm__ volatile("mov x9, %0\n1: subs x9, x9, #1\nb.ne 1b" : : "r"(length) : "x9", "cc");
        syscall(MARKER, 2, i);
    }
    if (count > 3) pthread_join(other, NULL);
    char path[256], line[64];
    snprintf(path, sizeof path, "%s", getenv("EDGELUT_COUNTER"));
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) fputs(line, stdout);
    return 0;
}
"""
STRAY = "#include <sys/syscall.h>\n#include <unistd.h>\nint main(void) { syscall(0x45444C, 2, 0); return 0; }\n"


@pytest.fixture(scope="module")
def cache() -> Path:
    """Where the arm64 programs are kept: the same place for every run of the tests."""
    tools.require("qemu-aarch64")
    return settings.home() / "emulator"


@pytest.fixture(scope="module")
def phone(cache: Path) -> Iterator[Running]:
    try:
        with running(Phone(Arm64Userland(cache=cache))) as phone:
            yield phone
    except DeviceUnusable as error:
        tools.missing(str(error))


@pytest.fixture(scope="module")
def loop(phone: Running, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program with markers, on the phone."""
    folder = tmp_path_factory.mktemp("programs")
    for name, source in (("loop", LOOP), ("stray", STRAY)):
        program = tools.cross_compile(source, folder, name)
        place = phone.userland.root / "data/local/tmp" / name
        place.write_bytes(program.read_bytes())
        place.chmod(0o755)
    return "/data/local/tmp/loop"


def said(phone: Running, command: str) -> str:
    """Run a command of the phone's shell, as a stream of a host would; return its output."""

    async def run() -> str:
        async with phone.userland.running(command, subprocess.STDOUT) as process:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0, output
            return output.decode()

    return asyncio.run(run())


def counts(phone: Running, command: str) -> list[int]:
    return [int(line) for line in said(phone, command).split()]


def test_it_looks_like_a_phone(phone: Running) -> None:
    assert said(phone, "uname -s -m; arch").split() == ["Linux", "aarch64", "aarch64"]
    assert said(phone, "getprop ro.product.cpu.abi").strip() == "arm64-v8a"
    assert said(phone, "getprop ro.serialno").strip() == phone.serial
    assert "0xd0b" in said(phone, "cat /proc/cpuinfo")
    assert int(said(phone, "grep -c processor /proc/cpuinfo")) == int(said(phone, "nproc"))
    assert (
        said(phone, "echo here > /data/local/tmp/file; cat /data/local/tmp/file; rm /data/local/tmp/file") == "here\n"
    )
    assert "inaccessible or not found" in said(phone, "no-such-command; true")
    assert "schedutil" in said(phone, "cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    assert said(phone, "getprop no.such.property; dumpsys nothing") == "\nCan't find service: nothing\n"


def test_only_what_tells_the_processor_or_is_pushed_is_arm64(phone: Running, loop: str) -> None:
    places = ("/system/bin/sh", "/system/bin/cat", "/system/bin/uname", loop)
    machines = [phone.userland.place(place).read_bytes()[18] for place in places]
    assert machines == [*[{"x86_64": 62}.get(platform.machine(), 183)] * 2, 183, 183]


def test_it_sees_and_changes_nothing_of_this_machine(phone: Running) -> None:
    assert platform.node() and not set(said(phone, "ls /").split()) & {"etc", "home", "root", "usr", "bin", "lib"}
    assert "Read-only" in said(phone, "echo x > /.host/lib0/x; true")
    assert said(phone, "ls /proc | grep -c '^[0-9]*$'").strip() in {"3", "4", "5"}  # its own processes, no others
    registered = Path("/proc/sys/fs/binfmt_misc/arm64")
    assert not registered.exists()


def test_instructions_between_markers_are_counted_exactly(phone: Running, loop: str) -> None:
    short, long = counts(phone, f"{loop} 1000 5"), counts(phone, f"{loop} 1000000 5")
    assert len(short) == len(long) == 5
    assert len(set(short)) == len(set(long)) == 1
    assert long[0] - short[0] == 2 * (1_000_000 - 1000)
    assert 0 < short[0] - 2000 < 50


def test_counts_are_the_same_in_every_process(phone: Running, loop: str) -> None:
    found = {tuple(counts(phone, f"{loop} 12345 3")) for _ in range(4)}
    assert len(found) == 1


def test_a_count_of_several_threads_is_refused(phone: Running, loop: str) -> None:
    assert said(phone, f"{loop} 1000 2 threads").splitlines() == ["error: 2 threads; one can be counted"] * 2
    assert said(phone, "/data/local/tmp/stray; cat $EDGELUT_COUNTER").strip() == "error: an end without a begin"


def test_each_command_has_counts_of_its_own(phone: Running, loop: str) -> None:
    first, second = said(phone, "echo $EDGELUT_COUNTER").strip(), said(phone, "echo $EDGELUT_COUNTER").strip()
    assert first != second
    assert len(counts(phone, f"{loop} 1000 2")) == 2
    assert said(phone, "ls /data/misc/counts") == ""


def test_nothing_is_left_of_a_killed_one(cache: Path, tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys\nfrom emulator import cli\nfrom emulator.arm64 import Arm64Userland\n"
        "from emulator.phone import Phone\n"
        "phone = Phone(Arm64Userland(cache=pathlib.Path(sys.argv[1])))\nasyncio.run(cli._serve(phone))\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", script, str(cache)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("adb connect")
        (root,) = tmp_path.glob("edgelut-phone-*")
        process.send_signal(signal.SIGKILL)
    tools.until(lambda: not root.exists())
    tools.until(lambda: not any(str(root).encode() in line for line in _command_lines()))


def _command_lines() -> Iterator[bytes]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield (folder / "cmdline").read_bytes()
        except OSError:
            continue


def test_what_is_missing_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keeper.shutil, "which", lambda name, path=None: None)
    with pytest.raises(DeviceUnusable, match="needs qemu-aarch64: apt-get install qemu-user"):
        asyncio.run(parts.find_parts(tmp_path))
    userland = Arm64Userland(cache=tmp_path)
    with pytest.raises(DeviceUnusable):
        asyncio.run(userland.start())
    assert not userland.root.exists()


def test_a_qemu_with_another_plugin_interface_is_refused(tmp_path: Path) -> None:
    newer = tmp_path / "qemu-aarch64"
    newer.write_text("#!/bin/sh\necho 'qemu-aarch64 version 10.0.2 (Debian 1:10.0.2)'\n")
    newer.chmod(0o755)
    with pytest.raises(DeviceUnusable, match="for qemu up to 8"):
        asyncio.run(parts._qemu_version(newer))
