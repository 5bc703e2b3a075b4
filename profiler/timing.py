"""The tasks of a timing worker: open artifacts, time bursts, run the reference kernel. No torch unless a runtime brings it."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from backends import registry
from backends.base import Array, Loaded, Session, Timing
from backends.clock import time_calls
from edgelut.errors import Unsupported
from edgelut.types import Scalar, Target
from profiler import reference

FIRST_CALLS = 3


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening an artifact gave: what was loaded, its cost in memory, and about how long a call takes."""

    loaded: Loaded
    peak_memory_bytes: int | None
    call_ns: int


@dataclass(frozen=True, slots=True)
class ReferenceTime:
    """What the reference kernels took in one round, in ns on both clocks."""

    wall_ns: float
    cpu_ns: float


@dataclass(slots=True)
class _Open:
    session: Session
    stack: ExitStack


_sessions: dict[int, _Open] = {}


def facts(device: str, runtime: str) -> dict[str, Scalar]:
    """Return the conditions of this process: machine, versions, and the environment that the runtime asks for."""
    backend = registry.load_runtime(runtime)
    import os

    environment = {f"env_{name}": os.environ.get(name, "") for name in backend.env}
    return {
        **registry.load_device(device).facts(),
        "runtime_version": backend.version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "reference": reference.VERSION,
        **environment,
    }


def settle(device: str, timeout_s: float) -> None:
    """Wait until the device is ready; raise DeviceBusy."""
    registry.load_device(device).settle(timeout_s)


def open_session(number: int, path: str, target: Target, shapes: Mapping[str, Sequence[int]]) -> Opened:
    """Load an artifact, bind inputs, and make the first calls."""
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
        session.prepare(_inputs(shapes))
        first = session.time(FIRST_CALLS)
    except BaseException:
        stack.close()
        raise
    peak = _peak()
    _sessions[number] = _Open(session, stack)
    used = None if before is None or peak is None else max(0, peak - before)
    return Opened(session.loaded, used, min(first.wall_ns))


def time_session(number: int, warmups: int, samples: int, inner: int) -> Timing:
    """Time one burst, its warm-up calls thrown away."""
    session = _sessions[number].session
    if warmups:
        session.time(1, warmups)
    return session.time(samples, inner)


def time_cold(number: int, samples: int) -> Timing:
    """Time single calls, each after the caches were filled with something else."""
    session = _sessions[number].session
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
        wall.append(np.quantile(timing.wall_ns, 0.1))
        cpu.append(np.quantile(timing.cpu_ns, 0.1))
    return ReferenceTime(float(np.exp(np.log(wall).mean())), float(np.exp(np.log(cpu).mean())))


def close_session(number: int) -> None:
    """Release a session that is measured."""
    opened = _sessions.pop(number, None)
    if opened is not None:
        opened.stack.close()


def now() -> float:
    """Return this process's wall clock, to see that it answers."""
    return time.time()


_kernels = cache(reference.kernels)
_flush = cache(reference.flusher)


def _warm(call: reference.Kernel, times: int) -> None:
    for _ in range(times):
        call()


def _inputs(shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Return the same standard-normal inputs in every process."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(tuple(shape), dtype=np.float32) for name, shape in sorted(shapes.items())}


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
