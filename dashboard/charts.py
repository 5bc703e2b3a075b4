"""Charts as ECharts options: pure functions from rows to dictionaries; colours of text and lines are the theme's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .colours import MAGNITUDE, MARKS, line_style
from .rows import JOINED, Found

GRID = {"left": 12, "right": 18, "top": 40, "bottom": 30, "containLabel": True}
# Draws an interval as a bar with two ends; value = [x, low, high].
INTERVAL = """(params, api) => {
  const low = api.coord([api.value(0), api.value(1)]), high = api.coord([api.value(0), api.value(2)]);
  const style = {stroke: api.visual('color'), fill: undefined, lineWidth: 1.2, opacity: 0.8};
  const line = (x1, y1, x2, y2) => ({type: 'line', transition: [], shape: {x1, y1, x2, y2}, style});
  return {type: 'group', children: [line(low[0], low[1], high[0], high[1]),
    line(low[0] - 3, low[1], low[0] + 3, low[1]), line(high[0] - 3, high[1], high[0] + 3, high[1])]};
}"""
# Text of a heat map's cell that can be read on any of its colours.
UNITS = {"time": "ms", "instructions": "instructions"}


def heat_map(rows: Sequence[Found], measure: str = "time") -> dict[str, Any]:
    """Return latency by width and resolution; the colour is logarithmic, the letter in a cell is its mark's."""
    widths = list(
        dict.fromkeys(row.spec.width for row in sorted(rows, key=lambda one: (one.spec.width_in, one.spec.width_out)))
    )
    resolutions = sorted({row.spec.resolution for row in rows})
    cells, low, high = _cells(rows, measure, widths, resolutions)
    return {
        "animation": False,
        "aria": {"enabled": False},
        "grid": {**GRID, "top": 12, "bottom": 74},
        "tooltip": {":formatter": "params => params.data.name", "confine": True},
        **map_axes(widths, resolutions, "width", "resolution", above=True),
        "visualMap": {
            "type": "continuous",
            "min": low,
            "max": high if high > low else low + 0.1,
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "itemHeight": 140,
            "itemWidth": 12,
            "inRange": {"color": list(MAGNITUDE)},
            ":formatter": f"value => Number((10 ** value).toPrecision(3)).toLocaleString('en-US') + ' {UNITS[measure]}'",
            "text": None,
            "calculable": True,
        },
        "series": [{"type": "heatmap", "data": cells, "progressive": 0, "label": {"show": True, "fontSize": 11}}],
    }


def _cells(
    rows: Sequence[Found], measure: str, widths: Sequence[str], resolutions: Sequence[int]
) -> tuple[list[dict[str, Any]], float, float]:
    """Return the cells of a map, and the least and largest logarithm of what they show."""
    column, line = {width: n for n, width in enumerate(widths)}, {side: n for n, side in enumerate(resolutions)}
    cells, values = [], []
    mixed = len({row.standing for row in rows}) > 1
    labelled = len(widths) <= 24
    for row in rows:
        value = row.in_unit(row.latency.p10_ns)
        if value <= 0:
            continue
        values.append(value)
        cell: dict[str, Any] = {
            "value": [column[row.spec.width], line[row.spec.resolution], math.log10(value)],
            "name": cell_words(row, measure),
            "id": row.id,
        }
        mark = MARKS[row.standing]
        if mark.letter and mixed:
            cell["itemStyle"] = {"borderColor": "#d55e00", "borderWidth": 1.5, "borderType": "dashed"}
        cell["label"] = {
            "show": labelled or bool(mark.letter and len(widths) <= 60),
            "formatter": (f"{value:.3g}" if labelled and value < 1e4 else "") + mark.letter,
        }
        cells.append(cell)
    low, high = (math.log10(min(values)), math.log10(max(values))) if values else (0.0, 1.0)
    for cell in cells:  # dark cells get light text
        share = (cell["value"][2] - low) / (high - low) if high > low else 1.0
        cell["label"]["color"] = "#ffffff" if share < 0.55 else "#111111"
    return cells, low, high


def map_axes(across: Sequence[str], up: Sequence[int], name: str, name_up: str, above: bool = False) -> dict[str, Any]:
    """Return the axes of a map with one column and one row a value; the vertical one is named beside it, or above."""
    sideways = {"nameLocation": "middle", "nameGap": 26}
    upwards = {"nameLocation": "end"} if above else {"nameLocation": "middle", "nameGap": 38}
    return {
        "xAxis": {"type": "category", "data": list(across), "name": name, **sideways},
        "yAxis": {"type": "category", "data": [str(row) for row in up], "name": name_up, **upwards},
    }


