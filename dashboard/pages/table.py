"""One device's table: every row, the map of a kind of block by width and resolution, and its curves."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

from nicegui import ui

from dashboard import charts
from dashboard.address import link
from dashboard.colours import MARKS
from dashboard.coverage import Covered, Share, devices, shares
from dashboard.figures import Figure
from dashboard.layout import Page, View, card, text
from dashboard.rows import Found, Rows, choose
from dashboard.tables import Column, Grid
from edgelut.errors import LatencyNotFound
from edgelut.sequences import SEQUENCES
from edgelut.types import Target

COUNTED_EVERY_S = 5.0
PATIENCE_S = 3.0  # that figures wait for rows, of which there may be none
ALL = "all"
SHOWN = {
    ":cellClass": "p => ['ag-right-aligned-cell', ({doubtful: 'cell-doubtful', emulated: 'cell-emulated', measured: ''})"
    "[p.data?.standing] ?? 'cell-estimated'].filter(Boolean)"
}
LETTERS = "{" + ", ".join(f"{mark.name}: {mark.letter!r}" for mark in MARKS.values()) + "}"


async def build(view: View) -> None:
    """Show the rows of one target, and let another be chosen."""
    covered = await view.calls.get(Covered, "/coverage", fresh_s=COUNTED_EVERY_S)
    names = devices(covered.coverage)
    if not names:
        raise LatencyNotFound("the table is empty: fill it with 'edgelut profile efficientformer-l1'")
    device = view.address.one_of("device", names, names[0])
    await Table(view, covered, device).build()


class Table:
    """The page's state: which target, block and variant, and what shows them."""

    def __init__(self, view: View, covered: Covered, device: str) -> None:
        self.view, self.device = view, device
        self.names = devices(covered.coverage)
        self.shares = shares(covered.coverage, device)
        self.share = self._chosen()
        self.rows = Rows(self.share.target, "", (), {})
        self.shown = asyncio.Event()
        self.drawn: tuple[Figure, ...] = ()
        self._updating = False

    @property
    def measure(self) -> str:
        """What is shown: times, or counts of instructions."""
        has = self.rows.measures
        return self.view.address.one_of("measure", has, has[0] if has else "time")

    @property
    def block(self) -> str:
        """The kind of block that is chosen; empty for all."""
        return self.view.address.one_of("block", self.rows.kinds(self.measure))

    @property
    def variant(self) -> str:
        """The parameters that are chosen; empty for all."""
        return self.view.address.one_of("variant", self.rows.variants(self.measure, self.block))

    async def build(self) -> None:
        """Build the page and keep it up to date."""
        view = self.view
        view.title(f"{self.device} · {self.share.name}")
        self.rows = await view.home.rows.get(view.calls, self.share.target, self.share.version)
        self.add_controls()
        self.keys = ui.element("div")
        self.figures = ui.element("div").classes("el-two el-room")
        said = "Chains, networks and cold rows are sequences of their own: there is no map of them."
        self.no_map = text(said, "p").classes("el-soft")
        self.no_map.set_visibility(False)
        with card():
            self.grid = Grid(
                "Rows",
                columns(self.measure),
                file=f"{self.device}-{self.share.target.runtime}",
                address=view.address,
                url=self.url(),
                height=520,
                opens=True,
                words=view.address.get("q"),
                filters=True,
            )
            self.grid.grid.on("firstDataRendered", self.shown.set, [])
            with self.grid.tools:
                ui.input(
                    "Search rows", value=view.address.get("q"), on_change=lambda event: self.search(event.value or "")
                ).props("dense outlined debounce=150 type=search")
        view.beside(self.draw_when_shown())
        view.watch(Covered, "/coverage", self.counted, every_s=COUNTED_EVERY_S)

    async def draw_when_shown(self) -> None:
        """Draw the figures after the rows, which charts of thousands of points would hold up."""
        await self.view.client.connected()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.shown.wait(), PATIENCE_S)
        if not self.view.closed:
            self.draw_figures()

    def url(self) -> str:
        """Return where the grid's rows are."""
        chosen: dict[str, Any] = {**self.share.target.as_json(), "version": self.rows.version, "measure": self.measure}
        return link("/data/rows", **chosen, block=self.block, variant=self.variant)

    def search(self, words: str) -> None:
        """Show only rows that hold these words."""
        self.grid.search(words)
        self.view.address.set(q=words)

    def choose(self, name: str, value: str | None) -> None:
        """Change a part of what is shown, in place."""
        if self._updating:
            return
        self.view.address.set(**{name: None if value == ALL else value})
        if name == "block":
            self.view.address.set(variant=None)
        self.update_controls()
        self.draw_figures()
        self.grid.load(self.url())

    async def counted(self, covered: Covered) -> None:
        """Load the rows again where one has changed."""
        now = next((one for one in shares(covered.coverage, self.device) if one.target == self.share.target), None)
        if now is None or now.version == self.rows.version:
            return
        self.rows = await self.view.home.rows.get(self.view.calls, now.target, now.version)
        self.update_controls()
        self.draw_figures()
        self.grid.load(self.url())

    def add_controls(self) -> None:
        """Add the choices."""
        targets = {str(share.target): f"{share.name} ({share.rows:,})" for share in self.shares}
        with ui.element("div").classes("el-controls").props('role=group aria-label="What is shown"'):
            select("Device", {name: name for name in self.names}, self.device, self.go_to_device)
            select("Target", targets, str(self.share.target), self.go_to_target)
            measures = {name: name for name in self.rows.measures}
            if len(measures) > 1:
                select("Measure", measures, self.measure, lambda value: self.choose("measure", value))
            self.blocks = select("Block", {ALL: ALL}, ALL, lambda value: self.choose("block", value))
            self.variants = select("Parameters", {ALL: ALL}, ALL, lambda value: self.choose("variant", value))
            ui.switch(
                "Logarithmic",
                value=self.view.address.flag("log"),
                on_change=lambda event: self.set_log(event.value),
            )
        self.update_controls()

    def update_controls(self) -> None:
        """Offer what there is for what is chosen; the controls stay, and with them the focus."""
        measure, block = self.measure, self.block
        counts, variants = self.rows.kinds(measure), self.rows.variants(measure, block)
        kinds = sorted(counts, key=lambda kind: (kind in SEQUENCES, kind))
        blocks = {ALL: f"all ({sum(counts.values()):,})"} | {kind: f"{kind} ({counts[kind]:,})" for kind in kinds}
        named = {ALL: "all"} | {name: f"{name} ({number:,})" for name, number in sorted(variants.items())}
        self._updating = True
        try:
            self.blocks.set_options(blocks, value=block or ALL)
            self.variants.set_options(named, value=self.variant or ALL)
        finally:
            self._updating = False
        self.variants.set_visibility(len(variants) > 1 and block not in SEQUENCES)

    def set_log(self, log: bool) -> None:
        """Draw curves on the other scale."""
        self.view.address.set(log="1" if log else None)
        self.draw_figures()

    def draw_figures(self) -> None:
        """Draw map and curves of the chosen kind, or of the one with most rows."""
        measure = self.measure
        counts = self.rows.kinds(measure)
        mapped = Counter({kind: number for kind, number in counts.items() if kind not in SEQUENCES})
        kind = self.block or most(mapped)
        self.keys.clear()
        with self.keys:
            keys({row.standing for row in self.rows.rows})
        has_map = kind not in SEQUENCES and bool(mapped)
        self.figures.set_visibility(has_map)
        self.no_map.set_visibility(not has_map)
        if not has_map:
            return
        variants = self.rows.variants(measure, kind)
        variant = self.variant or most(variants)
        shown = choose(self.rows.rows, block=kind, variant=variant, measure=measure)
        what = f"{kind}, {variant}" if len(variants) > 1 else kind
        file = f"{self.device}-{self.share.target.runtime}-{kind}"
        if not self.drawn:
            self.drawn = self.add_figures()
        by_size, by_width = self.drawn
        by_size.name(f"{what}: by width and resolution", f"{file}-map")
        by_size.update(charts.heat_map(shown, measure), gist(shown, measure))
        by_width.name(f"{what}: against width, one line a resolution", f"{file}-curves")
        bars = "Bars are 95 % intervals. Shift and the wheel zooms; a click on a point opens its row."
        by_width.update(charts.curves(shown, measure, self.view.address.flag("log")), bars)

    def add_figures(self) -> tuple[Figure, ...]:
        """Add the places of map and curves; they stay, whatever they show."""
        made = []
        with self.figures:
            for _ in range(2):
                with card():
                    made.append(Figure("", {}, gist="", file="", on_click=self.open))
        return tuple(made)

    def open(self, event: Any) -> None:
        """Open the row of a point."""
        if isinstance(event.data, dict) and isinstance(event.data.get("id"), int):
            ui.navigate.to(f"/entry/{event.data['id']}")

    def go_to_device(self, name: str) -> None:
        """Open another device's table."""
        ui.navigate.to(link("/table", device=name))

    def go_to_target(self, name: str) -> None:
        """Open another target of this device, with the same choices."""
        target = next(share.target for share in self.shares if str(share.target) == name)
        ui.navigate.to(self.view.address.keep(**target.as_json()))

    def _chosen(self) -> Share:
        """Return the target that the address names, else the one with most rows."""
        asked = {name: self.view.address.get(name) for name in ("runtime", "precision", "threads", "unit")}

        def fits(target: Target) -> bool:
            has = target.as_json()
            return all(not value or str(has[name]) == value for name, value in asked.items())

        found = next((share for share in self.shares if fits(share.target)), None)
        if found is None:
            there = ", ".join(share.name for share in self.shares)
            raise LatencyNotFound(f"{self.device} has no rows of that target; it has {there}")
        return found


