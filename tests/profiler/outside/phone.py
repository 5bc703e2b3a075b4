"""A device that is not this machine, `phone:WHICH`, and its runtime `phone`, which do what files in $EDGELUT_SCRIPT say.

`gone` takes the device away, `gone-after` holds after how many more bursts it goes; `states` has a line for each look at it to
come: temperature, and why it is throttled, if it is; `hot` throttles it for ever, `restless` never lets it settle; `reference`
holds what the reference kernels take, `load` what a burst is slowed by, `slow-open` the seconds that opening takes; `wrong-16`
spoils outputs of width 16, `fail-16` raises, `boom-16` breaks the library, `die-16` ends the process in a burst; `counts` lets it
count, `counts-vary` badly; `ran-on` says where it ran. `log` is what was done, one line each.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

from backends.base import Array, Device, DeviceState, Loaded, Runtime, Session, Timing
from edgelut.errors import DeviceBusy, DeviceUnusable, Unsupported
from edgelut.types import Params, Scalar

_lock = threading.Lock()


class LibraryError(Exception):
    """What a library raises."""


class Phone(Device):
    instanced = True

    def __init__(self, which: str) -> None:
        self.which = which

    def facts(self) -> dict[str, Scalar]:
        here()
        cores = int(read("cores") or 8)
        return {
            "device_model": "phone",
            "cores": cores,
            "observed_load": 0.5,
            **({"emulated": 1} if says("fake") else {}),
        }

    def settle(self, timeout_s: float = 60.0) -> None:
        here()
        log("settle")
        if says("restless"):
            raise DeviceBusy("the phone does not come to rest")

    def state(self) -> DeviceState:
        here()
        log("state")
        with _lock:
            lines = (read("states") or "").splitlines()
            if lines:
                file("states").write_text("\n".join(lines[1:]))
        degrees, _, why = (lines[0] if lines else "30").partition(" ")
        return DeviceState({"observed_battery_c": float(degrees)}, "it is hot" if says("hot") else why)

    def push(self, path: Path) -> str:
        here()
        log("push")
        return str(path)

    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        here()
        return b""


class PhoneSession(Session):
    def __init__(self, shapes: Mapping[str, list[int]]) -> None:
        facts = Params({"affinity": "f0", "reference": "2"})
        self.loaded = Loaded("cpu", load_ns=7, facts=facts, clock="instructions" if says("counts") else None)
        if says("ran-on"):
            self.loaded = Loaded("cpu", load_ns=7, ran_on=str(read("ran-on")), peak_memory_bytes=99)
        self.width = next(iter(shapes.values()))[1]
        self._ns = 1000 + sum(prod(shape) for shape in shapes.values())

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        log(f"check {self.width}")
        return [value + 0.01 * says(f"wrong-{self.width}") for value in inputs.values()]

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Nothing to bind."""

    def time(self, iterations: int, inner: int = 1) -> Timing:
        here()
        ns = int(self._ns * inner * float(read("load") or 1))
        if says("counts"):
            vary = int(read("counts-vary") or 0)
            file("counts-vary").write_text(str(vary + ns // 100)) if says("counts-vary") else None
            return Timing((self._ns + vary,) * iterations, ())
        return Timing((ns,) * iterations, (ns,) * iterations)

    def begin(self, warmups: int, iterations: int, inner: int = 1, *, cold: bool = False) -> Callable[[], Timing]:
        log(f"begin {self.width}")

        def wait() -> Timing:
            self._burst()
            log(f"{'cold' if cold else 'burst'} {self.width}")
            return self.time(iterations, inner)

        return wait

    def _burst(self) -> None:
        after = read("gone-after")
        if after is not None:
            file("gone-after").write_text(str(int(after) - 1))
            if int(after) <= 0:
                file("gone-after").unlink()
                file("gone").touch()
        here()
        if says(f"fail-{self.width}"):
            raise Unsupported(f"told to fail at {self.width}")
        if says(f"boom-{self.width}"):
            raise LibraryError("told to break")
        if says(f"die-{self.width}"):
            os.kill(os.getpid(), signal.SIGKILL)


class PhoneRuntime(Runtime):
    formats = ("null",)
    precisions = ("fp32",)
    devices = ("phone",)
    version = "1"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        device.push(artifact)
        time.sleep(float(read("slow-open") or 0))
        session = PhoneSession(json.loads(artifact.read_text())["inputs"])
        log(f"open {session.width}")
        if says(f"unopened-{session.width}"):
            raise Unsupported(f"{session.width} is not opened")
        yield session

    def begin_reference(self, device: Device, warmups: int, samples: int) -> Callable[[], Timing | None]:
        return lambda: self.time_reference(device, warmups, samples)

    def time_reference(self, device: Device, warmups: int, samples: int) -> Timing | None:
        here()
        log("reference")
        kernel = read("reference")
        if kernel is None:
            return None
        ns = int(float(kernel) * float(read("load") or 1))
        return Timing((ns, 4 * ns), (ns, 4 * ns))


def here() -> None:
    if says("gone"):
        raise DeviceUnusable("phone:one is not attached: plug it in")


def says(name: str) -> bool:
    return file(name).exists()


def read(name: str) -> str | None:
    try:
        return file(name).read_text()
    except FileNotFoundError:
        return None


def file(name: str) -> Path:
    return Path(os.environ.get("EDGELUT_SCRIPT", "/nowhere")) / name  # an agent's last look may come after its test


def log(line: str) -> None:
    with _lock, file("log").open("a") as out:
        out.write(line + "\n")
