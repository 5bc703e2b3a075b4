"""The part of `xcrun devicectl` that is used: which phones there are, how they are, and the files of an app on one.

Programs may rely on the JSON file that `--json-output` names, and on nothing else that it says. Files of version 2 to 5 of that
format are read: 5 (Xcode 27) has everything in `properties`, those before it in three mappings beside it.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelut.errors import BackendMissing, DeviceUnusable

LIST_S = 20.0
ASK_S = 15.0
COPY_S = 120.0
INSTALL_S = 180.0
KINDS = ("iPhone", "iPad")
IDENTIFIER = re.compile(r"[0-9A-Za-z-]{1,64}")

NO_XCRUN = "iPhones need macOS with Xcode 15 or newer, and there is no xcrun here"
NO_DEVICECTL = (
    "xcrun finds no devicectl: install Xcode 15 or newer from the App Store (its command line tools alone do not have it), "
    "then type sudo xcode-select --switch /Applications/Xcode.app"
)
ATTACH = "connect it by cable, unlock it, and tap Trust if it asks"
UNLOCK = "unlock it; with Settings > Display & Brightness > Auto-Lock set to Never it stays so"
DEVELOPER = "switch on Settings > Privacy & Security > Developer Mode on it, and let it restart"
TRUST = "on it open Settings > General > VPN & Device Management, tap the developer and trust it"
IMAGE = "unlock it and open Xcode > Window > Devices and Simulators once, which mounts what developers need on it"
# What devicectl and the phone say, what that means, and what to do; the first that fits.
REMEDIES: tuple[tuple[str, str, str], ...] = (
    (r"profile has not been explicitly trusted|invalid code signature|inadequate entitlements", "distrusts the app", TRUST),
    (r"developer mode", "has its developer mode switched off", DEVELOPER),
    (r"disk image|could not support development|ddi", "lacks the developer disk image", IMAGE),
    (r"locked|be, unlocked|passcode", "is locked", UNLOCK),
    (r"not paired|pairing|trust this computer", "is not paired", ATTACH),
    (r"not found|disconnected|tunnel|unavailable|not connected|no provider|timed out", "is not attached", ATTACH),
)  # fmt: skip


class Refused(OSError):
    """devicectl did not do what was asked. `text` is what it said, in one line."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone as devicectl lists it; empty where it did not say."""

    identifier: str
    udid: str = ""
    kind: str = "iPhone"
    model: str = ""
    product_type: str = ""
    os: str = ""
    build: str = ""
    transport: str = ""
    connection: str = ""  # connected, connecting, disconnected, unavailable
    pairing: str = ""
    developer_mode: str = ""
    services: bool | None = None  # the developer disk image is mounted

    @property
    def is_connected(self) -> bool:
        """True where commands reach it now."""
        return self.connection == "connected"


def call(arguments: Sequence[str], timeout_s: float) -> Mapping[str, Any]:
    """Run `xcrun devicectl` and return what it calls the result; raise Refused, or BackendMissing where there is no such tool."""
    with tempfile.TemporaryDirectory(prefix="edgelut-") as folder:
        file = Path(folder) / "result.json"
        argv = ["xcrun", "devicectl", *arguments, "--json-output", str(file)]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except FileNotFoundError:
            raise BackendMissing(NO_XCRUN) from None
        except subprocess.TimeoutExpired:
            raise Refused(1, f"devicectl {' '.join(arguments[:3])} timed out after {timeout_s:g} s") from None
        said: Any = _read(file)
    if done.returncode or "error" in said:
        if "unable to find utility" in done.stderr:
            raise BackendMissing(NO_DEVICECTL)
        text = ": ".join(dict.fromkeys(_descriptions(said.get("error")))) or " ".join(done.stderr.split())
        raise Refused(done.returncode or 1, text or f"devicectl ended with {done.returncode}")
    result: Mapping[str, Any] = said.get("result") or {}
    return result


def phones() -> list[Phone]:
    """List the phones that this Mac knows, attached or not; simulators are none. Raises as `call`."""
    found = [_phone(one) for one in call(["list", "devices"], LIST_S).get("devices") or []]
    return [phone for phone in found if phone is not None]


def find_phone(identifier: str) -> Phone | None:
    """Return a phone by the identifier that devicectl gives it, or by its UDID; raises as `call`."""
    return next((phone for phone in phones() if identifier in (phone.identifier, phone.udid)), None)


def is_locked(identifier: str) -> bool:
    """Say whether a phone waits for its passcode; asking also opens the connection to one that is attached. Raises as `call`."""
    return bool(call(["device", "info", "lockState", "--device", identifier], ASK_S).get("passcodeRequired"))


