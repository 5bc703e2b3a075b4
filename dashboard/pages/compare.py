"""Two devices, runtimes, precisions or dates side by side: ratios as maps, what moved most, and what all rows share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from nicegui import ui

from dashboard.charts_compare import map_width, movers_chart, movers_height, ratio_map, span_of
from dashboard.coverage import Covered, versions
from dashboard.figures import Figure
from dashboard.layout import Page, View, button, card, problem, text
from dashboard.moments import options as moment_options
from dashboard.moments import parse as parse_moment
from dashboard.moments import said
from dashboard.parts import add_map
from dashboard.ratios import Comparison, Pair, compare, percent
from dashboard.rows import Found, Spec
from dashboard.sides import Side, days, rows
from dashboard.tables import Column, Grid
from dashboard.targets import find, listed, options
from edgelut.errors import EdgelutError, InvalidSpec
from edgelut.jobs import Mark
from edgelut.render import short
from edgelut.types import Target

FRESH_S = 2.0
MOST_CELLS = 3000  # of all maps, and rows of the table: more would take a browser seconds to draw
ALL = "all"
MAP_HEIGHT = 102  # and for each of its rows
MAP_ROW = 34
COLUMNS = (
    Column("block", "block", width=190),
    Column("change", "change", "share", width=110, tip="B against A, after the common factor if that is divided out"),
    Column("low", "95 % from", "share", width=120),
    Column("high", "95 % to", "share", width=110),
    Column("verdict", "difference", width=150),
    Column("one", "A", "number", width=110, tip="milliseconds, or instructions"),
    Column("one_half", "A ±", "share", width=90),
    Column("other", "B", "number", width=110, tip="milliseconds, or instructions"),
    Column("other_half", "B ±", "share", width=90),
    Column("doubts", "doubts", more={"flex": 1, "minWidth": 160, "tooltipField": "doubts"}),
)


class Marks(msgspec.Struct, frozen=True):
    """What GET /marks answers."""

    marks: list[Mark]


async def build(view: View) -> None:
    """Compare two sides, and let others be chosen."""
    targets = await listed(view.calls)
    if not targets:
        raise InvalidSpec("the table is empty: fill it with 'edgelut profile efficientformer-l1'")
    marks = [mark.name for mark in (await view.calls.get(Marks, "/marks", note=False, fresh_s=10.0)).marks]
    await Compare(view, targets, marks).draw()


class Compare:
    """The page's state: two sides and how they are compared."""

    def __init__(self, view: View, targets: list[Target], marks: list[str]) -> None:
        self.view, self.targets, self.marks = view, targets, marks
        self.asking: asyncio.Task[None] | None = None
        self.known_days: dict[Target, list[str]] = {}
        self.asked = self.shown = 0
        self.placed: tuple[list[tuple[str, int, int]], int] = ([], 0)  # of the maps that stand on the page
        self.drawn: list[Figure] = []
        self.found: tuple[Comparison, list[Side]] | None = None

    def target(self, side: str) -> Target:
        """Return a side's target: what the address says, else the first, and beside it another of the same device."""
        named = find(self.view.address.get(side), self.targets)
        if named is not None:
            return named
        if side == "a":
            return next((one for one in self.targets if self._beside(one) != one), self.targets[0])
        return self._beside(self.target("a"))

    def _beside(self, one: Target) -> Target:
        alike = [other for other in self.targets if other.device == one.device and other != one]
        return alike[0] if alike else one

    async def draw(self) -> None:
        """Build the page."""
        self.controls = ui.element("div")
        self.bad = ui.element("div")
        with card() as self.top:
            self.top.props('aria-label="Summary"')
            self.figures = ui.element("div").classes("el-figures")
            self.said = text("", "div").classes("el-soft").props("role=status aria-live=polite")
        self.groups = ui.element("div").classes("el-controls")
        self.maps = ui.element("div").classes("el-two el-dense")
        with card():
            self.movers = Figure("Biggest movers", movers_chart([]), gist="", file="compare-movers", height=200)
        with card():
            self.grid = Grid("Blocks of both", COLUMNS, file="compare", address=self.view.address, height=460)
            self.note = text("", "div").classes("el-soft el-small")
        self.draw_controls()
        self.said.set_text("Reading both sides …")
        self.view.beside(self.load())

    def draw_controls(self) -> None:
        """Show the choice of sides."""
        self.controls.clear()
        with self.controls:
            with ui.element("div").classes("el-sides"):
                for side, legend in (("a", "A: what is compared with"), ("b", "B: what is looked at")):
                    with ui.element("fieldset"):
                        text(legend, "legend")
                        self.draw_side(side)
            with ui.element("div").classes("el-controls").style("margin-top: 10px; align-items: center"):
                button("Swap A and B", self.swap)
                ui.checkbox(
                    "divide out what all rows share",
                    value=self.view.address.flag("align"),
                    on_change=lambda event: self.change(align=1 if event.value else None),
                )

    def draw_side(self, side: str) -> None:
        """Show the choice of one side: its target and its moment."""
        target = self.target(side)
        at = self.view.address.get(f"{side}_at")
        ui.select(
            options(self.targets),
            value=str(target),
            label=f"Target {side.upper()}",
            on_change=lambda event: self.change(**{side: event.value}),
        ).props("outlined dense options-dense")
        moments = ui.select(
            moment_options(self.marks, self.known_days.get(target, []), at),
            value=at,
            label=f"The table {side.upper()} as of: now, a mark, a day",
            with_input=True,
            new_value_mode="add-unique",
            on_change=lambda event: self.change(**{f"{side}_at": event.value or None}),
        )
        moments.props("outlined dense options-dense hide-selected fill-input")

    async def change(self, **changes: Any) -> None:
        """Compare something else."""
        self.view.address.set(**changes)
        if "a" in changes or "b" in changes:
            self.draw_controls()
        await self.load()

    async def swap(self) -> None:
        """Compare the other way round."""
        get = self.view.address.get
        await self.change(
            a=str(self.target("b")), b=str(self.target("a")), a_at=get("b_at") or None, b_at=get("a_at") or None
        )

    async def load(self) -> None:
        """Read both sides and show what differs."""
        self.asked += 1
        asked = self.asked
        self.bad.clear()
        self.view.calls.asked = {key: call for key, call in self.view.calls.asked.items() if key[2] == ""}
        try:
            sides = await self.sides()
            calls, cache = self.view.calls, self.view.home.rows
            one, other = await asyncio.gather(rows(calls, cache, sides[0], "A"), rows(calls, cache, sides[1], "B"))
            found = await asyncio.to_thread(compare, one, other, without_common=self.view.address.flag("align"))
        except EdgelutError as error:
            if asked == self.asked and not self.view.closed:
                with self.bad:
                    problem(error)
            return
        if asked != self.asked or self.view.closed:  # something else was chosen meanwhile
            return
        self.found = found, sides
        await self.show(found, sides)
        await self.learn_days(sides, one, other)

    async def sides(self) -> list[Side]:
        """Return what the address says is compared, with the version of each one's rows."""
        moments = {side: parse_moment(self.view.address.get(f"{side}_at")) for side in ("a", "b")}
        covered = await self.view.calls.get(Covered, "/coverage", note=False, fresh_s=FRESH_S)
        known = versions(covered.coverage)
        targets = {side: self.target(side) for side in moments}
        return [Side(targets[side], moments[side], known.get(targets[side], "")) for side in moments]

    async def learn_days(self, sides: list[Side], one: Sequence[Found], other: Sequence[Found]) -> None:
        """Offer the days on which something was measured."""
        new = False
        for side, current in zip(sides, (one, other), strict=True):
            if side.target not in self.known_days:
                self.known_days[side.target] = await days(self.view.calls, side.target, current)
                new = True
        if new and not self.view.closed:
            self.draw_controls()

    async def choose(self, block: str) -> None:
        """Show one group of blocks, or all."""
        self.view.address.set(block=None if block == ALL else block)
        if self.found is not None:
            await self.show(*self.found)

    def show_groups(self, found: Comparison) -> str:
        """Offer the groups of blocks; return the one that is chosen, empty for all."""
        groups = sorted({pair.group for pair in found.pairs})
        chosen = self.view.address.one_of("block", groups)
        self.groups.clear()
        if len(groups) > 1:
            with self.groups:
                ui.select(
                    [ALL, *groups],
                    value=chosen or ALL,
                    label="Blocks",
                    on_change=lambda event: self.choose(event.value),
                ).props("outlined dense options-dense")
        return chosen

    async def show(self, found: Comparison, sides: list[Side]) -> None:
        """Show a comparison."""
        chosen = self.show_groups(found)
        pairs = tuple(pair for pair in found.pairs if not chosen or pair.group == chosen)
        self.show_summary(pairs, found, sides)
        movers = [pair for pair in found.movers if not chosen or pair.group == chosen]
        self.movers.chart.style(f"height: {movers_height(movers)}px")
        self.movers.update(movers_chart(movers), movers_gist(movers))
        self.grid.show([row(pair) for pair in movers[:MOST_CELLS]])
        left_out = f"The {MOST_CELLS:,} that moved most, of {len(movers):,}: choose blocks to see fewer."
        self.note.set_text(left_out if len(movers) > MOST_CELLS else "")
        await self.show_maps(pairs)

    def show_summary(self, pairs: Sequence[Pair], found: Comparison, sides: list[Side]) -> None:
        """Show how many blocks moved, and by what all of them did."""
        slower = sum(pair.beyond and pair.ratio > 1 for pair in pairs)
        faster = sum(pair.beyond and pair.ratio < 1 for pair in pairs)
        common = found.common
        self.figures.clear()
        with self.figures:
            for value, words in (
                (f"{len(pairs):,}", "blocks that both have"),
                (f"{slower:,}", "B is slower, beyond the interval"),
                (f"{faster:,}", "B is faster, beyond the interval"),
                (f"{len(pairs) - slower - faster:,}", "within the interval"),
                (percent(common.factor) if common is not None else "–", common_words(sides)),
            ):
                with ui.element("div"):
                    text(value, "div").classes("el-figure")
                    text(words, "div").classes("el-soft el-small")
        self.said.set_text(summary(found, self.view.address.flag("align"), [self.name(side) for side in ("a", "b")]))

    def name(self, side: str) -> str:
        """Return a side in a few words."""
        at = self.view.address.get(f"{side}_at")
        return short(self.target(side)) + (f", {said(at)}" if at else "")

    async def show_maps(self, pairs: tuple[Pair, ...]) -> None:
        """Show a map for each kind of block that has more than one; their places first, so that nothing moves later."""
        self.shown += 1
        shown, span = self.shown, span_of(pairs)
        groups = mapped(pairs)
        drawn = within(groups, MOST_CELLS)
        places = [(name, *map_size(some)) for name, some in drawn]
        if (
            places,
            len(groups),
        ) != self.placed:  # else their options change in place, which spares the browser new charts
            self.placed = (places, len(groups))
            self.maps.clear()
            with self.maps:
                self.drawn = [add_map("compare", *place) for place in places]
                if len(drawn) < len(groups):
                    more = f"{len(groups) - len(drawn)} more maps are not drawn: choose blocks to see theirs."
                    text(more, "p").classes("el-soft")
        for figure, (name, some) in zip(self.drawn, drawn, strict=True):
            option = await asyncio.to_thread(ratio_map, some, name, span)
            if shown != self.shown or self.view.closed:
                return
            figure.update(option, map_gist(name, some))


