"""The verdict as a table for a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from edgelut.render import short

from .progress import plain
from .result import Result, Row, headline, lines_of

MOST_ROWS = 60  # of a table on a terminal: the rest is in the reports


def table(result: Result) -> Table:
    """Return one line a row, what matters most first."""
    rows, left = lines_of(result.of("regression", "unclear", "doubtful", "new", "improvement", "unchanged"), MOST_ROWS)
    targets = {row.verdict.target for row in result.rows}
    found = Table("block", box=box.SIMPLE_HEAD, pad_edge=False)
    if len(targets) > 1:
        found.add_column("target")
    for column in ("before ms", "now ms", "ratio", "95 %"):
        found.add_column(column, justify="right")
    found.add_column("verdict")
    for row in rows:
        target = [Text(short(row.verdict.target))] if len(targets) > 1 else []
        cells = [milliseconds(row.old_ns), milliseconds(row.new_ns), ratio(row), interval(row)]
        found.add_row(Text(row.name), *target, *cells, verdict(row))
    if left:
        found.caption = f"and {left} more rows, all of them unchanged or better: in the reports"
        found.caption_justify = "left"
    return found


def lines(result: Result) -> Iterator[str]:
    """Say the verdict, and what it rests on."""
    if result.rows:
        yield plain(f"{result.counts()}; {basis(result)}")
    for failure in result.failures[:MOST_ROWS]:
        yield plain(f"could not be measured: {failure.name} on {short(failure.target)}: {failure.reason}")
    for row in result.of("unclear", "doubtful")[:MOST_ROWS]:
        if row.verdict.reason:
            yield plain(f"? {row.name} on {short(row.verdict.target)}: {row.verdict.reason}")
    for note in result.notes:
        yield plain(f"note: {note}")
    yield plain(f"{result.name}: {headline(result)}")


def basis(result: Result) -> str:
    """Return how the rows were compared, in a few words."""
    beside, compared = result.interleaved
    if not compared:
        return "nothing was compared"
    how = "all" if beside == compared else "none" if not beside else f"{beside} of {compared}"
    text = f"{how} measured beside the baseline"
    if result.common is not None:
        text += f"; common factor {result.common:.3f} removed"
    if result.uniform is not None:
        text += f"; {result.reference} as a whole {ratio(result.uniform)}"
    return text


def ratio(row: Row) -> str:
    """Return new over old."""
    return "-" if math.isnan(row.verdict.ratio) else f"{row.verdict.ratio:.3f}"


def interval(row: Row) -> str:
    """Return the ratio's interval."""
    return "-" if math.isnan(row.verdict.low) else f"{row.verdict.low:.3f}..{row.verdict.high:.3f}"


def milliseconds(ns: float | None) -> str:
    """Return a time in milliseconds, with three digits that mean something."""
    if ns is None:
        return "-"
    ms = ns / 1e6
    return f"{ms:.3f}" if ms < 100 else f"{ms:.1f}"


def verdict(row: Row) -> str:
    """Return the outcome, and what else there is to know of the row in a word."""
    pinned = ", pinned" if row.verdict.pinned else ""
    alone = "" if row.verdict.interleaved or row.outcome == "new" else ", apart"
    return f"{row.outcome}{pinned}{alone}"
