"""The format `csv`: our own rows as a spreadsheet, one line a row, with named columns; written and read back without loss.

A text that a spreadsheet or the reader could take for something else (a number, a formula, an empty cell) is written as a
JSON string with its quotes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

from edgelut.errors import InvalidSpec
from edgelut.exchange.base import LONGEST_NS, Asked, Format, distinct, shown
from edgelut.exchange.text import NUMBER, number, text_of
from edgelut.types import BlockSpec, Clock, Entry, EntryKind, Latency, Params, Scalar, Target

SPEC = ("block", "width_in", "width_out", "resolution", "batch")
PARAM = "param."
TARGET = ("device", "runtime", "precision", "threads", "unit")
TIMES = ("p10_ns", "p50_ns", "p90_ns", "low_ns", "high_ns")
MORE_TIMES = ("wall_p10_ns", "wall_p50_ns", "slope_ns", "chain_ns", "context_ns", "cold_ns")
SIGNED = ("slope_ns", "context_ns")  # what a block adds may be less than nothing
COUNTS = ("runs", "samples", "load_ns", "compile_ns", "peak_memory_bytes")
LAST = ("doubts", "provenance")
COLUMNS = (*SPEC, *TARGET, "kind", "clock", *TIMES, *MORE_TIMES, *COUNTS, *LAST)
REQUIRED = ("block", "width_in", "width_out", "resolution", "p10_ns")
NO_INTERVAL = "the file gives no interval: low and high repeat the latency"
_WHOLE = re.compile("[0-9]{1,19}")
_FORMULAS = "=+-@\"'"  # what a spreadsheet reads as more than a text, and our own quote
Cells = dict[str, str]


class Csv(Format):
    """Comma-separated, UTF-8, a line of column names first."""

    suffix = ".csv"
    holds = "whole rows: block, target, every latency, doubts, provenance"
    lost = "raw runs and history; a file that is read tells no more than its cells"
    values_in = "ns"
    writes = True
    example = (
        b"block,width_in,width_out,resolution,param.expansion,device,runtime,p10_ns,low_ns,high_ns,doubts\n"
        b'MB4D,96,96,28,4,phone,tflite-cpu,1520000,1510000,1530000,"[""warm""]"\n'
        b"MB4D,112,112,28,4,phone,tflite-cpu,1980000,1970000,1990000,[]\n"
    )
    example_value = b"1980000"

    def read(self, content: bytes, asked: Asked) -> list[Entry]:
        """Return the rows; what was asked of the target takes the place of its columns."""
        if asked.values_in not in (None, self.values_in):
            raise InvalidSpec(f"the columns of a csv are in ns by their names (p10_ns), not in {asked.values_in}")
        rows = distinct((f"line {line}", _entry(line, cells, asked)) for line, cells in _lines(text_of(content)))
        if not rows:
            raise InvalidSpec("line 2: the file has column names and no row")
        return rows

    def write(self, entries: Sequence[Entry]) -> bytes:
        """Return the rows under all columns, a parameter a column, in the order given."""
        names = sorted({name for entry in entries for name in entry.spec.params})
        header = (*SPEC, *(f"{PARAM}{name}" for name in names), *COLUMNS[len(SPEC) :])
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([_cell(name) for name in header])
        for entry in entries:
            cells = _cells(entry)
            writer.writerow([cells.get(name, "") for name in header])
        return out.getvalue().encode()


def _cells(entry: Entry) -> Cells:
    """Return a row's cells by column."""
    spec, target, latency = entry.spec, entry.target, entry.latency
    cells = {"block": _cell(spec.kind), "kind": entry.kind, "clock": latency.clock}
    cells |= {name: str(getattr(spec, name)) for name in SPEC[1:]}
    cells |= {f"{PARAM}{name}": _cell(value) for name, value in spec.params.items()}
    cells |= {name: _cell(getattr(target, name)) for name in TARGET}
    figures = {name: getattr(latency, name) for name in (*TIMES, *MORE_TIMES, *COUNTS)}
    cells |= {name: repr(value) for name, value in figures.items() if value is not None}
    cells["doubts"] = json.dumps(list(latency.doubts))
    cells["provenance"] = json.dumps(entry.provenance.as_dict(), sort_keys=True)
    return cells


def _cell(value: Scalar) -> str:
    """Return a number, a text as it is, or as a JSON string where it could be read as something else."""
    if not isinstance(value, str):
        return repr(value)
    plain = value and value.isprintable() and value[0] not in _FORMULAS and value == value.strip()
    return value if plain and not NUMBER.fullmatch(value) else json.dumps(value)


def _scalar(place: str, cell: str) -> Scalar:
    """Return what `_cell` wrote."""
    if cell.startswith('"'):
        found = _json(place, cell, str)
        return cast("str", found)
    if not NUMBER.fullmatch(cell):
        return cell
    try:
        return int(cell) if re.fullmatch("[+-]?[0-9]+", cell) else number(place, cell)
    except ValueError as error:  # thousands of digits
        raise InvalidSpec(f"{place}: {shown(cell)} is no number") from error


