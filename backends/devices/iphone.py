"""The device `iphone:IDENTIFIER`: a phone that is attached to this Mac, reached by Xcode's tools."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from backends.apple import devicectl, mac
from backends.apple.devicectl import Phone, Refused
from backends.base import Attached, Device, DeviceState
from edgelut import settings
from edgelut.errors import BackendMissing, DeviceUnusable, InvalidSpec, Unsupported
from edgelut.types import Params, Scalar

if TYPE_CHECKING:
    from backends.apple.app import App

TEAM, BUNDLE = "EDGELUT_APPLE_TEAM", "EDGELUT_APPLE_BUNDLE"
NO_TEAM = (
    f"no team signs the app that measures on it: set {TEAM} to the ten letters that Xcode > Settings > Accounts or "
    "developer.apple.com shows, see docs/apple.md"
)
FRESH_S = 5.0  # what was just asked of a phone is not asked again


class IPhone(Device):
    """One phone, by the identifier that `xcrun devicectl list devices` shows; the app that measures ends with the process."""

    instanced = True
    runtime = "coreml"

    def __init__(self, identifier: str) -> None:
        if not devicectl.IDENTIFIER.fullmatch(identifier):
            raise InvalidSpec(f"{identifier!r} identifies no phone: 'edgelut devices' lists those that are attached")
        self._identifier = identifier
        self._app: App | None = None
        self._seen: tuple[float, Phone] | None = None

    @classmethod
    def attached(cls) -> list[Attached]:
        """List the phones that this Mac knows; one line says why where it cannot tell."""
        if shutil.which("xcrun") is None:
            return [Attached("iphone", why=devicectl.NO_XCRUN)] if mac.version() else []
        try:
            return [_attached(phone) for phone in _look()]
        except (BackendMissing, Refused) as error:
            return [Attached("iphone", why=str(error))]

    @staticmethod
    def is_built(serial: str) -> bool:
        """Say whether the app that measures is built for a phone of that serial: where it is not, Xcode has a minute's work."""
        return any((_home() / "build" / serial).rglob("*.app"))

    def facts(self) -> dict[str, Scalar]:
        """Return model, system and identifiers; devicectl tells neither battery nor temperature."""
        return facts_of(self._phone())

    def state(self) -> DeviceState:
        """Return how long the phone paused between samples of the bursts since it was last asked."""
        return DeviceState(self._app.take_observed() if self._app is not None else {})

    def settle(self, timeout_s: float = 60.0) -> None:
        """Raise DeviceUnusable where the phone is not there."""
        self._phone()

    def app(self) -> App:
        """Return the app that measures, made when first asked for; raise DeviceUnusable where nobody signs it."""
        if self._app is None:
            from backends.apple.app import App
            from backends.apple.remote import Signing

            team = os.environ.get(TEAM, "")
            if not team:
                raise DeviceUnusable(f"iphone:{self._identifier}: {NO_TEAM}")
            bundle = os.environ.get(BUNDLE) or f"org.edgelut.modelrunner.{re.sub('[^a-z0-9]', '', team.lower())}"
            self._app = App(self._identifier, Signing(team, bundle), _home())
            atexit.register(self._app.close)
        return self._app

    def push(self, path: Path) -> str:
        """Return the path as it is: what an app needs is sent with its requests."""
        return str(path)

    def run(self, argv: Sequence[str], timeout_s: float) -> NoReturn:
        """Refuse: nothing but apps runs on an iPhone."""
        raise Unsupported("no commands run on an iPhone")

    def _phone(self) -> Phone:
        """Return the phone as it was listed just now; raise DeviceUnusable."""
        if self._seen is None or time.monotonic() - self._seen[0] > FRESH_S:
            try:
                phone = devicectl.find_phone(self._identifier)
            except Refused as error:
                raise devicectl.unusable(self._identifier, error.text) from error
            if phone is None:
                raise devicectl.unusable(self._identifier, "not found")
            why = devicectl.why_not(phone)
            if why:
                raise DeviceUnusable(f"iphone:{self._identifier}: {why}")
            self._seen = time.monotonic(), phone
        return self._seen[1]


def facts_of(phone: Phone) -> dict[str, Scalar]:
    """Return what a row must remember of a phone; not its name, which often is a person's."""
    found: dict[str, Scalar] = {
        "device_model": phone.model,
        "manufacturer": "Apple",
        "product_type": phone.product_type,
        "os": f"iOS {phone.os}" + (f" ({phone.build})" if phone.build else ""),
        "serial": phone.udid or phone.identifier,
        "observed_transport": phone.transport,
    }
    return {name: value for name, value in found.items() if value != ""}


def _home() -> Path:
    """Return where built apps lie."""
    return settings.home() / "apple"


def _look() -> list[Phone]:
    """List the phones; one that is attached but has no connection yet gets one by being asked something."""
    found = devicectl.phones()
    sleeping = [
        one for one in found if not one.is_connected and one.pairing == "paired" and one.connection != "unavailable"
    ]
    for phone in sleeping:
        _locked(phone)
    return devicectl.phones() if sleeping else found


def _attached(phone: Phone) -> Attached:
    why = devicectl.why_not(phone)
    if not why or phone.services is False:
        why = f"it is locked: {devicectl.UNLOCK}" if _locked(phone) else why
    if not why and not os.environ.get(TEAM):
        why = NO_TEAM
    return Attached(f"iphone:{phone.identifier}", Params(facts_of(phone)), why)


def _locked(phone: Phone) -> bool:
    try:
        return devicectl.is_locked(phone.identifier)
    except Refused:
        return False
