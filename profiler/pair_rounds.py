"""The rounds of a session of pairs: generations of workers for both sides, bursts back to back, each round stored at once."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from backends.base import Timing
from edgelut.errors import DeviceBusy, EdgelutError
from edgelut.jobs import Closed
from edgelut.plan import Point
from edgelut.types import Params, Run, Scalar

from .artifacts import Stored
from .errors import WorkerDied
from .hosting import is_hosted
from .observer import Progress
from .pace import Pace
from .stats import clock_of
from .timing import Opened
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
class _Row:
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
class _Pair:
    """A point being measured. Its bursts have one size on both sides and in all rounds, for p10 depends on it."""

    match: Match
    rows: list[_Row]
    inner: int = 0
    call_ns: int = 0


class Session:
    """Measures points that are held open together."""

    def __init__(self, context: PairContext, matches: Sequence[Match]) -> None:
        self._context = context
        self._pairing = context.pairing
        self._live = [
            _Pair(
                match,
                [
                    _Row(side, 2 * n + own, match.item.point, stored)
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
                    self._round(round_)
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
        rounds: dict[_Row, set[int]] = defaultdict(set)
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
        by_lane: dict[Key, list[_Row]] = defaultdict(list)
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

    def _fill(self, key: Key, rows: Sequence[_Row]) -> dict[_Row, EdgelutError]:
        """Start a lane's worker and open its rows; return those that cannot be, with what they raised.

        A row that ends the worker is left out, and a new worker takes the others.
        """
        failed: dict[_Row, EdgelutError] = {}
        while True:
            opening: _Row | None = None
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
            except DeviceBusy:
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

    def _open(self, lane: _Lane, row: _Row, failed: dict[_Row, EdgelutError]) -> None:
        self._context.observer.step()
        try:
            row.opened = lane.worker.call(
                "open_session",
                number=row.number,
                path=str(row.stored.path),
                target=row.point.target,
                shapes=row.stored.shapes,
            )
        except (WorkerDied, DeviceBusy):
            raise
        except EdgelutError as error:
            failed[row] = error

    def _size(self, pair: _Pair) -> None:
        if not pair.inner:
            pair.call_ns = min(row.opened.call_ns for row in pair.rows if row.opened)
            pair.inner = 1 if pair.match.item.point.is_cold else self._context.policy.inner(pair.call_ns)

    def _end_generation(self) -> None:
        for key in list(self._lanes):
            self._end_lane(key)

    def _end_lane(self, key: Key) -> None:
        lane = self._lanes.pop(key, None)
        if lane is not None:
            lane.worker.close()

    def _drop(self, failed: dict[_Row, EdgelutError]) -> None:
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

    def _round(self, round_: int) -> None:
        """Time each point's sides back to back, points and the reference in random order; then store it all."""
        self._pace.now = None
        for key in sorted({row.lane for pair in self._live for row in pair.rows}):
            self._settle(key)
        hosted = any(map(self._is_hosted, self._live))
        items: list[_Pair | Pace] = [*self._live, *([self._pace] if hosted else [])]
        for item in self._context.policy.order(items, round_):
            if isinstance(item, Pace):
                item.time()
            elif item in self._live:
                self._time_pair(item, round_)
        self._store()

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

    def _time_pair(self, pair: _Pair, round_: int) -> None:
        """Time both sides; each comes first in every second round."""
        coin = random.Random(f"{self._context.policy.seed}/{pair.match.item.number}").randrange(2)
        for row in pair.rows if (round_ + coin) % 2 else pair.rows[::-1]:
            self._context.observer.step(in_round=True)
            try:
                row.pending = self._burst(pair, row, round_)
            except DeviceBusy:
                raise
            except EdgelutError as error:
                self._drop({row: error})
                if isinstance(error, WorkerDied):
                    self._refill(row.lane)
                return

    def _burst(self, pair: _Pair, row: _Row, round_: int) -> Run:
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
            facts=lane.facts,
            artifact_sha256=row.stored.artifact.sha256,
            load_ns=row.opened.loaded.load_ns,
            compile_ns=row.opened.loaded.compile_ns,
            peak_memory_bytes=row.opened.peak_memory_bytes,
        )

    def _time(self, pair: _Pair, row: _Row, worker: Worker) -> tuple[int, Timing]:
        """Return how many warm-up calls there were, and the burst."""
        cold = row.point.is_cold
        warmups, samples = self._pairing.burst(pair.call_ns, pair.inner)
        if cold:
            warmups, samples = 0, self._context.policy.cold_samples
        timeout_s = 60 + 50 * (samples * pair.inner + warmups) * pair.call_ns / 1e9
        burst = {"samples": samples} if cold else {"warmups": warmups, "samples": samples, "inner": pair.inner}
        timing: Timing = worker.call("time_cold" if cold else "time_session", timeout_s, number=row.number, **burst)
        return warmups, timing

    def _store(self) -> None:
        """Store a round; a point of which a side is missing has none."""
        runs = [
            self._with_reference(pair, row.pending)
            for pair in self._live
            if all(row.pending is not None for row in pair.rows)
            for row in pair.rows
            if row.pending is not None
        ]
        self._context.put(runs)
        for pair in self._live:
            for row in pair.rows:
                row.pending = None

    def _with_reference(self, pair: _Pair, run: Run) -> Run:
        """Return the run with its round's reference time, on the clock of its row."""
        now = self._pace.now
        if now is None or not self._is_hosted(pair):
            return run
        on_cpu = clock_of(run.target.threads) == "cpu" and run.cpu_ns
        return replace(run, reference_ns=now.cpu_ns if on_cpu else now.wall_ns)

    def _is_hosted(self, pair: _Pair) -> bool:
        """Say whether its calls run on this machine's processor, whose speed the reference tells."""
        return is_hosted(pair.match.item.point.target, self._context.toolchains)

    def _report(self, done: int, seconds: float) -> None:
        left = seconds * (self._pairing.total - done)
        self._context.observer.progress(Progress(len(self._context.closed), self._context.total, done, left))
