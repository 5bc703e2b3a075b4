"""How fast the machine is, round by round: the reference kernels in a process of their own.

Beside a runtime's sessions their time may depend on what else that process holds: in the sweep of a table of 186 TorchScript
sessions the same kernels took 1.5 % longer than in the sweep of 32 networks that followed it.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import WorkerDied
from .timing import ReferenceTime
from .worker import Worker

WARMUPS, SAMPLES = 2, 8
MOST_DEATHS = 3


class Pace:
    """The reference times of one sweep on one machine; close it."""

    def __init__(self, start: Callable[[], Worker]) -> None:
        self.now: ReferenceTime | None = None  # of this round
        self.seen: list[ReferenceTime] = []
        self._start = start
        self._worker: Worker | None = None
        self._deaths = 0

    def start(self) -> None:
        """Start the process: it loads while others do."""
        self._worker = self._worker or self._start()

    def time(self) -> None:
        """Time the kernels once; a worker that dies costs this round its reference, and after some deaths is an error."""
        try:
            self.start()
            assert self._worker is not None
            self.now = self._worker.call("time_reference", warmups=WARMUPS, samples=SAMPLES)
            self.seen.append(self.now)
        except WorkerDied:
            self._deaths += 1
            self.close()
            if self._deaths > MOST_DEATHS:
                raise

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
