"""One entry: what it says, how it came to be, its history, and its raw runs as a distribution and over time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from nicegui import ui

from dashboard import charts
from dashboard.address import link
from dashboard.charts import figure
from dashboard.colours import MARKS, standing
from dashboard.figures import Figure
from dashboard.layout import Page, View, card, facts, text
from dashboard.tables import Column, Grid
from edgelut.answers import EntryHistory, NumberedEntry
from edgelut.errors import InvalidSpec
from edgelut.figures import spread
from edgelut.render import short
from edgelut.sequences import label
from edgelut.types import Entry, Latency, Run

TOGETHER = 6  # runs asked for at once
MOST_RUNS = 120
HISTORY_EVERY_S = 5.0


class Summary(msgspec.Struct, frozen=True):
    """One run as it is listed."""

    id: int


class Runs(msgspec.Struct, frozen=True):
    """The answer of GET /entries/{id}/runs."""

    runs: list[Summary]


class Whole(msgspec.Struct, frozen=True):
    """The answer of GET /runs/{id}."""

    id: int
    run: Run


async def build(view: View) -> None:
    """Show an entry."""
    number = view.path_params["id"]
    if not (number.isascii() and number.isdigit()):
        raise InvalidSpec(f"an entry's id is a number, not {number!r}")
    row = await view.calls.get(NumberedEntry, f"/entries/{number}")
    entry = row.entry()
    view.title(f"{label(entry.spec)} on {short(entry.target)}")
    past = await view.calls.get(EntryHistory, f"/entries/{number}/history")
    head(entry, past.entries)
    with ui.element("div").classes("el-two"):
        with card("How it came to be"):
            facts(origin(entry))
        with card("What it is"):
            facts(what(entry))
    with card("History"):
        shown = HistoryCard(entry, past.entries)
    runs_card = card("Raw runs")
    with runs_card:
        waiting = text("Loading the runs…", "p").classes("el-soft")
    await raw(view, number, entry, runs_card, waiting)

    async def changed(found: EntryHistory) -> None:
        shown.show(found.entries)

    view.watch(EntryHistory, f"/entries/{number}/history", changed, every_s=HISTORY_EVERY_S)


def head(entry: Entry, past: Sequence[Entry]) -> None:
    """Say the figure, and how far to trust it."""
    latency = entry.latency
    mark = MARKS[standing(entry.kind, len(latency.doubts))]
    unit = "instructions" if latency.measure == "instructions" else "ms"
    with card():
        with ui.element("div").classes("el-row"):
            text(f"{figure(latency.value)} {unit}").classes("el-figure")
            text(spread(latency)).classes("el-soft")
            text(f"{mark.letter} {mark.name}".strip()).classes(
                f"el-chip {'good' if mark.name == 'measured' else 'warn'}"
            )
            if past and past[-1] != entry and entry in past:
                text("an older row: a newer one may be current").classes("el-chip warn")
            ui.link("in the table", link("/table", **entry.target.as_json(), block=entry.spec.kind))
        for doubt in latency.doubts:
            text(f"? {doubt}", "p").classes("el-note").style("margin: 8px 0 0")
        if unit == "instructions":
            text("Instructions executed in a call, counted in an emulator: no time of any device.", "p").classes(
                "el-soft"
            )
        with ui.element("div").classes("el-row el-soft el-small"):
            for name, value in figures(latency).items():
                text(f"{name} {value}")


def figures(latency: Latency) -> dict[str, str]:
    """Return the other figures of a latency, by name."""
    scale, unit = (1.0, "") if latency.measure == "instructions" else (1e6, " ms")

    def shown(value: float | None) -> str:
        return "" if value is None else f"{figure(value / scale)}{unit}"

    found = {
        "p50": shown(latency.p50_ns),
        "p90": shown(latency.p90_ns),
        "95 % of p10": f"{shown(latency.low_ns)} to {shown(latency.high_ns)}",
        "in a chain": shown(latency.slope_ns),
        "in its context": shown(latency.context_ns),
        "cold": shown(latency.cold_ns),
        "wall": shown(latency.wall_p10_ns),
        "load": "" if latency.load_ns is None else f"{latency.load_ns / 1e6:.3g} ms",
        "peak memory": "" if latency.peak_memory_bytes is None else f"{latency.peak_memory_bytes / 2**20:.0f} MiB",
    }
    return {name: value for name, value in found.items() if value} | {
        "clock": latency.clock,
        "runs": f"{latency.runs}",
        "samples": f"{latency.samples}",
    }


def origin(entry: Entry) -> dict[str, str]:
    """Return an entry's provenance, what people look for first."""
    said = entry.provenance.as_dict()
    first = ("measured_at", "artifact_sha256", "parity_error", "sweep", "conditions", "reference_factor", "ran_on")
    ordered = [name for name in first if name in said] + [name for name in said if name not in first]
    return {name.replace("_", " "): _value(name, said[name]) for name in ordered} or {"provenance": "nothing is told"}


