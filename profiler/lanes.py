"""The timing workers of a group of rows: one process for each runtime on each device, started side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from edgelut.errors import EdgelutError
from edgelut.types import Params, Run, Scalar, digest

from .errors import WorkerDied
from .worker import Worker

MOST_DEATHS = 3  # of workers outside any row's burst: more is no accident, and ends the sweep

Key = tuple[str, str]  # device and runtime


@dataclass(slots=True)
class Lane:
    """One worker process: all rows of one runtime on one device."""

    worker: Worker
    facts: Params = field(default_factory=Params)
    learned: bool = False  # the facts are here

    @property
    def conditions(self) -> str:
        """The hash of the facts that must be equal in runs that are pooled."""
        return digest({name: value for name, value in self.facts.items() if not name.startswith("observed_")})

    def covers(self, run: Run) -> bool:
        """Say whether a run was made under the same conditions, as far as they are the lane's: its session may have added some."""
        theirs = run.conditions
        return all(theirs.get(name) == value for name, value in self.facts.items() if not name.startswith("observed_"))


class Lanes:
    """Lanes by device and runtime; close them.

    A worker that dies outside any row's burst is no row's fault: another takes its place, MOST_DEATHS times.
    """

    def __init__(self, start: Callable[[str], Worker]) -> None:
        """`start` starts a worker for a runtime; what it raises ends the lane."""
        self._start = start
        self._lanes: dict[Key, Lane] = {}
        self._failed: dict[Key, EdgelutError] = {}
        self._left: dict[Key, list[int]] = {}
        self._deaths = 0

    def begin(self, keys: Iterable[Key]) -> None:
        """Start the workers that are not there yet, and wait for none of them."""
        for key in dict.fromkeys(keys):
            if key not in self._lanes:
                try:
                    self._launch(key)
                except EdgelutError as error:
                    self._failed[key] = error

    @property
    def keys(self) -> list[Key]:
        """The lanes that were begun."""
        return [*self._lanes, *self._failed]

    def learn(self, key: Key) -> Lane:
        """Wait for the facts of a lane that was begun; raise why it cannot be used."""
        if key in self._failed:
            raise self._failed[key]
        while True:
            lane = self._lanes[key]
            if lane.learned:
                return lane
            try:
                facts: dict[str, Scalar] = lane.worker.receive("facts")
            except WorkerDied as error:
                self.count(error)
                lane.worker.close()
                self._launch(key)
            except EdgelutError as error:
                self._failed[key] = error
                raise
            else:
                lane.facts, lane.learned = Params(facts), True
                return lane

    def leave(self, key: Key, numbers: Sequence[int]) -> None:
        """Note what a lane holds that nobody needs any more."""
        self._left[key] = [*self._left.get(key, ()), *numbers]

    def renew(self, key: Key) -> None:
        """Have a lane that was left close what it held and tell its facts again."""
        numbers = self._left.pop(key, None)
        if numbers is None:
            return
        lane = self._lanes[key]
        try:
            lane.worker.call("close_sessions", numbers=numbers)
            lane.worker.send("facts", device=key[0], runtime=key[1])
            lane.learned = False
        except WorkerDied as error:
            self.count(error)
            lane.worker.close()
            self._launch(key)

    def restart(self, key: Key) -> Lane:
        """Put a new worker into a lane, which holds nothing yet."""
        self._lanes[key].worker.close()
        self._launch(key)
        return self.learn(key)

    def count(self, error: WorkerDied) -> None:
        """Count a death that is no row's; raise it where it is one too many."""
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise error

    def __getitem__(self, key: Key) -> Lane:
        return self._lanes[key]

    def kill(self) -> None:
        """End the workers under another thread that waits for them, to be closed by that."""
        for lane in list(self._lanes.values()):
            lane.worker.kill()

    def close(self) -> None:
        """End the workers."""
        for lane in self._lanes.values():
            lane.worker.close()

    def _launch(self, key: Key) -> None:
        device, runtime = key
        self._failed.pop(key, None)
        lane = self._lanes[key] = Lane(self._start(runtime))
        lane.worker.send("facts", device=device, runtime=runtime)
