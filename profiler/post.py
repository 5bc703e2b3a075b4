"""What the groups of points of one device that is not this machine share while they follow each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .checking import Checker
from .cooling import Ask, Cooling
from .lanes import Key
from .timing import ReferenceTime

if TYPE_CHECKING:
    from .sweep import SweepContext


class Post:
    """What the groups of one device share: how it is, what its reference took, and this host's work that waits for a flight."""

    def __init__(self, context: SweepContext, device: str, checker: Checker) -> None:
        self.checker = checker
        self.seen: dict[Key, list[ReferenceTime]] = defaultdict(list)
        self.without_reference: set[Key] = set()
        self._context, self._device = context, device
        self._ask: Ask | None = None
        self.cooling = Cooling(device, self._asked, self._wait, self.step)
        self._later: list[Callable[[], None]] = []

    def begin(self, ask: Ask) -> None:
        """Reach the device by another group's workers; wait for it at first."""
        first, self._ask = self._ask is None, ask
        if first:
            self.cooling.settle("")

    def later(self, work: Callable[[], None]) -> None:
        """Do something when the device is busy the next time: storing and telling rows takes a tenth of a second."""
        self._later.append(work)

    def catch_up(self) -> None:
        """Do what waits."""
        work, self._later = self._later, []
        for one in work:
            one()

    def step(self, in_round: bool = False) -> None:
        """Let who watches end the sweep."""
        with self._context.lock:
            self._context.observer.step(in_round=in_round)

    def _asked(self, name: str, wait_s: float, **arguments: Any) -> Any:
        assert self._ask is not None
        return self._ask(name, wait_s, **arguments)

    def _wait(self, why: str) -> None:
        with self._context.lock:
            self._context.observer.waiting(self._device, why)
