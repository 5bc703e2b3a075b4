"""A sweep: export what is missing, then measure all points interleaved, round after round, each round stored as it is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from edgelut.errors import BackendMissing, EdgelutError, StorageError
from edgelut.plan import Point, Policy, describe, plan_key
from edgelut.runs import Failure, RunStore
from edgelut.types import Entry

from .artifacts import Stored
from .export_points import ExportPool, Turn
from .hosting import is_remote
from .lanes import Lanes
from .ledger import Ledger
from .lock import device_lock
from .observer import Observer
from .overlap import Arrived, measure_remote, together
from .rounds import Group, start_lanes
from .toolchains import Toolchains

GROUP_BYTES = 1 << 30  # of artifacts held open at a time; a runtime holds about twice that


@dataclass(slots=True)
class SweepResult:
    """What a sweep came to."""

    sweep: str
    measured: list[Entry] = field(default_factory=list)
    known: list[Entry] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class SweepContext:
    """What the parts of one sweep share."""

    id: str
    store: RunStore
    policy: Policy
    observer: Observer
    result: SweepResult
    again: bool
    points: Sequence[Point]
    toolchains: Toolchains
    keep: Sequence[int] = ()  # descriptors that every worker holds: the device's lock
    lock: threading.RLock = field(default_factory=threading.RLock)  # of store, observer, ledger and result
    numbers: Iterator[int] = field(default_factory=count)  # of sessions: no two of a sweep have the same
    ended: int = 0  # rows of groups that are measured
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self, self.points)

    def fail(self, point: Point, error: EdgelutError) -> None:
        """Store why a point could not be measured, and go on."""
        failure = Failure(self.id, point.spec, point.target, f"{type(error).__name__}: {error}", datetime.now(UTC))
        with self.lock:
            self.store.put_failure(failure)
            self.ledger.drop(point)
            self.result.failures.append(failure)
            self.observer.failed(point, str(error))


def run_sweep(
    points: Sequence[Point],
    store: RunStore,
    home: Path,
    policy: Policy,
    *,
    again: bool = False,
    observer: Observer | None = None,
    exports: ExportPool | None = None,
    turn: Turn = nullcontext,
) -> SweepResult:
    """Measure the points and store their runs and rows; return what came of it.

    A sweep of the same plan that was cut off goes on. Rows known under the same conditions and artifact are not measured
    again unless `again`. `exports` are workers that outlive this sweep; `turn` is entered before they make anything. Raises
    StorageError, DeviceBusy; what one point raises is stored as its failure.
    """
    points = _doubtful_first(points, store)
    started = store.start_sweep(plan_key(points, policy), describe(points, policy))
    result, toolchains = SweepResult(started.id), Toolchains(home / "toolchains")
    context = SweepContext(started.id, store, policy, observer or Observer(), result, again, points, toolchains)
    finished = False
    try:
        with ExitStack() as stack:
            pool = exports or stack.enter_context(ExportPool(home / "artifacts"))
            devices = sorted({point.target.device for point in points})
            if len(devices) == 1:
                _sweep_one(context, pool, turn, home / "locks", devices[0])
            else:
                _sweep_many(context, pool, turn, home / "locks", devices)
        finished = True
    finally:
        store.finish_sweep(started.id, "done" if finished else "interrupted")
    return context.result


def _sweep_one(context: SweepContext, pool: ExportPool, turn: Turn, locks: Path, device: str) -> None:
    """Measure points of one device; its workers start while artifacts are looked for."""
    if is_remote(device):
        _sweep_remote(context, pool, turn, locks, device)
        return
    with device_lock(locks, device) as lock, ExitStack() as stack:
        context.keep = (lock,)
        lanes = start_lanes(context, context.points)
        stack.callback(lanes.close)
        _measure(context, _export(context.points, context, pool, turn), lanes)


def _sweep_many(context: SweepContext, pool: ExportPool, turn: Turn, locks: Path, devices: Sequence[str]) -> None:
    """Measure points of several devices, one device after another: this machine's when all artifacts are there, then others."""
    local = [device for device in devices if not is_remote(device)]
    stored = _export([point for point in context.points if point.target.device in local], context, pool, turn)
    for device in local:
        with device_lock(locks, device) as lock:
            context.keep = (lock,)
            _measure(context, {point: stored[point] for point in stored if point.target.device == device})
    for device in devices:
        if device not in local:
            _sweep_remote(context, pool, turn, locks, device)


def _sweep_remote(context: SweepContext, pool: ExportPool, turn: Turn, locks: Path, device: str) -> None:
    """Measure points of a device that is not this machine, whose artifacts are made meanwhile."""
    points = together([point for point in context.points if point.target.device == device])

    def export(arrived: Arrived, turn: Turn) -> object:
        return _export(points, context, pool, turn, arrived)

    with device_lock(locks, device) as lock:
        context.keep = (lock,)
        measure_remote(context, points, export, turn)


def _doubtful_first(points: Sequence[Point], store: RunStore) -> list[Point]:
    """Put the points whose current row is in doubt first, so that they are in the first group."""
    doubtful = set()
    for target in {point.target for point in points}:
        specs = [point.spec for point in points if point.target == target]
        found = store.find_many(specs, target)
        doubtful |= {(target, entry.spec) for entry in found if entry is not None and not entry.latency.stable}
    return sorted(points, key=lambda point: (point.target, point.spec) not in doubtful)


def _export(
    points: Sequence[Point],
    context: SweepContext,
    pool: ExportPool,
    turn: Turn,
    arrived: Arrived = lambda point, stored: None,
) -> dict[Point, Stored]:
    """Export the points' artifacts, and tell of each one; a point whose export fails is a stored failure."""
    unique = list(dict.fromkeys(points))
    stored: dict[Point, Stored] = {}

    def done(index: int, artifact: Stored, made: bool) -> None:
        stored[unique[index]] = artifact
        with context.lock:
            context.store.put_artifact(artifact.artifact)
            context.observer.exported(len(stored), len(unique), unique[index], made)
        arrived(unique[index], artifact)

    def failed(index: int, error: EdgelutError) -> None:
        if isinstance(error, BackendMissing | StorageError):
            raise error  # no fault of this point: every other would fail by it
        context.fail(unique[index], error)

    pool.export_all(unique, done, failed, turn)
    return {point: stored[point] for point in unique if point in stored}


def _measure(context: SweepContext, stored: dict[Point, Stored], lanes: Lanes | None = None) -> None:
    """Measure in groups as large as memory allows, the first in lanes that are there: whatever is in one group is compared best."""
    group: dict[Point, Stored] = {}
    size = 0
    for point, artifact in stored.items():
        if group and size + artifact.artifact.size_bytes > GROUP_BYTES:
            Group(context, group, lanes).measure()
            group, size, lanes = {}, 0, None
        group[point] = artifact
        size += artifact.artifact.size_bytes
    if group:
        Group(context, group, lanes).measure()
