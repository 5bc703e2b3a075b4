"""Charts of a network: its totals on several targets, and what each stage costs. Data in, ECharts options out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from edgelut.efficientformer import Config
from edgelut.render import short

from .colours import LINES
from .networks import SEGMENTS, Total, shares

Option = dict[str, Any]
LINE = 46  # pixels of a target


def totals_chart(totals: Sequence[Total]) -> Option:
    """Return each target's sum: the line is the sum, the box its 95 % interval, the whiskers the bracket from hot to cold."""
    shown = [one for one in totals if one.found is not None][::-1]
    boxes = [{"value": _five(one), "tip": _tip(one)} for one in shown]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 24, "top": 8, "bottom": 44, "containLabel": True},
        "tooltip": {":formatter": "box => box.data.tip", "confine": True},
        "xAxis": {"type": "value", "name": "ms", "nameLocation": "middle", "nameGap": 26, "min": 0},
        "yAxis": {
            "type": "category",
            "data": [_lines(one) for one in shown],
            "axisLabel": {"fontSize": 11, "lineHeight": 15},
        },
        "series": [
            {
                "type": "boxplot",
                "data": boxes,
                "boxWidth": [10, 22],
                "itemStyle": {"color": LINES[5], "borderColor": LINES[0], "borderWidth": 2},
            }
        ],
    }


def shares_chart(config: Config, totals: Sequence[Total]) -> Option:
    """Return what each stage costs on each target, stacked; stages differ by colour and by pattern."""
    shown = [one for one in totals if one.found is not None][::-1]
    each = [shares(config, one.found) for one in shown if one.found is not None]
    series = [
        {
            "type": "bar",
            "name": name,
            "stack": "all",
            "barMaxWidth": 30,
            "data": [round(share[name], 5) for share in each],
            "itemStyle": {"color": LINES[number % len(LINES)]},
            "emphasis": {"focus": "series"},
        }
        for number, name in enumerate(SEGMENTS)
    ]
    return {
        "animation": False,
        "aria": {"enabled": True, "decal": {"show": True}},
        "grid": {"left": 8, "right": 24, "top": 56, "bottom": 44, "containLabel": True},
        "legend": {"top": 0, "type": "plain"},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}, "confine": True, ":valueFormatter": _VALUE},
        "xAxis": {"type": "value", "name": "ms", "nameLocation": "middle", "nameGap": 26},
        "yAxis": {
            "type": "category",
            "data": [_lines(one) for one in shown],
            "axisLabel": {"fontSize": 11, "lineHeight": 15},
        },
        "series": series,
    }


def height(totals: Sequence[Total], above: int = 62) -> int:
    """Return how many pixels high a chart of so many targets should be."""
    return above + LINE * max(1, sum(one.found is not None for one in totals))


_VALUE = "value => `${Number(value).toLocaleString('en-US', {maximumSignificantDigits: 4})} ms`"


def _five(total: Total) -> list[float]:
    found = total.found
    assert found is not None
    (low, high), (near, far) = found.bracket_ms, found.interval_ms
    return [round(value, 5) for value in (low, near, found.latency_ms, far, high)]


def _lines(total: Total) -> str:
    """Return a target in two short lines."""
    device, _, rest = short(total.target).partition(" ")
    return f"{device}\n{rest}"


def _tip(total: Total) -> str:
    low, near, middle, far, high = _five(total)
    return "<br>".join(
        (
            f"<b>{escape(short(total.target))}</b>",
            f"sum {middle:.4g} ms",
            f"95 % interval {near:.4g} to {far:.4g} ms",
            f"bracket {low:.4g} (all hot) to {high:.4g} ms (all cold)",
        )
    )
