"""Fakes that several test folders share; each implements the interface of what it stands for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from edgelut.plan import Point
from edgelut.types import Entry
from profiler.observer import Observer, Progress
from profiler.worker import portable

ROOT = Path(__file__).parent.parent
OUTSIDE = "tests.profiler.outside"


def install_plugins(folder: Path, points: Mapping[str, Mapping[str, str]], name: str = "outside") -> None:
    """Write a distribution that declares entry points; it is seen once the folder is on sys.path."""
    info = folder / f"edgelut_{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: edgelut-{name}\nVersion: 1\n")
    lines = [line for group, named in points.items() for line in (f"[{group}]", *map(" = ".join, named.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


class InlineWorker:
    """A worker whose tasks run in this process: a sweep in a tenth of the time, for what no dying process matters to."""

    def __init__(self, tasks: str, env: Mapping[str, str] | None = None, **_: Any) -> None:
        self.process = uuid.uuid4().hex
        self._tasks = import_module(tasks)

    def call(self, name: str, timeout_s: float = 0.0, /, **arguments: Any) -> Any:
        """Call the function; errors are what they would be after a pipe."""
        try:
            return getattr(self._tasks, name)(**arguments)
        except Exception as error:
            raise portable(error) from error

    def send(self, name: str, /, **arguments: Any) -> None:
        """Keep the call for `receive`."""
        self._sent = (name, arguments)

    def receive(self, name: str, timeout_s: float = 0.0) -> Any:
        """Make the call that was sent last."""
        assert self._sent[0] == name
        return self.call(name, **self._sent[1])

    def kill(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to end."""


class Watcher(Observer):
    """Remembers what it was told, and raises KeyboardInterrupt after a round where one is named, as Ctrl-C would."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.interrupt_after = interrupt_after
        self.exports: list[tuple[int, int, Point, bool]] = []
        self.knowns: list[Point] = []
        self.resumes: list[int] = []
        self.reports: list[Progress] = []
        self.rows: list[tuple[Point, bool]] = []
        self.failures: list[tuple[Point, str]] = []
        self.waits: list[tuple[str, str]] = []

    def exported(self, done: int, total: int, point: Point, made: bool) -> None:
        self.exports.append((done, total, point, made))

    def known(self, point: Point, entry: Entry) -> None:
        self.knowns.append(point)

    def waiting(self, device: str, why: str) -> None:
        self.waits.append((device, why))

    def resumed(self, rounds: int) -> None:
        self.resumes.append(rounds)

    def progress(self, progress: Progress) -> None:
        self.reports.append(progress)
        if progress.round == self.interrupt_after:
            raise KeyboardInterrupt

    def row(self, point: Point, entry: Entry, current: bool) -> None:
        self.rows.append((point, current))

    def failed(self, point: Point, reason: str) -> None:
        self.failures.append((point, reason))
