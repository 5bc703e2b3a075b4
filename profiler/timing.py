"""The tasks of a timing worker: open artifacts, time bursts, run reference kernels, look at the device. No torch unless a
runtime brings it."""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import numpy as np

from backends import registry
from backends.base import Device, DeviceState, Loaded, Runtime, Session, Timing
from backends.clock import time_calls
from edgelut.errors import DeviceBusy, DeviceUnusable, Unsupported
from edgelut.types import Scalar, Target
from profiler import reference
from profiler.checking import device_error, kept_outputs, standard_inputs
from profiler.errors import TaskFailed
from profiler.worker import portable

FIRST_CALLS = 3
COUNTED_CALLS = 1  # the same, where instructions are counted: a second call executes as many
AHEAD = 32  # bursts that a device far away has in hand; an answer is some hundred bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening an artifact gave: what was loaded, its cost in memory, about how long a call takes, and on a device that is
    not this machine, how far its outputs were off this host's."""

    loaded: Loaded
    peak_memory_bytes: int | None
    call_ns: int
    parity_error: float | None = None

    @property
    def counts(self) -> bool:
        """Whether samples are instructions and no times."""
        return self.loaded.clock == "instructions"


@dataclass(frozen=True, slots=True)
class ReferenceTime:
    """What the reference kernels took in one round, in ns on both clocks; 0 on one that there is not."""

    wall_ns: float
    cpu_ns: float


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst of a flight; without a number, the reference kernels of the device."""

    number: int | None
    warmups: int
    samples: int
    inner: int = 1
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Flown:
    """What one burst of a flight came to: about when it began, and its timing, the reference's time, or what it raised."""

    started_at: datetime
    timing: Timing | None = None
    reference: ReferenceTime | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Open:
    session: Session
    stack: ExitStack


_sessions: dict[int, _Open] = {}


def facts(device: str, runtime: str) -> dict[str, Scalar]:
    """Return the conditions of a lane: device, versions, and the environment that the runtime asks for.

    What this process is made of counts where calls run on this machine, and nowhere else.
    """
    backend, place = registry.load_runtime(runtime), registry.load_device(device)
    environment = {f"env_{name}": os.environ.get(name, "") for name in backend.env}
    here: dict[str, Scalar] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "reference": reference.VERSION,
    }
    return {**place.facts(), "runtime_version": backend.version, **(here if place.local else {}), **environment}


def settle(device: str, timeout_s: float) -> None:
    """Wait until the device is ready; raise DeviceBusy."""
    registry.load_device(device).settle(timeout_s)


def state(device: str) -> DeviceState:
    """Return how the device is just now."""
    return registry.load_device(device).state()


def push(device: str, path: str) -> None:
    """Bring an artifact to the device before it is opened there, which brings it once."""
    registry.load_device(device).push(Path(path))


def open_session(
    number: int, path: str, target: Target, shapes: Mapping[str, Sequence[int]], check: bool = False
) -> Opened:
    """Load an artifact, bind inputs, and make the first calls.

    `check` compares its outputs with those that are kept beside it, where the runtime gives any; raises ParityFailed.
    """
    runtime = registry.load_runtime(target.runtime)
    if not runtime.timed:
        raise Unsupported(f"{target.runtime} checks numerics only: it never gives a latency")
    device = registry.load_device(target.device)
    before = _reset_peak()
    stack = ExitStack()
    try:
        session = stack.enter_context(runtime.open(Path(path), device, target.precision, target.threads, target.unit))
        if session.loaded.unit != target.unit:
            raise Unsupported(f"{target.runtime} ran on {session.loaded.unit}, not on {target.unit} as asked")
        counts = session.loaded.clock == "instructions"
        if counts and target.threads > 1:
            raise Unsupported(f"{target.runtime} counts the instructions of one thread: ask for --threads 1")
        error = _parity_error(session, Path(path), target.precision, shapes) if check else None
        session.prepare(standard_inputs(shapes))
        call_ns = _first_calls(session, counts)
    except BaseException:
        stack.close()
        raise
    peak = _peak()
    _sessions[number] = _Open(session, stack)
    used = None if before is None or peak is None or not device.local else max(0, peak - before)
    told = session.loaded.peak_memory_bytes
    return Opened(session.loaded, used if told is None else told, call_ns, error)


def fly(device: str, runtime: str, bursts: Sequence[Burst]) -> list[Flown]:
    """Time bursts one after another on a device that is not this machine, each begun before those before it have ended.

    A burst that raises one of our errors is told with it, and the others go on; what a library raised ends the flight with
    that burst, for it may have ended them all. Raises DeviceUnusable and DeviceBusy.
    """
    place, backend = registry.load_device(device), registry.load_runtime(runtime)
    alone = type(backend).begin_reference is Runtime.begin_reference  # it must find nothing in flight
    waiting: deque[tuple[Burst, Callable[[], Timing | None]]] = deque()
    flown: list[Flown] = []
    todo, started = deque(bursts), datetime.now(UTC)
    while todo or waiting:
        barrier = bool(waiting) and alone and None in (waiting[-1][0].number, todo[0].number if todo else 0)
        if todo and len(waiting) < AHEAD and not barrier:
            burst = todo.popleft()
            waiting.append((burst, _begun(burst, place, backend)))
            continue
        burst, wait = waiting.popleft()
        flown.append(_landed(burst, wait, started))
        started = datetime.now(UTC)
        if isinstance(flown[-1].error, TaskFailed):
            break
    return flown


