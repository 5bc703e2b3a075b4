"""Jobs, devices, agents, marks and tokens as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich import box
from rich.table import Table

from .jobs import ENDED, Agent, FleetDevice, Job, JobPoint, Mark, TokenInfo
from .render import short
from .sequences import label

ID = 8  # characters of a job's id that are shown; commands take as many as tell it apart


def duration(seconds: float, units: int = 2) -> str:
    """Return a duration in its largest units."""
    left = max(0, round(seconds))
    said: list[str] = []
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if said or left >= size:
            said.append(f"{left // size} {name}" if left >= size else "")
            left %= size
    return " ".join(one for one in said[:units] if one) or "0 s"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago a moment was, in its largest unit."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name} ago"
    return f"{max(0, int(seconds))} s ago"


def jobs_table(jobs: Iterable[Job]) -> Table:
    """Return one line a job."""
    table = _table("job", "name", "state", "points", "failed", "left", "submitted", right=("points", "failed", "left"))
    for column in table.columns:
        column.no_wrap = True
    table.columns[1].max_width = 20
    for job in jobs:
        left = "" if job.seconds_left is None or job.state in ENDED else duration(job.seconds_left, 1)
        done = f"{job.points.closed}/{job.points.total}"
        table.add_row(job.id[:ID], job.request.name, job.state, done, f"{job.points.failed}", left, ago(job.created_at))
    return table


def points_table(points: Iterable[JobPoint]) -> Table:
    """Return one line a point."""
    table = _table("point", "block", "target", "state")
    for one in points:
        table.add_row(f"{one.number}", label(one.point.spec), short(one.point.target), one.state)
    return table


def fleet_table(devices: Sequence[FleetDevice]) -> Table:
    """Return one line a device; why one cannot be used stands below."""
    table = _table("device", "agent", "state", "runtimes", "job", "waiting", right=("waiting",))
    for one in devices:
        runtimes = ", ".join(runtime.name for runtime in one.info.runtimes) or "-"
        table.add_row(one.info.name, one.agent, one.state, runtimes, one.job[:ID] or "-", f"{one.waiting}")
    reasons = [f"{one.info.name}: {one.info.reason}" for one in devices if one.info.reason]
    if reasons:
        table.caption = "\n".join(reasons)
        table.caption_justify = "left"
    return table


def agents_table(agents: Iterable[Agent]) -> Table:
    """Return one line an agent."""
    table = _table("agent", "version", "heard", "devices", "environments")
    for one in agents:
        heard = ago(one.seen_at) + ("" if one.live else ", away")
        table.add_row(one.name, one.version, heard, ", ".join(one.devices) or "-", ", ".join(one.environments) or "-")
    return table


def marks_table(marks: Iterable[Mark]) -> Table:
    """Return one line a mark."""
    table = _table("mark", "made", "last entry", right=("last entry",))
    for one in marks:
        table.add_row(one.name, one.made_at.strftime("%Y-%m-%d %H:%M UTC"), f"{one.last_entry}")
    return table


def tokens_table(tokens: Iterable[TokenInfo]) -> Table:
    """Return one line a token."""
    table = _table("token", "scopes", "devices", "state", "last used")
    now = datetime.now(UTC)
    for one in tokens:
        used = "never" if one.last_used_at is None else ago(one.last_used_at, now)
        table.add_row(one.name, ", ".join(one.scopes), ", ".join(one.devices) or "any", token_state(one, now), used)
    return table


def token_state(token: TokenInfo, now: datetime) -> str:
    """Say whether a token still opens anything."""
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "valid"
    return f"until {token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at > now else "expired"


def counted(job: Job) -> str:
    """Return a job's points by state, those that there are."""
    counts = job.points
    named = [(name, getattr(counts, name)) for name in ("measured", "known", "compared", "failed", "cancelled", "open")]
    said = ", ".join(f"{count} {name}" for name, count in named if count)
    return f"{counts.total} points: {said}" if said else "no points"


def failure_line(point: JobPoint) -> str:
    """Return why a point failed, on one line."""
    reason = " ".join(point.reason.split())
    where = f"{label(point.point.spec)} on {short(point.point.target)}"
    return f"failed: {where}: {reason if len(reason) <= 300 else f'{reason[:300]}…'}"


def _table(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(*names, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, column in zip(names, table.columns, strict=True):
        column.justify = "right" if name in right else "left"
    return table
