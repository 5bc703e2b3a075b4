"""The emulated phone's side of adb, spoken to by real adb programs and, where those would never say it, by hand."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgelut.errors import InvalidSpec
from emulator.auth import PublicKey
from emulator.faults import FAULTS, check
from emulator.host import HostUserland
from emulator.phone import Phone, Running, running
from tests.phones import tools
from tests.phones.tools import Adb, until

TMP = "/data/local/tmp"


@contextmanager
def hosting(adb: Adb, command: str) -> Iterator[None]:
    """Have a command run while the block lasts; then its host is killed."""
    process = subprocess.Popen([adb.path, "-s", adb.serial, "shell", command], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def connected(phone: Running, path: str) -> Adb:
    """Attach a phone."""
    Adb(path)("connect", phone.address)
    adb = Adb(path, phone.address)
    adb("wait-for-device")
    return adb


@pytest.fixture(scope="module")
def adb_path(adb_server: int) -> str:
    return tools.require("adb")


@pytest.fixture(scope="module", params=[True, False], ids=["namespaces", "rewriting"])
def well(request: pytest.FixtureRequest, adb_path: str) -> Iterator[Adb]:
    """A phone that nothing is done to, in both ways that it can be put together."""
    with running(Phone(HostUserland(private=request.param))) as phone:
        yield connected(phone, adb_path)
        Adb(adb_path)("disconnect", phone.address)


@pytest.fixture
def phone() -> Iterator[Running]:
    with running(Phone(HostUserland())) as phone:
        yield phone


@pytest.fixture
def adb(phone: Running, adb_path: str) -> Iterator[Adb]:
    yield connected(phone, adb_path)
    Adb(adb_path)("disconnect", phone.address)


def test_it_is_listed_with_its_model(well: Adb) -> None:
    (line,) = [line for line in Adb(well.path)("devices", "-l").out.splitlines() if line.startswith(well.serial)]
    assert "product:edgelut_host" in line and "model:Emulated_phone" in line


def test_output_errors_and_exit_code_come_apart(well: Adb) -> None:
    done = well.shell("echo out; echo err >&2; exit 7")
    assert (done.code, done.out, done.err) == (7, "out\n", "err\n")
    assert well.shell("true").code == 0
    assert well.shell("kill -9 $$").code == 128 + 9


def test_input_reaches_a_command_and_ends(well: Adb) -> None:
    content = bytes(range(256)) * 4096
    assert well.shell("wc -c", typed=content).out.strip() == str(len(content))
    assert well("shell", typed=b"echo typed; exit 3\n").code == 3


def test_a_phone_s_paths_are_a_phone_s(well: Adb, tmp_path: Path) -> None:
    assert well.shell(f"cd {TMP} && pwd").out.strip() == TMP
    assert well.shell("getprop ro.serialno").out.strip() == "emulated-host"
    assert "[ro.edgelut.emulated]: [1]" in well.shell("getprop").out
    assert "level: 87" in well.shell("dumpsys battery").out
    assert "Thermal Status: 0" in well.shell("dumpsys thermalservice").out
    assert int(well.shell("cat /sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").out) > 1e6
    assert well("pull", "/sys/class/thermal/thermal_zone0/temp", str(tmp_path / "temp")).code == 0
    assert int((tmp_path / "temp").read_text()) > 1000
    script = b"#!/bin/sh\nread path; cat $path; echo $path\n"
    typed = f"cat > {TMP}/script; chmod +x {TMP}/script; echo content > {TMP}/file"
    well.shell(typed, typed=script)
    assert well.shell(f"{TMP}/script", typed=f"{TMP}/file\n".encode()).out == f"content\n{TMP}/file\n"


def test_a_file_comes_back_as_it_went(well: Adb, tmp_path: Path) -> None:
    content = os.urandom(700_001)
    (tmp_path / "there").write_bytes(content)
    (tmp_path / "there").chmod(0o750)
    os.utime(tmp_path / "there", (1e9, 1e9))
    assert well("push", str(tmp_path / "there"), f"{TMP}/new/folder/it's a file").code == 0
    assert well("pull", "-a", f"{TMP}/new/folder/it's a file", str(tmp_path / "back")).code == 0
    assert (tmp_path / "back").read_bytes() == content
    assert (tmp_path / "back").stat().st_mtime == 1e9
    assert well.shell(f"stat -c '%a %s' {TMP}/new/folder/*").out.split() == ["750", "700001"]


def test_folders_go_both_ways_and_only_once(well: Adb, tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for name in ("a", "inner/b", "inner/empty"):
        (tmp_path / "folder" / name).write_text(name if name != "inner/empty" else "")
    assert "3 files pushed" in well("push", str(tmp_path / "folder"), f"{TMP}/folder").said
    assert "0 files pushed, 3 skipped" in well("push", "--sync", str(tmp_path / "folder"), TMP).said
    assert well("pull", f"{TMP}/folder", str(tmp_path / "back")).code == 0
    assert (tmp_path / "back" / "inner" / "b").read_text() == "inner/b"
    assert " folder" in well("ls", TMP).out


def test_what_is_not_there_or_not_to_be_written_says_so(well: Adb, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = well("push", str(tmp_path / "file"), "/system/bin/file")
    assert done.code != 0 and "Read-only file system" in done.said
    done = well("push", str(tmp_path / "file"), f"{TMP}/../../../system/file")
    assert done.code != 0 and "Read-only file system" in done.said
    done = well("pull", f"{TMP}/nothing", str(tmp_path / "nothing"))
    assert done.code != 0 and "No such file or directory" in done.said
    assert well("ls", "/nowhere").out == ""


def test_links_lead_nowhere_outside_the_phone(well: Adb, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of this machine")
    well.shell(
        f"ln -s {tmp_path}/secret {TMP}/leak; ln -s {'../' * 30}{tmp_path}/secret {TMP}/leak2; ln -s loop {TMP}/loop"
    )
    for name in ("leak", "leak2", "loop"):
        assert well("pull", f"{TMP}/{name}", str(tmp_path / name)).code != 0
    (tmp_path / "replacing").write_text("x")
    well("push", str(tmp_path / "replacing"), f"{TMP}/leak")
    assert (tmp_path / "secret").read_text() == "of this machine"


def test_what_it_does_not_do_is_refused_and_nobody_waits(well: Adb) -> None:
    assert "does no reboot" in well("reboot").said
    assert "does no root" in well("root").said
    port = int(well("forward", "tcp:0", "tcp:5000").out)
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        assert connection.recv(1) == b""
    well("forward", "--remove", f"tcp:{port}")
    assert well("exec-out", "echo raw; exit 3").out == "raw\n"


def test_many_commands_run_at_once(well: Adb) -> None:
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda number: well.shell(f"cat; echo {number}; exit {number}", b"x" * 50_000), range(24)))
    assert [done.code for done in said] == list(range(24))
    assert all(done.out == "x" * 50_000 + f"{number}\n" for number, done in enumerate(said))


def test_a_host_that_leaves_ends_its_command(phone: Running, adb: Adb) -> None:
    started = phone.userland.root / "data/local/tmp/started"
    command = f"trap 'echo ended > {TMP}/ended; exit' HUP; echo > {TMP}/started; while :; do sleep 0.05; done"
    with hosting(adb, command):
        until(started.exists)
    until((started.parent / "ended").exists)


def test_a_known_host_is_let_in_by_its_signature(phone: Running, adb: Adb) -> None:
    Adb(adb.path)("disconnect", phone.address)
    assert adb.state() == ""
    assert "connected to" in Adb(adb.path)("connect", phone.address).said
    assert adb.state() == "device"


def test_a_signature_of_another_token_is_none() -> None:
    key = PublicKey((1 << 2047) + 1, 65537)
    assert not key.verifies(b"\1" * 256, b"\2" * 20)
    assert not key.verifies(b"short", b"\2" * 20)
    with pytest.raises(ValueError, match="no public key"):
        PublicKey.parse(b"rubbish name\0")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n" + b"\0" * 24,
        struct.pack("<4s5I", b"OPEN", 1, 0, 0, 0, int.from_bytes(b"OPEN", "little") ^ 0xFFFFFFFF),
        struct.pack("<4s5I", b"CNXN", 1, 0, 1 << 30, 0, int.from_bytes(b"CNXN", "little") ^ 0xFFFFFFFF),
    ],
    ids=["no adb", "before it was let in", "too much"],
)
def test_who_speaks_no_adb_is_hung_up_on(phone: Running, sent: bytes) -> None:
    host, _, port = phone.address.partition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(sent)
        connection.settimeout(10)
        assert connection.recv(64) == b""


def test_an_unauthorized_phone_waits_for_its_owner(phone: Running, adb: Adb) -> None:
    phone.control("fault unauthorized")
    until(lambda: adb.state() == "unauthorized")
    assert adb.shell("true").code != 0
    phone.control("heal unauthorized")
    until(lambda: adb.state() == "device")


def test_a_phone_that_does_not_answer_leaves_commands_waiting(phone: Running, adb: Adb) -> None:
    phone.control("fault no-answer")
    with pytest.raises(subprocess.TimeoutExpired):
        adb("shell", "true", timeout_s=1)
    phone.control("heal")
    assert adb.shell("echo back").out == "back\n"


@pytest.mark.parametrize("when", ["2", "200000b", "0.5s", ""])
def test_an_unplugged_phone_is_gone_until_it_is_plugged_in(phone: Running, adb: Adb, when: str) -> None:
    phone.control("fault unplugged:" + when if when else "fault unplugged")
    until(lambda: adb.shell("head -c 100000 /dev/zero").code != 0 or not adb.state())
    until(lambda: adb.state() != "device")
    phone.control("heal unplugged")
    until(lambda: connected(phone, adb.path).shell("echo again").out == "again\n")


def test_a_full_phone_takes_no_file_and_keeps_no_part_of_one(phone: Running, adb: Adb, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(300_000))
    phone.control("fault disk-full")
    done = adb("push", str(tmp_path / "file"), f"{TMP}/file")
    assert done.code != 0 and "No space left on device" in done.said
    assert adb.shell(f"ls {TMP}").out == ""
    phone.control("heal")
    assert adb("push", str(tmp_path / "file"), f"{TMP}/file").code == 0


def test_commands_that_hang_go_on_when_healed(phone: Running, adb: Adb) -> None:
    phone.control("fault timeout:2")
    assert adb.shell("echo first").out == "first\n"
    with pytest.raises(subprocess.TimeoutExpired):
        adb("shell", "echo second", timeout_s=1)
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(adb.shell, "echo third")
        phone.control("heal timeout")
        assert third.result(timeout=60).out == "third\n"


def test_json_and_pulled_files_can_be_wrong(phone: Running, adb: Adb, tmp_path: Path) -> None:
    say = "echo '{\"ok\": true}'; echo text"
    whole = adb.shell(say).out
    phone.control("fault bad-json")
    phone.control("fault wrong-output")
    garbled = adb.shell(say).out
    assert garbled != whole and garbled.endswith("text\n")
    adb.shell(f"head -c 100000 /dev/zero > {TMP}/zeros")
    adb("pull", f"{TMP}/zeros", str(tmp_path / "zeros"))
    assert (tmp_path / "zeros").stat().st_size == 100_000 and any((tmp_path / "zeros").read_bytes())
    phone.control("heal")
    assert adb.shell(say).out == whole


def test_a_hot_phone_heats_by_work_and_cools_by_rest(phone: Running, adb: Adb) -> None:
    def status() -> int:
        (line,) = [line for line in adb.shell("dumpsys thermalservice").out.splitlines() if "Thermal Status" in line]
        return int(line.split(":")[1])

    phone.control("fault hot:1")
    work = "while :; do :; done"
    with hosting(adb, work):
        until(lambda: status() >= 2)
        until(lambda: int(adb.shell("cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq").out) < 1_800_000)
    until(lambda: status() == 0)
    assert adb.shell("timeout 1 sh -c 'while :; do :; done'").code == 124
    assert status() == 0  # it was to be hot once


def test_capped_and_empty_phones_say_so(phone: Running, adb: Adb) -> None:
    caps = "cat /sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"
    before = adb.shell(caps).out
    phone.control("fault throttled")
    phone.control("fault battery")
    assert adb.shell(caps).out != before
    assert {"level: 4", "temperature: 465", "status: 3"} <= {
        line.strip() for line in adb.shell("dumpsys battery").out.splitlines()
    }
    phone.control("heal")
    assert adb.shell(caps).out == before


def test_faults_that_do_not_exist_are_named(phone: Running) -> None:
    for name in FAULTS:
        assert check(name) == name
    with pytest.raises(InvalidSpec, match="there are unauthorized, no-answer"):
        phone.control("fault broken")
    with pytest.raises(InvalidSpec, match="unplugged:soon"):
        Phone(HostUserland(), faults=["unplugged:soon"])
    with pytest.raises(InvalidSpec, match="write 'fault NAME'"):
        phone.control("repair hot")


@pytest.mark.parametrize("private", [True, False], ids=["namespaces", "rewriting"])
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_phone_that_was_ended(
    adb_path: str, tmp_path: Path, private: bool, ending: signal.Signals
) -> None:
    script = tmp_path / "phone.py"
    script.write_text(
        "import sys, asyncio\nfrom emulator import cli\nfrom emulator.host import HostUserland\nfrom emulator.phone import Phone\n"
        f"asyncio.run(cli._serve(Phone(HostUserland(private={private}))))\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    mark = f"300{os.getpid()}.{int(private)}{int(ending)}"
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        adb = Adb(adb_path, address)
        Adb(adb_path)("connect", address)
        adb("wait-for-device")
        with hosting(adb, f"sleep {mark} & sleep {mark}"):
            until(lambda: len(sleeping(mark)) == 2)
            assert list(tmp_path.glob("edgelut-phone-*"))
            process.send_signal(ending)
            assert process.wait(timeout=60) in (0, -ending)
    until(lambda: not sleeping(mark) and not list(tmp_path.glob("edgelut-phone-*")))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def sleeping(mark: str) -> list[str]:
    """Return the processes `sleep MARK` of this machine."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", mark.encode()]:
            found.append(folder.name)
    return found


def test_the_command_obeys_its_input_and_says_what_to_type(adb_path: str, tmp_path: Path) -> None:
    edgelut = [sys.executable, "-m", "edgelut", "emulate", "phone", "--userland", "host"]
    home = tmp_path / "home"
    options = ["--serial", "test-1", "--home", str(home), "--fault", "battery"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*edgelut, *options], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin and process.stdout and process.stderr
        address = process.stdout.readline().removeprefix("adb connect ").strip()
        assert "android:test-1" in process.stdout.readline()
        Adb(adb_path)("connect", address)
        adb = Adb(adb_path, address)
        adb("wait-for-device")
        assert "level: 4" in adb.shell("dumpsys battery").out
        process.stdin.write("fault nonsense\nheal\n")
        process.stdin.flush()
        assert "no fault 'nonsense'" in process.stderr.readline()
        until(lambda: "level: 87" in adb.shell("dumpsys battery").out)
        adb.shell(f"echo kept > {TMP}/kept")
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert (home / "data/local/tmp/kept").read_text() == "kept\n"
    done = subprocess.run([*edgelut[:-1], "ios"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "there are arm64 and host" in done.stderr
