"""What an agent says while it works: a line a row, and in a terminal a line that moves for each device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from edgelut.figures import told
from edgelut.jobs import Claim
from edgelut.plan import Point
from edgelut.sequences import label
from edgelut.types import Entry


class Report:
    """Says what an agent does. Safe for threads; `quiet` leaves what went wrong."""

    def __init__(self, quiet: bool = False, file: TextIO | None = None) -> None:
        self._quiet = quiet
        self._console = Console(file=file, stderr=file is None)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, console=self._console, disable=quiet or not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show moving lines until the block ends."""
        with self._bars:
            yield

    def say(self, text: str) -> None:
        """Say something."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Say what went wrong."""
        self._print(text)

    def claimed(self, claim: Claim) -> None:
        """A batch is begun."""
        self.say(f"{claim.device}: batch {claim.batch[:8]} of job {claim.job[:8]}, {len(claim.points)} points")
        if claim.device not in self._tasks:
            self._tasks[claim.device] = self._bars.add_task(claim.device, note="")
        self._bars.reset(self._tasks[claim.device], total=len(claim.points), note="")

    def progress(self, device: str, done: int, total: int, note: str) -> None:
        """A batch is so far."""
        if device in self._tasks:
            self._bars.update(self._tasks[device], completed=done, total=total, note=note)

    def row(self, device: str, point: Point, entry: Entry, current: bool) -> None:
        """A row is done."""
        latency = entry.latency
        doubts = f"; in doubt: {'; '.join(latency.doubts)}" if latency.doubts else ""
        kept = "" if current else "; the stable row before it stays"
        target = point.target
        what = f"{label(point.spec)} on {target.runtime} {target.precision} {target.threads}"
        self.say(f"{device}: {what}: {told(latency)}{doubts}{kept}")

    def failed(self, device: str, point: Point, reason: str) -> None:
        """A point cannot be measured."""
        self.warn(f"{device}: failed: {label(point.spec)} on {point.target.runtime}: {reason}")

    def ended(self, device: str, rows: int, known: int, failed: int, seconds: float, why: str) -> None:
        """A batch has ended; `why` is empty where it came to its end."""
        counts = ", ".join(_counts(((rows, "measured"), (known, "known"), (failed, "failed")))) or "nothing measured"
        took = time.strftime("%-H h %M min" if seconds >= 3600 else "%-M min %S s", time.gmtime(seconds))
        said = f"{device}: {counts} in {took}"
        if why:
            self.warn(f"{said}; left: {why}")
        else:
            self.say(said)
        if device in self._tasks:
            self._bars.update(self._tasks[device], note="waits for work", completed=0, total=None)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _counts(pairs: Sequence[tuple[int, str]]) -> Iterator[str]:
    return (f"{count} {what}" for count, what in pairs if count)
