"""Searches for networks: all of them, newest first, with how far each is and the best that it has found."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from dashboard.jobs_view import moment
from dashboard.layout import Page, View, card, text
from dashboard.searches import SearchesPage, going, share_of, silence
from dashboard.tables import Column, Grid
from edgelut.render import short
from edgelut.searches import STATES, SearchRun

MOST = 100
COLUMNS = (
    Column("name", "search", "link", more={"flex": 1, "minWidth": 180}),
    Column("state", "state", more={"flex": 1, "minWidth": 250, "tooltipField": "state"}),
    Column("target_ms", "target, ms", "number", width=110),
    Column(
        "best", "best accuracy", "share", width=125, tip="of the networks that meet the target, at most 2 % above it"
    ),
    Column("device", "device", width=130),
    Column("heard", "last heard of (UTC)", width=165),
    Column("created", "begun (UTC)", width=160),
    Column("target", "target", width=260, hide=True),
    Column("events", "events", "number", width=90),
)


async def build(view: View) -> None:
    """List the searches, and keep the list as it is at the service."""
    state = view.address.one_of("state", STATES)
    latest: SearchesPage | None = None

    async def told(page: SearchesPage) -> None:
        nonlocal latest
        latest = page
        shown = [run for run in page.searches if state in ("", run.state)]
        grid.show([row(run) for run in shown])
        said.set_text(summary(page, shown))

    async def choose(chosen: str) -> None:
        nonlocal state
        state = chosen
        view.address.set(state=state)
        if latest is not None:
            await told(latest)

    with ui.element("div").classes("el-controls"):
        ui.select(
            {"": "all", **{one: one for one in STATES}},
            value=state,
            label="State",
            on_change=lambda event: choose(event.value),
        ).props("outlined dense options-dense")
    with card():
        said = text("", "div").classes("el-soft el-small").props("role=status aria-live=polite")
        grid = Grid("Searches", COLUMNS, file="searches", address=view.address, opens=True)
        text("Enter opens the search of a row. A search is begun by edgelut search slim.", "div").classes(
            "el-soft el-small"
        )
    await told(await view.calls.get(SearchesPage, "/searches", note=False, limit=MOST))
    view.watch(SearchesPage, "/searches", told, limit=MOST)


def row(run: SearchRun) -> dict[str, Any]:
    """Return a search as a row of the table."""
    quiet = silence(run)
    return {
        "id": run.id,
        "href": f"/searches/{run.id}",
        "name": run.name,
        "device": run.target.device,
        "target": short(run.target),
        "target_ms": run.target_ms,
        "state": going(run) + (f" ({quiet})" if quiet else ""),
        "best": run.best_accuracy,
        "events": run.events,
        "heard": moment(run.updated_at),
        "created": moment(run.created_at),
    }


def summary(page: SearchesPage, shown: list[SearchRun]) -> str:
    """Return in a sentence what the list holds."""
    if not page.searches:
        return "There is no search yet."
    running = [run for run in shown if run.state == "running"]
    best = max((run.best_accuracy for run in shown if run.best_accuracy is not None), default=None)
    said = f"{len(shown)} searches, {len(running)} of them running." if len(shown) != 1 else "One search."
    said += f" The best accuracy of a network that meets its target is {share_of(best)}." if best is not None else ""
    return said + (f" These are among the newest {MOST}." if page.next_cursor else "")


PAGES = (Page("/searches", "Searches", build, nav=6),)
