"""Rows as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.table import Table

from .check import TableCheck
from .figures import number, spread
from .sequences import REFERENCE, SEQUENCES, label
from .types import MEASURES, Entry, Target, own_unit

HEADERS = {"time": "ms", "instructions": "instructions"}  # of a column, by measure


def short(target: Target) -> str:
    """Return a target in as few words as tell it apart: defaults are left out."""
    parts = [target.device, target.runtime, target.precision]
    if target.threads != 1:
        parts.append(f"{target.threads} threads")
    if target.unit != "cpu":
        parts.append(target.unit)
    return " ".join(parts)


def headline(entry: Entry) -> str:
    """Return a row's headline with its half-width, for a column of its measure: milliseconds, or instructions with their label.

    One that was not measured says so, one that ran on another unit than its target's says which, one in doubt has a question
    mark.
    """
    text = _figure(entry)
    if entry.kind != "measured":
        text += f" {entry.kind}"
    if (elsewhere := ran_elsewhere(entry)) is not None:
        text += f" on {elsewhere}"
    return text if entry.latency.stable else f"{text} ?"


def ran_elsewhere(entry: Entry) -> str | None:
    """Return the unit that a row ran on, where it is another than the target's name says."""
    return entry.ran_on if entry.ran_on != own_unit(entry.target) else None


def _figure(entry: Entry) -> str:
    return f"{number(entry.latency)} {spread(entry.latency)}"


def check_lines(checks: Iterable[TableCheck]) -> Iterator[str]:
    """Say what speaks against a table, target by target, and what to type."""
    for found in checks:
        yield f"{short(found.target)}: {found.rows} rows, {'good' if found.good else 'to be measured again:'}"
        for row in found.doubtful:
            yield f"  in doubt: {label(row.spec)}: {'; '.join(row.doubts)}"
        if len(found.conditions) > 1:
            counts = ", ".join(f"{one.rows} under {one.key[:8] or 'unknown'}" for one in found.conditions)
            yield f"  measured under {len(found.conditions)} conditions, the newest first: {counts}"
        for spec in found.unlike:
            yield f"  older conditions: {label(spec)}"
        for spec in found.incomplete:
            yield f"  without chain, context or cold row: {label(spec)}"
        for command in found.commands:
            yield f"  $ {command}"


def entries_table(entries: Sequence[Entry]) -> Table:
    """Return one line an entry; milliseconds and instructions have columns of their own."""
    table = Table("block", "width", "res", "target", box=box.SIMPLE_HEAD, pad_edge=False)
    has = {entry.latency.measure for entry in entries} or {"time"}
    measures = [measure for measure in MEASURES if measure in has]
    for measure in measures:
        table.add_column(HEADERS[measure], justify="right")
    table.add_column("kind")
    doubtful: list[str] = []
    for entry in entries:
        spec = entry.spec
        table.add_row(
            spec.kind,
            _width(entry),
            str(spec.resolution) + (f" x{spec.batch}" if spec.batch > 1 else ""),
            _where(entry),
            *(_figure(entry) if entry.latency.measure == measure else "" for measure in measures),
            entry.kind + ("" if entry.latency.stable else " ?"),
        )
        doubtful += [f"{spec} on {short(entry.target)}: {doubt}" for doubt in entry.latency.doubts]
    if doubtful:
        shown = doubtful[:6] + ([f"and {len(doubtful) - 6} more"] if len(doubtful) > 6 else [])
        table.caption = "? " + "\n? ".join(shown)
        table.caption_justify = "left"
    return table


def pivot_table(entries: Sequence[Entry]) -> Table:
    """Return one line a block, one column a target: p10 in milliseconds, or in instructions, never both in one column.

    Chains and cold rows are left out, for they are folded into their blocks' rows; networks have a command of their own, and a
    machine's reference time is no block.
    """
    entries = [entry for entry in entries if entry.spec.kind not in SEQUENCES and entry.spec.kind != REFERENCE]
    columns = sorted(
        {(entry.target, entry.latency.measure) for entry in entries}, key=lambda one: (str(one[0]), one[1])
    )
    table = Table("block", "width", "res", box=box.SIMPLE_HEAD, pad_edge=False)
    for target, measure in columns:
        table.add_column(f"{short(target)}\n{HEADERS[measure]}", justify="right")
    rows: dict[tuple[str, int, int, int, int, str], dict[tuple[Target, str], Entry]] = {}
    for entry in entries:
        spec = entry.spec
        key = (spec.kind, spec.width_in, spec.width_out, -spec.resolution, spec.batch, spec.key)
        rows.setdefault(key, {})[entry.target, entry.latency.measure] = entry
    for key in sorted(rows):
        found = rows[key]
        spec = next(iter(found.values())).spec
        batch = f" x{spec.batch}" if spec.batch > 1 else ""
        cells = [headline(found[column]) if column in found else "-" for column in columns]
        table.add_row(spec.kind, _width(next(iter(found.values()))), f"{spec.resolution}{batch}", *cells)
    return table


def _where(entry: Entry) -> str:
    elsewhere = ran_elsewhere(entry)
    return short(entry.target) + (f", ran on {elsewhere}" if elsewhere is not None else "")


def _width(entry: Entry) -> str:
    spec = entry.spec
    return f"{spec.width_in}" if spec.width_in == spec.width_out else f"{spec.width_in}>{spec.width_out}"