def what(entry: Entry) -> dict[str, str]:
    """Return an entry's spec and target."""
    spec, target = entry.spec, entry.target
    return {
        "block": spec.kind,
        "width": f"{spec.width_in}" if spec.width_in == spec.width_out else f"{spec.width_in} to {spec.width_out}",
        "resolution": f"{spec.resolution}",
        "batch": f"{spec.batch}",
        **{name.replace("_", " "): f"{value}" for name, value in spec.params.items()},
        "device": target.device,
        "runtime": target.runtime,
        "precision": target.precision,
        "threads": f"{target.threads}",
        "unit": target.unit,
        "key of the spec": spec.key,
    }


class HistoryCard:
    """What was ever measured of the spec on the target, as a chart and a table."""

    def __init__(self, entry: Entry, past: Sequence[Entry]) -> None:
        self._measure = entry.latency.measure
        self._past: list[Entry] = []
        points = self._points(past)
        self._figure = Figure(
            "Every value that was stored",
            charts.history(points, charts.UNITS[self._measure]),
            gist=self._gist(points),
            file="history",
            height=260,
        )
        columns = [
            Column("at", "measured (UTC)", width=180),
            Column("value", charts.UNITS[self._measure], "number", 120),
            Column("half", "±", "share", 90),
            Column("standing", "state", width=120),
            Column("runs", "runs", "number", 84),
            Column("conditions", "conditions", width=130),
            Column("artifact", "artifact", width=130),
            Column("doubts", "doubts"),
        ]
        self._grid = Grid(
            "Values", columns, self._rows(past), file="history", height=100 + 42 * min(max(len(past), 2), 5)
        )

    def show(self, past: Sequence[Entry]) -> None:
        """Show a history that has grown."""
        points = self._points(past)
        self._figure.update(charts.history(points, charts.UNITS[self._measure]), self._gist(points))
        self._grid.show(self._rows(past))

    def _points(self, past: Sequence[Entry]) -> list[dict[str, Any]]:
        scale = 1.0 if self._measure == "instructions" else 1e6
        found = []
        for number, entry in enumerate(past):
            latency = entry.latency
            if latency.measure != self._measure:
                continue
            doubts = f": {latency.doubts[0]}" if latency.doubts else ""
            found.append(
                {
                    "at": _moment(entry, number),
                    "value": latency.p10_ns / scale,
                    "low": latency.low_ns / scale,
                    "high": latency.high_ns / scale,
                    "standing": standing(entry.kind, len(latency.doubts)),
                    "words": f"{_said(entry)}: {figure(latency.value)} {spread(latency)}{doubts}",
                }
            )
        return found

    def _rows(self, past: Sequence[Entry]) -> list[dict[str, Any]]:
        return [
            {
                "id": number,
                "at": _said(entry),
                "value": float(f"{entry.latency.value:.6g}"),
                "half": round(entry.latency.half_width, 5),
                "standing": standing(entry.kind, len(entry.latency.doubts)),
                "runs": entry.latency.runs,
                "conditions": str(entry.provenance.get("conditions", ""))[:12],
                "artifact": str(entry.provenance.get("artifact_sha256", ""))[:12],
                "doubts": "; ".join(entry.latency.doubts),
            }
            for number, entry in reversed(list(enumerate(past)))
        ]

    def _gist(self, points: Sequence[dict[str, Any]]) -> str:
        if len(points) < 2:
            return "Measured once so far. The bar is the 95 % interval."
        change = points[-1]["value"] / points[0]["value"] - 1 if points[0]["value"] else 0.0
        return f"{len(points)} values; the last is {change:+.1%} from the first. Bars are 95 % intervals."


