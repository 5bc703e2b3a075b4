"""The composer: a network by its preset or its sliders, its latency on several targets, and what of it is known how."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nicegui import ui

from dashboard.address import link
from dashboard.charts_network import height, shares_chart, totals_chart
from dashboard.colours import MARKS
from dashboard.coverage import Covered
from dashboard.figures import Figure
from dashboard.layout import Page, View, card, text
from dashboard.networks import (
    DEFAULT,
    MOST_DEPTH,
    MOST_WIDTH,
    RESOLUTIONS,
    SEGMENTS,
    WIDTH_STEP,
    Total,
    address_of,
    config_of,
    curl,
    line,
    python,
    request_body,
    shares,
    title,
    unusual,
)
from dashboard.parts import Copied, Slider
from dashboard.rest import Call
from dashboard.spaces import LINE
from dashboard.tables import Column, Grid
from dashboard.targets import listed, options, parse_many
from edgelut.compose import IncompleteNetwork
from edgelut.efficientformer import CONFIGS, Config, network
from edgelut.errors import EdgelutError, InvalidSpec
from edgelut.quality import NetworkLatency
from edgelut.render import short
from edgelut.types import Target

SETTLE_S = 0.25  # a slider that is drawn asks once it rests
FIRST = 4  # targets, where the address names none
COUNTED_EVERY_S = 10.0
MOST_NAMED = 8
SUMS_GIST = (
    "The line is the sum, the box its 95 % interval; the whiskers reach from every block hot to every block cold."
)
PRESETS = {name: f"EfficientFormer-{name.rpartition('-')[2].upper()}" for name in CONFIGS}
PLAIN = {"filter": False}  # a table of few rows needs none, and its headings need the room
COLUMNS = (
    Column("target", "target", more={"flex": 1, "minWidth": 190, "wrapText": True, "autoHeight": True, **PLAIN}),
    Column("ms", "sum, ms", "number", width=100, more=PLAIN),
    Column("low", "95 % from", "number", width=110, tip="the sum's error bar: from", more=PLAIN),
    Column("high", "95 % to", "number", width=95, tip="the sum's error bar: to", more=PLAIN),
    Column("hot", "all hot", "number", width=90, tip="bracket: every block hot", more=PLAIN),
    Column("cold", "all cold", "number", width=95, tip="bracket: every block cold", more=PLAIN),
    Column("whole", "measured whole", "number", width=145, tip="the whole network's own row", more=PLAIN),
    Column("error", "off by", "share", width=90, tip="the sum against the whole network's own row", more=PLAIN),
    Column("known", "blocks", width=210, tip="how the distinct blocks are known", more=PLAIN),
)
STAGE_COLUMNS = (
    Column("target", "target", more={"flex": 1, "minWidth": 190, "wrapText": True, "autoHeight": True, **PLAIN}),
    *(Column(name, f"{name}, ms", "number", width=130 if len(name) < 10 else 155, more=PLAIN) for name in SEGMENTS),
)


async def build(view: View) -> None:
    """Show a network's latency, and let it be changed."""
    targets = await listed(view.calls)
    if not targets:
        raise InvalidSpec("the table is empty: fill it with 'edgelut profile efficientformer-l1'")
    covered = await view.calls.get(Covered, "/coverage", fresh_s=COUNTED_EVERY_S)
    timed = {one.target for one in covered.coverage if one.kind != "emulated"}
    await Composer(view, targets, [target for target in targets if target in timed][:FIRST]).draw()


