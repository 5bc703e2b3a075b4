"""`edgelut devices`, and phones by their serials in the commands that measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from backends.adb import texts
from backends.base import Attached
from backends.devices.android import Android
from edgelut.errors import BackendMissing, DeviceBusy, InvalidSpec
from edgelut.types import Params
from emulator.phone import Running
from profiler import devices, inventory
from profiler.cli_devices import app
from profiler.fleet import DeviceChoice, parse_devices
from profiler.lock import device_lock
from tests.phones.printed import OLD, PIXEL, SAMSUNG


def seen(name: str, phone: dict[str, str], why: str = "") -> Attached:
    facts = {**texts.all_facts(phone), "observed_throttled": texts.throttled(phone)}
    return Attached(name, Params(facts), why)


def test_the_table_fits_a_terminal_and_keeps_names_whole() -> None:
    listed = [
        Attached("host", Params({"device_model": "AMD EPYC 7B13 64-Core Processor", "os": "Linux 6.1"})),
        seen("android:0A041FDD4003A6", PIXEL),
        seen("android:R58M123ABCD", SAMSUNG),
        seen("android:9b8c7d6e", OLD),
        Attached("android:10.0.0.7:5555", why="offline: replug it"),
    ]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(devices.devices_table(listed))
    text = captured.get()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(one.name in text for one in listed)
    for word in (
        "Pixel 6",
        "Google Tensor",
        "AP2A.240805.005",
        "87 %",
        "27 °C",
        "ready",
        "hot",
        "status 2",
        "unusable",
    ):
        assert word in text
    assert devices.notes(listed) == [
        "android:R58M123ABCD is to cool down first: thermal status 2 (moderate), cpus 4-5 capped at 1.69 of 2.50 GHz, "
        "battery at 46 °C, above 45",
        "android:10.0.0.7:5555: offline: replug it",
    ]


def test_this_host_comes_first_and_then_what_is_attached(attached_phone: Running) -> None:
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found[0]["name"] == "host" and found[0]["usable"]
    phone = next(one for one in found if one["name"] == f"android:{attached_phone.serial}")
    assert phone["usable"] and phone["facts"]["transport"] == attached_phone.address
    done = CliRunner().invoke(app)
    assert done.exit_code == 0 and f"android:{attached_phone.serial}" in done.stdout


def test_files_are_removed_from_a_phone_that_nobody_measures_on(
    attached_phone: Running, android: Android, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    android.push(tmp_path / "file")
    argv = ["--clean", attached_phone.serial, "--home", str(tmp_path)]
    with device_lock(tmp_path / "locks", f"android:{attached_phone.serial}"):
        assert isinstance(CliRunner().invoke(app, argv).exception, DeviceBusy)
    done = CliRunner().invoke(app, argv)
    assert (done.exit_code, done.stdout) == (0, f"removed 2.9 MiB from android:{attached_phone.serial}\n")
    assert json.loads(CliRunner().invoke(app, [*argv, "--json"]).stdout)["freed_bytes"] == 0


def test_an_agent_takes_a_phone_by_serial_address_or_name(attached_phone: Running) -> None:
    serial, address = attached_phone.serial, attached_phone.address
    name = f"android:{serial}"
    assert parse_devices([f"{serial}=lab-1"]) == [DeviceChoice(name, "lab-1")]
    assert parse_devices([f"{address}=lab-1", "host"]) == [DeviceChoice(name, "lab-1"), DeviceChoice("host", "host")]
    assert parse_devices([serial]) == [DeviceChoice(name, name)]
    assert parse_devices(["android:away=lab-2"]) == [DeviceChoice("android:away", "lab-2")], "it may come later"
    with pytest.raises(InvalidSpec, match="given already"):
        parse_devices([serial, f"{name}=again"])
    with pytest.raises(BackendMissing, match=f"no device 'away'.*{name}"):
        parse_devices(["away=lab-2"])


def test_the_backends_say_how_many_are_attached(attached_phone: Running) -> None:
    row = inventory._row("devices", "android")
    assert row.usable and row.about == "1 attached: 'edgelut devices'"
