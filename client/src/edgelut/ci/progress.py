"""What a build says while it waits: a line now and then in a log, one line that is kept up to date on a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from edgelut.jobs import Job, JobEvent

EVERY_S = 15.0  # between two lines of a log
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Progress:
    """Says how a job goes, on a stream that is not the result's. Use it as a context manager.

    On GitHub lines are grouped by steps. What comes from outside is made one line, and cannot be a command to the runner.
    """

    def __init__(self, stream: IO[str], *, github: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._github = github
        self._clock = clock
        self._live = stream.isatty() and not github
        self._console = Console(file=stream, force_terminal=True if self._live else None)
        self._status: Status | None = None
        self._said_at: float | None = None
        self._state = ""
        self._grouped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end()

    def begin(self, title: str) -> None:
        """Open a step."""
        self.end()
        self._said_at, self._state = None, ""
        if self._github:
            self._line(f"::group::{command_data(title)}")
            self._grouped = True
        elif self._live:
            self._status = self._console.status(Text(plain(title)))
            self._status.start()
        else:
            self._line(plain(title))

    def end(self) -> None:
        """Close the step, if one is open."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._grouped:
            self._line("::endgroup::")
            self._grouped = False

    def say(self, text: str) -> None:
        """Say a line at once."""
        text = plain(text)
        if self._status is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._line(f"| {text}")  # a runner takes a line for a command that starts with ::, spaces before it or not

    def annotate(self, level: str, title: str, text: str) -> None:
        """Put a line beside the build, on GitHub."""
        if self._github:
            self._line(f"::{level} title={command_property(title)}::{command_data(text)}")

    def job(self, job: Job) -> None:
        """Say how far a job is, if it is another state or the last line is some time ago."""
        text = _state_of(job)
        if self._status is not None:
            self._status.update(Text(text))
            return
        now = self._clock()
        if job.state != self._state or self._said_at is None or now - self._said_at >= EVERY_S:
            self._said_at, self._state = now, job.state
            self.say(text)

    def event(self, event: JobEvent) -> None:
        """Say what went wrong; what went well is in the job's state."""
        if event.level != "info":
            self.say(f"{event.level}: {event.text}")

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def _state_of(job: Job) -> str:
    points = job.points
    parts = [f"job {plain(job.id)} {job.state}", f"{points.closed} of {points.total} rows", f"{job.rounds} rounds"]
    if points.failed:
        parts.append(f"{points.failed} failed")
    if job.seconds_left is not None and job.state == "running":
        parts.append(f"about {duration(job.seconds_left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration in the two largest units."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plain(text: str) -> str:
    """Return a text as one line without control characters, and without the start of a runner's older commands."""
    return _UNPRINTABLE.sub(" ", text).strip().replace("##[", "## [")


def command_data(text: str) -> str:
    """Return a text as the message of a GitHub workflow command."""
    return plain(text).replace("%", "%25")


def command_property(text: str) -> str:
    """Return a text as a property of a GitHub workflow command."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")
