"""Rounds on a device that is not this machine: sent there in flights, so that it never waits for this host between two bursts.

A flight is as many rounds as last FLIGHT_S. Before and after each the device is looked at, and one in which it was throttled is
thrown away and measured again.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from edgelut.errors import DeviceBusy, DeviceUnusable, EdgelutError
from edgelut.plan import Point
from edgelut.types import Params, Run

from .artifacts import Stored
from .checking import Checker
from .cooling import observed
from .errors import TaskFailed, WorkerDied
from .lanes import Key, Lane, Lanes
from .observer import Progress
from .pace import SAMPLES, WARMUPS
from .post import Post
from .rounds import Group, with_reference
from .rows import Row, burst_s
from .stats import COUNT_ROUNDS
from .timing import Burst, Flown, Opened, ReferenceTime

if TYPE_CHECKING:
    from .sweep import SweepContext

FLIGHT_S = 3.0  # of bursts between two looks at the device: what they cost is a few hundredths of it
SHORT_S = 0.5  # a look costs a good part of a flight that is shorter: rows get some more rounds instead
FEW = 24  # rows: a sweep of fewer has its rounds spread, as one on this machine has
FEWEST = 6  # rows to begin with, where the device would wait for more
FLIGHT_TIMEOUT_S = 120.0  # besides fifty times what its bursts should take


@dataclass(frozen=True, slots=True)
class _Item:
    """One burst of a round: of a row, or of the reference of a lane."""

    round: int
    lane: Key
    row: Row | None


class RemoteGroup(Group):
    """Measures points of one device that is not this machine. `prepare` may run in another thread than `measure`, before it.

    Its lanes are another's, who closes them; what it measured is stored and told when the post catches up.
    """

    open_s = 360.0  # the runtime's own files are brought to the device before its first artifact

    def __init__(self, context: SweepContext, stored: dict[Point, Stored], post: Post, lanes: Lanes) -> None:
        super().__init__(context, stored, lanes)
        self.lanes = lanes
        self._post = post
        self._checker: Checker | None = post.checker
        self._checked: dict[tuple[Key, str], float | None] = {}
        self._ended: dict[Key, Lane] = {}  # its lanes as they were when it ended: others use them after it
        self._left_out: dict[Point, Stored] = {}
        self._flown: list[tuple[Row, Run]] = []
        self._references_flown: dict[tuple[Key, int], ReferenceTime] = {}
        self._aborted = self._hurried = False

    def prepare(self) -> None:
        """Wait for the workers, have them leave what they held, and open all that is to be measured."""
        for key in {row.lane for row in self._rows}:
            self._lanes.renew(key)
        super().prepare()

    def measure(self) -> None:
        """Measure rows that are prepared until every one is done or failed."""
        self._checker = None  # its worker is the next group's now
        if self._live:
            self._post.begin(self._ask)
        self._measure()
        self._context.ended += len(self._rows)
        for key in {row.lane for row in self._rows}:
            self._ended[key] = replace(self._lanes[key])
            self._lanes.leave(key, [row.number for row in self._rows if row.lane == key])

    def hurry(self) -> None:
        """Open no more rows than are needed to begin: the device has nothing to do."""
        self._hurried = True

    def left_out(self) -> dict[Point, Stored]:
        """Return, once, what was not opened for that."""
        left, self._left_out = self._left_out, {}
        return left

    def abort(self) -> None:
        """End what another thread prepares, by ending its workers."""
        self._aborted = True
        self._lanes.kill()

    # Opening

    def _open_rows(self) -> None:
        for number, row in enumerate(list(self._live)):
            if self._hurried and number >= FEWEST:
                self._live.remove(row)
                self._rows.remove(row)
                self._left_out[row.point] = row.stored
            else:
                self._attempt(row, self._open)

    def _open(self, row: Row) -> None:
        if self._aborted:
            raise DeviceBusy("the sweep ends")
        super()._open(row)

    def _opened(self, row: Row, **more: object) -> Opened:
        """Have a row's artifact opened, and its outputs compared with this host's: once a group for the same artifact."""
        key = row.lane, row.stored.artifact.sha256
        if key not in self._checked and self._checker is not None:
            self._checker.prepare(row.stored)
        opened = super()._opened(row, check=key not in self._checked, **more)
        self._checked.setdefault(key, opened.parity_error)
        return replace(opened, parity_error=self._checked[key])

    def _attempt(self, row: Row, step: Callable[[Row], None]) -> None:
        """Do one step for a row; where its lane ended in it, the device is looked for first, whose going is no fault of the row."""
        try:
            step(row)
        except (DeviceBusy, DeviceUnusable):
            raise
        except EdgelutError as error:
            self._fail(row, error)

    def _fail(self, row: Row, error: Exception) -> None:
        assert isinstance(error, EdgelutError)
        self._drop(row)
        if isinstance(error, WorkerDied | TaskFailed):
            self._restart(row.lane)
        self._context.fail(row.point, error)

    def _restart(self, key: Key) -> None:
        if self._aborted:
            raise DeviceBusy("the sweep ends")
        super()._restart(key)

    def close(self) -> None:
        """Do nothing: its lanes are another's."""

    def _close_done(self) -> None:
        """Note the rows that are done, to be told later; their sessions stay open, for closing one costs a call to the device."""
        for row in [row for row in self._live if row.runs and row.is_done(self._policy)]:
            self._measured.append(row)
            self._live.remove(row)
        if self._measured or not self._live:
            self._post.later(self._tell_done)

    def _lane_of(self, row: Row) -> Lane:
        return self._ended.get(row.lane) or super()._lane_of(row)

    # Flights

    def _rounds(self, round_: int) -> int:
        """Fly and store some rounds; return how many were kept."""
        cooling = self._post.cooling
        before = cooling.ready()
        flight = self._plan(round_)
        legs = groupby((item for items in flight for item in items), key=lambda item: item.lane)
        for key, items in [(key, list(items)) for key, items in legs]:
            self._fly(key, items)
        flown, self._flown = self._flown, []
        references, self._references_flown = self._references_flown, {}
        after = cooling.look() if flown else before
        if not cooling.keeps(after):
            return 0
        self._keep(flown, references, Params(observed(before, after)))
        return len(flight)

    def _keep(
        self, flown: list[tuple[Row, Run]], references: dict[tuple[Key, int], ReferenceTime], facts: Params
    ) -> None:
        """Take the runs of a flight, to be stored in one transaction."""
        for (key, _), reference in references.items():
            self._post.seen[key].append(reference)
        kept = []
        for row, run in flown:
            if row in self._live:
                told = replace(run, facts=Params({**run.facts, **facts})) if facts else run
                kept.append((row, with_reference(told, references.get((row.lane, run.round)))))
        for row, run in kept:
            row.runs.append(run)
        self._post.later(lambda: self._put([run for _, run in kept]))

    def _put(self, runs: list[Run]) -> None:
        with self._context.lock:
            self._context.store.put_runs(runs)

    def _plan(self, first: int) -> list[list[_Item]]:
        """Return the next rounds, each in a random order: as many as last FLIGHT_S, and no more than rows need."""
        left = {row: self._left(row) for row in self._live}
        most, round_s = max(left.values()), self._round_s()
        flights = most if self._pause_s() else math.ceil(most * round_s / FLIGHT_S) if FLIGHT_S else most
        rounds = range(math.ceil(most / max(1, flights)))
        return [self._order([row for row in self._live if index < left[row]], first + index) for index in rounds]

    def _left(self, row: Row) -> int:
        """Return how many rounds may be flown before it is asked again whether the row is done."""
        have, policy = len(row.runs), self._policy
        wanted = min(COUNT_ROUNDS, policy.min_rounds) if row.counts else policy.min_rounds
        wanted = min(wanted, policy.cold_rounds) if row.point.is_cold else wanted
        if have < wanted:
            return wanted - have
        short = 1 if row.counts else math.ceil(SHORT_S / max(self._round_s(), 1e-9)) if FLIGHT_S else 1
        return max(1, min(max(short, row.rounds_left(policy)), policy.max_rounds - have))

    def _order(self, rows: Sequence[Row], round_: int) -> list[_Item]:
        """Return one round in random order; the rows of a lane, which is a program on the device, and its reference together."""
        by_lane: dict[Key, list[Row | None]] = defaultdict(list)
        for row in rows:
            by_lane[row.lane].append(row)
        for key, items in by_lane.items():
            if key not in self._post.without_reference and not all(row is None or row.counts for row in items):
                items.append(None)
        lanes = self._policy.order(sorted(by_lane), round_)
        return [_Item(round_, key, row) for key in lanes for row in self._policy.order(by_lane[key], round_)]

    def _round_s(self) -> float:
        """Return about how long the bursts of a round take."""
        return sum(burst_s(row.call_ns, row.burst(self._policy)) for row in self._live)

    def _fly(self, key: Key, items: Sequence[_Item]) -> None:
        """Time some bursts of one lane in one go."""
        self._post.step(in_round=True)
        items = [item for item in items if item.row is None or item.row in self._live]
        try:
            self._send(key, items)
        except WorkerDied as error:
            self._lanes.count(error)
            self._restart(key)
            for item in items:  # one by one, so that it is seen whose burst ends the worker
                self._fly_alone(key, item)

    def _fly_alone(self, key: Key, item: _Item) -> None:
        if item.row is None:
            self._outlive(key, lambda key: self._send(key, [item]))
        elif item.row in self._live:
            self._attempt(item.row, lambda _: self._send(key, [item]))

    def _send(self, key: Key, items: Sequence[_Item]) -> None:
        """Have bursts timed and take what they came to; those after one that ended its lane were not, and miss a round."""
        device, runtime = key
        lane, wait_s = self._lanes[key], FLIGHT_TIMEOUT_S
        bursts = []
        for item in items:
            burst = Burst(None, WARMUPS, SAMPLES) if item.row is None else item.row.burst(self._policy)
            wait_s += 0 if item.row is None else 50 * burst_s(item.row.call_ns, burst)
            bursts.append(burst)
        lane.worker.send("fly", device=device, runtime=runtime, bursts=bursts)
        self._post.catch_up()
        flown: list[Flown] = lane.worker.receive("fly", wait_s)
        failed: list[tuple[_Item, Exception]] = []
        for item, burst, one in zip(items, bursts, flown, strict=False):
            if one.error is not None:
                failed.append((item, one.error))
            elif item.row is None:
                self._note(item, one.reference)
            elif one.timing is not None:
                run = item.row.run(one.timing, burst, lane, self._context.id, item.round, one.started_at)
                self._flown.append((item.row, run))
        for item, error in failed:
            self._fail_item(item, error)

    def _note(self, item: _Item, reference: ReferenceTime | None) -> None:
        if reference is None:
            self._post.without_reference.add(item.lane)
        else:
            self._references_flown[item.lane, item.round] = reference

    def _fail_item(self, item: _Item, error: Exception) -> None:
        """Fail the row of a burst; a reference that fails costs the lane its reference, or its program."""
        if item.row is not None:
            if item.row in self._live:
                self._fail(item.row, error)
        elif isinstance(error, TaskFailed):
            self._lanes.count(WorkerDied(str(error)))
            self._restart(item.lane)
        else:
            self._post.without_reference.add(item.lane)

    # What rounds need

    def _pause_s(self) -> float:
        """Return how long to wait after each round, where few rows are measured and none of them counts."""
        if len(self._context.points) >= FEW or any(row.counts for row in self._live):
            return 0.0
        return self._policy.pause_s(self._round_s())

    def _pause(self, round_s: float) -> None:
        if self._live:
            time.sleep(self._pause_s())

    def _ask(self, name: str, wait_s: float, **arguments: Any) -> Any:
        """Call a task of whichever worker is there; one that dies of it is no row's fault."""
        while True:
            key = min(row.lane for row in self._live or self._rows)
            try:
                return self._lanes[key].worker.call(name, wait_s, **arguments)
            except WorkerDied as error:
                self._lanes.count(error)
                self._restart(key)

    def _report(self, round_: int, seconds: float) -> None:
        """Tell how far the whole sweep is; the groups to come are taken to be like this one."""
        here, total = len(self._rows), len(self._context.points)
        left = 0.75 * max((row.rounds_left(self._policy) for row in self._live), default=0)
        later = self._policy.min_rounds * max(0, total - self._context.ended - here) / here
        done = self._context.ended + here - len(self._live)
        progress = Progress(done, total, round_, seconds * (left + later))

        def tell() -> None:
            with self._context.lock:
                self._context.observer.progress(progress)

        self._post.later(tell)

    def _is_ready(self, row: Row) -> bool:
        """Say whether the device's speed is known well enough to tell a row by it."""
        seen = self._post.seen[row.lane]
        return not seen or not self._live or len(seen) >= self._policy.min_rounds

    def _references(self, row: Row) -> Sequence[ReferenceTime]:
        return self._post.seen[row.lane]

    def _kernels(self, row: Row) -> str:
        """Return the runtime, whose kernels they are, with the version that it tells of them."""
        assert row.opened is not None
        return f"{row.point.target.runtime} {row.opened.loaded.facts.get('reference', '')}".strip()
