"""A phone for benchmarks, device and runtime `slow-phone`: as far away as one over adb, its bursts slept, its log exact.

A line takes half of RTT_S each way, a push 30 MB/s, opening a model some tens of ms; calls take what a middling phone's would by
the size of the file. The program on it, `python slow_phone.py LOG`, writes down when it was busy with a burst.
"""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

RTT_S = 0.020
PUSH_BYTES_S = 30e6
SHELL_S = 0.030  # of a command that asks for temperatures
LOAD_S, LOAD_BYTES_S = 0.010, 500e6
CALL_S, CALL_BYTES_S = 0.0003, 1e9  # MB3D 448 at 7x7, 13 MB: 13 ms, four times what a server core takes
KERNELS = 4
KERNEL_S = 0.001
FOLDER, ONE_BY_ONE = "SLOW_PHONE", "SLOW_PHONE_ONE_BY_ONE"


def serve(log: Path) -> None:
    """Answer lines as the runner does: `time SECONDS CALLS SAMPLES INNER`, `open SECONDS`, anything else at once.

    `first` is as `time`, for calls that belong to opening: they are no burst, and not in the log.
    """
    with log.open("a", buffering=1) as out:
        for line in sys.stdin:
            name, *numbers = line.split()
            values = [float(number) for number in numbers]
            started = time.monotonic()
            if name == "open":
                time.sleep(values[0])
            elif name in ("time", "first"):
                call_s, warmups, samples, inner = values
                time.sleep(call_s * warmups)
                took = [_sleep_ns(call_s * inner) for _ in range(int(samples))]
                if name == "time":
                    out.write(f"{started:.6f} {time.monotonic():.6f}\n")
                print(*took, flush=True)
                continue
            print("ok", flush=True)


def _sleep_ns(seconds: float) -> int:
    started = time.perf_counter_ns()
    time.sleep(seconds)
    return time.perf_counter_ns() - started


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
    sys.exit()

from backends.base import Array, Device, DeviceState, Loaded, Process, Runtime, Session, Timing  # noqa: E402
from edgelut.types import Params, Scalar  # noqa: E402
from profiler.checking import kept_outputs  # noqa: E402


class SlowPhone(Device):
    """Keeps pushed files by their hash in the folder that $SLOW_PHONE names."""

    def facts(self) -> dict[str, Scalar]:
        """Return what a phone says of itself."""
        time.sleep(RTT_S + SHELL_S)
        return {"device_model": "slow phone", "cores": 8, "observed_battery_c": 30.0}

    def settle(self, timeout_s: float = 60.0) -> None:
        """Be cool."""
        time.sleep(RTT_S + SHELL_S)

    def state(self) -> DeviceState:
        """Be cool and say so."""
        time.sleep(RTT_S + SHELL_S)
        return DeviceState({"observed_battery_c": 30.0})

    def push(self, path: Path) -> str:
        """Copy a file, once for the same content, at the speed of a cable."""
        there = folder() / hashlib.sha256(path.read_bytes()).hexdigest()
        time.sleep(RTT_S)
        if not there.exists():
            time.sleep(path.stat().st_size / PUSH_BYTES_S)
            staged = there.with_suffix(f".{os.getpid()}")
            shutil.copy(path, staged)
            staged.replace(there)
        return str(there)

    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        """Run nothing."""
        time.sleep(RTT_S)
        return b""

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program here that seems to be there."""
        return SlowProcess(argv)


class SlowProcess(Process):
    """A local process, its lines late."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._child = subprocess.Popen(list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._out: queue.Queue[tuple[float, str] | None] = queue.Queue()
        self._in: queue.Queue[tuple[float, str]] = queue.Queue()
        for work in (self._write, self._read):
            threading.Thread(target=work, daemon=True).start()

    def _write(self) -> None:
        assert self._child.stdin is not None
        while item := self._out.get():
            time.sleep(max(0.0, item[0] - time.monotonic()))
            with suppress(OSError, ValueError):
                self._child.stdin.write(item[1] + "\n")
                self._child.stdin.flush()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._in.put((time.monotonic() + RTT_S / 2, line))

    def send(self, line: str) -> None:
        """Write a line that arrives later."""
        self._out.put((time.monotonic() + RTT_S / 2, line))

    def read(self, timeout_s: float) -> str:
        """Return the next line when it has arrived."""
        try:
            at, line = self._in.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError("the program does not answer") from None
        time.sleep(max(0.0, at - time.monotonic()))
        return line

    def close(self) -> None:
        """End it."""
        self._out.put(None)
        self._child.kill()
        self._child.wait()


