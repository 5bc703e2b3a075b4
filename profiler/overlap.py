"""The points of a device that is not this machine: while it measures some of them, the next are exported, brought to it and opened.

Three things go on at once, each in a thread of its own: exports; opening the next group, in workers of its own; measuring, which
is the caller's thread. The store, the observer and the ledger are under the context's lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgelut.errors import DeviceUnusable, EdgelutError
from edgelut.plan import Point
from edgelut.slopes import needs

from .artifacts import Stored
from .checking import Checker
from .export_points import Turn
from .flights import RemoteGroup
from .lanes import Lanes
from .rounds import start_lanes

if TYPE_CHECKING:
    from .sweep import SweepContext

ROWS = 24  # of a group: enough that what moves the device moves many of them
FEWEST = 6  # where the device would wait for more
GROUP_BYTES = 1 << 28  # of artifacts of a group; two are on the device at a time

Arrived = Callable[[Point, Stored], None]
Export = Callable[[Arrived, Turn], object]  # exports all, and tells of each artifact that is there


class _Stopped(Exception):
    """The sweep ends, and what a thread still does is of no use."""


class Stop:
    """Tells threads to end, and knows which of them wait for the processor, which may be long in coming."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._event = threading.Event()
        self._waiting: set[threading.Thread] = set()

    def __call__(self) -> None:
        """Tell them."""
        self._event.set()

    def is_set(self) -> bool:
        """Say whether they were told."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise in a thread that was told to end."""
        if self._event.is_set():
            raise _Stopped

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Take the processor's turn, unless there is nothing to do with it any more when it comes."""
        me = threading.current_thread()
        self._waiting.add(me)
        try:
            with self._turn():
                self._waiting.discard(me)
                self.check()
                yield
        finally:
            self._waiting.discard(me)

    def join(self, thread: threading.Thread) -> None:
        """Wait for a thread's end; not for one that waits for its turn, which ends when that comes."""
        while thread.is_alive() and not (self._event.is_set() and thread in self._waiting):
            thread.join(0.05)