def install(identifier: str, app: Path) -> str:
    """Install an app and return its bundle identifier; raises as `call`."""
    result = call(["device", "install", "app", "--device", identifier, str(app)], INSTALL_S)
    installed = result.get("installedApplications") or []
    if not installed:
        raise Refused(1, f"devicectl installed nothing of {app.name}")
    return str(installed[0].get("bundleID", ""))


def copy_to(identifier: str, bundle: str, source: Path, destination: str, *, replace: bool = False) -> None:
    """Copy a file, or what a folder holds, into an app's data; `replace` empties the destination first. Raises as `call`."""
    arguments = [*_container("to", identifier, bundle), "--source", str(source), "--destination", destination]
    call([*arguments, *(["--remove-existing-content", "true"] if replace else [])], COPY_S)


def copy_from(identifier: str, bundle: str, source: str, destination: Path) -> None:
    """Copy a file, or what a folder holds, from an app's data; dates are kept. Raises as `call`."""
    arguments = [*_container("from", identifier, bundle), "--source", source, "--destination", str(destination)]
    call(arguments, COPY_S)


def why_not(phone: Phone) -> str:
    """Say why a phone cannot be used, by what the list says of it, and the remedy; empty where it can."""
    if phone.pairing and phone.pairing != "paired":
        return f"it is not paired: {ATTACH}, or type xcrun devicectl manage pair --device {phone.identifier}"
    if phone.developer_mode and phone.developer_mode != "enabled":
        return f"its developer mode is off: {DEVELOPER}"
    if not phone.is_connected:
        return f"it is not attached ({phone.connection or 'connection unknown'}): {ATTACH}"
    if phone.services is False:
        return f"the developer disk image is not mounted on it: {IMAGE}"
    return ""


def unusable(identifier: str, text: str) -> DeviceUnusable:
    """Return the error of a phone that did not do what was asked, with the remedy where what it said is known."""
    for pattern, meaning, remedy in REMEDIES:
        if re.search(pattern, text, re.IGNORECASE):
            return DeviceUnusable(f"iphone:{identifier} {meaning} ({text}): {remedy}")
    return DeviceUnusable(f"iphone:{identifier}: {text}: {ATTACH}; 'xcrun devicectl list devices' says how it is")


def _container(direction: str, identifier: str, bundle: str) -> list[str]:
    return [
        *("device", "copy", direction, "--device", identifier, "--user", "mobile"),
        *("--domain-type", "appDataContainer", "--domain-identifier", bundle),
    ]


def _read(file: Path) -> Any:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _descriptions(value: Any) -> Iterator[str]:
    """Yield what an error and those below it say."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("NSLocalizedDescription", "NSLocalizedFailureReason"):
                yield str(inner.get("string", inner) if isinstance(inner, dict) else inner)
            else:
                yield from _descriptions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _descriptions(inner)


def _phone(listed: Any) -> Phone | None:
    """Read one device of the list; None for what is no phone."""
    new = listed.get("properties") or {}
    hardware = {**(listed.get("hardwareProperties") or {}), **(new.get("hardware") or {})}
    connection = {**(listed.get("connectionProperties") or {}), **(new.get("connection") or {})}
    software = new.get("software") or {}
    old, state = listed.get("deviceProperties") or {}, new.get("state") or {}
    identifier = str(listed.get("identifier") or "")
    kind = str(hardware.get("deviceType") or "")
    if kind not in KINDS or hardware.get("reality", "physical") != "physical" or not IDENTIFIER.fullmatch(identifier):
        return None
    builds = software.get("osBuildVersions") or {}
    return Phone(
        identifier=identifier,
        udid=str(hardware.get("udid") or ""),
        kind=kind,
        model=str(hardware.get("marketingName") or hardware.get("productType") or kind),
        product_type=str(hardware.get("productType") or ""),
        os=_word(software.get("osVersionNumber") or old.get("osVersionNumber")),
        build=_word(builds.get("buildVersion") or old.get("osBuildUpdate")),
        transport=str(connection.get("transportType") or ""),
        connection=str(connection.get("state") or connection.get("tunnelState") or ""),
        pairing=str(connection.get("pairingState") or ""),
        developer_mode=_word(state.get("developerModeStatus") or old.get("developerModeStatus")),
        services=old.get("ddiServicesAvailable"),
    )


def _word(value: Any) -> str:
    """Return a word that version 5 may wrap: {"stringValue": "27.0"}, {"name": "22B83"}, {"enabled": {...}}."""
    if isinstance(value, dict):
        named = value.get("stringValue") or value.get("name")
        return str(named or next(iter(value), ""))
    return str(value or "")