def select(label: str, options: dict[str, str], value: str, on_change: Any) -> ui.select:
    """Add a choice."""
    return ui.select(options, value=value, label=label, on_change=lambda event: on_change(event.value)).props(
        "dense outlined options-dense"
    )


def keys(used: set[str]) -> None:
    """Say what the marks mean that are used."""
    if used <= {"measured"}:
        return
    with ui.element("ul").classes("el-keys").props('aria-label="Marks"'):
        for mark in MARKS.values():
            if mark.letter and mark.name in used:
                with ui.element("li"):
                    text(mark.letter, "b")
                    text(f" {mark.words}")


def columns(measure: str) -> list[Column]:
    """Return the grid's columns, what matters most first."""
    unit = charts.UNITS[measure]
    return [
        Column("block", "block", "link", 104),
        Column("width", "width", "number", 82),
        Column("resolution", "res", "number", 72, "side of the input map"),
        Column("value", unit, "number", 98 if measure == "time" else 140, "p10", more=SHOWN),
        Column("half", "±", "share", 86, "half of the 95 % interval, relative"),
        Column(
            "standing",
            "state",
            "text",
            120,
            more={
                ":valueFormatter": f"p => (({LETTERS})[p.value] ?? '') + ' ' + p.value",
                "useValueFormatterForExport": False,
            },
        ),
        Column(
            "params",
            "parameters",
            "text",
            250,
            "those that are not at their defaults",
            more={"tooltipField": "all_params"},
        ),
        Column("width_out", "out", "number", 84, "output width"),
        Column("batch", "batch", "number", 86),
        Column("p50", "p50", "number", 96),
        Column("low", "low", "number", 96, "lower end of the 95 % interval of p10"),
        Column("high", "high", "number", 96, "upper end of the 95 % interval of p10"),
        Column(
            "slope", "in company", "number", 124, "what one more copy adds, or what it costs between its neighbours"
        ),
        Column("cold", "cold", "number", 96, "with flushed caches"),
        Column("runs", "runs", "number", 84),
        Column("measured_at", "measured (UTC)", "text", 175),
        Column("doubts", "doubts", "text", 320, more={"tooltipField": "doubts"}),
        Column("all_params", "all parameters", hide=True),
        Column("id", "entry", "number", hide=True),
    ]


def gist(rows: list[Found], measure: str) -> str:
    """Return what a map says, in a sentence."""
    if not rows:
        return "There are no rows."
    slowest = max(rows, key=lambda row: row.latency.p10_ns)
    fastest = min(rows, key=lambda row: row.latency.p10_ns)
    doubtful = sum(row.standing == "doubtful" for row in rows)

    def of(row: Found) -> str:
        value = row.in_unit(row.latency.p10_ns)
        return f"{charts.figure(value, 3)} {charts.UNITS[measure]} at width {row.spec.width}, resolution {row.spec.resolution}"

    return f"{len(rows):,} rows from {of(fastest)} to {of(slowest)}; {doubtful or 'none'} in doubt."


def most(counted: Counter[str]) -> str:
    """Return the commonest; empty where there is none."""
    return min(counted, key=lambda name: (-counted[name], name), default="")


PAGES = (Page("/table", "Table", build, nav=1),)
