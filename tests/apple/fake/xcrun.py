"""Stands in for `xcrun` and `devicectl` (Xcode 16): one attached phone, whose storage is a folder.

FAKE_PHONE names a folder with phone.json (what the phone is like just now) and `data`, the app's data. It answers as devicectl
does: a JSON file where one is asked for, an exit code, and on stderr what went wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

PLACE = Path(os.environ["FAKE_PHONE"])
DOMAIN = "com.apple.dt.CoreDeviceError"


class Failure(Exception):
    def __init__(self, code: int, text: str, reason: str = "") -> None:
        self.code, self.text, self.reason = code, text, reason


def phone() -> Any:
    return json.loads((PLACE / "phone.json").read_text())


def options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Split into words and options; `--name value`, `--name=value` and the short ones that coremltools uses."""
    plain, found, short = [], {}, {"-d": "--device", "-j": "--json-output"}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in ("--console", "--terminate-existing"):
            found[word] = "true"
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            found[short.get(name, name)] = value if equals else waiting.pop(0)
        else:
            plain.append(word)
    return plain, found


def require_attached(chosen: dict[str, str]) -> Any:
    now = phone()
    if now.get("unplugged") or chosen.get("--device") not in (now["identifier"], now["udid"]):
        raise Failure(1000, f"The specified device was not found. (Name: {chosen.get('--device')})")
    return now


def list_devices(_: list[str], __: dict[str, str]) -> Any:
    now = phone()
    if now.get("unplugged"):
        now["connectionProperties"] = {**now["connectionProperties"], "tunnelState": "unavailable"}
    mac = {"identifier": "MAC-1", "hardwareProperties": {"deviceType": "mac", "reality": "physical", "udid": "MAC-1"}}
    simulator = {
        "identifier": "SIM-1",
        "deviceProperties": {"name": "iPhone 17"},
        "hardwareProperties": {"deviceType": "iPhone", "reality": "simulated", "udid": "SIM-1"},
    }
    names = ("identifier", "connectionProperties", "deviceProperties", "hardwareProperties")
    return {"devices": [mac, simulator, {name: now[name] for name in names}]}


def lock_state(_: list[str], chosen: dict[str, str]) -> Any:
    now = require_attached(chosen)
    return {
        "deviceIdentifier": now["identifier"],
        "passcodeRequired": bool(now.get("locked")),
        "unlockedSinceBoot": True,
    }


def install(words: list[str], chosen: dict[str, str]) -> Any:
    require_attached(chosen)
    bundle = (Path(words[0]) / "bundle").read_text()
    (PLACE / "data" / bundle / "Documents").mkdir(parents=True, exist_ok=True)
    return {"installedApplications": [{"bundleID": bundle, "databaseUUID": "DB-1", "launchServicesIdentifier": "x"}]}


def documents(chosen: dict[str, str]) -> Path:
    place = PLACE / "data" / chosen["--domain-identifier"]
    assert chosen["--domain-type"] == "appDataContainer" and chosen["--user"] == "mobile"
    if not place.is_dir():
        raise Failure(1011, "The requested application is not installed.")
    return place


def copy_to(_: list[str], chosen: dict[str, str]) -> Any:
    now = require_attached(chosen)
    source, data = Path(chosen["--source"]), documents(chosen)
    destination = data / chosen["--destination"]
    if chosen.get("--remove-existing-content") == "true":
        for one in (data / "Documents").iterdir():  # more than was named, as was seen of Xcode 16
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    if source.is_dir():
        nests = now.get("nests_folders") and destination.is_dir()
        shutil.copytree(source, destination / source.name if nests else destination, dirs_exist_ok=True)
    else:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)
    return {"source": str(source), "destination": chosen["--destination"]}


def copy_from(_: list[str], chosen: dict[str, str]) -> Any:
    require_attached(chosen)
    source, destination = documents(chosen) / chosen["--source"], Path(chosen["--destination"])
    if not source.exists():
        raise Failure(
            7000, "The file couldn't be opened because it doesn't exist.", f"no such file: {chosen['--source']}"
        )
    try:
        if source.is_dir():
            shutil.copytree(source, destination, dirs_exist_ok=True)
        else:
            shutil.copy2(source, destination)
    except (OSError, shutil.Error) as error:  # what the app replaced meanwhile
        raise Failure(7001, f"The file changed while it was copied: {error}") from error
    return {"source": chosen["--source"], "destination": str(destination)}


def launch(words: list[str], chosen: dict[str, str]) -> Any:
    now = require_attached(chosen)
    if now.get("locked"):
        text = f"Unable to launch {words[0]} because the device was not, or could not be, unlocked."
        raise Failure(10002, "The application failed to launch.", text)
    running = PLACE / "running"
    if chosen.get("--terminate-existing") and running.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(running.read_text()), signal.SIGTERM)
    running.write_text(str(os.getpid()))
    from modelrunner import App

    app = App(PLACE / "data" / words[0] / "Documents")
    (PLACE / "launches").open("a").write("x")
    while not phone().get("unplugged") and os.getppid() != 1:
        if not app.step():
            time.sleep(0.002)
    raise Failure(1000, "The connection to the device was lost: the device was disconnected.")


COMMANDS = {
    ("list", "devices"): list_devices,
    ("device", "info", "lockState"): lock_state,
    ("device", "install", "app"): install,
    ("device", "copy", "to"): copy_to,
    ("device", "copy", "from"): copy_from,
    ("device", "process", "launch"): launch,
}


def main(name: str, words: list[str]) -> int:
    """Do what a tool of that name was asked; return its exit code."""
    if name == "xcrun":
        tool = words.pop(0)
        if tool != "devicectl" or (PLACE / "no-devicectl").exists():
            sys.stderr.write(f'xcrun: error: unable to find utility "{tool}", not a developer tool or in PATH\n')
            return 72
    plain, chosen = options(words)
    with (PLACE / "calls").open("a") as log:
        log.write(" ".join(plain[:3]) + "\n")
    length = next(size for size in (2, 3) if tuple(plain[:size]) in COMMANDS)
    told: dict[str, Any] = {"info": {"commandType": ".".join(["devicectl", *plain[:length]]), "jsonVersion": 3}}
    code = 0
    try:
        told["result"] = COMMANDS[tuple(plain[:length])](plain[length:], chosen)
        told["info"]["outcome"] = "success"
    except Failure as failure:
        user = {"NSLocalizedDescription": {"string": failure.text}}
        if failure.reason:
            user["NSUnderlyingError"] = {
                "error": {"userInfo": {"NSLocalizedFailureReason": {"string": failure.reason}}}
            }
        told |= {"error": {"code": failure.code, "domain": DOMAIN, "userInfo": user}}
        told["info"]["outcome"] = "failed"
        sys.stderr.write(f"ERROR: {failure.text} ({DOMAIN} error {failure.code})\n       {failure.reason}\n")
        code = 1
    if "--json-output" in chosen:
        Path(chosen["--json-output"]).write_text(json.dumps(told))
    return code
