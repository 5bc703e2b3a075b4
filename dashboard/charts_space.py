"""Charts of a search space: what a target has of it and what it lacks. Data in, ECharts options out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from edgelut.blocks import EMBEDDING
from edgelut.types import BlockSpec

from .charts import map_axes
from .ratios import column_of, columns, resolutions
from .spaces import LETTERS, SAID, STATES, State

Option = dict[str, Any]
WIDEST = 1100  # pixels of columns
# Lightness falls from present to missing, so that they are told apart without hue too.
COLOURS: dict[State, str] = {
    "present": "#9ecae1",
    "bare": "#6baed6",
    "doubtful": "#fee391",
    "estimated": "#d9d9d9",
    "missing": "#d95f0e",
}


def coverage_map(specs: Sequence[BlockSpec], states: Sequence[State]) -> Option:
    """Return how each block of a group is known: by width and map, or by both widths where they differ."""
    by_widths = specs[0].kind == EMBEDDING.name
    across = [str(width) for width in sorted({one.width_out for one in specs})] if by_widths else columns(specs)
    rows = sorted({one.width_in for one in specs}) if by_widths else resolutions(specs)
    column, line = {name: n for n, name in enumerate(across)}, {row: n for n, row in enumerate(rows)}
    few = len(across) <= 48
    data = [
        {
            "value": [
                column[str(spec.width_out) if by_widths else column_of(spec)],
                line[spec.width_in if by_widths else spec.resolution],
                STATES.index(state),
            ],
            "tip": f"<b>{escape(str(spec))}</b><br>{SAID[state]}",
            "label": {"formatter": LETTERS[state] if few else ""},
        }
        for spec, state in zip(specs, states, strict=True)
    ]
    pieces = [
        {"value": number, "label": f"{SAID[state]} {LETTERS[state]}".strip(), "color": COLOURS[state]}
        for number, state in enumerate(STATES)
        if state in states
    ]
    return {
        "animation": False,
        "grid": {"left": 62, "right": 16, "top": 30, "bottom": 44},
        "tooltip": {":formatter": "cell => cell.data.tip", "confine": True},
        **map_axes(across, rows, *(("output width", "input width") if by_widths else ("width", "map"))),
        "visualMap": {
            "type": "piecewise",
            "pieces": pieces,
            "dimension": 2,
            "orient": "horizontal",
            "top": 0,
            "left": 54,
            "itemWidth": 14,
            "itemHeight": 12,
            "selectedMode": False,
        },
        "series": [
            {
                "type": "heatmap",
                "data": data,
                "label": {"show": True, "fontSize": 11, "color": "#111111"},
                "itemStyle": {"borderWidth": 1, "borderColor": "rgba(127,127,127,0.45)"},
            }
        ],
    }


def map_size(specs: Sequence[BlockSpec]) -> tuple[int, int]:
    """Return width (at least) and height of a map in pixels."""
    by_widths = specs[0].kind == EMBEDDING.name
    across = len({one.width_out if by_widths else (one.width_in, one.width_out) for one in specs})
    rows = len({one.width_in if by_widths else one.resolution for one in specs})
    return 90 + min(20 * across, WIDEST), 90 + (18 if by_widths else 30) * rows
