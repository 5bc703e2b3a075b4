"""Which adb is run, what its list says, and what is said of phones that cannot be used: against a fake adb program."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.adb import client, discovery
from backends.adb.client import Transport
from backends.devices.android import Android
from edgelut.errors import BackendMissing, DeviceUnusable
from profiler import devices
from tests.phones.printed import OLD, PIXEL, SAMSUNG, printed

LIST = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
0A041FDD4003A6         device usb:1-4 product:oriole model:Pixel_6 device:oriole transport_id:3
R58M123ABCD            unauthorized usb:1-3 transport_id:4
192.168.1.20:5555      offline product:daisy model:Mi_A2_Lite device:daisy transport_id:5
adb-9b8c-x1._adb-tls-connect._tcp device product:daisy model:Mi_A2_Lite device:daisy transport_id:6
????????????           no permissions (missing udev rules? user is in the group); see [http://x.example/a:b] usb:1-5 transport_id:7
emulator-5554          authorizing transport_id:8
(no serial number)     recovery usb:1-6 transport_id:9

"""
FAKE = """\
#!{python}
import json, re, sys, time
from pathlib import Path
said = json.loads(Path({said!r}).read_text())
args = sys.argv[1:]
with open({said!r} + ".log", "a") as log:
    log.write(json.dumps(args) + "\\n")
if args == ["version"]:
    print(f"Android Debug Bridge version 1.0.{{said.get('version', 41)}}")
elif args == ["devices", "-l"]:
    sys.stdout.write(said["devices"])
elif args[0] in ("-s", "-t") and args[2] == "shell":
    answer = said["phones"].get(args[1])
    if answer is None:
        sys.exit(f"adb: device '{{args[1]}}' not found")
    time.sleep(answer.get("sleep", 0))
    command = args[-1]
    mark = re.search(r"@edgelut [0-9a-f]+", command)[0]
    sys.stdout.write(answer["out"] if "boot_id" not in command or "@@" in command else answer.get("boot", ""))
    if "getprop ro.serialno" in command:
        sys.stdout.write(answer["serial"] + chr(10))
    sys.stdout.write("" if answer.get("cut") else f"\\n{{mark}} {{answer.get('code', 0)}}\\n")
"""


class FakeAdb:
    """A program that answers as told."""

    def __init__(self, folder: Path) -> None:
        self.path, self.said = folder / "adb", folder / "said.json"
        self.path.write_text(FAKE.format(python=sys.executable, said=str(self.said)))
        self.path.chmod(0o755)

    def say(self, devices: str = "List of devices attached\n", version: int = 41, **phones: object) -> None:
        self.said.write_text(json.dumps({"devices": devices, "version": version, "phones": phones}))

    def say_phones(self, *phones: tuple[str, object]) -> None:
        """List phones that all work, by serial and what they answer."""
        lines = [f"{serial} device transport_id:{number}" for number, (serial, _) in enumerate(phones, 1)]
        answers = {str(number): answer for number, (_, answer) in enumerate(phones, 1)}
        self.say("List of devices attached\n" + "\n".join(lines) + "\n", **(answers | dict(phones)))

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in Path(f"{self.said}.log").read_text().splitlines()]


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdb]:
    client.find_binary.cache_clear()
    fake = FakeAdb(tmp_path)
    monkeypatch.setenv("EDGELUT_ADB", str(fake.path))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")  # nobody listens there
    yield fake
    client.find_binary.cache_clear()


