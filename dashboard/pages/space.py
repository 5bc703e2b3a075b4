"""What a target lacks of a search space, and the button that has it measured."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from nicegui import ui

from dashboard.address import link
from dashboard.charts_space import coverage_map, map_size
from dashboard.coverage import Covered, shares
from dashboard.figures import Figure
from dashboard.fleets import Fleet, measurable, why_not
from dashboard.jobs_view import JobView
from dashboard.layout import Page, View, button, card, problem, text
from dashboard.parts import add_map
from dashboard.rest import Call
from dashboard.spaces import (
    CUSTOM,
    LETTERS,
    LINE,
    SAID,
    STATES,
    Asked,
    Coverage,
    HeldRows,
    State,
    job_request,
    titles,
)
from dashboard.tables import Column, Grid
from dashboard.targets import listed, options, parse
from edgelut.blocks import KINDS
from edgelut.errors import EdgelutError, InvalidSpec
from edgelut.jobs import JobRequest
from edgelut.types import BlockSpec, Target

CHUNK = 5000  # specs of one request
SHOWN = 3  # specs of the call that the footer shows
EVERY_S = 5.0
ALSO: dict[State, str] = {"doubtful": "those in doubt", "bare": "those without chain, context or cold row"}
PLAIN = {"filter": False}  # a table of few rows needs none, and its headings need the room
KIND_COLUMNS = (
    Column("kind", "kind", more={"flex": 1, "minWidth": 120, **PLAIN}),
    Column("blocks", "blocks", "number", width=95, more=PLAIN),
    *(Column(state, state, "number", width=110, tip=SAID[state], more=PLAIN) for state in STATES),
)
BLOCK_COLUMNS = (
    Column("block", "block", more={"flex": 1, "minWidth": 170}),
    Column("state", "state", width=150),
    Column("width", "width", "number", width=105),
    Column("width_out", "output width", "number", width=140),
    Column("resolution", "resolution", "number", width=125),
)


async def build(view: View) -> None:
    """Show a space and what a target has of it."""
    fleet = await view.calls.get(Fleet, "/fleet", fresh_s=EVERY_S)
    targets = list(dict.fromkeys([*await listed(view.calls), *measurable(fleet.devices)]))
    if not targets:
        raise InvalidSpec(
            "there is no target yet: start 'edgelut agent' where a device is, or measure with 'edgelut profile'"
        )
    await SpacePage(view, fleet, targets).draw()


class SpacePage:
    """The page's state: space, target, what is known of it, and what is to be submitted."""

    def __init__(self, view: View, fleet: Fleet, targets: list[Target]) -> None:
        self.view, self.fleet, self.targets = view, fleet, targets
        self.asked = Asked.of(view.address)
        usual = next((one for one in targets if not why_not(one, fleet.devices)), targets[0])
        self.target = parse(view.address.get("target")) or usual
        self.specs: list[BlockSpec] = []
        self.coverage: Coverage | None = None
        self.version: str | None = None
        self.request: JobRequest | None = None
        self.submitted: JobView | None = None
        self.problem = ""
        self.placed: list[tuple[str, int, int]] = []  # of the maps that stand on the page
        self.drawn: list[Figure] = []

    async def draw(self) -> None:
        """Build the page."""
        choices = options(dict.fromkeys([*self.targets, self.target]))
        with ui.element("div").classes("el-controls").props('role=group aria-label="Space and target"'):
            ui.select(
                titles(),
                value=self.asked.name,
                label="Search space",
                on_change=lambda event: self.change(space=event.value),
            ).props("outlined dense options-dense").style("min-width: min(430px, 100%)")
            ui.select(
                choices,
                value=str(self.target),
                label="Target",
                on_change=lambda event: self.change(target=event.value),
            ).props("outlined dense options-dense").style("min-width: min(320px, 100%)")
        self.own = ui.element("div").classes("el-controls").props('role=group aria-label="Blocks of the space"')
        self.bad = ui.element("div")
        with card("What is lacking"):
            self.figures = ui.element("div").classes("el-figures")
            self.act = ui.element("div").classes("el-act")
            self.kinds = Grid("Blocks by kind", KIND_COLUMNS, file="space-kinds")
        self.maps = ui.element("div").classes("el-two el-dense")
        with card():
            self.blocks = Grid(
                "Blocks", BLOCK_COLUMNS, file="space-blocks", address=self.view.address, prefix="block_", height=380
            )
        self.draw_own()
        await self.load()
        self.view.watch(Covered, "/coverage", self.counted, every_s=EVERY_S)
        self.view.watch(Fleet, "/fleet", self.fleet_told)

    def draw_own(self) -> None:
        """Show what a custom space or a line is given by."""
        asked = self.asked
        self.own.clear()
        with self.own:
            if asked.name == CUSTOM:
                ui.select(
                    [name for name in KINDS if name != "identity"],
                    value=list(asked.kinds),
                    multiple=True,
                    label="Kinds",
                    on_change=lambda event: self.change(kinds=",".join(event.value)),
                ).props("outlined dense options-dense use-chips").style("min-width: 220px")
                self.field("Widths", "widths", asked.widths)
                self.field("Output widths", "widths_out", asked.widths_out)
                self.field("Resolutions", "resolutions", asked.resolutions)
            elif asked.name == LINE:
                self.field("Blocks", "blocks", asked.blocks, "min-width: min(760px, 100%)")

    def field(self, label: str, name: str, value: str, style: str = "") -> None:
        """Add a field for a part of the space."""
        made = ui.input(label, value=value).props("outlined dense debounce=500").style(style)
        made.on_value_change(lambda event: self.change(**{name: event.value or ""}))

    async def change(self, **changes: str) -> None:
        """Show another space or target."""
        view = self.view
        view.address.set(**changes)
        if "target" in changes:
            self.target = parse(changes["target"]) or self.target
        before = self.asked.name
        self.asked = Asked.of(view.address)
        view.address.set(**self.asked.parameters())
        if self.asked.name != before:
            self.draw_own()
        self.submitted = None
        await self.load()

    async def counted(self, covered: Covered) -> None:
        """Look again where a row of the target has changed."""
        share = next((one for one in shares(covered.coverage, self.target.device) if one.target == self.target), None)
        version = share.version if share is not None else ""
        if self.version is not None and version != self.version:
            await self.load()
        self.version = version

    async def fleet_told(self, fleet: Fleet) -> None:
        """Look whether the target can be measured on."""
        self.fleet = fleet
        self.show_actions()

    async def load(self) -> None:
        """Read how each block of the space is known, and show it."""
        self.bad.clear()
        wanted = (self.asked, self.target)
        try:
            specs = await asyncio.to_thread(self.asked.specs)
            rows = await self.rows(specs)
        except EdgelutError as error:
            if self.view.closed:
                return
            with self.bad:
                problem(error)
            self.coverage, self.request = None, None
            self.show_actions()
            return
        if wanted != (self.asked, self.target) or self.view.closed:  # something else was chosen meanwhile
            return
        self.specs, self.coverage = specs, Coverage.of(specs, rows)
        await self.plan()
        if not self.view.closed:
            self.show()

    async def rows(self, specs: list[BlockSpec]) -> list[Any]:
        """Return what the table has of each block."""
        found: list[Any] = []
        first = specs[:SHOWN]
        remark = f"the first {len(first)} of {len(specs):,} specs" if len(specs) > SHOWN else ""
        self.view.calls.asked.pop(("POST", "/latency/batch", ""), None)
        body = {"specs": first, "target": self.target}
        call = Call.of("POST", "/latency/batch", None, body)
        self.view.calls.note(Call(call.method, call.path, call.params, call.body, remark))
        for start in range(0, len(specs), CHUNK):
            body = {"specs": specs[start : start + CHUNK], "target": self.target}
            found += (await self.view.calls.post(HeldRows, "/latency/batch", body, note=False)).entries
        return found

    async def plan(self) -> None:
        """Make the request for what is lacking."""
        self.request, self.problem = None, ""
        specs = self.lacking()
        if specs:
            try:
                self.request = await asyncio.to_thread(job_request, specs, self.target, f"space {self.asked.name}")
                points = await asyncio.to_thread(lambda: len(self.request.blocks_asked()) if self.request else 0)
                self.points = points
            except EdgelutError as error:
                self.problem = str(error)

    def lacking(self) -> tuple[BlockSpec, ...]:
        """Return the blocks that a job is to measure."""
        states: list[State] = ["missing", *(state for state in ALSO if self.view.address.flag(state))]
        return self.coverage.lacking(*states) if self.coverage is not None else ()

    def show(self) -> None:
        """Show the coverage."""
        coverage = self.coverage
        assert coverage is not None
        counts = coverage.counts()
        self.figures.clear()
        with self.figures:
            for state in STATES:
                if counts[state] or state in ("present", "missing"):
                    with ui.element("div"):
                        text(f"{counts[state]:,}", "div").classes("el-figure")
                        text(f"{LETTERS[state]} {SAID[state]}".strip(), "div").classes("el-soft el-small")
        self.show_actions()
        self.kinds.show([kind_row(kind, found) for kind, found in coverage.by_kind().items()])
        self.blocks.show([block_row(spec, state) for spec, state in zip(coverage.specs, coverage.states, strict=True)])
        self.show_maps(coverage)

    def show_maps(self, coverage: Coverage) -> None:
        """Show a map of each kind."""
        shown = {
            name: found for name, found in coverage.maps().items() if len(found[0]) > 1
        }  # else the table says as much
        places = [(name, *map_size(specs)) for name, (specs, _) in shown.items()]
        if places != self.placed:  # else their options change in place, which spares the browser new charts
            self.placed = places
            self.maps.clear()
            with self.maps:
                self.drawn = [add_map("space", *place) for place in places]
        for figure, (name, (specs, states)) in zip(self.drawn, shown.items(), strict=True):
            lacking = sum(state == "missing" for state in states)
            gist = f"{name}: {lacking:,} of {len(specs):,} blocks are missing on {self.target}."
            figure.update(coverage_map(specs, states), gist)

    def show_actions(self) -> None:
        """Show the button with what it would do, or why it cannot."""
        self.act.clear()
        lacking = self.lacking()
        reason = self.view.why_not("submit") or self.problem
        if not reason and self.coverage is None:
            reason = "the space cannot be read"
        if not reason and not lacking:
            reason = "nothing is missing"
        if not reason and self.submitted is not None:
            reason = f"job {self.submitted.id} measures these"
        reason = reason or why_not(self.target, self.fleet.devices)
        with self.act:
            with ui.element("div").classes("el-row"):
                label = f"Submit a job for {len(lacking):,} blocks" if lacking else "Submit a job for what is missing"
                button(label, self.submit, why_not=reason, kind="primary")
                for state, words in ALSO.items():
                    if self.coverage is not None and self.coverage.counts()[state]:
                        ui.checkbox(
                            f"and {words}",
                            value=self.view.address.flag(state),
                            on_change=lambda event, state=state: self.also(state, event.value),
                        )
            with ui.element("div").classes("el-soft el-small").props("role=status aria-live=polite"):
                if self.submitted is not None:
                    ui.link(
                        f"Job {self.submitted.name}: {self.submitted.points.total:,} points",
                        f"/jobs/{self.submitted.id}",
                    )
                elif reason and lacking:
                    text(reason)
                elif self.request is not None:
                    text(f"{self.points:,} points with the chains, contexts and cold runs that make sums hold")

    async def also(self, state: State, wanted: bool) -> None:
        """Measure blocks in another state too, or not."""
        self.view.address.set(**{state: 1 if wanted else None})
        await self.plan()
        self.show_actions()

    async def submit(self) -> None:
        """Submit the job."""
        request, self.request = self.request, None  # a second click is no second job
        if request is None:
            return
        call = Call.of("POST", "/jobs", None, {"specs": request.specs[:SHOWN], "devices": request.devices})
        remark = f"what was submitted, with the first {SHOWN} of {len(request.specs):,} specs"
        self.view.calls.note(Call(call.method, call.path, call.params, call.body, remark))
        try:
            key = {"Idempotency-Key": uuid.uuid4().hex}
            self.submitted = await self.view.calls.act(JobView, "POST", "/jobs", request, key)
        except EdgelutError as error:
            await self.view.complain(error)
            self.request = request
        self.show_actions()


def kind_row(kind: str, counts: dict[State, int]) -> dict[str, Any]:
    """Return a kind as a row of the table."""
    return {
        "id": kind,
        "kind": kind,
        "blocks": sum(counts.values()),
        **{str(name): count for name, count in counts.items()},
    }


def block_row(spec: BlockSpec, state: State) -> dict[str, Any]:
    """Return a block as a row of the table."""
    return {
        "id": spec.key,
        "block": str(spec),
        "state": f"{state} {LETTERS[state]}".strip(),
        "width": spec.width_in,
        "width_out": spec.width_out,
        "resolution": spec.resolution,
    }


def space_of(blocks: str, target: Target) -> str:
    """Return the address that shows these blocks of a target."""
    return link("/space", space=LINE, blocks=blocks, target=str(target))


PAGES = (Page("/space", "Space", build, nav=4),)