def _lines(text: str) -> Iterator[tuple[int, Cells]]:
    """Yield each row's line and its cells by column name; raise InvalidSpec."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidSpec(f"line {line}: this is no CSV: {error}; was the file cut off?") from None
        if not any(cells):
            continue
        if not header:
            header = _header(line, cells)
            continue
        if len(cells) != len(header):
            raise InvalidSpec(f"line {line}: {len(cells)} cells under {len(header)} columns; was the file cut off?")
        yield line, dict(zip(header, cells, strict=True))


def _header(line: int, cells: Sequence[str]) -> list[str]:
    """Return the columns' names; raise InvalidSpec for one that is unknown, twice or missing."""
    if len(cells) == 1 and ";" in cells[0]:
        raise InvalidSpec(f"line {line}: columns are separated by commas here, not by semicolons")
    names = [str(_scalar(f"line {line}", cell)) for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise InvalidSpec(f"line {line}: column {shown(name)} is there twice")
        if name not in COLUMNS and not name.removeprefix(PARAM) != name:
            raise InvalidSpec(f"line {line}: no column {shown(name)}; there are {', '.join(COLUMNS)} and {PARAM}NAME")
    if missing := [name for name in REQUIRED if name not in names]:
        raise InvalidSpec(f"line {line}: the columns {', '.join(missing)} are missing")
    return names


def _entry(line: int, cells: Cells, asked: Asked) -> Entry:
    """Return a line's row; an error names the line and the column."""
    place = f"line {line}"
    params = {
        name.removeprefix(PARAM): _scalar(f"{place}, {name}", cell)
        for name, cell in cells.items()
        if name.startswith(PARAM) and cell
    }
    sizes = {name: _whole(place, cells, name, 1 if name == "batch" else None) for name in SPEC[1:]}
    try:
        block = str(_scalar(f"{place}, block", cells["block"]))
        spec = BlockSpec(block, **cast("Any", sizes), params=Params(params))
        return Entry(
            spec,
            _target(place, cells, asked),
            _latency(place, cells),
            asked.kind or cast("EntryKind", cells.get("kind") or "measured"),
            Params(_json(f"{place}, provenance", cells.get("provenance") or "{}", dict)),
        )
    except InvalidSpec as error:
        raise error if str(error).startswith(place) else InvalidSpec(f"{place}: {error}") from None


def _target(place: str, cells: Cells, asked: Asked) -> Target:
    """Return the target of what was asked, else of the row's cells, else of the defaults."""

    def text(name: str, default: str | None = None) -> str:
        said = getattr(asked, name) or str(_scalar(f"{place}, {name}", cells.get(name, ""))) or default
        if said is None:
            raise InvalidSpec(f"{place}: there is no {name}: give a column of that name, or --{name}")
        return str(said)

    threads = asked.threads or _whole(place, cells, "threads", 1)
    return Target(text("device"), text("runtime"), text("precision", "fp32"), threads, text("unit", "cpu"))


def _latency(place: str, cells: Cells) -> Latency:
    """Return a row's latency. Without percentiles and bounds of its own the headline stands for them, and a doubt says so."""
    times: dict[str, float] = {}
    for name in (*TIMES, *MORE_TIMES):
        if cell := cells.get(name):
            times[name] = _time(f"{place}, {name}", cell, name)
    if "p10_ns" not in times:
        raise InvalidSpec(f"{place}, p10_ns: the latency is missing; leave out a row that was not measured")
    doubts = _json(f"{place}, doubts", cells.get("doubts") or "[]", list)
    if not all(isinstance(doubt, str) for doubt in doubts):
        raise InvalidSpec(f"{place}, doubts: give a JSON list of texts")
    bounded = "low_ns" in times and "high_ns" in times
    if bounded and times["low_ns"] > times["high_ns"]:
        raise InvalidSpec(f"{place}: low_ns is above high_ns")
    defaults = dict.fromkeys(TIMES, times["p10_ns"])
    counts = {name: _whole(place, cells, name, 1) for name in ("runs", "samples")}
    counts |= {name: _whole(place, cells, name) for name in COUNTS[2:] if cells.get(name)}
    clock = cells.get("clock") or "wall"
    if clock not in ("cpu", "wall", "instructions"):
        raise InvalidSpec(f"{place}, clock: there are cpu, wall and instructions, not {shown(clock)}")
    said = tuple(doubts) if bounded else (NO_INTERVAL, *doubts)
    return Latency(**cast("Any", defaults | times | counts), clock=cast("Clock", clock), doubts=said)


def _time(place: str, cell: str, name: str) -> float:
    """Return a time in nanoseconds; only what a block adds may be below zero, and the headline is above it."""
    found = number(place, cell)
    least = -LONGEST_NS if name in SIGNED else 0.0
    if not least <= found <= 1e18 or (name == "p10_ns" and found == 0):
        raise InvalidSpec(f"{place}: {shown(cell)} is no latency in ns; leave out a row that was not measured")
    return found


def _whole(place: str, cells: Cells, name: str, default: int | None = None) -> int:
    cell = cells.get(name, "")
    if not cell and default is not None:
        return default
    if not _WHOLE.fullmatch(cell.removesuffix(".0")):
        raise InvalidSpec(f"{place}, {name}: {shown(cell)} is no whole number")
    return int(cell.removesuffix(".0"))


def _json(place: str, cell: str, type_: type[Any]) -> Any:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, type_):
        said = {"str": "a JSON string", "list": "a JSON list"}.get(type_.__name__, "a JSON object")
        raise InvalidSpec(f"{place}: {shown(cell)} is not {said}; was the file cut off?")
    return found