def mapped(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    """Return the groups that have more than one block, those first in which most moved."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    several = [(name, some) for name, some in groups.items() if len(some) > 1]
    return sorted(several, key=lambda one: (-sum(pair.beyond for pair in one[1]), -len(one[1])))


def within(groups: Sequence[tuple[str, list[Pair]]], cells: int) -> Sequence[tuple[str, list[Pair]]]:
    """Return as many of the first groups as have so many cells, and at least one."""
    total = 0
    for number, (_, some) in enumerate(groups):
        total += len(some)
        if total > cells and number:
            return groups[:number]
    return groups


def map_size(pairs: Sequence[Pair]) -> tuple[int, int]:
    """Return the width and height of a map."""
    return map_width(pairs), MAP_HEIGHT + MAP_ROW * len({pair.spec.resolution for pair in pairs})


def common_words(sides: list[Side]) -> str:
    """Return what the common factor is called: drift, where only the date differs."""
    return (
        "drift of all rows: their median" if sides[0].target == sides[1].target else "common to all rows: their median"
    )


def summary(found: Comparison, align: bool, names: list[str]) -> str:
    """Return in sentences what was compared and what was left out."""
    parts = [f"B ({names[1]}) against A ({names[0]})."]
    common = found.common
    if common is not None and not common.believed:
        parts.append(f"{common.rows} rows are too few for a common factor.")
    elif common is not None:
        done = "It is divided out of what follows." if align else ""
        parts.append(f"Rows deviate from the common factor by {common.spread:.1%} in the median. {done}".strip())
    for specs, words in (
        (found.only_one, "only A has"),
        (found.only_other, "only B has"),
        (found.unlike, "one side counts instructions and the other measures time:"),
    ):
        if specs:
            parts.append(f"{words[0].upper()}{words[1:]} {named(specs)}.")
    return " ".join(parts)


def named(specs: tuple[Spec, ...], most: int = 3) -> str:
    """Return how many blocks, and the first of them."""
    first = ", ".join(map(str, specs[:most]))
    return f"{len(specs):,} block{'s' if len(specs) > 1 else ''} ({first}{', …' if len(specs) > most else ''})"


def map_gist(name: str, pairs: list[Pair]) -> str:
    """Return what a map says in words."""
    most = max(pairs, key=lambda pair: abs(pair.ratio - 1))
    beyond = sum(pair.beyond for pair in pairs)
    return f"{beyond:,} of {len(pairs):,} beyond the interval; most at {most.spec}: {percent(most.ratio)}. A dot is within it."


def movers_gist(pairs: list[Pair]) -> str:
    """Return what the chart of movers says in words."""
    if not pairs:
        return "There are no blocks that both sides have."
    first = pairs[0]
    return f"Most: {first.spec}, {percent(first.ratio)} ({percent(first.low)} to {percent(first.high)}). A dashed box holds 0."


def row(pair: Pair) -> dict[str, Any]:
    """Return a pair as a row of the table."""
    one, other = pair.one.latency, pair.other.latency
    return {
        "id": f"{pair.group} {pair.spec}",
        "block": str(pair.spec),
        "change": pair.ratio - 1,
        "low": pair.low - 1,
        "high": pair.high - 1,
        "verdict": ("slower" if pair.ratio > 1 else "faster") if pair.beyond else "within",
        "one": one.value,
        "one_half": one.half_width,
        "other": other.value,
        "other_half": other.half_width,
        "doubts": "; ".join(
            dict.fromkeys([*(f"A: {doubt}" for doubt in one.doubts), *(f"B: {doubt}" for doubt in other.doubts)])
        ),
    }


PAGES = (Page("/compare", "Compare", build, nav=2),)