class Link:
    """The program on the phone, asked in lines: answers come in their order."""

    def __init__(self, device: Device) -> None:
        self.process = device.start([sys.executable, __file__, str(folder() / "log")])
        self.unread: deque[list[str]] = deque()

    def begin(self, line: str) -> Callable[[], str]:
        """Send a line; return what waits for its answer."""
        box: list[str] = []
        self.unread.append(box)
        self.process.send(line)

        def wait() -> str:
            while not box:
                self.unread.popleft().append(self.process.read(60.0))
            return box[0]

        return wait

    def ask(self, line: str) -> str:
        """Send a line and wait."""
        return self.begin(line)()


class SlowSession(Session):
    """A file that is `open` there; its outputs are those that this host keeps beside it."""

    def __init__(self, link: Link, artifact: Path, device: Device) -> None:
        size = artifact.stat().st_size
        self._link, self._artifact, self._device = link, artifact, device
        self._call_s = CALL_S + size / CALL_BYTES_S
        device.push(artifact)
        link.ask(f"open {LOAD_S + size / LOAD_BYTES_S}")
        self.loaded = Loaded("cpu", load_ns=int(1e9 * (LOAD_S + size / LOAD_BYTES_S)), facts=Params({"reference": "1"}))

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Bring inputs, call once, bring outputs."""
        time.sleep(2 * RTT_S + sum(value.nbytes for value in inputs.values()) / PUSH_BYTES_S)
        self._link.ask(f"first {self._call_s} 0 1 1")
        return kept_outputs(self._artifact) or []

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Bind."""
        self._link.ask("bind")

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Time the first calls."""
        return _timing(self._link.ask(f"first {self._call_s} 0 {iterations} {inner}"))

    def begin(self, warmups: int, iterations: int, inner: int = 1, *, cold: bool = False) -> Callable[[], Timing]:
        """Send a burst and wait for it later; a flush takes ten ms."""
        call_s = self._call_s + 0.01 * cold
        if os.environ.get(ONE_BY_ONE):
            return lambda: _timing(self._link.ask(f"time {call_s} {warmups} {iterations} {inner}"))
        wait = self._link.begin(f"time {call_s} {warmups} {iterations} {inner}")
        return lambda: _timing(wait())


class SlowRuntime(Runtime):
    """Opens ONNX files without reading them."""

    formats = ("onnx",)
    precisions = ("fp32",)
    devices = ("slow-phone",)
    version = "1"

    def __init__(self) -> None:
        self._link: Link | None = None

    def link(self, device: Device) -> Link:
        """Return this process's program there."""
        self._link = self._link or Link(device)
        return self._link

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        """Open the file there."""
        yield SlowSession(self.link(device), artifact, device)

    def begin_reference(self, device: Device, warmups: int, samples: int) -> Callable[[], Timing | None]:
        """Time the kernels as one burst."""
        wait = self.link(device).begin(f"time {KERNEL_S} {KERNELS * warmups} {KERNELS * samples} 1")
        return lambda: _timing(wait())


def _timing(answer: str) -> Timing:
    samples = tuple(int(word) for word in answer.split())
    return Timing(samples, samples)


def folder() -> Path:
    """Return where the phone keeps its files and its log."""
    return Path(os.environ[FOLDER])
