"""Pairs: a new and an older artifact of each point timed in the same rounds, each side in worker processes of its own."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from backends import registry
from backends.base import Timing
from edgelut.errors import BackendMissing, DeviceBusy, EdgelutError, StorageError
from edgelut.jobs import BatchPoint, Closed
from edgelut.plan import Point, Policy
from edgelut.runs import RunStore
from edgelut.types import Params, Run, Scalar

from .artifacts import ArtifactStore, Stored
from .errors import WorkerDied
from .export_points import ExportPool
from .lock import device_lock
from .observer import Observer, Progress
from .pace import Pace
from .stats import clock_of
from .timing import Opened
from .worker import Worker

TASKS = "profiler.timing"
SETTLE_S = 120.0
MOST_DEATHS = 3  # of workers outside any row's burst
GROUP_BYTES = 1 << 29  # of new artifacts held open at a time; the old ones are open beside them
MISSING = "the baseline's artifact is not on this host: only the new one was measured"

Side: TypeAlias = Literal["new", "baseline"]
Key: TypeAlias = tuple[Side, str, str]  # side, device, runtime


@dataclass(frozen=True, slots=True)
class Pairing:
    """How a session of pairs is cut up: fresh processes several times over, for between two processes a row moves by 2-4 %."""

    generations: int = 4
    rounds: int = 4  # of each generation
    warmups: int = 2
    burst_ns: int = 8_000_000

    @property
    def total(self) -> int:
        """The rounds of a session."""
        return self.generations * self.rounds


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
class _Match:
    """A point being measured: its new artifact, and its baseline's where that is here."""

    item: BatchPoint
    rows: list[_Row]
    inner: int = 0
    call_ns: int = 0

    @property
    def hosted(self) -> bool:
        """Whether its calls run on this machine's processor, whose speed the reference tells."""
        return registry.load_runtime(self.item.point.target.runtime).hosted


@dataclass(slots=True)
class _Context:
    """What the parts of one session share."""

    stores: dict[Side, RunStore]
    sweeps: dict[Side, str]
    policy: Policy
    pairing: Pairing
    observer: Observer
    environment: Path | None
    closed: dict[int, Closed] = field(default_factory=dict)

    def fail(self, item: BatchPoint, error: EdgelutError, side: Side = "new") -> None:
        """Remember why a point could not be measured."""
        reason = f"{'baseline: ' if side == 'baseline' else ''}{type(error).__name__}: {error}"
        self.closed[item.number] = Closed(item.number, "failed", reason)
        self.observer.failed(item.point, reason)

    def put(self, runs: Sequence[Run]) -> None:
        """Store a round; in one transaction where both sides have one store."""
        if self.stores["new"] is self.stores["baseline"]:
            self.stores["new"].put_runs(runs)
            return
        for side in ("baseline", "new"):
            self.stores[side].put_runs([run for run in runs if run.sweep == self.sweeps[side]])


def run_pairs(
    points: Sequence[BatchPoint],
    store: RunStore,
    baseline_store: RunStore,
    sweep: str,
    baseline_sweep: str,
    home: Path,
    policy: Policy,
    *,
    pairing: Pairing | None = None,
    observer: Observer | None = None,
    environment: Path | None = None,
) -> list[Closed]:
    """Measure the points beside their baselines; return how each ended, `compared` or `failed` with a reason.

    Runs of the new artifacts are put into `store` as of `sweep`, those of the old ones into `baseline_store` as of
    `baseline_sweep`, both round by round; rounds that these sweeps hold already are not measured again. A point whose
    baseline's artifact is not in the artifacts of `home`, or that has no baseline, is measured on the new side only.
    `environment` is the Python interpreter that the baseline's side runs in, by default this one. Raises DeviceBusy,
    StorageError; what one point raises is its reason.
    """
    stores: dict[Side, RunStore] = {"new": store, "baseline": baseline_store}
    sweeps: dict[Side, str] = {"new": sweep, "baseline": baseline_sweep}
    context = _Context(stores, sweeps, policy, pairing or Pairing(), observer or Observer(), environment)
    matches = _matches(points, context, home / "artifacts")
    for device in sorted({match.item.point.target.device for match in matches}):
        with device_lock(home / "locks", device):
            for group in _groups([match for match in matches if match.item.point.target.device == device]):
                _Session(context, group, len(points)).measure()
    return [context.closed[item.number] for item in points]