class Composer:
    """The page's state: the network and the targets."""

    def __init__(self, view: View, targets: list[Target], usual: list[Target]) -> None:
        self.view, self.targets = view, targets
        self.config = config_of(view.address)
        self.chosen = parse_many(view.address.get("targets"), targets) or usual or targets[:1]
        self.estimate = view.address.flag("estimate")
        self.totals: list[Total] = []
        self.asking: asyncio.Task[None] | None = None
        self.sliders: dict[str, Slider] = {}
        self.quiet = False  # while choices are set by something else than a person

    async def draw(self) -> None:
        """Build the page."""
        with ui.element("div").classes("el-controls").props('role=group aria-label="Network and targets"'):
            self.preset = ui.select(
                PRESETS,
                value=self.config.name or DEFAULT,
                label="Start from",
                on_change=lambda event: self.start(event.value),
            ).props("outlined dense options-dense")
            self.side = ui.select(
                sorted({*RESOLUTIONS, self.config.resolution}),
                value=self.config.resolution,
                label="Image",
                on_change=lambda event: self.change(resolution=event.value),
            ).props("outlined dense options-dense")
            ui.select(
                options(self.targets),
                value=[str(target) for target in self.chosen],
                multiple=True,
                label="Targets",
                on_change=lambda event: self.choose(event.value),
            ).props("outlined dense options-dense use-chips").style("min-width: min(420px, 100%); flex: 1 1 420px")
            ui.switch(
                "Estimate missing blocks", value=self.estimate, on_change=lambda event: self.switch(event.value)
            ).props("dense")
        with card("Network"):
            self.name = text("", "div").classes("el-soft el-small").props("role=status aria-live=polite")
            self.draw_sliders()
        with card("Latency"):
            self.said = text("", "div").classes("el-soft el-small").props("role=status aria-live=polite")
            self.missing = ui.element("div")
            self.table = Grid("Sums", COLUMNS, file="network-sums")
            self.doubts = ui.element("div")
        self.drawn = ui.element("div").classes("el-two")
        with self.drawn:
            with card():
                self.sums = Figure(
                    "Sum, interval and bracket", totals_chart([]), gist="", file="network-sums", height=height([])
                )
            with card():
                self.parts = Figure(
                    "Share of each stage", shares_chart(self.config, []), gist="", file="network-stages"
                )
        self.staged = card()
        with self.staged:
            self.stages = Grid("Stages", STAGE_COLUMNS, file="network-stages")
        with card("Copy"):
            self.copies = [Copied("Line of blocks"), Copied("REST"), Copied("Python")]
        await self.load()

    def draw_sliders(self) -> None:
        """Add the sliders of widths, depths and MB3D."""
        with ui.element("div").classes("el-sliders"):
            for stage in range(4):
                with ui.element("fieldset").classes("el-set"):
                    text(f"Stage {stage + 1}", "legend")
                    widest = max(MOST_WIDTH[stage], self.config.widths[stage])
                    deepest = max(MOST_DEPTH[stage], self.config.depths[stage])
                    self.slider(f"width{stage}", "Width", WIDTH_STEP, widest, WIDTH_STEP, self.config.widths[stage])
                    self.slider(f"depth{stage}", "Depth", 1, deepest, 1, self.config.depths[stage])
            with ui.element("fieldset").classes("el-set"):
                text("Trailing MB3D", "legend")
                self.slider("mb3d", "Blocks from the end", 0, sum(self.config.depths[2:]), 1, self.config.mb3d)

    def slider(self, name: str, label: str, least: int, most: int, step: int, value: int) -> None:
        """Add a slider."""
        legend = f"{label}, stage {int(name[-1]) + 1}" if name[-1].isdigit() else "Trailing MB3D blocks"
        self.sliders[name] = Slider(label, legend, least, most, step, value, lambda number: self.slid(name, number))

    def slid(self, name: str, number: int) -> None:
        """Take a slider's value."""
        if name == "mb3d":
            self.change(mb3d=number)
            return
        field, stage = ("widths" if name.startswith("width") else "depths"), int(name[-1])
        values = list(getattr(self.config, field))
        values[stage] = number
        self.change(**{field: tuple(values)})

    def start(self, name: str) -> None:
        """Start from a published network."""
        if not self.quiet:
            self.set(CONFIGS[name])

    def change(self, **changes: Any) -> None:
        """Change the network; of fewer blocks no more can be MB3D than there are."""
        if self.quiet:
            return
        depths = changes.get("depths", self.config.depths)
        mb3d = min(changes.get("mb3d", self.config.mb3d), sum(depths[2:]))
        self.set(replace(self.config, **{**changes, "mb3d": mb3d}))

    def set(self, config: Config) -> None:
        """Show another network: sliders, address and, once it rests, its latency."""
        self.config, self.quiet = config, True
        try:
            values = {"mb3d": config.mb3d}
            for stage in range(4):
                values |= {f"width{stage}": config.widths[stage], f"depth{stage}": config.depths[stage]}
            for name, value in values.items():
                most = sum(config.depths[2:]) if name == "mb3d" else None
                if self.sliders[name].value != value or most is not None:
                    self.sliders[name].set(value, most)
            self.preset.set_value(config.name)
            self.side.set_value(config.resolution)
        finally:
            self.quiet = False
        self.view.address.set(**address_of(config))
        self.load_soon()

    def choose(self, targets: Sequence[str]) -> None:
        """Show other targets."""
        self.chosen = parse_many(",".join(targets), self.targets)
        self.view.address.set(targets=",".join(map(str, self.chosen)))
        self.load_soon()

    def switch(self, estimate: bool) -> None:
        """Estimate what targets lack, or say that they lack it."""
        self.estimate = estimate
        self.view.address.set(estimate="1" if estimate else None)
        self.load_soon()

    def load_soon(self) -> None:
        """Add up once nothing has changed for a moment."""
        if self.asking is not None:
            self.asking.cancel()
        self.asking = asyncio.ensure_future(self._load_later())

    async def _load_later(self) -> None:
        await asyncio.sleep(SETTLE_S)
        if not self.view.closed:
            with self.view.content:
                await self.load()

    async def load(self) -> None:
        """Add the network up on each target and show it."""
        config = self.config
        self.view.calls.asked = {key: call for key, call in self.view.calls.asked.items() if key[0] == "GET"}
        self.totals = list(await asyncio.gather(*(self.total(config, target) for target in self.chosen)))
        if not self.view.closed:
            self.show()

    async def total(self, config: Config, target: Target) -> Total:
        """Return what a target says of the network."""
        body = request_body(config, target, self.estimate)
        call = Call.of("POST", "/networks/latency", None, body)
        self.view.calls.note(Call(call.method, call.path, call.params, call.body, short(target)))
        try:
            return Total(target, await self.view.calls.post(NetworkLatency, "/networks/latency", body, note=False))
        except IncompleteNetwork as error:
            return Total(target, missing=error.missing)
        except EdgelutError as error:
            return Total(target, error=str(error))

    def show(self) -> None:
        """Show the sums."""
        config, totals = self.config, self.totals
        net = network(config)
        self.name.set_text(
            f"{title(config)}: {len(net.blocks)} blocks, {len(set(net.blocks))} of them different; "
            f"widths {', '.join(map(str, config.widths))}; depths {', '.join(map(str, config.depths))}; {config.mb3d} MB3D"
            + unusual(config)
        )
        self.said.set_text(" ".join(words(total) for total in totals) or "Choose a target.")
        self.table.show([row(total) for total in totals])
        self.show_missing()
        self.show_doubts()
        found = [total for total in totals if total.found is not None]
        self.drawn.set_visibility(bool(found))
        self.staged.set_visibility(bool(found))
        self.sums.chart.style(f"height: {height(totals)}px")
        self.sums.update(totals_chart(totals), SUMS_GIST if found else "There is no sum to show.")
        self.parts.chart.style(f"height: {height(totals, 112)}px")
        self.parts.update(shares_chart(config, totals), shares_gist(config, found))
        self.stages.show([
            {"id": str(one.target), "target": short(one.target), **shares(config, one.found)}
            for one in found if one.found is not None
        ])  # fmt: skip
        settings = self.view.home.settings
        chosen = [total.target for total in totals]
        self.copies[0].show(line(net.blocks))
        self.copies[1].show(curl(config, chosen, settings.public_url, self.view.caller.guarded, self.estimate))
        self.copies[2].show(python(config, chosen, settings.public_url, self.estimate))

    def show_missing(self) -> None:
        """Name the rows that sums lack, with the page that submits exactly those; and what is refused."""
        self.missing.clear()
        with self.missing:
            for total in self.totals:
                if total.missing:
                    names = ", ".join(map(str, total.missing[:MOST_NAMED])) + (
                        "" if len(total.missing) <= MOST_NAMED else ", …"
                    )
                    with ui.element("div").classes("el-note"):
                        text(f"{short(total.target)} lacks {len(total.missing)} of its blocks: {names}. ")
                        where = link("/space", space=LINE, blocks=line(total.missing), target=str(total.target))
                        ui.link("Have just these measured", where)
                elif total.error:
                    with ui.element("div").classes("el-note"):
                        text(total.error)

    def show_doubts(self) -> None:
        """Say what speaks against the sums."""
        self.doubts.clear()
        with self.doubts:
            for total in self.totals:
                if total.found is None or not total.found.doubts:
                    continue
                with ui.element("details"):
                    with ui.element("summary"):
                        text(f"{len(total.found.doubts)} doubts about {short(total.target)}")
                    with ui.element("ul"):
                        for doubt in total.found.doubts:
                            text(doubt, "li")


