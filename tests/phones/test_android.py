"""The device `android` through real adb programs, against an emulated phone with every fault that phones have."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.adb import client, discovery, files, shell
from backends.devices import android as module
from backends.devices.android import Android
from backends.testing import DeviceContract
from edgelut.errors import BackendMissing, DeviceBusy, DeviceUnusable
from emulator.phone import Running
from profiler import devices
from tests.phones.conftest import binaries, connect

ROOT = "/data/local/tmp/edgelut"
RUNNER = """\
#!/bin/sh
echo '{"runner": 1}'
while read line; do echo "$GREETING $line"; done
echo "no more" >&2
exit 7
"""


@pytest.fixture(scope="session", autouse=True)
def _an_adb() -> None:
    """Skip where there is none; CI has one."""
    try:
        found = binaries()
    except BackendMissing:
        found = []
    if not found:
        assert not os.environ.get("CI"), "CI must have an adb"
        pytest.skip("no adb here: pip install 'edgelut-service[android]'")


@pytest.fixture(params=binaries() or [""], ids=lambda path: Path(path).parent.name)
def each_adb(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every adb that is installed, one after another."""
    client.find_binary.cache_clear()
    monkeypatch.setenv("EDGELUT_ADB", request.param)
    path: str = request.param
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a program, a file in a folder, and a link."""
    folder = tmp_path / "my runner"
    (folder / "lib").mkdir(parents=True)
    (folder / "runner").write_text(RUNNER)
    (folder / "runner").chmod(0o755)
    (folder / "lib" / "it's a file").write_bytes(bytes(range(256)) * 300)
    (folder / "link").symlink_to("lib/it's a file")
    return folder


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The adb commands that move files."""
    moved: list[list[str]] = []
    run = client.run

    def counting(args: list[str], timeout_s: float) -> client.Done:
        if {"push", "pull"} & set(args):
            moved.append(args)
        return run(args, timeout_s)

    monkeypatch.setattr(client, "run", counting)
    return moved


def listed(device: Android, path: str = ROOT) -> list[str]:
    return device.run(["sh", "-c", f"ls -A {path} 2>/dev/null; true"], 10).decode().split()


def until(what: Callable[[], bool]) -> None:
    """Wait for what happens in another process."""
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestContract(DeviceContract):
    @pytest.fixture
    def device(self, android: Android) -> Any:
        return android


def test_it_is_listed_with_its_facts(attached_phone: Running, android: Android) -> None:
    (found,) = [one for one in Android.attached() if one.name == f"android:{attached_phone.serial}"]
    assert found.usable
    assert found.facts["transport"] == attached_phone.address
    facts = android.facts()
    assert {
        "device_model",
        "manufacturer",
        "soc",
        "os",
        "build",
        "abi",
        "cores",
        "max_khz",
        "governor",
        "kernel",
    } <= set(facts)
    assert facts["emulated"] and facts["serial"] == attached_phone.serial
    assert {"observed_battery_percent", "observed_battery_c", "observed_charging"} <= set(android.state().observed)
    assert devices.resolve(attached_phone.address) == found.name


def test_a_command_keeps_output_errors_and_code_apart(each_adb: str, android: Android) -> None:
    assert android.run(["printf", r"a b\n\n"], 10) == b"a b\n\n"
    assert android.run(["sh", "-c", "echo bad >&2"], 10) == b""
    with pytest.raises(OSError, match=r"sh failed on android:.* \(exit 3\): bad"):
        android.run(["sh", "-c", "echo out; echo bad >&2; exit 3"], 10)


def test_what_runs_too_long_is_ended_there_too(android: Android, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "GRACE_S", 0)
    with pytest.raises(TimeoutError, match="sh did not end within 1 s"):
        android.run(["sh", "-c", "trap '' HUP; echo $$ > /data/local/tmp/pid; while :; do :; done"], 1.0)
    until(lambda: not _runs(android))