def cell_words(row: Found, measure: str = "time") -> str:
    """Return what a row says, for a tip: plain text that markup cannot be made of."""
    latency = row.latency
    half = (latency.high_ns - latency.low_ns) / 2 / latency.p10_ns if latency.p10_ns else 0.0
    block, value = f"{row.spec.kind} {row.spec.width} @{row.spec.resolution}", row.in_unit(latency.p10_ns)
    words = f"{block}: {figure(value)} {UNITS[measure]} ±{half:.1%}"
    mark = MARKS[row.standing]
    doubts = f": {JOINED.join(latency.doubts)}" if latency.doubts else ""
    return plain(words + (f" · {mark.name}" if mark.letter else "") + doubts)


def figure(value: float, digits: int = 4) -> str:
    """Return a number with so many digits that count, never with an exponent that people would have to work out."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def curves(rows: Sequence[Found], measure: str = "time", log: bool = False) -> dict[str, Any]:
    """Return latency against width, one line a resolution, each point with its 95 % interval and the symbol of its standing."""
    by_side: dict[int, list[Found]] = {}
    for row in sorted(rows, key=lambda one: (one.spec.width_in, one.spec.width_out)):
        by_side.setdefault(row.spec.resolution, []).append(row)
    series: list[dict[str, Any]] = []
    for number, (side, found) in enumerate(sorted(by_side.items())):
        colour, dash = line_style(number)
        name = f"@{side}"
        series.append(
            {
                "type": "line",
                "name": name,
                "color": colour,
                "lineStyle": {"type": dash, "width": 2},
                "data": [_point(row, measure, colour, len(found)) for row in found],
                "emphasis": {"focus": "series"},
            }
        )
        if len(found) <= 200:
            series.append(
                {
                    "type": "custom",
                    "name": name,
                    "color": colour,
                    "silent": True,
                    ":renderItem": INTERVAL,
                    "encode": {"x": 0, "y": [1, 2]},
                    "data": [
                        _interval(row.spec.width_out if _widens(found) else row.spec.width_in, row) for row in found
                    ],
                }
            )
    return {
        "animation": False,
        "grid": GRID,
        "legend": {"type": "scroll", "top": 4, "data": [f"@{side}" for side in sorted(by_side)]},
        "tooltip": {":formatter": "params => params.data.name", "confine": True},
        "xAxis": {
            "type": "value",
            "name": "width",
            "nameLocation": "middle",
            "nameGap": 26,
            "scale": True,
            "minInterval": 1,
        },
        "yAxis": {"type": "log" if log else "value", "name": UNITS[measure], "scale": log},
        "dataZoom": [{"type": "inside", "zoomOnMouseWheel": "shift"}],
        "series": series,
    }


def _widens(rows: Sequence[Found]) -> bool:
    """Say whether rows differ in their output width only, as stems do."""
    return len({row.spec.width_in for row in rows}) == 1 < len({row.spec.width_out for row in rows})


def _point(row: Found, measure: str, colour: str, beside: int) -> dict[str, Any]:
    mark = MARKS[row.standing]
    good = row.standing == "measured"
    x = row.spec.width_out if row.spec.width_in == 3 else row.spec.width_in
    return {
        "value": [x, row.in_unit(row.latency.p10_ns)],
        "name": cell_words(row, measure),
        "id": row.id,
        "symbol": ("empty" if mark.hollow else "") + mark.symbol,
        "symbolSize": (5 if beside > 60 else 7) if good else 11,
        "itemStyle": {"color": colour},
    }


def _interval(x: float, row: Found) -> list[float]:
    return [x, row.in_unit(row.latency.low_ns), row.in_unit(row.latency.high_ns)]


def history(points: Sequence[Mapping[str, Any]], unit: str) -> dict[str, Any]:
    """Return values over time with intervals. A point has `at` (ms since 1970), `value`, `low`, `high`, `standing`, `words`."""
    colour, _ = line_style(0)
    data = [
        {
            "value": [point["at"], point["value"]],
            "name": plain(str(point["words"])),
            "symbol": ("empty" if MARKS[point["standing"]].hollow else "") + MARKS[point["standing"]].symbol,
            "symbolSize": 9 if point["standing"] == "measured" else 12,
        }
        for point in points
    ]
    intervals = [[point["at"], point["low"], point["high"]] for point in points]
    return {
        "animation": False,
        "grid": {**GRID, "top": 30},
        "tooltip": {":formatter": "params => params.data.name", "confine": True},
        "xAxis": {"type": "time", "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "name": unit, "scale": True},
        "series": [
            {"type": "line", "color": colour, "data": data, "lineStyle": {"type": "dotted", "width": 1.5}},
            {
                "type": "custom",
                "color": colour,
                "silent": True,
                ":renderItem": INTERVAL,
                "encode": {"x": 0, "y": [1, 2]},
                "data": intervals,
            },
        ],
    }


def histogram(values: Sequence[float], low: float, high: float, unit: str) -> dict[str, Any]:
    """Return how samples are spread, with the interval of p10 marked."""
    colour, _ = line_style(0)
    start, end, counts = bins(values)
    step = (end - start) / len(counts) if counts else 1.0
    bars = [[start + (n + 0.5) * step, count] for n, count in enumerate(counts)]
    return {
        "animation": False,
        "grid": {**GRID, "top": 30, "bottom": 26},
        "tooltip": {
            ":formatter": f"params => params.value[1] + ' samples near ' + params.value[0].toPrecision(4) + ' {unit}'"
        },
        "xAxis": {
            "type": "value",
            "scale": True,
            "name": unit,
            "nameLocation": "middle",
            "nameGap": 26,
            "min": start,
            "max": end,
            ":axisLabel": "{hideOverlap: true, formatter: value => Number(value.toPrecision(4)).toString()}",
        },
        "yAxis": {"type": "value", "name": "samples", "minInterval": 1},
        "series": [
            {
                "type": "bar",
                "color": colour,
                "barWidth": "96%",
                "barCategoryGap": "2%",
                "data": bars,
                "markArea": {
                    "silent": True,
                    "itemStyle": {"color": "#d55e00", "opacity": 0.55},
                    "z": 10,
                    "data": [[{"xAxis": low}, {"xAxis": high}]],
                },
            }
        ],
    }


def bins(values: Sequence[float], most: int = 48) -> tuple[float, float, list[int]]:
    """Return from, to and counts; what lies above 3 times the 90th percentile's distance from the least counts in the last bin."""
    if not values:
        return 0.0, 1.0, []
    ordered = sorted(values)
    start = ordered[0]
    end = min(ordered[-1], start + 3 * max(ordered[int(0.9 * (len(ordered) - 1))] - start, start * 1e-3, 1e-9))
    number = max(1, min(most, round(math.sqrt(len(ordered)) * 1.6)))
    counts = [0] * number
    width = (end - start) / number or 1.0
    for value in ordered:
        counts[min(int((value - start) / width), number - 1)] += 1
    return start, start + width * number, counts


