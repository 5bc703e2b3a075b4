"""Colours that people with any colour vision tell apart, on light and on dark, and the marks that say the same without colour."""

from __future__ import annotations

from dataclasses import dataclass

# Magnitude: cividis, from low to high; its lightness grows evenly.
MAGNITUDE = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)
# Ratios: blue below 1, orange above, grey at 1.
RATIO = ("#2166ac", "#4393c3", "#92c5de", "#d9dde0", "#fdb863", "#e08214", "#b35806")
# Lines: Okabe and Ito's, darkened where they would vanish on white; with each its own dash.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f7f7f", "#8c510a")
DASHES = ("solid", "dashed", "dotted")


@dataclass(frozen=True, slots=True)
class Mark:
    """How one standing of a row is shown: a letter in cells, a symbol in charts, a word beside both."""

    name: str
    letter: str
    symbol: str  # of ECharts
    hollow: bool
    words: str


MARKS = {
    mark.name: mark
    for mark in (
        Mark("measured", "", "circle", False, "measured, nothing speaks against it"),
        Mark("doubtful", "?", "triangle", True, "measured, in doubt"),
        Mark("emulated", "#", "diamond", True, "emulated: instructions, no time of any device"),
        Mark("interpolated", "~", "rect", True, "interpolated between measured rows"),
        Mark("predicted", "≈", "rect", True, "predicted by a model"),
        Mark("transferred", "→", "rect", True, "transferred from another device"),
        Mark("missing", "–", "none", True, "not in the table"),
    )
}


def standing(kind: str, doubts: int) -> str:
    """Return the name of the mark of a row of a kind with so many doubts."""
    if kind == "measured":
        return "doubtful" if doubts else "measured"
    return kind if kind in MARKS else "predicted"  # what a newer service calls otherwise was not measured


def line_style(number: int) -> tuple[str, str]:
    """Return colour and dash of the n-th line of a chart: colours repeat with another dash."""
    return LINES[number % len(LINES)], DASHES[(number + 2 * (number // len(LINES))) % len(DASHES)]
