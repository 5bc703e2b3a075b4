"""Charts of a comparison: ratios as a map, and what moved most with its intervals. Data in, ECharts options out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from .charts import map_axes
from .colours import RATIO
from .ratios import Pair, column_of, columns, percent, resolutions

Option = dict[str, Any]
LABELS = 34  # columns up to which a cell has room for its figure
LEAST_SPAN = math.log(1.05)  # so that noise is no deep colour
CELL = 30  # pixels that a column needs
WIDEST = 1050  # pixels of columns: where there are more of them than that has room for, cells are narrower
SHOWN = 15
DARK = 0.7  # share of the span from which on a cell's text is light
PALE = 0.4  # how much colour cells keep whose difference is within their interval


def span_of(pairs: Sequence[Pair]) -> float:
    """Return how far the colours of these pairs reach from 1, as a log: one scale for all maps of a page."""
    return max([LEAST_SPAN, *(abs(math.log(pair.ratio)) for pair in pairs)])


def ratio_map(pairs: Sequence[Pair], of: str, span: float | None = None) -> Option:
    """Return ratios of one group of blocks by width and resolution: blue is faster, orange slower, grey the same.

    A cell whose difference is within its interval is pale and has a dot instead of a figure, and a row in doubt a question
    mark: neither rests on colour.
    """
    specs = [pair.spec for pair in pairs]
    across, up = columns(specs), resolutions(specs)
    span = span_of(pairs) if span is None else span
    few = len(across) <= LABELS
    column, line = {width: n for n, width in enumerate(across)}, {side: n for n, side in enumerate(up)}
    data = [
        {
            "value": [column[column_of(pair.spec)], line[pair.spec.resolution], round(math.log(pair.ratio), 5)],
            "tip": _tip(pair),
            "label": {
                "formatter": _label(pair) if few else ("" if pair.beyond else "·"),
                "color": "#ffffff" if pair.beyond and abs(math.log(pair.ratio)) > DARK * span else "#111111",
            },
            **({} if pair.beyond else {"visualMap": False, "itemStyle": {"color": _pale(math.log(pair.ratio) / span)}}),
        }
        for pair in pairs
    ]
    return {
        "animation": False,
        "grid": {"left": 62, "right": 16, "top": 10, "bottom": 84},
        "tooltip": {":formatter": "cell => cell.data.tip", "confine": True},
        **map_axes(across, up, "width", "map"),
        "visualMap": {
            "type": "continuous",
            "min": -span,
            "max": span,
            "dimension": 2,
            "calculable": False,
            "orient": "horizontal",
            "left": 24,
            "bottom": 4,
            "itemWidth": 12,
            "itemHeight": 110,
            "text": [f"slower {percent(math.exp(span))}", f"{percent(math.exp(-span))} faster"],
            "inRange": {"color": list(RATIO)},
        },
        "series": [
            {
                "type": "heatmap",
                "name": of,
                "data": data,
                "label": {"show": True, "fontSize": 11},
                "itemStyle": {"borderWidth": 1, "borderColor": "rgba(127,127,127,0.35)"},
                "emphasis": {"itemStyle": {"borderColor": "#000000", "borderWidth": 2}},
            }
        ],
    }


def map_width(pairs: Sequence[Pair]) -> int:
    """Return how many pixels wide a map should be at least."""
    return 110 + min(CELL * len({column_of(pair.spec) for pair in pairs}), WIDEST)


def movers_chart(pairs: Sequence[Pair]) -> Option:
    """Return the first pairs as ratios with their intervals, one line each; a hollow box is within its interval."""
    shown = list(pairs[:SHOWN])[::-1]
    boxes = [
        {
            "value": [_change(bound) for bound in (pair.low, pair.low, pair.ratio, pair.high, pair.high)],
            "tip": _tip(pair),
            "itemStyle": {
                "color": ("transparent" if not pair.beyond else RATIO[-2] if pair.ratio > 1 else RATIO[1]),
                "borderColor": "#cc7010" if pair.ratio > 1 else "#2f7fc1",  # 3:1 on light and on dark
                "borderWidth": 2,
                "borderType": "solid" if pair.beyond else "dashed",
            },
        }
        for pair in shown
    ]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 24, "top": 10, "bottom": 44, "containLabel": True},
        "tooltip": {":formatter": "box => box.data.tip", "confine": True},
        "xAxis": {
            "type": "value",
            "name": "change in %",
            "nameLocation": "middle",
            "nameGap": 28,
            "axisLine": {"show": True, "onZero": True},
            "scale": False,
        },
        "yAxis": {"type": "category", "data": [str(pair.spec) for pair in shown], "axisLabel": {"fontSize": 11}},
        "series": [{"type": "boxplot", "data": boxes, "boxWidth": [6, 14]}],
    }


def movers_height(pairs: Sequence[Pair]) -> int:
    """Return how many pixels high the chart of movers should be."""
    return 70 + 24 * min(len(pairs), SHOWN)


def _pale(place: float) -> str:
    """Return the colour of a place from -1 to 1 on the scale of ratios, most of it taken away."""
    at = min(max((place + 1) / 2, 0.0), 1.0) * (len(RATIO) - 1)
    first = min(int(at), len(RATIO) - 2)
    one, other, grey = (_rgb(RATIO[number]) for number in (first, first + 1, len(RATIO) // 2))
    full = [low + (high - low) * (at - first) for low, high in zip(one, other, strict=True)]
    return "#" + "".join(f"{round(back + (value - back) * PALE):02x}" for value, back in zip(full, grey, strict=True))


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))


def _change(ratio: float) -> float:
    return round((ratio - 1) * 100, 3)


def _label(pair: Pair) -> str:
    text = f"{(pair.ratio - 1) * 100:+.0f}" if pair.beyond else "·"
    return f"{text}?" if pair.doubtful else text


def _tip(pair: Pair) -> str:
    one, other = pair.one.latency, pair.other.latency
    unit = "ms" if one.measure == "time" else "instructions"
    said = "beyond the interval" if pair.beyond else "within the interval"
    lines = [
        f"<b>{escape(str(pair.spec))}</b>",
        f"{one.value:,.4g} → {other.value:,.4g} {unit}",
        f"{percent(pair.ratio)} ({percent(pair.low)} to {percent(pair.high)}), {said}",
    ]
    doubts = dict.fromkeys([*one.doubts, *other.doubts])
    lines += [f"? {escape(doubt[:120])}" for doubt in list(doubts)[:4]]
    return "<br>".join(lines)
