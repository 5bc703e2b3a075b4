"""The rounds of a session of pairs: generations of workers for both sides, bursts back to back, each round stored at once."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from backends.base import Timing
from edgelut.errors import DeviceBusy, DeviceUnusable, EdgelutError
from edgelut.jobs import Closed
from edgelut.plan import Point
from edgelut.types import Params, Run, Scalar

from .artifacts import Stored
from .errors import WorkerDied
from .hosting import is_hosted
from .observer import Progress
from .pace import Pace
from .rounds import with_reference
from .rows import row_facts, timeout_s
from .timing import Burst, Opened
from .worker import Worker

if TYPE_CHECKING:
    from .paired import Match, PairContext, Side

TASKS = "profiler.timing"
SETTLE_S = 120.0
MOST_DEATHS = 3  # of workers outside any row's burst: more is no accident, and ends the session
MISSING = "the baseline's artifact is not on this host: only the new one was measured"

Key: TypeAlias = "tuple[Side, str, str]"  # side, device, runtime


@dataclass(frozen=True, slots=True)
class _Lane:
    """One worker process: all rows of one side and runtime on one device, until its generation ends."""

    worker: Worker
    facts: Params


@dataclass(eq=False, slots=True)
class SideRow:
    """One artifact of a point."""

    side: Side
    number: int
    point: Point
    stored: Stored
    opened: Opened | None = None
    pending: Run | None = None

    @property
    def lane(self) -> Key:
        return self.side, self.point.target.device, self.point.target.runtime


@dataclass(eq=False, slots=True)
class PairRows:
    """A point being measured. Its bursts have one size on both sides and in all rounds, for p10 depends on it."""

    match: Match
    rows: list[SideRow]
    inner: int = 0
    call_ns: int = 0


class Session:
    """Measures points that are held open together."""

    open_s = 120.0  # for an artifact

    def __init__(self, context: PairContext, matches: Sequence[Match]) -> None:
        self._context = context
        self._pairing = context.pairing
        self._live = [
            PairRows(
                match,
                [
                    SideRow(side, 2 * n + own, match.item.point, stored)
                    for own, (side, stored) in enumerate(match.stored.items())
                ],
            )
            for n, match in enumerate(matches)
        ]
        self._lanes: dict[Key, _Lane] = {}
        self._pace = Pace(lambda: Worker(TASKS, keep=context.keep))
        self._deaths = 0

    def measure(self) -> None:
        """Measure every round that is not stored yet; close the points."""
        try:
            done, round_ = self._resume()
            while self._live and done < self._pairing.total:
                self._start_generation()
                for _ in range(self._pairing.rounds - done % self._pairing.rounds):
                    started = time.perf_counter()
                    while not self._round(round_):
                        pass
                    done, round_ = done + 1, round_ + 1
                    self._report(done, time.perf_counter() - started)
                self._end_generation()
        finally:
            self._end_generation()
            self._pace.close()
        for pair in self._live:
            item = pair.match.item
            reason = MISSING if item.baseline and len(pair.rows) == 1 else ""
            self._context.closed[item.number] = Closed(item.number, "compared", reason)

    def _resume(self) -> tuple[int, int]:
        """Return how many rounds are stored whole, and the number of the next one: never one that a crash cut in two."""
        rows = {(row.side, row.point.spec, row.point.target): row for pair in self._live for row in pair.rows}
        rounds: dict[SideRow, set[int]] = defaultdict(set)
        last = -1
        for side, store in self._context.stores.items():
            for run in store.sweep_runs(self._context.sweeps[side]):
                row = rows.get((side, run.spec, run.target))
                if row is None:
                    continue
                last = max(last, run.round)
                if run.artifact_sha256 == row.stored.artifact.sha256:
                    rounds[row].add(run.round)
        done = max((len(set.intersection(*(rounds[row] for row in pair.rows))) for pair in self._live), default=0)
        if done:
            self._context.observer.resumed(done)
        return done, last + 1

    def _start_generation(self) -> None:
        """Start fresh processes for both sides at once: to open all artifacts takes longer than a round."""
        by_lane: dict[Key, list[SideRow]] = defaultdict(list)
        for pair in self._live:
            for row in pair.rows:
                by_lane[row.lane].append(row)
        if any(map(self._is_hosted, self._live)):
            self._pace.start()
        with ThreadPoolExecutor(len(by_lane)) as threads:
            futures = [threads.submit(self._fill, key, rows) for key, rows in by_lane.items()]
        self._drop({row: error for future in futures for row, error in future.result().items()})
        for pair in self._live:
            self._size(pair)

    def _fill(self, key: Key, rows: Sequence[SideRow]) -> dict[SideRow, EdgelutError]:
        """Start a lane's worker and open its rows; return those that cannot be, with what they raised.

        A row that ends the worker is left out, and a new worker takes the others.
        """
        failed: dict[SideRow, EdgelutError] = {}
        while True:
            opening: SideRow | None = None
            try:
                lane = self._lanes[key] = self._start(key)
                for opening in [row for row in rows if row not in failed]:
                    self._open(lane, opening, failed)
                return failed
            except WorkerDied as error:
                self._end_lane(key)
                if opening is not None:
                    failed[opening] = error
                    continue
                return {**dict.fromkeys(rows, error), **failed}
            except (DeviceBusy, DeviceUnusable):
                raise
            except EdgelutError as error:  # of the worker as a whole: none of its rows can be measured
                self._end_lane(key)
                return {**dict.fromkeys(rows, error), **failed}

    def _start(self, key: Key) -> _Lane:
        side, device, runtime = key
        env = {name: str(value) for name, value in self._context.toolchains.runtime(runtime).env.items()}
        python = self._context.environment if side == "baseline" else None
        worker = Worker(TASKS, env, python=python, keep=self._context.keep)
        try:
            facts: dict[str, Scalar] = worker.call("facts", device=device, runtime=runtime)
        except BaseException:
            worker.close()
            raise
        return _Lane(worker, Params(facts))

    def _open(self, lane: _Lane, row: SideRow, failed: dict[SideRow, EdgelutError]) -> None:
        self._context.observer.step()
        try:
            row.opened = lane.worker.call(
                "open_session",
                self.open_s,
                number=row.number,
                path=str(row.stored.path),
                target=row.point.target,
                shapes=row.stored.shapes,
                **self._checks(row),
            )
        except (WorkerDied, DeviceBusy, DeviceUnusable):
            raise
        except EdgelutError as error:
            failed[row] = error

    def _checks(self, row: SideRow) -> dict[str, bool]:
        """Return how a row's outputs are checked when it is opened."""
        return {}

    def _size(self, pair: PairRows) -> None:
        if not pair.inner:
            pair.call_ns = min(row.opened.call_ns for row in pair.rows if row.opened)
            once = pair.match.item.point.is_cold or any(row.opened.counts for row in pair.rows if row.opened)
            pair.inner = 1 if once else self._context.policy.inner(pair.call_ns)

    def _end_generation(self) -> None:
        for key in list(self._lanes):
            self._end_lane(key)

    def _end_lane(self, key: Key) -> None:
        lane = self._lanes.pop(key, None)
        if lane is not None:
            lane.worker.close()

    def _drop(self, failed: dict[SideRow, EdgelutError]) -> None:
        """End the points of rows that failed."""
        for pair in list(self._live):
            for row in pair.rows:
                if row in failed:
                    self._live.remove(pair)
                    self._context.fail(pair.match.item, failed[row], row.side)
                    break

    def _refill(self, key: Key) -> None:
        """Start a lane's worker anew in the middle of a generation."""
        self._end_lane(key)
        rows = [row for pair in self._live for row in pair.rows if row.lane == key]
        for row in rows:
            row.pending = None
        if rows:
            self._drop(self._fill(key, rows))

    def _round(self, round_: int) -> bool:
        """Time each point's sides back to back, points and the reference in random order; then store it all, and say so."""
        self._pace.now = None
        for key in sorted({row.lane for pair in self._live for row in pair.rows}):
            self._settle(key)
        hosted = any(map(self._is_hosted, self._live))
        items: list[PairRows | Pace] = [*self._live, *([self._pace] if hosted else [])]
        for item in self._context.policy.order(items, round_):
            if isinstance(item, Pace):
                item.time()
            elif item in self._live:
                self._time_pair(item, round_)
        return self._store()

    def _settle(self, key: Key) -> None:
        """Let a lane's device come to rest; a worker that dies in it is no point's fault."""
        if key not in self._lanes:  # its last point failed
            return
        try:
            self._lanes[key].worker.call("settle", SETTLE_S + 5, device=key[1], timeout_s=SETTLE_S)
        except WorkerDied:
            self._deaths += 1
            if self._deaths > MOST_DEATHS:
                raise
            self._refill(key)

    def _time_pair(self, pair: PairRows, round_: int) -> None:
        """Time both sides; each comes first in every second round."""
        coin = random.Random(f"{self._context.policy.seed}/{pair.match.item.number}").randrange(2)
        for row in pair.rows if (round_ + coin) % 2 else pair.rows[::-1]:
            self._context.observer.step(in_round=True)
            try:
                row.pending = self._burst(pair, row, round_)
            except (DeviceBusy, DeviceUnusable):
                raise
            except EdgelutError as error:
                self._fail(row, error)
                return

    def _fail(self, row: SideRow, error: EdgelutError) -> None:
        """End the point of a row."""
        self._drop({row: error})
        if isinstance(error, WorkerDied):
            self._refill(row.lane)

    def _burst(self, pair: PairRows, row: SideRow, round_: int) -> Run:
        lane = self._lanes[row.lane]
        assert row.opened is not None
        started = datetime.now(UTC)
        warmups, timing = self._time(pair, row, lane.worker)
        return Run(
            spec=row.point.spec,
            target=row.point.target,
            sweep=self._context.sweeps[row.side],
            process=lane.worker.process,
            round=round_,
            wall_ns=timing.wall_ns,
            cpu_ns=timing.cpu_ns,
            inner=pair.inner,
            warmups=warmups,
            reference_ns=0.0,
            started_at=started,
            facts=row_facts(lane.facts, row.opened, row.point.target.device),
            artifact_sha256=row.stored.artifact.sha256,
            load_ns=row.opened.loaded.load_ns,
            compile_ns=row.opened.loaded.compile_ns,
            peak_memory_bytes=row.opened.peak_memory_bytes,
        )

    def _time(self, pair: PairRows, row: SideRow, worker: Worker) -> tuple[int, Timing]:
        """Return how many warm-up calls there were, and the burst."""
        burst = self._sized(pair, row)
        wait_s = timeout_s(pair.call_ns, [burst])
        if burst.cold:
            timing: Timing = worker.call("time_cold", wait_s, number=row.number, samples=burst.samples)
        else:
            how = {"warmups": burst.warmups, "samples": burst.samples, "inner": burst.inner}
            timing = worker.call("time_session", wait_s, number=row.number, **how)
        return burst.warmups, timing

    def _sized(self, pair: PairRows, row: SideRow) -> Burst:
        """Return what is timed of a side in a round."""
        if row.opened is not None and row.opened.counts:
            return Burst(row.number, 0, 1)
        if row.point.is_cold:
            return Burst(row.number, 0, self._context.policy.cold_samples, cold=True)
        warmups, samples = self._pairing.burst(pair.call_ns, pair.inner)
        return Burst(row.number, warmups, samples, pair.inner)

    def _store(self) -> bool:
        """Store a round; a point of which a side is missing has none. Return whether it was kept."""
        runs = [
            self._with_reference(pair, row.pending)
            for pair in self._live
            if all(row.pending is not None for row in pair.rows)
            for row in pair.rows
            if row.pending is not None
        ]
        self._context.put(runs)
        self._forget()
        return True

    def _forget(self) -> None:
        """Leave the round behind."""
        for pair in self._live:
            for row in pair.rows:
                row.pending = None

    def _with_reference(self, pair: PairRows, run: Run) -> Run:
        """Return the run with its round's reference time, on the clock of its row."""
        return with_reference(run, self._pace.now if self._is_hosted(pair) else None)

    def _is_hosted(self, pair: PairRows) -> bool:
        """Say whether its calls run on this machine's processor, whose speed the reference tells."""
        return is_hosted(pair.match.item.point.target, self._context.toolchains)

    def _report(self, done: int, seconds: float) -> None:
        left = seconds * (self._pairing.total - done)
        self._context.observer.progress(Progress(len(self._context.closed), self._context.total, done, left))
