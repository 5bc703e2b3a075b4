"""The verdict as tables for a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from edgelut.figures import instructions
from edgelut.render import short

from .progress import plain
from .result import ORDER, Result, Row, headline, lines_of

MOST_ROWS = 60  # of a table on a terminal: the rest is in the reports


def tables(result: Result) -> Iterator[Table]:
    """Yield a table for each target with one line a row, what matters most first."""
    for target in sorted({row.verdict.target for row in result.rows}, key=str):
        found = [row for row in result.of(*ORDER) if row.verdict.target == target]
        yield _table(short(target), found)


def _table(title: str, rows: Sequence[Row]) -> Table:
    shown, left = lines_of(rows, MOST_ROWS)
    found = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    found.add_column("block", overflow="fold")
    for column in (*titles(shown), "ratio", "95 %"):
        found.add_column(column, justify="right", no_wrap=True)
    found.add_column("verdict", no_wrap=True)
    for row in shown:
        cells = [*amounts(row, shown), ratio(row), interval(row)]
        found.add_row(Text(row.name), *cells, verdict(row))
    captions = [f"and {left} more rows, in the reports"] if left else []
    if any(_apart(row) for row in shown):
        captions.append("* compared with runs of an earlier session, not measured beside them")
    if captions:
        found.caption = Text("\n".join(captions))
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


def titles(rows: Sequence[Row]) -> tuple[str, str]:
    """Return the titles of the columns before and now: with their unit where all rows are times."""
    return ("before ms", "now ms") if _are_times(rows) else ("before", "now")


def amounts(row: Row, beside: Sequence[Row]) -> tuple[str, str]:
    """Return a row's cells before and now; a unit is in the title where all rows beside it are times, else in the cell."""
    unit = not _are_times(beside)
    return amount(row, row.old_ns, unit), amount(row, row.new_ns, unit)


def amount(row: Row, ns: float | None, unit: bool) -> str:
    """Return one of a row's times in milliseconds, with three digits that mean something; a count of instructions says so."""
    if ns is None:
        return "-"
    if row.measure == "instructions":
        return instructions(ns)
    ms = ns / 1e6
    return (f"{ms:.3f}" if ms < 100 else f"{ms:.1f}") + (" ms" if unit else "")


def _are_times(rows: Sequence[Row]) -> bool:
    return all(row.measure == "time" for row in rows)


def verdict(row: Row) -> str:
    """Return the outcome, starred where the baseline was not measured beside the row."""
    return f"{row.outcome}{' *' if _apart(row) else ''}"


def _apart(row: Row) -> bool:
    return not row.verdict.interleaved and row.outcome != "new"
