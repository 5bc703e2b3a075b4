"""The device `android:SERIAL`: a phone that is attached by adb, on USB or over a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.adb import discovery, files, texts
from backends.adb.shell import Phone
from backends.base import Attached, Device, DeviceState, Process
from edgelut.errors import DeviceBusy, DeviceUnusable
from edgelut.types import Scalar

ASK_S = 20.0
COOL_BATTERY_C = 40.0  # that settle waits for; a round is kept up to texts.HOTTEST_BATTERY_C
LOOK_S = 2.0  # between looks at a phone that cools down


class Android(Device):
    """A phone of that serial: adb's on USB, the phone's own `ro.serialno` on a network.

    The transport is looked up at the first call and kept; where it fails it is looked up again, so that a phone that was plugged
    in again, or has another address, goes on by the same object.
    """

    instanced = True
    runtime = "onnxruntime-native"

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self._found: Phone | None = None
        self._store = files.Store()
        self._turn = threading.Lock()

    @classmethod
    def attached(cls) -> list[Attached]:
        """List the phones that adb sees, with the remedy for those that cannot be used."""
        return discovery.attached()

    def facts(self) -> dict[str, Scalar]:
        """Return model, SoC, build, cores, masks (conditions) and battery, thermal state, frequency, memory (observed)."""
        parts = texts.sections(self._ask(texts.script(texts.ALL)))
        return {"device_model": "unknown", "os": "Android", **texts.all_facts(parts), "serial": self.serial}

    def state(self) -> DeviceState:
        """Return what varies, and why a round timed now would not be kept."""
        parts = self._state()
        return DeviceState(texts.state_facts(parts), texts.throttled(parts))

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until it is cool and its cores are not capped; raise DeviceBusy, which says what it waits for."""
        until = time.monotonic() + timeout_s
        while why := texts.throttled(self._state(), COOL_BATTERY_C):
            left = until - time.monotonic()
            if left <= 0:
                raise DeviceBusy(
                    f"{self.name} did not come to rest within {timeout_s:g} s: {why}; let it cool down in the open, without "
                    "its case, and switch battery saver off"
                )
            time.sleep(min(left, LOOK_S))

    def push(self, path: Path) -> str:
        """Bring a file or folder to the phone, once for the same content; return its path there."""
        with self._connected() as phone:
            return self._store.push(phone, path)

    def pull(self, path: str, to: Path) -> None:
        """Bring a file from the phone; raise FileNotFoundError."""
        with self._connected() as phone:
            files.pull(phone, path, to)

    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        """Run a command on the phone."""
        with self._connected() as phone:
            return phone.run(argv, timeout_s)

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program on the phone; closing it ends it there too."""
        with self._connected() as phone:
            return phone.start(argv, env)

    def clean(self) -> int:
        """Remove every file of ours from the phone; return how many bytes they held."""
        with self._connected() as phone:
            self._store.forget()
            return files.clean(phone)

    @property
    def name(self) -> str:
        """The name by which it is registered."""
        return f"{discovery.BACKEND}:{self.serial}"

    def _state(self) -> dict[str, str]:
        return texts.sections(self._ask(texts.script(texts.STATE)))

    def _ask(self, script: str) -> str:
        with self._connected() as phone:
            return phone.ask(script, ASK_S)

    def _connected(self) -> _Connected:
        return _Connected(self)

    def phone(self) -> Phone:
        """Return the phone by the transport that it has now; raise DeviceUnusable, BackendMissing."""
        with self._turn:
            if self._found is None:
                self._found = discovery.find(self.serial)
            return self._found

    def forget(self) -> None:
        """Look the transport up again at the next call."""
        with self._turn:
            self._found = None
        self._store.forget()


class _Connected:
    """Lends the phone; one that went away is looked up anew at the next call."""

    def __init__(self, device: Android) -> None:
        self._device = device

    def __enter__(self) -> Phone:
        return self._device.phone()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DeviceUnusable):
            self._device.forget()
