"""Jobs as pages show them: what is read of one, in words and as shares of its points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from edgelut.jobs import JobCounts, JobEvent, JobState, PointState
from edgelut.types import Scalar

STATES: tuple[PointState, ...] = ("measured", "known", "compared", "failed", "cancelled", "open")
SAID: dict[str, str] = {
    "open": "waiting or being measured",
    "measured": "measured, and in the table",
    "known": "the table had it already",
    "compared": "measured beside its baseline",
    "failed": "could not be measured",
    "cancelled": "open when the job was cancelled",
}
LETTERS: dict[str, str] = {"measured": "✓", "known": "=", "compared": "⇄", "failed": "!", "cancelled": "×", "open": "…"}
ENDED = ("done", "cancelled")


class Asked(msgspec.Struct, frozen=True):
    """What of a request is shown: never its specs, which may be thousands."""

    presets: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    unit: str = "cpu"
    name: str = ""
    labels: dict[str, Scalar] = {}
    priority: int = 0
    baseline: str = ""
    alone: bool = False
    again: bool = False


class JobView(msgspec.Struct, frozen=True):
    """A job without the specs that were asked for, so that reading it again and again costs nothing."""

    id: str
    state: JobState
    request: Asked
    points: JobCounts
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    submitter: str = ""
    rounds: int = 0
    seconds_left: float | None = None
    devices: tuple[str, ...] = ()
    baseline_job: str = ""

    @property
    def name(self) -> str:
        """The name of its series, or its id."""
        return self.request.name or self.id

    @property
    def ended(self) -> bool:
        """Whether nothing of it is open."""
        return self.state in ENDED

    @property
    def may_cancel(self) -> bool:
        """Whether there is something to cancel."""
        return not self.ended

    @property
    def may_retry(self) -> bool:
        """Whether a point failed or was cancelled."""
        return bool(self.points.failed or self.points.cancelled)


class JobsPage(msgspec.Struct, frozen=True):
    """What GET /jobs answers."""

    jobs: list[JobView]
    next_cursor: str | None = None


class SpecView(msgspec.Struct, frozen=True):
    """A spec as a point shows it."""

    kind: str
    width_in: int
    width_out: int
    resolution: int
    batch: int = 1
    params: dict[str, Scalar] = {}

    def __str__(self) -> str:
        width = f"{self.width_in}" if self.width_in == self.width_out else f"{self.width_in}>{self.width_out}"
        return f"{self.kind} {width} @{self.resolution}" + (f" x{self.batch}" if self.batch > 1 else "")


class TargetView(msgspec.Struct, frozen=True):
    """A target as a point shows it."""

    device: str
    runtime: str
    precision: str = "fp32"
    threads: int = 1
    unit: str = "cpu"


class PointAt(msgspec.Struct, frozen=True):
    """A block on a target."""

    spec: SpecView
    target: TargetView


class PointView(msgspec.Struct, frozen=True):
    """One point of a job."""

    number: int
    point: PointAt
    state: PointState
    batch: str = ""
    reason: str = ""
    entry: int | None = None
    closed_at: datetime | None = None


class PointsPage(msgspec.Struct, frozen=True):
    """What GET /jobs/{id}/points answers."""

    points: list[PointView]
    next_cursor: str | None = None


class LogPage(msgspec.Struct, frozen=True):
    """What GET /jobs/{id}/log answers."""

    events: list[JobEvent]


def count_of(points: JobCounts, state: str) -> int:
    """Return how many points are in a state."""
    found: int = getattr(points, state)
    return found


def shares(points: JobCounts) -> list[tuple[str, int, float]]:
    """Return states that have points, each with its count and its share in percent, in the order that a bar shows them."""
    total = max(points.total, 1)
    return [(state, count, 100 * count / total) for state in STATES if (count := count_of(points, state))]


def progress(job: JobView) -> str:
    """Return in a sentence how far a job is."""
    points = job.points
    said = f"{points.closed:,} of {points.total:,} points closed"
    if points.failed:
        said += f", {points.failed:,} failed"
    if job.ended:
        return f"{job.state}: {said}"
    left = f", {duration(job.seconds_left)} left" if job.seconds_left is not None else ""
    return f"{job.state}: {said}{left}"


def duration(seconds: float | None) -> str:
    """Return a time span in a word or two."""
    if seconds is None:
        return "not known yet"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"about {seconds / 86400:.1f} days"


def moment(at: datetime | None) -> str:
    """Return a time in UTC to the second; empty for none."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def what(asked: Asked) -> str:
    """Return in a few words what a job measures."""
    parts = [*asked.presets, *(f"network {name}" for name in asked.networks), *asked.blocks]
    return ", ".join(parts) or "blocks by their specs"


def reasons(points: Iterable[PointView]) -> list[tuple[str, int, str]]:
    """Return why points failed: each reason with how many it was and some of the blocks, the most frequent first."""
    found: dict[str, list[PointView]] = {}
    for point in points:
        found.setdefault(point.reason or "no reason was given", []).append(point)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [(reason, len(some), _some(some)) for reason, some in ordered]


def _some(points: Sequence[PointView], most: int = 4) -> str:
    names = list(dict.fromkeys(f"{point.point.spec} on {point.point.target.device}" for point in points))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def percent(job: JobView) -> int:
    """Return how much of a job is closed, in whole percent; 100 only where nothing is open."""
    return math.floor(100 * job.points.closed / job.points.total) if job.points.total else 0