def row(total: Total) -> dict[str, Any]:
    """Return a total as a row of the table."""
    found = total.found
    known = ", ".join(f"{count} {name}{mark(name)}" for name, count in total.blocks.items())
    said: dict[str, Any] = {"id": str(total.target), "target": short(total.target), "known": known or "no sum"}
    if found is None:
        return said
    (hot, cold), (low, high) = found.bracket_ms, found.interval_ms
    said |= {"ms": found.latency_ms, "low": low, "high": high, "hot": hot, "cold": cold}
    return said | {"whole": found.measured_ms, "error": found.error}


def mark(name: str) -> str:
    """Return the letter of a mark with a space before it."""
    letter = MARKS[name].letter if name in MARKS else ""
    return f" {letter}" if letter else ""


def words(total: Total) -> str:
    """Return a total in a sentence, for who hears the page."""
    if total.found is None:
        return f"{short(total.target)}: no sum, {len(total.missing)} blocks missing." if total.missing else ""
    low, high = total.found.interval_ms
    return f"{short(total.target)}: {total.found.latency_ms:.3g} ms ({low:.3g} to {high:.3g})."


def shares_gist(config: Config, totals: Sequence[Total]) -> str:
    """Return which stage costs most on each target."""
    said = []
    for total in totals:
        if total.found is not None:
            each = shares(config, total.found)
            most = max(each, key=lambda name: each[name])
            part = each[most] / total.found.latency_ms if total.found.latency_ms else 0.0
            said.append(f"{short(total.target)}: {most} takes most, {part:.0%}")
    return "; ".join(said) + ("." if said else "")


PAGES = (Page("/network", "Network", build, nav=3),)
