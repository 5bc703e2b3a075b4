"""Interleaved rounds over a group of points: workers, bursts in random order, the reference kernel, the stopping rule."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backends.base import Timing
from edgelut.errors import DeviceBusy, DeviceUnusable, EdgelutError
from edgelut.plan import Point
from edgelut.types import BlockSpec, Clock, Entry, Run, Target

from .artifacts import Stored
from .errors import WorkerDied
from .hosting import is_hosted
from .lanes import Key, Lane, Lanes
from .nominal import nominal_ns
from .observer import Progress
from .pace import Pace
from .reference import VERSION
from .rows import Row, timeout_s
from .stats import Summary, clock_of_run, summarise
from .timing import Burst, Opened, ReferenceTime
from .worker import Worker

if TYPE_CHECKING:
    from .sweep import SweepContext

TASKS = "profiler.timing"
SETTLE_S = 120.0


def start_lanes(context: SweepContext, points: Iterable[Point]) -> Lanes:
    """Return the lanes of some points, their workers on the way; close them."""

    def start(runtime: str) -> Worker:
        env = context.toolchains.runtime(runtime).env
        return Worker(TASKS, {name: str(value) for name, value in env.items()}, keep=context.keep)

    lanes = Lanes(start)
    lanes.begin((point.target.device, point.target.runtime) for point in points)
    return lanes


class Group:
    """Measures points that are held open together.

    Obligations: what is stored or told is, under the context's lock; what is not done when it raises is closed all the same.
    """

    open_s = 120.0  # for an artifact

    def __init__(self, context: SweepContext, stored: dict[Point, Stored], lanes: Lanes | None = None) -> None:
        """`lanes` are those that were started already; they are closed with the group."""
        self._context = context
        self._policy = context.policy
        self._rows = [Row(next(context.numbers), point, artifact) for point, artifact in stored.items()]
        self._live: list[Row] = []
        self._lanes = lanes or start_lanes(context, stored)
        self._earlier: list[Run] = []  # of this sweep, stored before it was cut off
        self._ledger = context.ledger
        self._pace = Pace(lambda: Worker(TASKS, keep=context.keep))
        self._measured: list[Row] = []  # done, but not yet told: see _is_ready

    def measure(self) -> None:
        """Measure until every row is done or failed."""
        try:
            self.prepare()
            self._measure()
        finally:
            self.close()

    def prepare(self) -> None:
        """Wait for the workers, and open all that is to be measured."""
        self._open_lanes()
        with self._context.lock:
            self._drop_known()
            self._resume()
        self._open_rows()

    def _open_rows(self) -> None:
        for row in list(self._live):
            self._attempt(row, self._open)

    def close(self) -> None:
        """End the workers."""
        self._pace.close()
        self._lanes.close()

    def _measure(self) -> None:
        self._close_done()
        round_ = max((len(row.runs) for row in self._live), default=0)
        while self._live:
            started = time.perf_counter()
            done = self._rounds(round_)
            round_ += done
            self._close_done()
            self._pause(time.perf_counter() - started)
            if done:
                self._report(round_, (time.perf_counter() - started) / done)

    def _rounds(self, round_: int) -> int:
        """Measure and store one round or several, the first of that number; return how many were kept."""
        self._round(round_)
        return 1

    def _pause(self, round_s: float) -> None:
        """Spread the rounds of a short sweep: a machine that is slow for some seconds must not be slow for all of it.

        It stays busy meanwhile: a processor that fell asleep between rounds moves a small network by 10 % from round to round.
        """
        if any(map(self._is_hosted, self._live)):
            until = time.monotonic() + self._policy.pause_s(round_s)
            while time.monotonic() < until:
                pass

    def _open_lanes(self) -> None:
        """Read what was measured before, and wait for the workers meanwhile; a lane that cannot start fails its rows."""
        with self._context.lock:
            self._earlier = self._context.store.sweep_runs(self._context.id)
        for key in dict.fromkeys(row.lane for row in self._rows):
            try:
                self._lanes.learn(key)
            except (DeviceBusy, DeviceUnusable):
                raise
            except EdgelutError as error:
                for row in [row for row in self._rows if row.lane == key]:
                    self._context.fail(row.point, error)
                self._rows = [row for row in self._rows if row.lane != key]
        if any(map(self._is_hosted, self._rows)):
            self._pace.start()
        self._live = list(self._rows)

    def _drop_known(self) -> None:
        """Leave out rows that are in the table, stable, of the same artifact and under the same conditions."""
        if self._context.again:
            return
        by_target: dict[Target, list[Row]] = defaultdict(list)
        for row in self._live:
            by_target[row.point.target].append(row)
        for target, rows in by_target.items():
            found = self._context.store.find_many([row.point.spec for row in rows], target)
            for row, entry in zip(rows, found, strict=True):
                if entry is not None and self._is_known(row, entry):
                    self._live.remove(row)
                    self._ledger.drop(row.point)
                    self._context.result.known.append(entry)
                    self._context.observer.known(row.point, entry)

    def _is_known(self, row: Row, entry: Entry) -> bool:
        return (
            entry.latency.stable
            and not self._ledger.completes(row.point, entry)
            and entry.provenance.get("conditions") == self._lanes[row.lane].conditions
            and entry.provenance.get("artifact_sha256") == row.stored.artifact.sha256
        )

    def _resume(self) -> None:
        """Take up the rounds that this sweep stored before it was cut off, where conditions and artifact are the same."""
        runs: dict[tuple[BlockSpec, Target], list[Run]] = defaultdict(list)
        for run in self._earlier:
            runs[run.spec, run.target].append(run)
        self._earlier = []
        for row in self._live:
            lane = self._lanes[row.lane]
            row.runs = [
                run
                for run in runs[row.point.spec, row.point.target]
                if lane.covers(run) and run.artifact_sha256 == row.stored.artifact.sha256
            ]
        rounds = sum(len(row.runs) for row in self._live)
        if rounds:
            self._context.observer.resumed(rounds)

    def _open(self, row: Row) -> None:
        with self._context.lock:
            self._context.observer.step(in_round=False)
        row.take(self._opened(row), self._policy, self._lanes[row.lane])

    def _opened(self, row: Row, **more: object) -> Opened:
        """Have a row's artifact opened."""
        place = {"number": row.number, "path": str(row.stored.path)}
        found: Opened = self._lanes[row.lane].worker.call(
            "open_session", self.open_s, **place, target=row.point.target, shapes=row.stored.shapes, **more
        )
        return found

    def _attempt(self, row: Row, step: Callable[[Row], None]) -> None:
        """Do one step for a row; what it raises ends the row, not the sweep."""
        try:
            step(row)
        except (DeviceBusy, DeviceUnusable):
            raise
        except WorkerDied as error:
            self._context.fail(row.point, error)
            self._drop(row)
            self._restart(row.lane)
        except EdgelutError as error:
            self._context.fail(row.point, error)
            self._drop(row)

    def _drop(self, row: Row) -> None:
        for rows in (self._live, self._measured):
            if row in rows:
                rows.remove(row)

    def _restart(self, key: Key) -> None:
        """Start a lane's worker anew and open again what it held."""
        lane = self._lanes.restart(key)
        for row in [row for row in self._live if row.lane == key and row.opened is not None]:
            if self._lanes[key] is not lane:
                return  # a row ended this worker too, and the one that came after it holds the rest
            row.pending = None
            self._attempt(row, self._open)

    def _outlive(self, key: Key, step: Callable[[Key], None]) -> None:
        """Do one step of a lane; a worker that dies in it is no row's fault, and costs the round's reference at most."""
        try:
            step(key)
        except WorkerDied as error:
            self._lanes.count(error)
            self._restart(key)

    def _round(self, round_: int) -> None:
        """Time every live row and the reference once, in random order; then store it all."""
        self._pace.now = None
        for key in sorted({row.lane for row in self._live}):
            self._outlive(key, self._settle)
        items: list[Row | Pace] = [*self._live, *([self._pace] if any(map(self._is_hosted, self._live)) else [])]
        for item in self._policy.order(items, round_):
            if isinstance(item, Pace):
                item.time()
            elif item in self._live:
                self._attempt(item, lambda row: self._burst(row, round_))
        self._store()

    def _settle(self, key: Key) -> None:
        self._lanes[key].worker.call("settle", SETTLE_S + 5, device=key[0], timeout_s=SETTLE_S)

    def _burst(self, row: Row, round_: int) -> None:
        self._context.observer.step(in_round=True)
        burst, started = row.burst(self._policy), datetime.now(UTC)
        timing = self._time(row, burst)
        row.pending = row.run(timing, burst, self._lanes[row.lane], self._context.id, round_, started)

    def _time(self, row: Row, burst: Burst) -> Timing:
        worker, wait_s = self._lanes[row.lane].worker, timeout_s(row.call_ns, [burst])
        if burst.cold:
            timing: Timing = worker.call("time_cold", wait_s, number=row.number, samples=burst.samples)
            return timing
        how = {"warmups": burst.warmups, "samples": burst.samples, "inner": burst.inner}
        timing = worker.call("time_session", wait_s, number=row.number, **how)
        return timing

    def _store(self) -> None:
        """Store a round in one transaction: a sweep that is killed loses the round it was in and no other."""
        runs = []
        for row in self._live:
            if row.pending is not None:
                row.pending = with_reference(row.pending, self._pace.now if self._is_hosted(row) else None)
                runs.append(row.pending)
        with self._context.lock:
            self._context.store.put_runs(runs)
        for row in self._live:
            if row.pending is not None:
                row.runs.append(row.pending)
                row.pending = None

    def _close_done(self) -> None:
        """Turn rows whose interval is narrow enough into entries."""
        for row in [row for row in self._live if row.runs and row.is_done(self._policy)]:
            self._close(row)
        self._tell_done()

    def _tell_done(self) -> None:
        """Make entries of rows that are done, and store what waits for nothing more."""
        with self._context.lock:
            for row in [row for row in self._measured if self._is_ready(row)]:
                self._measured.remove(row)
                self._attempt(row, self._tell)
            self._ledger.release()

    def _close(self, row: Row) -> None:
        self._measured.append(row)
        self._live.remove(row)
        self._outlive(row.lane, lambda key: self._lanes[key].worker.call("close_session", number=row.number))

    def _is_ready(self, row: Row) -> bool:
        """Say whether the machine's speed is known well enough to tell a row by it: a cold row is done long before that."""
        others = any(self._is_hosted(live) for live in self._live)
        return not self._is_hosted(row) or not others or len(self._pace.seen) >= self._policy.min_rounds

    def _tell(self, row: Row) -> None:
        self._ledger.add(row.point, self._entry(row))

    def _entry(self, row: Row) -> Entry:
        summary = summarise(row.runs, self._policy)
        emulated = self._context.toolchains.runtime(row.point.target.runtime).emulated
        return row.entry(summary, self._lane_of(row), self._context.id, self._nominal(row, summary), emulated)

    def _lane_of(self, row: Row) -> Lane:
        """Return the lane that a row was measured in."""
        return self._lanes[row.lane]

    def _nominal(self, row: Row, summary: Summary) -> float:
        """Return the nominal time of the reference beside a row; 0 where there was none."""
        clock: Clock = summary.latency.clock
        if not summary.reference_ns:
            return 0.0
        own, seen = [run.reference_ns for run in row.runs], [_on(one, clock) for one in self._references(row)]
        lane, measured = self._lane_of(row), max(own, seen, key=len)
        kernels = self._kernels(row)
        device, store = row.point.target.device, self._context.store
        return nominal_ns(store, lane.facts, device, clock, measured, self._context.id, kernels)

    def _references(self, row: Row) -> Sequence[ReferenceTime]:
        """Return the reference's times in all rounds, those included that a row was not in."""
        return self._pace.seen

    def _kernels(self, row: Row) -> int | str:
        """Return which version of which reference kernels was timed beside a row."""
        return VERSION

    def _is_hosted(self, row: Row) -> bool:
        """Say whether a row's calls run on this machine's processor, whose speed the reference tells."""
        return is_hosted(row.point.target, self._context.toolchains)

    def _report(self, round_: int, seconds: float) -> None:
        """Tell how far it is."""
        left = max((row.rounds_left(self._policy) for row in self._live), default=0)
        share = 0.75  # rows end one after another: the last rounds are short
        done = len(self._rows) - len(self._live)
        with self._context.lock:
            self._context.observer.progress(Progress(done, len(self._rows), round_, seconds * left * share))


def with_reference(run: Run, reference: ReferenceTime | None) -> Run:
    """Return the run with its round's reference time, on the clock of its row."""
    return run if reference is None else replace(run, reference_ns=_on(reference, clock_of_run(run)))


def _on(reference: ReferenceTime, clock: Clock) -> float:
    """Return a reference's time on a clock; 0 where it has none, and beside counts."""
    return {"cpu": reference.cpu_ns, "wall": reference.wall_ns}.get(clock, 0.0)
