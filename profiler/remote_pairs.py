"""A session of pairs on a device that is not this machine: looked at around each round, left to cool, its outputs checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backends.base import DeviceState, Timing
from edgelut.errors import EdgelutError
from edgelut.types import Params

from .checking import Checker
from .cooling import Cooling, observed
from .errors import TaskFailed, WorkerDied
from .export_points import Turn
from .pair_rounds import MOST_DEATHS, PairRows, Session, SideRow
from .rows import timeout_s
from .timing import Flown
from .worker import Worker

if TYPE_CHECKING:
    from .paired import Match, PairContext


class RemoteSession(Session):
    """Measures points of one device that is not this machine."""

    open_s = 360.0  # the runtime's own files are brought to the device before its first artifact

    def __init__(self, context: PairContext, matches: Sequence[Match], turn: Turn) -> None:
        super().__init__(context, matches)
        self._device = matches[0].item.point.target.device
        self._checker = Checker(turn, context.keep)
        self._unchecked = {row for pair in self._live for row in pair.rows}
        self._cooling = Cooling(self._device, self._ask, self._wait, self._step)
        self._before = DeviceState()

    def measure(self) -> None:
        """Measure every round that is not stored yet; close the points."""
        try:
            super().measure()
        finally:
            self._checker.close()

    def _start_generation(self) -> None:
        """Have this host's outputs at hand before the first one."""
        failed: dict[SideRow, EdgelutError] = {}
        for row in [row for pair in self._live for row in pair.rows if row in self._unchecked]:
            try:
                self._checker.prepare(row.stored)
            except EdgelutError as error:
                failed[row] = error
        self._drop(failed)
        if self._live:
            super()._start_generation()
        self._unchecked.clear()

    def _checks(self, row: SideRow) -> dict[str, bool]:
        return {"check": True} if row in self._unchecked else {}

    def _round(self, round_: int) -> bool:
        """Time a round on a device that is at rest."""
        if not self._live:
            return True
        self._before = self._cooling.ready()
        return super()._round(round_)

    def _settle(self, key: Any) -> None:
        """Nothing more: the device was looked at."""

    def _store(self) -> bool:
        """Store a round in which the device was not throttled."""
        if not self._live:
            return True
        after = self._cooling.look()
        if not self._cooling.keeps(after):
            self._forget()
            return False
        facts = observed(self._before, after)
        for row in [row for pair in self._live for row in pair.rows if facts]:
            if row.pending is not None:
                row.pending = replace(row.pending, facts=Params({**row.pending.facts, **facts}))
        return super()._store()

    def _time(self, pair: PairRows, row: SideRow, worker: Worker) -> tuple[int, Timing]:
        burst, target = self._sized(pair, row), row.point.target
        how = {"device": target.device, "runtime": target.runtime, "bursts": [burst]}
        flown: Flown = worker.call("fly", timeout_s(pair.call_ns, [burst]), **how)[0]
        if flown.error is not None:
            raise flown.error
        assert flown.timing is not None
        return burst.warmups, flown.timing

    def _fail(self, row: SideRow, error: EdgelutError) -> None:
        """End the point of a row; what a library raised may have ended its lane."""
        super()._fail(row, error)
        if isinstance(error, TaskFailed):
            self._refill(row.lane)

    def _ask(self, name: str, wait_s: float, **arguments: Any) -> Any:
        while True:
            key = min(self._lanes)
            try:
                return self._lanes[key].worker.call(name, wait_s, **arguments)
            except WorkerDied:
                self._deaths += 1
                if self._deaths > MOST_DEATHS:
                    raise
                self._refill(key)

    def _wait(self, why: str) -> None:
        self._context.observer.waiting(self._device, why)

    def _step(self) -> None:
        self._context.observer.step()