@pytest.fixture
def server() -> Iterator[tuple[int, list[bytes]]]:
    """A server of version 39, its port, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(64))
                    connection.sendall(b"OKAY00040027")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def answer(phone: dict[str, str], **more: object) -> dict[str, object]:
    return {"out": printed(phone), **more}


def test_every_state_of_a_transport_is_read() -> None:
    found = client.parse_devices(LIST)
    assert found[0] == Transport("0A041FDD4003A6", "device", "3", "Pixel_6")
    assert [one.serial for one in found] == [
        "0A041FDD4003A6",
        "R58M123ABCD",
        "192.168.1.20:5555",
        "adb-9b8c-x1._adb-tls-connect._tcp",
        "????????????",
        "emulator-5554",
        "(no serial number)",
    ]
    assert found[4].state.startswith("no permissions")
    assert [one.number for one in found] == ["3", "4", "5", "6", "7", "8", "9"]
    assert [one.network for one in found] == [False, False, True, True, False, False, False]
    assert client.parse_devices("List of devices attached\n\n") == []


def test_every_phone_is_listed_with_what_to_do(adb: FakeAdb) -> None:
    adb.say(LIST, **{"3": answer(PIXEL), "6": answer(OLD)})
    found = {one.name: one for one in discovery.attached()}
    assert found["android:0A041FDD4003A6"].usable
    assert found["android:0A041FDD4003A6"].facts["soc"] == "Google Tensor"
    assert found["android:9b8c7d6e"].usable, "on a network it goes by its own serial"
    assert found["android:9b8c7d6e"].facts["transport"] == "adb-9b8c-x1._adb-tls-connect._tcp"
    why = {name.partition(":")[2]: one.why for name, one in found.items() if not one.usable}
    assert "confirm 'Allow USB debugging'" in why["R58M123ABCD"]
    assert "adb connect 192.168.1.20:5555" in why["192.168.1.20:5555"]
    assert "udev" in why["????????????"] and "plugdev" in why["????????????"]
    assert "in a few seconds" in why["emulator-5554"]
    assert "recovery" in why["(no serial number)"]
    assert found["android:192.168.1.20:5555"].facts["device_model"] == "Mi A2 Lite"


def test_one_that_is_full_or_too_old_or_silent_says_so(adb: FakeAdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "PROBE_S", 1.0)
    ancient = {**OLD, "getprop": "[ro.build.version.release]: [6.0.1]\n[ro.build.version.sdk]: [23]\n"}
    adb.say_phones(("full", answer(SAMSUNG)), ("old", answer(ancient)), ("mute", answer(PIXEL, sleep=5)))
    full, old, mute = discovery.attached()
    assert "10 MiB free" in full.why and "edgelut devices --clean full" in full.why
    assert old.why.startswith("too old: Android 6.0.1 (API 23)")
    assert "did not answer within 1 s" in mute.why


def test_a_phone_on_usb_and_network_is_used_by_usb(adb: FakeAdb) -> None:
    one = answer(PIXEL, boot=PIXEL["boot"], serial="0A041FDD4003A6")
    adb.say_phones(("10.0.0.7:5555", one), ("0A041FDD4003A6", one))
    network, usb = discovery.attached()
    assert usb.usable and usb.name == network.name == "android:0A041FDD4003A6"
    assert network.why.startswith("the same phone as by 0A041FDD4003A6")
    assert discovery.find("0A041FDD4003A6").serial == "0A041FDD4003A6"
    assert devices.resolve("10.0.0.7:5555") == "android:0A041FDD4003A6"


def test_two_phones_of_one_serial_are_not_taken_for_one(adb: FakeAdb) -> None:
    serial = "0123456789ABCDEF"
    adb.say_phones((serial, answer(PIXEL)), (serial, answer({**PIXEL, "boot": "another"})))
    assert [one.why for one in discovery.attached()] == [
        f"two phones answer to {serial}, and rows could not be told apart: unplug one of them"
    ] * 2
    with pytest.raises(DeviceUnusable, match="unplug one"):
        discovery.find(serial)


def test_a_phone_on_a_network_is_found_by_its_own_serial(adb: FakeAdb) -> None:
    adb.say_phones(("10.0.0.7:5555", {"out": "", "serial": "9b8c7d6e"}), ("10.0.0.8:5555", {"out": "", "serial": "x"}))
    phone = discovery.find("9b8c7d6e")
    assert (phone.serial, phone.name) == ("10.0.0.7:5555", "android:9b8c7d6e")


def test_output_without_its_marker_is_a_phone_that_went_away_whatever_the_exit_code(adb: FakeAdb) -> None:
    adb.say_phones(("A1", {"out": "half of it", "cut": True}))
    with pytest.raises(DeviceUnusable, match="went away in the middle of a command; it is back"):
        Android("A1").run(["echo", "hello"], 5)


def test_a_command_gives_its_output_whole_and_fails_with_its_own_code(adb: FakeAdb) -> None:
    adb.say_phones(("A1", {"out": "a\n\n"}))
    assert Android("A1").run(["printf", "a\n\n"], 5) == b"a\n\n"
    script = adb.calls[-1][-1]
    assert adb.calls[-1][:4] == ["-s", "A1", "shell", "-T"]
    assert shlex.join(["printf", "a\n\n"]) in script
    adb.say_phones(("A1", {"out": "", "code": 2}))
    with pytest.raises(OSError, match=r"exit 2") as caught:
        Android("A1").run(["false"], 5)
    assert not isinstance(caught.value, FileNotFoundError), "a program's exit code is no errno"


def test_one_that_is_absent_says_what_is_there(adb: FakeAdb) -> None:
    adb.say(LIST, **{"3": answer(PIXEL), "6": answer(OLD)})
    for call in (Android("R58M123ABCD").facts, lambda: devices.resolve("R58M123ABCD")):
        with pytest.raises(DeviceUnusable, match="unauthorized: unlock the phone"):
            call()
    with pytest.raises(DeviceUnusable, match=r"192\.168\.1\.20:5555: offline"):
        Android("Z9").facts()
    adb.say_phones(("A1", answer(PIXEL)))
    with pytest.raises(DeviceUnusable, match=r"android:Z9 is not attached \(attached: A1\)"):
        Android("Z9").facts()
    with pytest.raises(DeviceUnusable, match="attached: android:A1"):
        devices.resolve("android:Z9")
    with pytest.raises(BackendMissing, match=r"no device 'Z9'; there are host.*attached: android:A1"):
        devices.resolve("Z9")


def test_a_serial_an_address_and_a_name_all_mean_the_phone(adb: FakeAdb) -> None:
    adb.say_phones(("10.0.0.7:5555", answer(OLD)))
    for text in ("9b8c7d6e", "10.0.0.7:5555", "android:9b8c7d6e", "android:10.0.0.7:5555"):
        assert devices.resolve(text) == "android:9b8c7d6e"
    assert devices.resolve("host") == "host"
    for text in ("android", "android:", "host:1"):
        with pytest.raises(BackendMissing):
            devices.resolve(text)
    assert devices.resolve("android:away", present=False) == "android:away"


def test_without_adb_the_list_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    client.find_binary.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("EDGELUT_ADB", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "find_spec", lambda name: None)
    (line,) = discovery.attached()
    assert (line.name, line.usable) == ("android", False)
    assert "pip install 'edgelut-service[android]'" in line.why
    with pytest.raises(BackendMissing, match="pip install"):
        devices.resolve("android:A1")
    client.find_binary.cache_clear()


def test_a_server_of_another_version_is_not_ended(
    adb: FakeAdb, server: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, asked = server
    adb.say()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    with pytest.raises(DeviceUnusable, match=r"version 39, and there is .* of 41: set EDGELUT_ADB"):
        client.transports()
    assert asked == [b"000chost:version"]
    assert adb.calls == [["version"]], "any other command would have ended the server"
    adb.say(version=39)
    assert client.transports() == []


def test_a_binary_that_is_named_wrongly_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELUT_ADB", "/nowhere/adb")
    with pytest.raises(BackendMissing, match="EDGELUT_ADB=/nowhere/adb is no program"):
        client.path()


def test_the_servers_place_is_where_adb_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "6000")
    assert client.server_address() == ("127.0.0.1", 6000)
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:farm.example:7000")
    assert client.server_address() == ("farm.example", 7000)
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:7001")
    assert client.server_address() == ("127.0.0.1", 7001)
    monkeypatch.setenv("ADB_SERVER_SOCKET", "localabstract:adb")
    assert client.server_address() is None