def _matches(points: Sequence[BatchPoint], context: _Context, root: Path) -> list[_Match]:
    """Export the new artifacts and look up the old ones."""
    new: dict[int, Stored] = {}

    def done(index: int, stored: Stored, made: bool) -> None:
        new[index] = stored
        context.stores["new"].put_artifact(stored.artifact)
        context.observer.exported(len(new), len(points), points[index].point, made)

    def failed(index: int, error: EdgelutError) -> None:
        if isinstance(error, BackendMissing | StorageError):
            raise error  # no fault of this point: every other would fail by it
        context.fail(points[index], error)

    with ExportPool(root) as pool:
        pool.export_all([item.point for item in points], done, failed)
    old = ArtifactStore(root).by_hash({item.baseline.artifact_sha256 for item in points if item.baseline})
    matches = []
    for index, stored in sorted(new.items()):
        item = points[index]
        match = _Match(item, [_Row("new", index, item.point, stored)])
        before = old.get(item.baseline.artifact_sha256) if item.baseline else None
        if before is not None:
            match.rows.append(_Row("baseline", index, item.point, before))
        matches.append(match)
    return matches


def _groups(matches: Sequence[_Match]) -> Iterator[list[_Match]]:
    """Cut the points into groups that memory can hold open together."""
    group: list[_Match] = []
    size = 0
    for match in matches:
        more = match.rows[0].stored.artifact.size_bytes
        if group and size + more > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(match)
        size += more
    if group:
        yield group