def time_session(number: int, warmups: int, samples: int, inner: int) -> Timing:
    """Time one burst, its warm-up calls thrown away."""
    session = _sessions[number].session
    if warmups:
        session.time(1, warmups)
    return session.time(samples, inner)


def time_cold(number: int, samples: int) -> Timing:
    """Time single calls, each after the caches were filled with something else; a session of another process does it there."""
    session = _sessions[number].session
    with suppress(Unsupported):
        return session.begin(0, samples, cold=True)()
    wall: tuple[int, ...] = ()
    cpu: tuple[int, ...] = ()
    for _ in range(samples):
        _flush()()
        timing = session.time(1)
        wall, cpu = wall + timing.wall_ns, cpu + timing.cpu_ns
    return Timing(wall, cpu)


def time_reference(warmups: int, samples: int) -> ReferenceTime:
    """Time the reference kernels: the geometric mean of their p10."""
    wall, cpu = [], []
    for kernel in _kernels().values():
        _warm(kernel, warmups)
        timing = time_calls(kernel, samples)
        wall.append(float(np.quantile(timing.wall_ns, 0.1)))
        cpu.append(float(np.quantile(timing.cpu_ns, 0.1)))
    return ReferenceTime(_geometric_mean(wall), _geometric_mean(cpu))


def close_session(number: int) -> None:
    """Release a session that is measured."""
    opened = _sessions.pop(number, None)
    if opened is not None:
        opened.stack.close()


def close_sessions(numbers: Sequence[int]) -> None:
    """Release several."""
    for number in numbers:
        close_session(number)


def now() -> float:
    """Return this process's wall clock, to see that it answers."""
    return time.time()


_kernels = cache(reference.kernels)
_flush = cache(reference.flusher)


def _begun(burst: Burst, device: Device, runtime: Runtime) -> Callable[[], Timing | None]:
    """Begin a burst and return what waits for it; what beginning raised is raised there."""
    try:
        if burst.number is None:
            return runtime.begin_reference(device, burst.warmups, burst.samples)
        session = _sessions[burst.number].session
        return session.begin(burst.warmups, burst.samples, burst.inner, cold=burst.cold)
    except Exception as error:  # noqa: BLE001 - it is this burst's own, and told where its timing would be
        return partial(_raise, error)


def _landed(burst: Burst, wait: Callable[[], Timing | None], started_at: datetime) -> Flown:
    """Wait for a burst."""
    try:
        timing = wait()
    except (DeviceUnusable, DeviceBusy):
        raise
    except Exception as error:  # noqa: BLE001 - what failed becomes the row's stored reason
        return Flown(started_at, error=portable(error))
    if burst.number is not None:
        return Flown(started_at, timing)
    if timing is None:
        return Flown(started_at)
    return Flown(started_at, reference=ReferenceTime(_geometric_mean(timing.wall_ns), _geometric_mean(timing.cpu_ns)))


def _raise(error: Exception) -> None:
    raise error


def _geometric_mean(values: Sequence[float]) -> float:
    """Return the mean; 0 of nothing."""
    return float(np.exp(np.log(values).mean())) if len(values) else 0.0


def _first_calls(session: Session, counts: bool) -> int:
    """Make the first calls, unless counting needs none, and return about how long one takes, in ns."""
    if counts and session.first_call_ns is not None:
        return session.first_call_ns
    started = time.perf_counter_ns()
    timing = session.time(COUNTED_CALLS if counts else FIRST_CALLS)
    return (time.perf_counter_ns() - started) // COUNTED_CALLS if counts else min(timing.wall_ns)


def _parity_error(session: Session, path: Path, precision: str, shapes: Mapping[str, Sequence[int]]) -> float | None:
    """Return how far a session's outputs are off those that are kept beside the artifact; None where it gives none."""
    expected = kept_outputs(path)
    if expected is None:
        return None
    inputs = standard_inputs(shapes)
    try:
        outputs = session.run(inputs)
    except Unsupported:
        return None
    return device_error(outputs, expected, next(iter(inputs.values())), precision)


def _warm(call: reference.Kernel, times: int) -> None:
    for _ in range(times):
        call()


def _reset_peak() -> int | None:
    """Set the kernel's peak of this process's memory back to what it holds now, and return that; None off Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _peak() -> int | None:
    try:
        return _status("VmHWM")
    except OSError:
        return None


def _status(name: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
