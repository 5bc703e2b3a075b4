"""The phones of `edgelut agent --apple`: those that are attached to this Mac, looked for now and then, each with its app built."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping

from backends.apple.devicectl import NO_XCRUN
from backends.base import Attached
from backends.devices.iphone import IPhone
from edgelut.errors import BackendMissing, EdgelutError

from .fleet import DeviceChoice
from .worker import Worker

BUILD_S = 900.0  # for Xcode, which may ask Apple for a profile first
AGAIN_S = 300.0  # after a build that failed
BUILDING = "its app is being built, which takes a minute once"
GONE = "it is not attached any more"

Whys = Mapping[DeviceChoice, str]  # why a device cannot be used, empty where it can


def require_xcode() -> None:
    """Raise BackendMissing where this machine has none of Xcode's tools: it is no Mac, or not set up."""
    if shutil.which("xcrun") is None:
        raise BackendMissing(f"--apple: {NO_XCRUN}; how to set up a Mac is in docs/apple.md")


class Phones:
    """Looks for phones. Safe for one thread."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        self._builds: dict[str, tuple[float, str]] = {}  # when one that failed ended, and why; 0 while it goes on

    def look(self) -> Whys:
        """Return every phone that was seen since the start, and why it cannot be used just now."""
        now = {one.name: one.why or self._unbuilt(one) for one in IPhone.attached() if ":" in one.name}
        self._seen = {**dict.fromkeys(self._seen, GONE), **now}
        return {DeviceChoice(name, name): why for name, why in self._seen.items()}

    def _unbuilt(self, phone: Attached) -> str:
        """Say why the app of a phone is not there yet, having begun to build it."""
        name = phone.name
        if IPhone.is_built(str(phone.facts["serial"])):
            return ""
        ended, why = self._builds.get(name, (-AGAIN_S, ""))
        if ended and time.monotonic() - ended < AGAIN_S:
            return why
        if ended:
            self._builds[name] = 0.0, BUILDING
            threading.Thread(target=self._build, args=(name,), name=f"edgelut-build-{name}", daemon=True).start()
        return BUILDING

    def _build(self, name: str) -> None:
        try:
            with Worker("profiler.phones") as worker:
                worker.call("build_app", BUILD_S, device=name)
            self._builds.pop(name, None)
        except EdgelutError as error:
            self._builds[name] = time.monotonic(), str(error)


def build_app(device: str) -> None:
    """Build the app of a phone. A task of a worker; raises as `backends.apple.app.App.build`."""
    IPhone(device.partition(":")[2]).app().build()
