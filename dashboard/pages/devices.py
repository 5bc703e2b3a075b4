"""Devices: what state each is in, when it was last heard of, what waits for it, and what the table covers of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from nicegui import ui

from dashboard.address import link
from dashboard.coverage import Covered, Share, shares
from dashboard.layout import Page, View, card, facts, text
from edgelut.jobs import FleetDevice

STATES = {
    "idle": ("●", "good", "idle"),
    "measuring": ("▶", "good", "measuring"),
    "unusable": ("✖", "bad", "unusable"),
    "away": ("○", "warn", "away"),
    "": ("–", "", "no agent: rows only"),
}
COUNTED_EVERY_S = 10.0


class Fleet(msgspec.Struct, frozen=True):
    """The answer of GET /fleet."""

    devices: list[FleetDevice]


async def build(view: View) -> None:
    """Show every device of the fleet and of the table, and keep it so."""
    fleet, covered = Fleet([]), Covered([])
    cards = ui.element("div").classes("el-cards").props('aria-live="off"')

    def draw() -> None:
        cards.clear()
        with cards:
            names = sorted({one.info.name for one in fleet.devices} | {one.target.device for one in covered.coverage})
            if not names:
                with card("No device yet"):
                    text(
                        "Measure here with 'edgelut profile efficientformer-l1', or start 'edgelut agent' where a device is."
                    )
            known = {one.info.name: one for one in fleet.devices}
            for name in names:
                device(name, known.get(name), shares(covered.coverage, name))

    async def fleet_told(value: Fleet) -> None:
        nonlocal fleet
        fleet = value
        draw()

    async def covered_told(value: Covered) -> None:
        nonlocal covered
        covered = value
        draw()

    fleet = await view.calls.get(Fleet, "/fleet")
    covered = await view.calls.get(Covered, "/coverage", fresh_s=COUNTED_EVERY_S)
    draw()
    view.watch(Fleet, "/fleet", fleet_told)
    view.watch(Covered, "/coverage", covered_told, every_s=COUNTED_EVERY_S)


def device(name: str, known: FleetDevice | None, covered: Sequence[Share]) -> None:
    """Show one device."""
    symbol, tone, word = STATES[known.state if known is not None else ""]
    with card().props(f"aria-label={json.dumps(name)}"):
        with ui.element("div").classes("el-spread"):
            with ui.element("h2").style("margin: 0"):
                ui.link(name, link("/table", device=name)) if covered else text(name)
            with ui.element("span").classes(f"el-chip {tone}"):
                text(f"{symbol} {word}")
        if known is not None:
            told(known)
        for share in covered:
            covering(share)
        if not covered:
            text("No rows in the table yet.", "p").classes("el-soft")


def told(known: FleetDevice) -> None:
    """Show what an agent says of a device."""
    pairs = {"agent": f"{known.agent}, heard of {ago(known.seen_at)}"}
    if known.waiting:
        pairs["queue"] = f"{known.waiting:,} points wait"
    if not known.info.usable and known.info.reason:
        pairs["why"] = known.info.reason
    for fact in ("device_model", "cpu_model", "cpu", "os", "soc"):
        if fact in known.info.facts:
            pairs[fact.replace("_", " ")] = str(known.info.facts[fact])
    pairs["runtimes"] = ", ".join(runtime.name for runtime in known.info.runtimes) or "none"
    facts(pairs)
    if known.job:
        ui.link(f"measuring for job {known.job[:8]}", f"/jobs/{known.job}")


def covering(share: Share) -> None:
    """Show what the table has of one target."""
    target = share.target
    with ui.element("div").style("margin-top: 10px"):
        with ui.element("div").classes("el-spread"):
            ui.link(share.name, link("/table", **target.as_json())).style("font-weight: 600")
            doubt = f", {share.doubtful / share.rows:.0%} in doubt" if share.doubtful else ", none in doubt"
            other = f", {share.estimated:,} not measured" if share.estimated else ""
            text(f"{share.rows:,} rows{doubt}{other}, newest {ago(share.newest_at)}").classes("el-soft el-small")
        with ui.element("ul").classes("el-row").style("list-style: none; padding: 0; margin: 2px 0 0; gap: 4px 6px"):
            for kind, rows, doubtful in share.kinds:
                with ui.element("li").classes("el-chip"):
                    text(f"{kind} {rows:,}")
                    if doubtful:
                        text(f" · {doubtful:,} ?").props(f'title="{doubtful} in doubt"').style("color: var(--warn-ink)")


def ago(moment: datetime) -> str:
    """Return how long ago a moment was, in the largest fitting unit."""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {name}{'s' if number > 1 else ''} ago"
    return "just now"


PAGES = (Page("/", "Devices", build, nav=0),)
