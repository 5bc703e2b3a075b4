"""Charts of rows say what the rows say: every point has its value, its interval and the mark of its standing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dashboard import charts
from dashboard.colours import LINES, MARKS, line_style, standing
from dashboard.rows import Found, Spec
from edgelut.types import Clock, Latency


def row(
    width: int,
    resolution: int = 14,
    *,
    p10_ns: float = 1e6,
    clock: Clock = "cpu",
    kind: str = "measured",
    doubts: tuple[str, ...] = (),
    width_out: int | None = None,
) -> Found:
    """A row of MB4D whose id is its width."""
    figures = Latency(p10_ns, 1.1 * p10_ns, 1.2 * p10_ns, 0.98 * p10_ns, 1.02 * p10_ns, 16, 160, clock, doubts=doubts)
    return Found(width, Spec("MB4D", width, width_out or width, resolution), figures, kind)


ROWS = [
    row(96, 7, p10_ns=4e6),
    row(48, 7, p10_ns=1e6),
    row(48, 14, p10_ns=2e6, doubts=("half-width 9%",)),
    row(96, 14, p10_ns=1e7, kind="interpolated"),
]


def test_a_map_has_a_cell_a_row_with_its_letter_and_its_words() -> None:
    option = charts.heat_map(ROWS)
    assert option["xAxis"]["data"] == ["48", "96"] and option["yAxis"]["data"] == ["7", "14"]
    cells = {tuple(cell["value"][:2]): cell for cell in option["series"][0]["data"]}
    assert cells[(0, 0)]["value"][2] == pytest.approx(math.log10(1.0)) and cells[(0, 0)]["label"]["formatter"] == "1"
    assert cells[(0, 1)]["label"]["formatter"] == "2?" and "in doubt" not in cells[(0, 0)]["name"]
    assert "doubtful: half-width 9%" in cells[(0, 1)]["name"] and "±2.0%" in cells[(0, 1)]["name"]
    assert cells[(1, 1)]["label"]["formatter"] == "10~" and "itemStyle" in cells[(1, 1)]
    assert (cells[(0, 0)]["label"]["color"], cells[(1, 1)]["label"]["color"]) == ("#ffffff", "#111111")


def test_an_empty_map_and_one_of_equal_rows_can_be_drawn() -> None:
    assert charts.heat_map([])["series"][0]["data"] == []
    same = charts.heat_map([row(48), row(96)])["visualMap"]
    assert same["min"] < same["max"]


def test_counts_of_instructions_are_never_milliseconds() -> None:
    counted = [row(48, p10_ns=123456.0, clock="instructions", kind="emulated")]
    option = charts.heat_map(counted, "instructions")
    (cell,) = option["series"][0]["data"]
    assert "instructions" in cell["name"] and "ms" not in cell["name"] and cell["label"]["formatter"].endswith("#")
    assert "ms" not in option["visualMap"][":formatter"]
    assert charts.curves(counted, "instructions")["yAxis"]["name"] == "instructions"


def test_curves_have_a_line_a_resolution_in_order_of_width_with_intervals_and_symbols() -> None:
    option = charts.curves(ROWS)
    lines = [one for one in option["series"] if one["type"] == "line"]
    bars = [one for one in option["series"] if one["type"] == "custom"]
    assert [one["name"] for one in lines] == ["@7", "@14"] == option["legend"]["data"]
    assert [point["value"] for point in lines[0]["data"]] == [[48, 1.0], [96, 4.0]]
    assert [point["symbol"] for point in lines[1]["data"]] == ["emptytriangle", "emptyrect"]
    assert bars[1]["data"] == [
        [48, pytest.approx(1.96), pytest.approx(2.04)],
        [96, pytest.approx(9.8), pytest.approx(10.2)],
    ]
    assert lines[0]["lineStyle"]["type"] != lines[1]["lineStyle"]["type"]
    assert charts.curves(ROWS, log=True)["yAxis"]["type"] == "log"


def test_lines_that_share_a_colour_have_another_dash() -> None:
    styles = [line_style(number) for number in range(3 * len(LINES))]
    assert len(set(styles)) == len(styles)


@pytest.mark.parametrize(
    ("kind", "doubts", "name"),
    [("measured", 0, "measured"), ("measured", 2, "doubtful"), ("emulated", 1, "emulated"), ("new", 0, "predicted")],
)
def test_every_row_has_a_mark_that_is_no_colour(kind: str, doubts: int, name: str) -> None:
    assert standing(kind, doubts) == name
    shapes = {(mark.letter, mark.symbol, mark.hollow) for mark in MARKS.values()}
    assert len(shapes) == len(MARKS)


def test_bins_hold_every_sample_and_what_is_far_out_is_in_the_last() -> None:
    start, end, counts = charts.bins([1.0, 1.1, 1.2, 1.1, 50.0])
    assert sum(counts) == 5 and start == 1.0 and end < 50 and counts[-1] >= 1
    assert charts.bins([]) == (0.0, 1.0, [])
    assert sum(charts.bins([2.0, 2.0, 2.0])[2]) == 3


def test_history_and_rounds_stand_at_their_times() -> None:
    points: list[dict[str, Any]] = [
        {"at": 1e12, "value": 1.0, "low": 0.9, "high": 1.1, "standing": "doubtful", "words": "<b>old</b>"}
    ]
    option = charts.history(points, "ms")
    (shown,) = option["series"][0]["data"]
    assert shown["value"] == [1e12, 1.0] and shown["symbol"] == "emptytriangle" and "<b>" not in shown["name"]
    assert option["series"][1]["data"] == [[1e12, 0.9, 1.1]]
    over = charts.rounds([(3, 1e12, 1.0)], [(1e12, 0.9)], "ms")
    assert over["series"][0]["data"] == [[1e12, 1.0, 3]] and over["series"][1]["data"] == [[1e12, 0.9]]
    assert charts.histogram([1.0, 2.0], 0.9, 1.1, "ms")["series"][0]["markArea"]["data"] == [
        [{"xAxis": 0.9}, {"xAxis": 1.1}]
    ]
