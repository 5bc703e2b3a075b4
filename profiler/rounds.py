"""Interleaved rounds over a group of points: workers, bursts in random order, the reference kernel, the stopping rule."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backends.base import Timing
from edgelut.errors import DeviceBusy, EdgelutError
from edgelut.plan import Point
from edgelut.types import BlockSpec, Clock, Entry, Params, Run, Scalar, Target, digest

from .artifacts import Stored
from .errors import WorkerDied
from .hosting import is_hosted
from .lanes import Key, Lanes
from .nominal import at_nominal, nominal_ns
from .observer import Progress
from .pace import Pace
from .stats import Floats, calls_ns, clock_of, half_width, is_done, summarise
from .timing import Opened, ReferenceTime
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


@dataclass(slots=True)
class _Row:
    """One point being measured."""

    number: int
    point: Point
    stored: Stored
    opened: Opened | None = None
    inner: int = 1
    runs: list[Run] = field(default_factory=list)
    pending: Run | None = None

    @property
    def lane(self) -> Key:
        return self.point.target.device, self.point.target.runtime

    @property
    def rounds(self) -> list[Floats]:
        clock = clock_of(self.point.target.threads)
        return [calls_ns(run, clock) for run in self.runs]


class Group:
    """Measures points that are held open together."""

    def __init__(self, context: SweepContext, stored: dict[Point, Stored], lanes: Lanes | None = None) -> None:
        """`lanes` are those that were started already; they are closed with the group."""
        self._context = context
        self._policy = context.policy
        self._rows = [_Row(number, point, artifact) for number, (point, artifact) in enumerate(stored.items())]
        self._live: list[_Row] = []
        self._lanes = lanes or start_lanes(context, stored)
        self._earlier: list[Run] = []  # of this sweep, stored before it was cut off
        self._ledger = context.ledger
        self._pace = Pace(lambda: Worker(TASKS, keep=context.keep))
        self._measured: list[_Row] = []  # done, but not yet told: see _is_ready

    def measure(self) -> None:
        """Measure until every row is done or failed."""
        try:
            self._open_lanes()
            self._drop_known()
            self._resume()
            for row in list(self._live):
                self._attempt(row, self._open)
            self._close_done()
            round_ = max((len(row.runs) for row in self._live), default=0)
            while self._live:
                started = time.perf_counter()
                self._round(round_)
                round_ += 1
                self._close_done()
                self._pause(time.perf_counter() - started)
                self._report(round_, time.perf_counter() - started)
        finally:
            self._pace.close()
            self._lanes.close()

    def _pause(self, round_s: float) -> None:
        """Spread the rounds of a short sweep: a machine that is slow for some seconds must not be slow for all of it."""
        if any(map(self._is_hosted, self._live)):
            time.sleep(self._policy.pause_s(round_s))

    def _open_lanes(self) -> None:
        """Read what was measured before, and wait for the workers meanwhile; a lane that cannot start fails its rows."""
        self._earlier = self._context.store.sweep_runs(self._context.id)
        for key in dict.fromkeys(row.lane for row in self._rows):
            try:
                self._lanes.learn(key)
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
        by_target: dict[Target, list[_Row]] = defaultdict(list)
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

    def _is_known(self, row: _Row, entry: Entry) -> bool:
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
                if digest(dict(run.conditions)) == lane.conditions and run.artifact_sha256 == row.stored.artifact.sha256
            ]
        rounds = sum(len(row.runs) for row in self._live)
        if rounds:
            self._context.observer.resumed(rounds)

    def _open(self, row: _Row) -> None:
        self._context.observer.step(in_round=False)
        row.opened = self._lanes[row.lane].worker.call(
            "open_session",
            number=row.number,
            path=str(row.stored.path),
            target=row.point.target,
            shapes=row.stored.shapes,
        )
        assert row.opened is not None
        once = row.point.is_cold
        row.inner = row.runs[0].inner if row.runs else 1 if once else self._policy.inner(row.opened.call_ns)

    def _attempt(self, row: _Row, step: object) -> None:
        """Do one step for a row; what it raises ends the row, not the sweep."""
        try:
            step(row)  # type: ignore[operator]
        except DeviceBusy:
            raise
        except WorkerDied as error:
            self._context.fail(row.point, error)
            self._drop(row)
            self._restart(row.lane)
        except EdgelutError as error:
            self._context.fail(row.point, error)
            self._drop(row)

    def _drop(self, row: _Row) -> None:
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
        items: list[_Row | Pace] = [*self._live, *([self._pace] if any(map(self._is_hosted, self._live)) else [])]
        for item in self._policy.order(items, round_):
            if isinstance(item, Pace):
                item.time()
            elif item in self._live:
                self._attempt(item, lambda row: self._burst(row, round_))
        self._store()

    def _settle(self, key: Key) -> None:
        self._lanes[key].worker.call("settle", SETTLE_S + 5, device=key[0], timeout_s=SETTLE_S)

    def _burst(self, row: _Row, round_: int) -> None:
        assert row.opened is not None
        self._context.observer.step(in_round=True)
        lane = self._lanes[row.lane]
        started = datetime.now(UTC)
        timing = self._time(row, row.opened.call_ns)
        row.pending = Run(
            spec=row.point.spec,
            target=row.point.target,
            sweep=self._context.id,
            process=lane.worker.process,
            round=round_,
            wall_ns=timing.wall_ns,
            cpu_ns=timing.cpu_ns,
            inner=row.inner,
            warmups=0 if row.point.is_cold else self._policy.warmups,
            reference_ns=0.0,
            started_at=started,
            facts=lane.facts,
            artifact_sha256=row.stored.artifact.sha256,
            load_ns=row.opened.loaded.load_ns,
            compile_ns=row.opened.loaded.compile_ns,
            peak_memory_bytes=row.opened.peak_memory_bytes,
        )

    def _time(self, row: _Row, call_ns: int) -> Timing:
        worker, policy = self._lanes[row.lane].worker, self._policy
        samples = policy.cold_samples if row.point.is_cold else policy.samples(call_ns, row.inner)
        timeout_s = 60 + 50 * (samples * row.inner + policy.warmups) * call_ns / 1e9
        if row.point.is_cold:
            timing: Timing = worker.call("time_cold", timeout_s, number=row.number, samples=samples)
            return timing
        burst = {"warmups": policy.warmups, "samples": samples, "inner": row.inner}
        timing = worker.call("time_session", timeout_s, number=row.number, **burst)
        return timing

    def _store(self) -> None:
        """Store a round in one transaction: a sweep that is killed loses the round it was in and no other."""
        runs = []
        for row in self._live:
            if row.pending is not None:
                row.pending = _with_reference(row.pending, self._pace.now if self._is_hosted(row) else None)
                runs.append(row.pending)
        self._context.store.put_runs(runs)
        for row in self._live:
            if row.pending is not None:
                row.runs.append(row.pending)
                row.pending = None

    def _close_done(self) -> None:
        """Turn rows whose interval is narrow enough into entries."""
        for row in [row for row in self._live if row.runs and is_done(row.rounds, self._policy, row.point.is_cold)]:
            self._close(row)
        for row in [row for row in self._measured if self._is_ready(row)]:
            self._measured.remove(row)
            self._attempt(row, self._tell)
        self._ledger.release()

    def _close(self, row: _Row) -> None:
        self._measured.append(row)
        self._live.remove(row)
        self._outlive(row.lane, lambda key: self._lanes[key].worker.call("close_session", number=row.number))

    def _is_ready(self, row: _Row) -> bool:
        """Say whether the machine's speed is known well enough to tell a row by it: a cold row is done long before that."""
        others = any(self._is_hosted(live) for live in self._live)
        return not self._is_hosted(row) or not others or len(self._pace.seen) >= self._policy.min_rounds

    def _tell(self, row: _Row) -> None:
        self._ledger.add(row.point, self._entry(row))

    def _entry(self, row: _Row) -> Entry:
        summary = summarise(row.runs, self._policy)
        artifact, lane = row.stored.artifact, self._lanes[row.lane]
        provenance: dict[str, Scalar] = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "sweep": self._context.id,
            "conditions": lane.conditions,
            "format": artifact.format,
            "artifact_sha256": artifact.sha256,
            "parity_error": artifact.parity_error,
        }
        latency = summary.latency
        if summary.reference_ns:
            factor = self._nominal(row, latency.clock) / summary.reference_ns
            provenance |= {
                "raw_p10_ns": latency.p10_ns,
                "reference_ns": summary.reference_ns,
                "reference_factor": factor,
            }
            latency = at_nominal(latency, factor)
        emulated = self._context.toolchains.runtime(row.point.target.runtime).emulated
        return Entry(
            row.point.spec, row.point.target, latency, "emulated" if emulated else "measured", Params(provenance)
        )

    def _nominal(self, row: _Row, clock: Clock) -> float:
        lane, own = self._lanes[row.lane], [run.reference_ns for run in row.runs]
        seen = [reference.cpu_ns if clock == "cpu" else reference.wall_ns for reference in self._pace.seen]
        measured = max(own, seen, key=len)
        return nominal_ns(self._context.store, lane.facts, row.point.target.device, clock, measured, self._context.id)

    def _is_hosted(self, row: _Row) -> bool:
        """Say whether a row's calls run on this machine's processor, whose speed the reference tells."""
        return is_hosted(row.point.target, self._context.toolchains)

    def _report(self, round_: int, seconds: float) -> None:
        """Tell how far it is: rounds still needed are judged from each row's interval, which shrinks as 1/sqrt(rounds)."""
        left = max((self._rounds_left(row) for row in self._live), default=0)
        share = 0.75  # rows end one after another: the last rounds are short
        self._context.observer.progress(
            Progress(len(self._rows) - len(self._live), len(self._rows), round_, seconds * left * share)
        )

    def _rounds_left(self, row: _Row) -> int:
        have = len(row.runs)
        if row.point.is_cold:
            return max(1, self._policy.cold_rounds - have)
        if have < 3:
            return self._policy.min_rounds - have
        needed = have * (half_width(row.rounds) / self._policy.half_width) ** 2
        return max(1, round(min(max(needed, self._policy.min_rounds), self._policy.max_rounds) - have))


def _with_reference(run: Run, reference: ReferenceTime | None) -> Run:
    """Return the run with its round's reference time, on the clock of its row."""
    if reference is None:
        return run
    clock = clock_of(run.target.threads)
    return replace(run, reference_ns=reference.cpu_ns if clock == "cpu" and run.cpu_ns else reference.wall_ns)
