"""Jobs: all of them, newest first, with how far each is."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from dashboard.jobs_view import JobsPage, JobView, duration, moment, percent, what
from dashboard.layout import Page, View, card, text
from dashboard.tables import Column, Grid

STATES = {"": "all", "queued": "queued", "running": "running", "done": "done", "cancelled": "cancelled"}
MOST = 100
COLUMNS = (
    Column("job", "job", "link", width=150),
    Column("state", "state", width=165, tip="with the points that need no more work"),
    Column("points", "points", "number", width=95),
    Column("failed", "failed", "number", width=90),
    Column("left", "time left", width=130),
    Column("what", "what is measured", more={"flex": 1, "minWidth": 190}),
    Column("devices", "devices", width=170),
    Column("submitter", "by", width=100),
    Column("created", "submitted (UTC)", width=170),
    Column("priority", "priority", "number", width=110),
)
SYMBOLS = {"queued": "○ queued", "running": "▶ running", "done": "✓ done", "cancelled": "× cancelled"}


async def build(view: View) -> None:
    """List the jobs, and keep the list as it is at the service."""
    state = view.address.one_of("state", STATES)
    name = view.address.get("name")
    stop = _nothing

    async def told(page: JobsPage) -> None:
        grid.show([row(job) for job in page.jobs])
        said.set_text(summary(page))

    def look() -> None:
        nonlocal stop
        stop()
        stop = view.watch(JobsPage, "/jobs", told, state=state or None, name=name or None, limit=MOST)

    def choose(**changes: str) -> None:
        nonlocal state, name
        state, name = changes.get("state", state), changes.get("name", name).strip()
        view.address.set(state=state, name=name)
        look()

    with ui.element("div").classes("el-controls"):
        ui.select(STATES, value=state, label="State", on_change=lambda event: choose(state=event.value)).props(
            "outlined dense options-dense"
        )
        ui.input("Name of the series", value=name).props("outlined dense debounce=400 clearable").on_value_change(
            lambda event: choose(name=event.value or "")
        )
    with card():
        said = text("", "div").classes("el-soft el-small").props("role=status aria-live=polite")
        grid = Grid("Jobs", COLUMNS, file="jobs", address=view.address, opens=True)
        text(
            "Enter opens the job of a row. The page Space submits jobs, as do edgelut jobs submit and REST.",
            "div",
        ).classes("el-soft el-small")
    page = await view.calls.get(JobsPage, "/jobs", note=False, state=state or None, name=name or None, limit=MOST)
    await told(page)
    look()


def row(job: JobView) -> dict[str, Any]:
    """Return a job as a row of the table."""
    return {
        "id": job.id,
        "href": f"/jobs/{job.id}",
        "job": job.name,
        "state": SYMBOLS[job.state] + (f", {percent(job)} %" if not job.ended else ""),
        "points": job.points.total,
        "failed": job.points.failed,
        "left": "" if job.ended else duration(job.seconds_left),
        "what": what(job.request),
        "devices": ", ".join(job.devices or job.request.devices),
        "priority": job.request.priority,
        "submitter": job.submitter,
        "created": moment(job.created_at),
    }


def summary(page: JobsPage) -> str:
    """Return in a sentence what the list holds."""
    open_ = sum(not job.ended for job in page.jobs)
    more = f" These are the newest {MOST}." if page.next_cursor else ""
    return f"{len(page.jobs)} jobs, {open_} of them not ended.{more}"


def _nothing() -> None:
    return None


PAGES = (Page("/jobs", "Jobs", build, nav=5),)