async def raw(view: View, number: str, entry: Entry, place: ui.element, waiting: ui.element) -> None:
    """Show the raw runs behind an entry."""
    listed = (await view.calls.get(Runs, f"/entries/{number}/runs")).runs
    asked = listed[-MOST_RUNS:]
    limit = asyncio.Semaphore(TOGETHER)

    async def one(id: int, note: bool) -> Run:
        async with limit:
            return (await view.calls.get(Whole, f"/runs/{id}", fresh_s=60.0, note=note)).run

    runs = await asyncio.gather(*(one(run.id, position == 0) for position, run in enumerate(asked)))
    waiting.delete()
    with place:
        if not runs:
            text("No raw runs are kept of it: it came from elsewhere, or was not measured here.", "p").classes(
                "el-soft"
            )
            return
        show_runs(entry, runs)
        if len(asked) < len(listed):
            text(f"The last {len(asked)} of {len(listed)} runs.", "p").classes("el-soft")


def show_runs(entry: Entry, runs: Sequence[Run]) -> None:
    """Show runs as a distribution, over time, and the facts of their conditions."""
    latency = entry.latency
    unit = charts.UNITS[latency.measure]
    scale = 1.0 if latency.measure == "instructions" else 1e6
    clock = "cpu_ns" if latency.clock == "cpu" else "wall_ns"
    factor = float(entry.provenance.get("reference_factor", 1.0))
    samples: list[tuple[int, float, float]] = []
    p10: list[tuple[float, float]] = []
    for run in runs:
        values = [value / run.inner * factor / scale for value in getattr(run, clock)]
        at = run.started_at.timestamp() * 1e3
        samples += [(run.round, at, value) for value in values]
        if values:
            p10.append((at, sorted(values)[int(0.1 * (len(values) - 1))]))
    values = [value for _, _, value in samples]
    note = f"{len(samples):,} samples of {len(runs)} rounds" + (
        f", times {factor:.3f} for the machine's speed" if factor != 1.0 else ""
    )
    with ui.element("div").classes("el-two"):
        Figure(
            "Distribution of samples",
            charts.histogram(values, latency.low_ns / scale, latency.high_ns / scale, unit),
            gist=f"{note}. The band is the 95 % interval of p10; what is far out counts in the last bar.",
            file="samples",
            height=280,
        )
        Figure(
            "Samples over time",
            charts.rounds(samples, p10, unit),
            gist=f"{note}, from {runs[0].started_at:%Y-%m-%d %H:%M:%S} to {runs[-1].started_at:%H:%M:%S} UTC.",
            file="rounds",
            height=280,
        )
    last = runs[-1]
    with ui.element("div").classes("el-two"):
        with ui.element("section"):
            text("Conditions", "h3")
            facts({name.replace("_", " "): str(value) for name, value in sorted(last.conditions.items())})
        with ui.element("section"):
            text("Observed in the last round", "h3")
            seen = {
                n.removeprefix("observed_").replace("_", " "): str(v)
                for n, v in sorted(last.facts.items())
                if n not in last.conditions
            }
            facts(
                seen
                | {
                    "process": last.process,
                    "sweep": last.sweep,
                    "inner calls": str(last.inner),
                    "warm-ups": str(last.warmups),
                }
            )


def _value(name: str, value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) and name.endswith(("error", "factor")) else str(value)


def _said(entry: Entry) -> str:
    return str(entry.provenance.get("measured_at", "at an unknown time"))[:19].replace("T", " ")


def _moment(entry: Entry, number: int) -> float:
    """Return when an entry was measured, ms since 1970; one that does not say so stands at its place in the order."""
    try:
        return datetime.fromisoformat(str(entry.provenance["measured_at"])).timestamp() * 1e3
    except (KeyError, ValueError):
        return float(number)


PAGES = (Page("/entry/{id}", "Entry", build),)
