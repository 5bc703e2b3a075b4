"""One job: live progress, points by state, failures with their reasons, the log, time left; cancel and retry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from dashboard.feeds import Listener
from dashboard.jobs_view import (
    LETTERS,
    SAID,
    STATES,
    JobView,
    PointsPage,
    PointView,
    count_of,
    duration,
    moment,
    percent,
    progress,
    reasons,
    shares,
    what,
)
from dashboard.layout import Page, View, button, card, facts, text
from dashboard.tables import Column, Grid
from edgelut.errors import EdgelutError
from edgelut.jobs import JobEvent

POINTS_EVERY_S = 2.0
MOST_POINTS = 5000
MOST_LINES = 500
ANNOUNCE_EVERY = 10  # percent: a screen reader is not told of every point
CHIPS = {"queued": "", "running": "good", "done": "good", "cancelled": "warn"}
COLUMNS = (
    Column("block", "block", "link", width=165),
    Column("state", "state", width=125),
    Column("reason", "reason", more={"flex": 1, "minWidth": 180, "tooltipField": "reason"}),
    Column("device", "device", width=150),
    Column("runtime", "runtime", width=150),
    Column("precision", "precision", width=110),
    Column("closed", "closed (UTC)", width=170),
    Column("number", "number", "number", width=105),
)


async def build(view: View) -> None:
    """Show a job and follow it."""
    id = view.path_params["id"]
    job = await view.calls.get(JobView, f"/jobs/{id}", fresh_s=0.0)
    page = JobPage(view, job)
    await page.draw()
    view.on_end(view.home.feeds.follow(id, view.session.token, Listener(page.told, page.logged, page.refused)))


class JobPage:
    """The parts of the page that change."""

    def __init__(self, view: View, job: JobView) -> None:
        self.view, self.job = view, job
        self.state = view.address.one_of("state", STATES)
        self.last_line = 0
        self.announced = -1
        self.loaded: tuple[Any, ...] = ()
        self.loading: asyncio.Task[None] | None = None
        self.grid: Grid | None = None
        self.reasons: tuple[str, str] | None = None  # why the buttons do nothing, as they are shown

    async def draw(self) -> None:
        """Build the page as the job is now."""
        self.view.title(f"Job {self.job.name}")
        with card() as top:
            top.props('aria-label="Progress"')
            with ui.element("div").classes("el-spread"):
                self.chip = text("").classes("el-chip")
                self.actions = ui.element("div").classes("el-row")
            self.figure = text("", "div").classes("el-figure")
            self.bar = ui.element("div").classes("el-bar").props("role=progressbar aria-valuemin=0 aria-valuemax=100")
            self.keys = ui.element("ul").classes("el-keys")
            self.spoken = text("", "div").classes("el-hidden").props("role=status aria-live=polite")
        with ui.element("div").classes("el-two"):
            with card("What was asked"):
                self.asked = ui.element("div")
            with card("Log"):
                self.log = ui.element("div").classes("el-log").props('role=log tabindex=0 aria-label="Log of the job"')
        self.failures = ui.element("div")
        with card():
            self.points = ui.element("div")
        self.draw_points()
        await self.show()
        await self.load_points()

    async def told(self, job: JobView) -> None:
        """Show the job as it is now."""
        self.job = job
        with self.view.content:
            await self.show()
        self.load_soon()

    async def refused(self, error: EdgelutError) -> None:
        """Say nothing of a service that is away: the page's banner does."""
        del error

    async def logged(self, lines: list[JobEvent]) -> None:
        """Add lines to the log; those that are there already are left out."""
        new = [line for line in lines if line.id > self.last_line]
        if not new:
            return
        self.last_line = new[-1].id
        with self.log:
            for line in new[-MOST_LINES:]:
                mark = {"warning": "⚠ ", "error": "✖ "}.get(line.level, "")
                text(f"{line.at:%H:%M:%S} {mark}{line.text}", "div").classes(f"el-line {line.level}")
        children = list(self.log.default_slot.children)
        for old in children[: max(0, len(children) - MOST_LINES)]:
            self.log.remove(old)
        self.view.js(f"edgelut.toEnd({self.log.id})")

    async def show(self) -> None:
        """Show what of the job changes."""
        job = self.job
        self.chip.set_text(job.state)
        self.chip.classes(replace=f"el-chip {CHIPS[job.state]}")
        left = "" if job.ended else f" · {duration(job.seconds_left)} left"
        self.figure.set_text(f"{job.points.closed:,} of {job.points.total:,} points{left}")
        done = percent(job)
        self.bar.props(f'aria-valuenow={done} aria-valuetext="{progress(job)}" aria-label="points closed"')
        self.bar.clear()
        with self.bar:
            for state, count, share in shares(job.points):
                ui.element("span").classes(f"el-part {state}").style(f"width: {share:.3f}%").props(
                    f'title="{count} {state}"'
                )
        self.keys.clear()
        with self.keys:
            for state in STATES:
                if count := count_of(job.points, state):
                    with ui.element("li"):
                        ui.element("i").classes(f"el-part key {state}")
                        text(f" {LETTERS[state]} {count:,} {state}: {SAID[state]}")
        step = done // ANNOUNCE_EVERY if not job.ended else 1000
        if step != self.announced:
            self.announced = step
            self.spoken.set_text(progress(job))
        self.show_actions()
        self.show_asked()

    def show_actions(self) -> None:
        """Show the buttons; one that can do nothing says why."""
        job, lacks = self.job, self.view.why_not("submit")
        no_cancel = lacks or ("" if job.may_cancel else f"the job is {job.state}: nothing of it is open")
        no_retry = lacks or ("" if job.may_retry else "none of its points failed or was cancelled")
        if self.reasons == (no_cancel, no_retry):  # a button that is made again loses the focus
            return
        self.reasons = no_cancel, no_retry
        self.actions.clear()
        with self.actions:
            button(
                "Cancel",
                lambda: self.ask(
                    f"Cancel what is open of {job.name}?", cancel_words(job), "Cancel the job", self.cancel
                ),
                why_not=no_cancel,
            )
            button(
                "Retry",
                lambda: self.ask("Retry this job?", retry_words(self.job), "Retry the job", self.retry),
                why_not=no_retry,
            )

    def show_asked(self) -> None:
        """Show the request in words."""
        job, asked = self.job, self.job.request
        pairs = {
            "id": job.id,
            "measures": what(asked) + (", alone" if asked.alone else "") + (", again" if asked.again else ""),
            "devices": ", ".join(job.devices or asked.devices),
            "runtimes": ", ".join(asked.runtimes),
            "precisions": f"{', '.join(asked.precisions)}; threads {', '.join(map(str, asked.threads))}; unit {asked.unit}",
            "compared with": asked.baseline + (f" (job {job.baseline_job})" if job.baseline_job else ""),
            "labels": ", ".join(f"{name}={value}" for name, value in asked.labels.items()),
            "priority": str(asked.priority) if asked.priority else "",
            "submitted": f"{moment(job.created_at)} UTC" + (f" by {job.submitter}" if job.submitter else ""),
            "started": f"{moment(job.started_at)} UTC" if job.started_at else "",
            "ended": f"{moment(job.finished_at)} UTC" if job.finished_at else "",
            "rounds stored": f"{job.rounds:,}" if job.rounds else "",
        }
        self.asked.clear()
        with self.asked:
            facts({name: value for name, value in pairs.items() if value})

    def draw_points(self) -> None:
        """Build the table of points with its filter."""
        with self.points:
            choices: dict[str, str] = {"": "all", **{str(state): str(state) for state in STATES}}
            with ui.element("div").classes("el-controls"):
                ui.select(
                    choices, value=self.state, label="Points", on_change=lambda event: self.choose(event.value)
                ).props("outlined dense options-dense")
            self.grid = Grid(
                "Points", COLUMNS, file=f"job-{self.job.id}-points", address=self.view.address, height=420, opens=True
            )
            self.note = text("", "div").classes("el-soft el-small")

    async def choose(self, state: str) -> None:
        """Show the points of one state."""
        self.state = state
        self.view.address.set(state=state)
        self.loaded = ()
        await self.load_points()

    def load_soon(self) -> None:
        """Read the points again in a moment, however often the job changes until then."""
        if self.loading is None or self.loading.done():
            self.loading = asyncio.ensure_future(self._load_later())

    async def _load_later(self) -> None:
        await asyncio.sleep(POINTS_EVERY_S)
        if not self.view.closed:
            with self.view.content:
                await self.load_points()

    async def load_points(self) -> None:
        """Show the points as they are, where any of them changed."""
        wanted = (self.state, self.job.points)
        if wanted == self.loaded or self.grid is None:
            return
        points, more = await self.read(self.state)
        if self.view.closed:
            return
        self.loaded = wanted
        self.grid.show([row(point) for point in points])
        self.note.set_text(f"The first {len(points):,}; choose a state to see fewer." if more else "")
        await self.show_failures()

    async def show_failures(self) -> None:
        """Show why points failed."""
        self.failures.clear()
        if not self.job.points.failed:
            return
        failed, more = await self.read("failed", 1000)
        if self.view.closed:
            return
        with self.failures, card("Failures"):
            with ui.element("div").classes("el-scroll"), ui.element("table").classes("el-plain"):
                with ui.element("thead"), ui.element("tr"):
                    for heading in ("points", "reason", "blocks"):
                        text(heading, "th").props("scope=col").classes("num" if heading == "points" else "")
                with ui.element("tbody"):
                    for reason, count, blocks in reasons(failed):
                        with ui.element("tr"):
                            text(f"{count:,}", "td").classes("num")
                            text(reason, "td").classes("el-wrap")
                            text(blocks, "td").classes("el-wrap")
            if more:
                text(f"of the first {len(failed):,} failures", "div").classes("el-soft el-small")

    async def read(self, state: str, most: int = MOST_POINTS) -> tuple[list[PointView], bool]:
        """Return the points of a state, and whether there are more."""
        found: list[PointView] = []
        cursor: str | None = None
        while len(found) < most:
            page = await self.view.calls.get(
                PointsPage, f"/jobs/{self.job.id}/points", note=cursor is None and state == self.state,
                state=state or None, cursor=cursor,
            )  # fmt: skip
            found += page.points
            cursor = page.next_cursor
            if cursor is None:
                return found, False
        return found[:most], True

    async def ask(self, title: str, words: str, yes: str, act: Callable[[], Awaitable[None]]) -> None:
        """Ask before acting. The dialog takes the focus; Escape leaves everything as it is."""
        with self.view.content:
            dialog = ui.dialog().props('role=alertdialog aria-labelledby="ask-title" aria-describedby="ask-words"')
        with dialog, ui.card():
            text(title, "h2").props('id="ask-title"')
            text(words, "p").props('id="ask-words"')
            with ui.element("div").classes("el-row"):
                button("Leave it", lambda: dialog.submit(False))
                button(yes, lambda: dialog.submit(True), kind="primary").props("autofocus")
        sure = await dialog
        dialog.delete()
        if sure:
            try:
                await act()
            except EdgelutError as error:
                await self.view.complain(error)

    async def cancel(self) -> None:
        """Cancel the job."""
        await self._act("cancel")

    async def retry(self) -> None:
        """Retry the job."""
        await self._act("retry")

    async def _act(self, verb: str) -> None:
        job = await self.view.calls.act(JobView, "POST", f"/jobs/{self.job.id}/{verb}")
        self.view.home.feeds.hurry(self.job.id)
        await self.told(job)


def row(point: PointView) -> dict[str, Any]:
    """Return a point as a row of the table."""
    spec, target = point.point.spec, point.point.target
    return {
        "id": point.number,
        "number": point.number,
        "block": str(spec),
        "state": f"{LETTERS[point.state]} {point.state}",
        "reason": point.reason,
        "device": target.device,
        "runtime": target.runtime,
        "precision": target.precision,
        "closed": moment(point.closed_at),
        "href": f"/entry/{point.entry}" if point.entry is not None else "",
    }


def cancel_words(job: JobView) -> str:
    """Return what cancelling does."""
    return (
        f"{job.points.open:,} open points are closed as cancelled. What was measured stays in the table, and a retry opens "
        "them again."
    )


def retry_words(job: JobView) -> str:
    """Return what retrying does."""
    points = job.points
    return f"{points.failed + points.cancelled:,} points that failed or were cancelled are opened again, and the job is queued."


PAGES = (Page("/jobs/{id}", "Job", build),)
