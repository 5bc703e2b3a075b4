"""`edgelut exchange`: other people's tables in, our rows out, and which formats there are."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from . import wire
from .cli import Device, From, Json, Kind, Measured, Precision, RequireUnit, Runtime, Threads, open_searchable
from .errors import BackendMissing, InvalidSpec, LatencyNotFound
from .query import Query
from .render import short
from .types import ENTRY_KINDS, Entry, EntryKind

if TYPE_CHECKING:
    from .exchange import Import

app = typer.Typer(name="exchange", help="Other people's latency tables in, our rows out.", no_args_is_help=True)

FormatName = Annotated[str, typer.Option("--format", help="Form of the file; 'edgelut exchange formats' lists them.")]


@app.command(name="import")
def import_command(
    file: Annotated[Path, typer.Argument(help="File to read.")],
    format_name: FormatName,
    device: Annotated[str | None, typer.Option(help="Name of the device that was measured, such as pixel4.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Runtime that was measured, such as tflite-cpu.")] = None,
    precision: Precision = None,
    threads: Threads = None,
    unit: Annotated[str | None, typer.Option(help="Compute unit.  [default: cpu]")] = None,
    values_in: Annotated[
        str | None, typer.Option(metavar="ns|us|ms|s", help="Unit of the file's values, where it does not state it.")
    ] = None,
    publisher: Annotated[str | None, typer.Option(help="Who measured.  [default: the format's own publisher]")] = None,
    origin: Annotated[str, typer.Option(help="Where the file is from, such as its address and revision.")] = "",
    kind: Annotated[
        str | None, typer.Option(help=f"What the rows are: {', '.join(ENTRY_KINDS)}.  [default: measured]")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="Service or database.  [default: $EDGELUT_URL, else the local database]",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")] = False,
    implausible: Annotated[
        bool, typer.Option("--implausible", help="Write rows though no device computes that fast or slowly.")
    ] = False,
    beside_others: Annotated[
        bool, typer.Option("--beside-others", help="Write rows though the device has rows of somebody else.")
    ] = False,
    in_parts: Annotated[
        bool, typer.Option("--in-parts", help="Fill a service with more rows than one request takes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a published table, check it and write its rows, all or none."""
    from .exchange import Asked, load, open_table, plan, store  # numpy and httpx, which other commands start without

    if kind is not None and kind not in ENTRY_KINDS:
        raise InvalidSpec(f"there is no kind {kind!r}; there are {', '.join(ENTRY_KINDS)}")
    asked = Asked(device, runtime, precision, threads, unit, values_in, publisher, cast("EntryKind | None", kind))
    form = load(format_name)
    table = open_table(to)
    with _closing(table):
        found = plan(
            file,
            format_name,
            form,
            asked,
            table,
            source=origin,
            implausible=implausible,
            beside_others=beside_others,
        )
        current = None if dry_run else store(table, found, in_parts=in_parts)
    if as_json:
        said = _summary(found) | ({"entries": found.entries} if dry_run else {"written": len(found.entries)})
        sys.stdout.write(wire.encode(said).decode() + "\n")
    else:
        _print_import(found, current)


@app.command(name="export")
def export_command(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    format_name: FormatName = "csv",
    block: Annotated[str | None, typer.Option(help="Kind of block.")] = None,
    device: Device = None,
    runtime: Runtime = None,
    precision: Precision = None,
    threads: Threads = None,
    kind: Kind = None,
    measure: Measured = None,
    require_unit: RequireUnit = None,
    source: From = None,
) -> None:
    """Write a table's current rows, or what the filters leave, as a file."""
    from .exchange import load, write_file

    form = load(format_name)
    query = Query(
        block=block,
        device=device,
        runtime=runtime,
        precision=precision,
        threads=threads,
        limit=1000,
        kind=kind,
        measure=measure,
        require_unit=require_unit,
    )
    rows = _rows(source, query)
    if not rows:
        raise LatencyNotFound("the table has no such rows, so no file was written")
    size = write_file(file, form, rows)
    _say(f"{len(rows)} rows in {file} ({size:,} bytes); lost: {form.lost}")


@app.command()
def formats(as_json: Json = False) -> None:
    """List the formats: what they hold, and what is lost."""
    from .exchange import names

    found = [_format(name) for name in names()]
    if as_json:
        sys.stdout.write(wire.encode(found).decode() + "\n")
        return
    table = Table("format", "file", "", "holds", "lost", box=box.SIMPLE_HEAD, pad_edge=False)
    for one in found:
        way = "both ways" if one["writes"] else "read"
        table.add_row(one["name"], one["suffix"], way, one["holds"], one["lost"])
    Console().print(table)
    for one in found:
        if one["error"]:
            _say(f"{one['name']}: {one['error']}")


def _format(name: str) -> dict[str, Any]:
    from .exchange import load

    said: dict[str, Any] = {"name": name, "suffix": "", "writes": False, "holds": "", "lost": "", "error": None}
    try:
        form = load(name)
    except BackendMissing as error:
        return {**said, "error": str(error)}
    return {**said, "suffix": form.suffix, "writes": form.writes, "holds": form.holds, "lost": form.lost}


def _rows(location: str | None, query: Query) -> list[Entry]:
    """Return every current row that matches."""
    source = open_searchable(location)
    rows: list[Entry] = []
    with _closing(source):
        while True:
            page = source.search(query)
            rows += [row.entry for row in page.rows]
            if page.next_cursor is None:
                return rows
            query = replace(query, cursor=page.next_cursor)


def _closing(source: object) -> AbstractContextManager[Any]:
    """Close a table at the end where it can be closed: a snapshot cannot."""
    return closing(cast("Any", source)) if hasattr(source, "close") else nullcontext()


def _summary(found: Import) -> dict[str, Any]:
    """Return an import without its rows."""
    return {one.name: getattr(found, one.name) for one in fields(found) if one.name != "entries"}


def _print_import(found: Import, current: int | None) -> None:
    blocks = ", ".join(f"{count} {kind}" for kind, count in found.blocks.items())
    _say(f"{found.file}: {found.rows} rows published by {found.publisher} ({blocks})")
    _say(f"on {', '.join(short(target) for target in found.targets)}; sha256 {found.sha256}")
    if found.macs_per_s is not None:
        _say(f"the median row computes {found.macs_per_s:.1e} MACs/s")
    if found.doubtful:
        _say(f"{found.doubtful} rows are more than a hundred times off that, and say so among their doubts")
    there = f"{found.unchanged} are there already, {found.replaced} would take the place of other rows"
    if current is None:
        _say(f"dry run: {len(found.entries)} rows would be written, {there}; nothing was")
        return
    _say(f"{len(found.entries)} rows written, {current} of them current; {found.unchanged} were there already")


def _say(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