class _Arrivals:
    """Artifacts in the order in which they were found or made, handed on in groups."""

    def __init__(self) -> None:
        self._there: deque[tuple[Point, Stored]] = deque()
        self._changed = threading.Condition()
        self._ended = self._hurried = self._stopped = False
        self._error: BaseException | None = None

    def put(self, point: Point, stored: Stored) -> None:
        """Add one."""
        with self._changed:
            self._there.append((point, stored))
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that there come no more, and why, if that is no good reason."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def hurry(self, now: bool = True) -> None:
        """Say that the device has nothing to do, or that it has."""
        with self._changed:
            self._hurried = now
            self._changed.notify_all()

    def stop(self) -> None:
        """Let whoever waits go."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def take(self) -> dict[Point, Stored]:
        """Return the next group; empty where there is no more. Raises what ended the exports before their time."""
        with self._changed:
            self._changed.wait_for(self._is_enough)
            if self._stopped:
                raise _Stopped
            if self._error is not None:
                raise self._error
            rest = self._ended and len(self._there) < 1.5 * ROWS  # no group of a few rows at the end
            group: dict[Point, Stored] = {}
            size = 0
            while self._there and (rest or len(group) < ROWS):
                point, stored = self._there[0]
                size += stored.artifact.size_bytes
                if group and size > GROUP_BYTES:
                    break
                group[point] = stored
                self._there.popleft()
            return group

    def _is_enough(self) -> bool:
        size = sum(stored.artifact.size_bytes for _, stored in self._there)
        enough = len(self._there) >= (FEWEST if self._hurried else ROWS) or size > GROUP_BYTES
        return enough or self._ended or self._stopped


class _Ahead:
    """The next group, opened in a thread while this one is measured."""

    def __init__(self, pipeline: _Pipeline, lanes: Lanes | None) -> None:
        self._group: RemoteGroup | None = None
        self._error: BaseException | None = None
        self._pipeline, self._lanes = pipeline, lanes
        pipeline.arrivals.hurry(False)
        self.thread = threading.Thread(target=self._run, name="edgelut-ahead", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            stored = self._pipeline.arrivals.take()
            if stored:
                self._group = self._pipeline.group(stored, self._lanes)
                self._pipeline.stop.check()
                self._group.prepare()
        except BaseException as error:  # noqa: BLE001 - it is raised where the group is asked for
            self._error = error
            if self._group is not None and self._pipeline.stop.is_set():
                self._group.close()

    def take(self, hurry: bool) -> RemoteGroup | None:
        """Return the group when it is open, None where there is no more; raise what opening it raised."""
        self._pipeline.arrivals.hurry(hurry)
        self._pipeline.stop.join(self.thread)
        if self._error is not None:
            self.close()
            raise self._error
        return self._group

    def abort(self) -> None:
        """End it, wherever it is."""
        if self._group is not None:
            self._group.abort()
        self._pipeline.stop.join(self.thread)
        self.close()

    def close(self) -> None:
        """End the workers of a group that is not measured."""
        if self._group is not None and not self.thread.is_alive():
            self._group.close()
        elif self._lanes is not None and self._group is None:
            self._lanes.close()


def measure_remote(context: SweepContext, points: Sequence[Point], export: Export, turn: Turn) -> None:
    """Measure points of one device that is not this machine, in groups, each opened while the one before it is measured.

    Raises DeviceUnusable and DeviceBusy; what one point raises is its stored failure.
    """
    _Pipeline(context, turn).run(points, export)


class _Pipeline:
    """What the threads of one device's points share."""

    def __init__(self, context: SweepContext, turn: Turn) -> None:
        self.arrivals = _Arrivals()
        self.stop = Stop(turn)
        self._context = context
        self._checker = Checker(self.stop.turn, context.keep)

    def group(self, stored: dict[Point, Stored], lanes: Lanes | None) -> RemoteGroup:
        """Return a group."""
        return RemoteGroup(self._context, stored, self._checker, lanes)

    def run(self, points: Sequence[Point], export: Export) -> None:
        """Export, open and measure."""
        lanes = start_lanes(self._context, points)
        ahead: _Ahead | None = None
        exporting = threading.Thread(target=self._export, args=(export,), name="edgelut-export", daemon=True)
        try:
            both = self._begin(lanes)
            exporting.start()
            ahead = _Ahead(self, lanes)
            group = ahead.take(hurry=False)
            while group is not None:
                ahead = _Ahead(self, None) if both else None
                group.measure()
                ahead = ahead or _Ahead(self, None)
                group = ahead.take(hurry=True)
        finally:
            self.stop()
            self.arrivals.stop()
            if ahead is not None:
                ahead.abort()
            lanes.close()
            if exporting.ident is not None:
                self.stop.join(exporting)
            self._checker.close()

    def _begin(self, lanes: Lanes) -> bool:
        """Wait for the device; return whether it has cores enough to open artifacts beside what is timed on it."""
        cores = 0
        for key in lanes.keys:
            try:
                cores = max(cores, int(lanes.learn(key).facts.get("cores", 0)))
            except DeviceUnusable:
                raise
            except EdgelutError:
                continue  # its rows will tell
        threads = max(point.target.threads for point in self._context.points)
        return cores >= 2 * threads

    def _export(self, export: Export) -> None:
        def done(point: Point, stored: Stored) -> None:
            self.stop.check()
            self.arrivals.put(point, stored)

        try:
            export(done, self.stop.turn)
        except BaseException as error:  # noqa: BLE001 - it is raised where the next group is asked for
            self.arrivals.end(error)
        else:
            self.arrivals.end()


def together(points: Sequence[Point]) -> list[Point]:
    """Return points so that what completes a row comes close behind it: they are measured in one group."""
    wanted = {(point.target, point.spec): point for point in points}
    ordered: dict[Point, None] = {}
    for point in points:
        ordered.setdefault(point)
        for spec in needs(point.spec):
            found = wanted.get((point.target, spec))
            if found is not None:
                ordered.setdefault(found)
    return list(ordered)