def _runs(device: Android) -> bool:
    """Say whether the process whose id is in a file still runs; one that ended may wait for its parent to notice."""
    look = "grep -q '^State:[[:space:]]*[RSDT]' /proc/$(cat /data/local/tmp/pid)/status 2>/dev/null && echo yes; true"
    return device.run(["sh", "-c", look], 10) == b"yes\n"


def test_the_same_content_moves_no_byte_again(
    each_adb: str, android: Android, bundle: Path, counted: list[list[str]]
) -> None:
    there = android.push(bundle)
    assert len(counted) == 1
    assert android.push(bundle) == there
    assert Android(android.serial).push(bundle) == there, "by another process as well"
    assert len(counted) == 1
    (bundle / "lib" / "it's a file").write_bytes(b"other")
    assert android.push(bundle) != there
    assert len(counted) == 2
    assert all(len(name) == 64 for name in listed(android))


def test_a_folder_arrives_whole_with_its_programs(
    each_adb: str, android: Android, bundle: Path, tmp_path: Path
) -> None:
    there = android.push(bundle)
    assert there.endswith("/my runner")
    with android.start([f"{there}/runner"], {"GREETING": "it's"}) as process:  # type: ignore[attr-defined]
        assert process.read(10) == '{"runner": 1}'
        process.send("me")
        assert process.read(10) == "it's me"
    for name in ("link", "lib/it's a file"):
        android.pull(f"{there}/{name}", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == bytes(range(256)) * 300
    assert not os.access(tmp_path / "back", os.X_OK)


def test_a_file_and_its_twin_of_another_name_lie_side_by_side(android: Android, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        (tmp_path / name).write_bytes(b"same")
    one, two = android.push(tmp_path / "one.onnx"), android.push(tmp_path / "two.onnx")
    assert one.rpartition("/")[0] == two.rpartition("/")[0]
    assert android.run(["cat", one, two], 10) == b"samesame"


def test_one_look_finds_all_that_another_process_pushed_lately(
    attached_phone: Running, android: Android, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("one", "two", "three")
    for name in names:
        (tmp_path / name).write_text(name)
    there = [android.push(tmp_path / name) for name in names]
    android.run(["touch", "-d", "2020-01-01 00:00", there[2].rpartition("/")[0]], 10)
    other, commands, run = Android(attached_phone.serial), [], client.run
    other.phone()  # found
    monkeypatch.setattr(client, "run", lambda args, timeout_s: (commands.extend(args[2:3]), run(args, timeout_s))[1])
    assert [other.push(tmp_path / name) for name in names] == there
    assert commands.count("shell") == 2, "for the first, and for the one that others may remove"
    assert "push" not in commands


def test_a_new_file_after_a_look_is_pushed_and_kept_and_no_more(
    attached_phone: Running, android: Android, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name)
    Android(attached_phone.serial).push(tmp_path / "three")
    android.push(tmp_path / "one")
    commands, run = [], client.run
    monkeypatch.setattr(client, "run", lambda args, timeout_s: (commands.extend(args[2:3]), run(args, timeout_s))[1])
    there = android.push(tmp_path / "two")
    android.push(tmp_path / "three")
    assert commands == ["push", "shell"]
    assert android.run(["cat", there], 10) == b"two"
    assert not [name for name in listed(android) if name.startswith(files.STAGED)]


def test_a_phone_whose_commands_print_otherwise_is_read_here(
    android: Android, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.run
    monkeypatch.setattr(
        client, "run", lambda args, timeout_s: run([arg.replace("C sort", "C sort -r") for arg in args], timeout_s)
    )
    there = android.push(bundle)
    assert android.run(["cat", f"{there}/runner"], 10) == RUNNER.encode()


def test_what_is_not_there_is_not_found(android: Android, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        android.pull("/data/local/tmp/nowhere", tmp_path / "back")
    with pytest.raises(FileNotFoundError):
        android.push(tmp_path / "nowhere")
    with pytest.raises(OSError, match="exit 127"):
        android.run(["/data/nowhere"], 10)
    assert not any(tmp_path.iterdir())


def test_a_full_phone_is_said_and_keeps_no_half(
    each_adb: str, attached_phone: Running, android: Android, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(300_000))
    attached_phone.control("fault disk-full")
    with pytest.raises(
        DeviceUnusable, match=r"too little room for file of 0\.3 MiB: .*edgelut devices --clean emulated-"
    ):
        android.push(tmp_path / "file")
    assert listed(android) == []
    attached_phone.control("heal")
    assert android.push(tmp_path / "file")


@pytest.mark.parametrize(
    ("damage", "has"),
    [
        ("truncate -s 10 {}", "10 bytes"),
        ("printf y | dd conv=notrunc of={}", "other bytes"),
        ("rm {}", "nothing"),
    ],
)
def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(
    android: Android, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, has: str
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    run = client.run

    def damaging(args: list[str], timeout_s: float) -> client.Done:
        done = run(args, timeout_s)
        if "push" in args:
            run([*args[:2], "shell", damage.format(args[-1])], timeout_s)
        return done

    monkeypatch.setattr(client, "run", damaging)
    with pytest.raises(DeviceUnusable, match=f"file of 1000 bytes arrived .* as {has}"):
        android.push(tmp_path / "file")
    assert listed(android) == []


def test_what_was_long_unused_makes_room(android: Android, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "older", "own", "fresh"):
        (tmp_path / name).write_bytes(name.encode() * 50_000)
    before = Android(android.serial)
    kept = {name: before.push(tmp_path / name).split("/")[-2] for name in ("old", "older", "fresh")}
    kept["own"] = android.push(tmp_path / "own").split("/")[-2]
    for name, hours in (("old", 2), ("older", 3), ("own", 9)):
        android.run(["touch", "-d", f"@{int(time.time()) - 3600 * hours}", f"{ROOT}/{kept[name]}"], 10)
    (tmp_path / "new").write_bytes(b"new")
    free = files.SPARE_BYTES - 100_000
    monkeypatch.setattr(files.texts, "free_bytes", lambda text: free)
    android.forget()  # so that it looks again
    android.push(tmp_path / "new")
    left = set(listed(android))
    assert kept["older"] not in left
    assert {kept["old"], kept["own"], kept["fresh"]} < left
    (tmp_path / "newer").write_bytes(b"newer")
    free = 0
    with pytest.raises(DeviceUnusable, match="too little room"):
        android.push(tmp_path / "newer")
    assert {kept["own"], kept["fresh"]} < set(listed(android)), "neither this process's nor what may be in use"


def test_our_files_are_removed_on_demand(android: Android, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    there = android.push(tmp_path / "file")
    assert android.clean() >= 100_000
    assert android.clean() == 0
    assert android.push(tmp_path / "file") == there, "what this process believed to be there is looked for"


def test_a_program_that_ends_says_how(each_adb: str, android: Android) -> None:
    process = android.start(["sh", "-c", "echo one; printf two; echo why >&2; exit 5"])
    assert process.read(10) == "one"
    with pytest.raises(OSError, match=r"sh ended \(exit 5\) on android:.*why"):
        process.read(10)
    until(lambda: _fails_to_send(process))
    process.close()
    process.close()


def _fails_to_send(process: Any) -> bool:
    try:
        process.send("more")
    except OSError as error:
        return "exit 5" in str(error)
    return False


def test_closing_a_program_ends_it_there(android: Android, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "LEAVE_S", 0.5)
    process = android.start(["sh", "-c", "trap '' HUP; echo $$ > /data/local/tmp/pid; echo up; while :; do :; done"])
    assert process.read(10) == "up"
    with pytest.raises(TimeoutError, match="sh did not answer within"):
        process.read(0.1)
    assert _runs(android)
    process.close()
    until(lambda: not _runs(android))


def test_a_phone_unplugged_in_the_middle_is_said_and_found_again(
    each_adb: str, attached_phone: Running, android: Android, tmp_path: Path
) -> None:
    process = android.start(["cat"])
    process.send("hello")
    assert process.read(10) == "hello"
    attached_phone.control("fault unplugged:0.3s")
    with pytest.raises(DeviceUnusable, match="went away in the middle of a command; "):
        android.run(["sleep", "30"], 40)
    with pytest.raises(DeviceUnusable, match="went away"):
        process.read(10)
    with pytest.raises(DeviceUnusable, match="went away"):
        process.send("more")
    process.close()
    (tmp_path / "file").write_bytes(b"x")
    for call in (android.facts, android.state, android.settle, lambda: android.push(tmp_path / "file"), android.clean):
        with pytest.raises(DeviceUnusable, match="adb connect"):
            call()
    assert [one for one in Android.attached() if one.usable] == []
    attached_phone.control("heal")
    client.run(["disconnect", attached_phone.address], 10)
    connect(attached_phone)
    assert android.run(["echo", "back"], 10) == b"back\n"


def test_one_unplugged_while_it_is_pushed_to_keeps_nothing_under_its_name(
    each_adb: str, attached_phone: Running, android: Android, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(8 << 20))
    android.facts()
    attached_phone.control("fault unplugged:2000000b")
    with pytest.raises(DeviceUnusable, match="adb connect"):
        android.push(tmp_path / "file")
    attached_phone.control("heal")
    client.run(["disconnect", attached_phone.address], 10)
    connect(attached_phone)
    assert all(name.startswith(files.STAGED) for name in listed(android))
    assert android.push(tmp_path / "file")


def test_one_unplugged_while_it_is_pulled_from_gives_no_half(
    each_adb: str, attached_phone: Running, android: Android, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(8 << 20))
    there = android.push(tmp_path / "file")
    attached_phone.control("fault unplugged:2000000b")
    with pytest.raises(DeviceUnusable):
        android.pull(there, tmp_path / "back")
    assert [path.name for path in tmp_path.iterdir() if "back" in path.name] == []


def test_one_that_asks_on_its_screen_is_listed_with_the_remedy(attached_phone: Running, android: Android) -> None:
    attached_phone.control("fault unauthorized")
    until(lambda: client.transports()[0].state == "unauthorized")
    (found,) = Android.attached()
    assert "confirm 'Allow USB debugging'" in found.why
    with pytest.raises(DeviceUnusable, match="Allow USB debugging"):
        android.facts()
    with pytest.raises(DeviceUnusable, match="Allow USB debugging"):
        devices.resolve(attached_phone.address)


def test_one_that_answers_nothing_is_given_up(
    attached_phone: Running, android: Android, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_S", 1.0)
    monkeypatch.setattr(discovery, "PROBE_S", 1.0)
    android.facts()
    attached_phone.control("fault timeout")
    with pytest.raises(DeviceUnusable, match="did not answer within 1 s: unlock it"):
        android.state()
    with pytest.raises(DeviceUnusable, match="did not answer within 1 s"):
        android.run(["echo", "hello"], 0.5)
    attached_phone.control("heal")
    android.facts()
    attached_phone.control("fault timeout")
    with pytest.raises(TimeoutError, match="echo did not end within"):
        android.run(["echo", "hello"], 0.5)


@pytest.mark.parametrize(("fault", "why"), [("throttled", "capped at"), ("battery", "battery at")])
def test_a_hot_one_is_waited_for(attached_phone: Running, android: Android, fault: str, why: str) -> None:
    assert android.state().throttled == ""
    attached_phone.control(f"fault {fault}")
    assert why in android.state().throttled
    with pytest.raises(DeviceBusy, match=f"did not come to rest within 0.1 s: .*{why}"):
        android.settle(0.1)
    (found,) = Android.attached()
    assert found.usable and why in devices.notes([found])[0]
    attached_phone.control("heal")
    android.settle(30)


@pytest.fixture
def _hot(attached_phone: Running) -> Iterator[None]:
    attached_phone.control("fault hot")
    yield
    attached_phone.control("heal")


def test_one_that_computes_heats_up_and_cools_down(_hot: None, android: Android) -> None:
    with android.start(["sh", "-c", "while :; do :; done"]):  # type: ignore[attr-defined]
        until(lambda: "thermal status" in android.state().throttled)
    android.settle(30)
    assert android.state().observed["observed_thermal_status"] == 0
