"""Where an agent measures: one claimed batch from its points to the words it ended with."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from edgelut.errors import BackendMissing, EdgelutError
from edgelut.jobs import Claim, Progress
from edgelut.plan import Point
from edgelut.types import Entry

from . import observer
from .agent_report import Report
from .export_points import ExportPool
from .hosting import is_hosted
from .paired import run_pairs
from .remote import BatchEnded, BatchInterrupted, BatchStore
from .sweep import run_sweep
from .toolchains import Toolchains

log = logging.getLogger("edgelut.agent")


class Processor:
    """Whose turn this host's processor is: two that time on it, or make files with it, would measure each other. Reentrant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    @contextmanager
    def turn(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait for the turn, calling `check` now and then, which raises to give up."""
        me = threading.get_ident()
        if self._owner == me:
            yield
            return
        while not self._lock.acquire(timeout=0.2):
            check()
        self._owner = me
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()


class Workshop:
    """What the batches of an agent share: its home, export workers that stay warm, and the processor. Safe for threads."""

    def __init__(self, home: Path, toolchains: Toolchains, environments: Mapping[str, Path], report: Report) -> None:
        self._home, self._toolchains, self._environments, self._report = home, toolchains, environments, report
        self._exports = ExportPool(home / "artifacts")
        self._processor = Processor()

    def close(self) -> None:
        """End the export workers, in the middle of what they make."""
        self._exports.abort()
        self._exports.close()

    def measure(self, store: BatchStore) -> bool:
        """Measure a batch and give it back; return whether the device could do what was asked of it.

        A batch that this agent cannot measure at all fails with the reason; whatever else goes wrong interrupts it, and it is
        claimed again.
        """
        watcher = _Watcher(store, self._report)
        self._report.claimed(store.claim)
        started = time.monotonic()
        why, interrupted, well = "", True, False
        try:
            self._sweep(store, watcher)
            interrupted, well = False, True
        except BatchInterrupted as error:
            why, well = str(error), True
        except BatchEnded as error:
            why, well = str(error), store.ended
        except BackendMissing as error:
            why, interrupted = str(error), False
        except EdgelutError as error:
            why = f"{type(error).__name__}: {error}"
        except Exception as error:  # a fault of ours becomes a reason that is stored, and the next batch may go well
            log.exception("batch %s", store.claim.batch)
            why = f"{type(error).__name__}: {error}"
        store.finish(interrupted, why)
        counts = watcher.rows, watcher.known_rows, watcher.failures
        self._report.ended(store.claim.device, *counts, time.monotonic() - started, why)
        return well

    def _sweep(self, store: BatchStore, watcher: _Watcher) -> None:
        claim, points = store.claim, store.points()

        def turn() -> Any:
            return self._processor.turn(store.check)

        how: dict[str, Any] = {"observer": watcher, "exports": self._exports, "turn": turn}
        with turn() if any(self._is_hosted(one.point) for one in points) else nullcontext():
            if claim.baseline_sweep:
                sides = (store, store, claim.sweep, claim.baseline_sweep)
                how["environment"] = self._environment(claim)
                closed = run_pairs(points, *sides, self._home, claim.policy, **how)
                store.check()  # what failed in a batch that was being ended may have failed by that
                store.close_points(closed)
            else:
                run_sweep([one.point for one in points], store, self._home, claim.policy, again=claim.again, **how)

    def _environment(self, claim: Claim) -> Path | None:
        """Return the interpreter that a baseline is run in; raise BackendMissing where this agent has none of that name."""
        if not claim.environment:
            return None
        if claim.environment not in self._environments:
            there = ", ".join(self._environments) or "none"
            raise BackendMissing(
                f"this agent has no environment {claim.environment!r}; it has {there}: "
                f"start it with --environment {claim.environment}=PYTHON"
            )
        return self._environments[claim.environment]

    def _is_hosted(self, point: Point) -> bool:
        try:
            return is_hosted(point.target, self._toolchains)
        except BackendMissing:
            return False


class _Watcher(observer.Observer):
    """Tells the service and the terminal how a batch is getting on, and ends it where it is not to go on."""

    def __init__(self, store: BatchStore, report: Report) -> None:
        self.rows = self.known_rows = self.failures = 0
        self._store, self._report, self._device = store, report, store.claim.device

    def exported(self, done: int, total: int, point: Point, made: bool) -> None:
        self._store.check()
        self._store.progress(Progress(done, total, 0, 0.0, "export"))
        self._report.progress(self._device, done, total, "export")

    def step(self, in_round: bool = False) -> None:
        self._store.check(in_round=in_round)

    def known(self, point: Point, entry: Entry) -> None:
        self.known_rows += 1
        self._store.known(point.spec, point.target)

    def waiting(self, device: str, why: str) -> None:
        self._report.say(f"{self._device}: waiting: {why}")

    def resumed(self, rounds: int) -> None:
        self._report.say(f"{self._device}: going on with {rounds} rounds that were measured before")

    def progress(self, progress: observer.Progress) -> None:
        left = max(0.0, progress.seconds_left)
        self._store.progress(Progress(progress.done, progress.total, progress.round, left))
        self._report.progress(self._device, progress.done, progress.total, f"round {progress.round}")

    def row(self, point: Point, entry: Entry, current: bool) -> None:
        self.rows += 1
        self._report.row(self._device, point, entry, current)

    def failed(self, point: Point, reason: str) -> None:
        self.failures += 1
        self._report.failed(self._device, point, reason)