class _Session:
    """Measures the points of one group, one generation of processes after another."""

    def __init__(self, context: _Context, matches: list[_Match], total: int) -> None:
        self._context = context
        self._pairing = context.pairing
        self._live = matches
        self._total = total
        self._lanes: dict[Key, _Lane] = {}
        self._pace = Pace(lambda: Worker(TASKS))
        self._deaths = 0

    def measure(self) -> None:
        """Measure every round that is not stored; close the points."""
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
        for match in self._live:
            reason = MISSING if match.item.baseline and len(match.rows) == 1 else ""
            self._context.closed[match.item.number] = Closed(match.item.number, "compared", reason)

    def _resume(self) -> tuple[int, int]:
        """Return how many rounds are stored whole, and the number of the next one: never one that a crash cut in two."""
        whole: list[set[int]] = []
        seen: set[int] = set()
        rows = {(row.side, row.point.spec, row.point.target): row for match in self._live for row in match.rows}
        rounds: dict[_Row, set[int]] = defaultdict(set)
        for side in ("new", "baseline"):
            for run in self._context.stores[side].sweep_runs(self._context.sweeps[side]):
                row = rows.get((side, run.spec, run.target))
                if row is None:
                    continue
                seen.add(run.round)
                if run.artifact_sha256 == row.stored.artifact.sha256:
                    rounds[row].add(run.round)
        whole = [set.intersection(*(rounds[row] for row in match.rows)) for match in self._live]
        done = max(map(len, whole), default=0)
        if done:
            self._context.observer.resumed(done)
        return min(done, self._pairing.total), max(seen, default=-1) + 1

    def _start_generation(self) -> None:
        """Start fresh processes for both sides, at once: opening takes longer than a round."""
        by_lane: dict[Key, list[_Row]] = defaultdict(list)
        for match in self._live:
            for row in match.rows:
                by_lane[row.lane].append(row)
        with ThreadPoolExecutor(len(by_lane) or 1) as threads:
            futures = [threads.submit(self._fill, key, rows) for key, rows in by_lane.items()]
        failed = {row: error for future in futures for row, error in future.result().items()}
        self._drop(failed)
        for match in self._live:
            self._size(match)

    def _fill(self, key: Key, rows: Sequence[_Row]) -> dict[_Row, EdgelutError]:
        """Start a lane's worker and open its rows; return those that cannot be, with what they raised.

        A row that ends the worker is left out, and a new worker takes the others.
        """
        failed: dict[_Row, EdgelutError] = {}
        while True:
            left = [row for row in rows if row not in failed]
            current: _Row | None = None
            try:
                lane = self._lanes[key] = self._start(key)
                for current in left:
                    try:
                        current.opened = self._open(lane, current)
                    except WorkerDied:
                        raise
                    except EdgelutError as error:
                        failed[current] = error
                return failed
            except DeviceBusy:
                raise
            except EdgelutError as error:
                self._end_lane(key)
                if current is None:  # the worker itself: none of its rows can be measured
                    return {**failed, **dict.fromkeys(left, error)}
                failed[current] = error

    def _start(self, key: Key) -> _Lane:
        side, device, runtime = key
        python = self._context.environment if side == "baseline" else None
        env = registry.load_runtime(runtime).env
        worker = Worker(TASKS, env, python) if python else Worker(TASKS, env)
        try:
            facts: dict[str, Scalar] = worker.call("facts", device=device, runtime=runtime)
        except BaseException:
            worker.close()
            raise
        return _Lane(worker, Params(facts))

    def _open(self, lane: _Lane, row: _Row) -> Opened:
        opened: Opened = lane.worker.call(
            "open_session",
            number=row.number,
            path=str(row.stored.path),
            target=row.point.target,
            shapes=row.stored.shapes,
        )
        return opened

    def _size(self, match: _Match) -> None:
        """Fix the size of a point's bursts once: the same for both sides and all rounds, for p10 depends on it."""
        if not match.inner:
            match.call_ns = min(row.opened.call_ns for row in match.rows if row.opened)
            match.inner = 1 if match.item.point.is_cold else self._context.policy.inner(match.call_ns)

    def _end_generation(self) -> None:
        for key in list(self._lanes):
            self._end_lane(key)

    def _end_lane(self, key: Key) -> None:
        lane = self._lanes.pop(key, None)
        if lane is not None:
            lane.worker.close()

    def _drop(self, failed: dict[_Row, EdgelutError]) -> None:
        """End the points of rows that failed."""
        for match in list(self._live):
            errors = [(row.side, failed[row]) for row in match.rows if row in failed]
            if errors:
                self._live.remove(match)
                self._context.fail(match.item, errors[0][1], errors[0][0])

    def _refill(self, key: Key) -> None:
        """Start a lane's worker anew in the middle of a generation."""
        self._end_lane(key)
        rows = [row for match in self._live for row in match.rows if row.lane == key]
        for row in rows:
            row.pending = None
        if rows:
            self._drop(self._fill(key, rows))

    def _round(self, round_: int) -> None:
        """Time each point's sides back to back, points and the reference in random order; then store it all."""
        self._pace.now = None
        for key in sorted({row.lane for match in self._live for row in match.rows}):
            self._settle(key)
        items: list[_Match | Pace] = [*self._live, *([self._pace] if any(m.hosted for m in self._live) else [])]
        for item in self._context.policy.order(items, round_):
            if isinstance(item, Pace):
                item.time()
            elif item in self._live:
                self._time_match(item, round_)
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

    def _time_match(self, match: _Match, round_: int) -> None:
        """Time both sides; each comes first in every second round."""
        coin = random.Random(f"{self._context.policy.seed}/{match.item.number}").randrange(2)
        rows = match.rows if (round_ + coin) % 2 else match.rows[::-1]
        for row in rows:
            try:
                row.pending = self._burst(match, row, round_)
            except DeviceBusy:
                raise
            except EdgelutError as error:
                self._drop({row: error})
                if isinstance(error, WorkerDied):
                    self._refill(row.lane)
                return

    def _burst(self, match: _Match, row: _Row, round_: int) -> Run:
        lane = self._lanes[row.lane]
        assert row.opened is not None
        started = datetime.now(UTC)
        timing = self._time(match, row, lane.worker)
        return Run(
            spec=row.point.spec,
            target=row.point.target,
            sweep=self._context.sweeps[row.side],
            process=lane.worker.process,
            round=round_,
            wall_ns=timing.wall_ns,
            cpu_ns=timing.cpu_ns,
            inner=match.inner,
            warmups=0 if row.point.is_cold else self._pairing.warmups,
            reference_ns=0.0,
            started_at=started,
            facts=lane.facts,
            artifact_sha256=row.stored.artifact.sha256,
            load_ns=row.opened.loaded.load_ns,
            compile_ns=row.opened.loaded.compile_ns,
            peak_memory_bytes=row.opened.peak_memory_bytes,
        )

    def _time(self, match: _Match, row: _Row, worker: Worker) -> Timing:
        policy = replace(self._context.policy, burst_ns=self._pairing.burst_ns)
        cold = row.point.is_cold
        samples = policy.cold_samples if cold else policy.samples(match.call_ns, match.inner)
        timeout_s = 60 + 50 * (samples * match.inner + self._pairing.warmups) * match.call_ns / 1e9
        if cold:
            timing: Timing = worker.call("time_cold", timeout_s, number=row.number, samples=samples)
            return timing
        burst = {"warmups": self._pairing.warmups, "samples": samples, "inner": match.inner}
        timing = worker.call("time_session", timeout_s, number=row.number, **burst)
        return timing

    def _store(self) -> None:
        """Store a round; a point of which one side is missing has none."""
        runs = []
        now = self._pace.now
        for match in self._live:
            if all(row.pending is not None for row in match.rows):
                for row in match.rows:
                    assert row.pending is not None
                    cpu = clock_of(row.point.target.threads) == "cpu" and row.pending.cpu_ns
                    reference = 0.0 if now is None or not match.hosted else now.cpu_ns if cpu else now.wall_ns
                    runs.append(replace(row.pending, reference_ns=reference))
        self._context.put(runs)
        for match in self._live:
            for row in match.rows:
                row.pending = None

    def _report(self, done: int, seconds: float) -> None:
        left = self._pairing.total - done
        ended = len(self._context.closed)
        self._context.observer.progress(Progress(ended, self._total, done, seconds * left))