def rounds(
    samples: Sequence[tuple[int, float, float]], p10: Sequence[tuple[float, float]], unit: str
) -> dict[str, Any]:
    """Return samples over time: each (round, ms since 1970, value) a dot, each round's p10 joined by a line."""
    colour, _ = line_style(0)
    other, dash = line_style(1)
    return {
        "animation": False,
        "grid": {**GRID, "top": 30},
        "legend": {"top": 0, "data": ["sample", "p10 of a round"]},
        "tooltip": {
            "confine": True,
            ":formatter": f"p => 'round ' + (p.value[2] ?? p.dataIndex) + ': ' + p.value[1].toPrecision(4) + ' {unit}'",
        },
        "xAxis": {"type": "time", "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "name": unit, "scale": True},
        "series": [
            {
                "type": "scatter",
                "name": "sample",
                "color": colour,
                "symbolSize": 4,
                "itemStyle": {"opacity": 0.55},
                "data": [[at, value, number] for number, at, value in samples],
                "large": len(samples) > 3000,
            },
            {
                "type": "line",
                "name": "p10 of a round",
                "color": other,
                "lineStyle": {"type": dash},
                "symbol": "emptyCircle",
                "symbolSize": 6,
                "data": [[at, value] for at, value in p10],
            },
        ],
    }


def plain(words: str) -> str:
    """Return text that a tip shows as it is: names come from whoever may store rows."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
