"""The points of a device that is not this machine: while it measures some of them, the next are exported, brought to it and opened.

Four things go on at once: exports; bringing artifacts to the device; opening the next group, in workers of its own; measuring, in
the caller's thread. The store, the observer and the ledger are under the context's lock.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from edgelut.errors import DeviceUnusable, EdgelutError, Unsupported
from edgelut.plan import Point
from edgelut.slopes import needs

from .artifacts import Stored
from .checking import Checker
from .errors import TaskFailed, WorkerDied
from .export_points import Turn
from .flights import FEWEST, RemoteGroup
from .lanes import Lanes
from .post import Post
from .rounds import TASKS, start_lanes
from .worker import Worker

if TYPE_CHECKING:
    from .sweep import SweepContext

ROWS = 24  # of a group: enough that what moves the device moves many of them
PUSH_S = 600.0  # for one artifact
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

    def put_back(self, stored: dict[Point, Stored]) -> None:
        """Let what was taken be taken again, before all else."""
        with self._changed:
            self._there.extendleft(reversed(stored.items()))
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that there come no more, and why, if that is no good reason."""
        with self._changed:
            self._ended, self._error = True, self._error or error
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


class _Pusher:
    """Brings artifacts to the device in the order in which they come, while others are opened there or timed."""

    def __init__(self, context: SweepContext, device: str, arrivals: _Arrivals) -> None:
        self._context, self._device, self._arrivals = context, device, arrivals
        self._waiting: queue.SimpleQueue[tuple[Point, Stored] | None] = queue.SimpleQueue()
        self._worker: Worker | None = None
        self._stopped = False
        self.thread = threading.Thread(target=self._run, name="edgelut-push", daemon=True)

    def put(self, point: Point, stored: Stored) -> None:
        """Bring one, and then let it be opened."""
        self._waiting.put((point, stored))

    def end(self) -> None:
        """Say that there come no more."""
        self._waiting.put(None)

    def stop(self) -> None:
        """End in the middle of it."""
        self._stopped = True
        self._waiting.put(None)
        if self._worker is not None:
            self._worker.kill()

    def _run(self) -> None:
        try:
            self._worker = Worker(TASKS, keep=self._context.keep)
            while (item := self._waiting.get()) is not None and not self._stopped:
                with suppress(Unsupported, WorkerDied, TaskFailed):  # opening it will say why
                    self._worker.call("push", PUSH_S, device=self._device, path=str(item[1].path))
                self._arrivals.put(*item)
        except BaseException as error:  # noqa: BLE001 - it is raised where the next group is asked for
            self._arrivals.end(error)
        else:
            self._arrivals.end()
        finally:
            if self._worker is not None:
                self._worker.close()


class _Ahead:
    """The next group, opened in a thread while this one is measured."""

    def __init__(self, pipeline: _Pipeline, lanes: Lanes) -> None:
        self._group: RemoteGroup | None = None
        self._error: BaseException | None = None
        self._hurry = False
        self._pipeline, self._lanes = pipeline, lanes
        pipeline.arrivals.hurry(False)
        self.thread = threading.Thread(target=self._run, name="edgelut-ahead", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            stored = self._pipeline.arrivals.take()
            if stored:
                self._group = self._pipeline.group(stored, self._lanes)
                if self._hurry:
                    self._group.hurry()
                self._pipeline.stop.check()
                self._group.prepare()
        except BaseException as error:  # noqa: BLE001 - it is raised where the group is asked for
            self._error = error

    def take(self, hurry: bool) -> RemoteGroup | None:
        """Return the group when it is open, None where there is no more; raise what opening it raised."""
        self._hurry = hurry
        self._pipeline.arrivals.hurry(hurry)
        if hurry and self._group is not None:
            self._group.hurry()
        self._pipeline.stop.join(self.thread)
        if self._error is not None:
            raise self._error
        if self._group is not None:
            self._pipeline.arrivals.put_back(self._group.left_out())
        return self._group

    def abort(self) -> None:
        """End it, wherever it is."""
        if self._group is not None:
            self._group.abort()
        self._pipeline.stop.join(self.thread)


def measure_remote(context: SweepContext, points: Sequence[Point], export: Export, turn: Turn) -> None:
    """Measure points of one device that is not this machine, in groups, each opened while the one before it is measured.

    Raises DeviceUnusable and DeviceBusy; what one point raises is its stored failure.
    """
    _Pipeline(context, turn, points[0].target.device).run(points, export)


class _Pipeline:
    """What the threads of one device's points share."""

    def __init__(self, context: SweepContext, turn: Turn, device: str) -> None:
        self.arrivals = _Arrivals()
        self.stop = Stop(turn)
        self._context = context
        self._checker = Checker(self.stop.turn, context.keep)
        self._post = Post(context, device, self._checker)
        self._pusher = _Pusher(context, device, self.arrivals)

    def group(self, stored: dict[Point, Stored], lanes: Lanes) -> RemoteGroup:
        """Return a group."""
        return RemoteGroup(self._context, stored, self._post, lanes)

    def run(self, points: Sequence[Point], export: Export) -> None:
        """Export, open and measure: each group in the workers that the group before the last has left."""
        all_lanes = [start_lanes(self._context, points)]
        exporting = threading.Thread(target=self._export, args=(export,), name="edgelut-export", daemon=True)
        ahead: _Ahead | None = None
        done = False
        try:
            beside = self._begin(all_lanes[0])
            exporting.start()
            self._pusher.thread.start()
            if beside:
                all_lanes.append(start_lanes(self._context, points))
            free = deque(all_lanes)
            ahead = _Ahead(self, free.popleft())
            group = ahead.take(hurry=False)
            while group is not None:
                ahead = _Ahead(self, free.popleft()) if beside else None
                group.measure()
                free.append(group.lanes)
                ahead = ahead or _Ahead(self, free.popleft())
                group = ahead.take(hurry=True)
            done = True
        finally:
            self.stop()
            self.arrivals.stop()
            if ahead is not None:
                ahead.abort()
            for lanes in all_lanes:
                if not done:
                    lanes.kill()
                lanes.close()
            self._pusher.stop()
            for thread in (exporting, self._pusher.thread):
                if thread.ident is not None:
                    self.stop.join(thread)
            self._checker.close()
            self._post.catch_up()

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
            self._pusher.put(point, stored)

        try:
            export(done, self.stop.turn)
        except BaseException as error:  # noqa: BLE001 - it is raised where the next group is asked for
            self.arrivals.end(error)
        finally:
            self._pusher.end()


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
