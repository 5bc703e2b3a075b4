"""The command line `edgelut`: reading a table here; the service's commands join by the entry points `edgelut.commands`.

Exit codes: 0 done; 1 something that was asked for failed; 2 bad input; 3 database, artifact or snapshot; 4 service or port;
5 nothing matches; 6 toolchain or device; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from . import exits, wire
from .errors import BackendMissing, EdgelutError, InvalidSpec, LatencyNotFound
from .figures import figures
from .placement import other_unit
from .query import MOST_LEFT_OUT, Query
from .render import entries_table, pivot_table, short
from .table import Searchable
from .types import ENTRY_KINDS, MEASURES, Entry, Params

app = typer.Typer(
    name="edgelut",
    help="How long will this block take on that device?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="URL|FILE",
        help="Service (http://...), snapshot file or database URL.  [default: $EDGELUT_URL, else the local database]",
    ),
]
Device = Annotated[str | None, typer.Option(help="Device, such as host.")]
Runtime = Annotated[str | None, typer.Option(help="Runtime, such as onnxruntime-cpu.")]
Precision = Annotated[str | None, typer.Option(help="fp32, fp16 or int8.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of threads.")]
Kind = Annotated[str | None, typer.Option(help=f"Kind of row: {', '.join(ENTRY_KINDS)}.")]
Measured = Annotated[str | None, typer.Option("--measure", help=f"What rows tell: {' or '.join(MEASURES)}.")]
RequireUnit = Annotated[
    str | None, typer.Option(help="Only rows that ran on this compute unit alone: cpu, gpu, ne, ne+cpu.")
]


@app.command()
def get(
    block: Annotated[str, typer.Argument(help="Kind of block, such as MB3D.")],
    width: Annotated[int | None, typer.Argument(min=1, help="Input width.")] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Side of the input map.")] = None,
    width_out: Annotated[int | None, typer.Option(min=1, help="Output width.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size.")] = None,
    device: Device = None,
    runtime: Runtime = None,
    precision: Precision = None,
    threads: Threads = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Block parameter; may be repeated.")
    ] = None,
    kind: Kind = None,
    measure: Measured = None,
    require_unit: RequireUnit = None,
    source: From = None,
    as_json: Json = False,
) -> None:
    """Show the latencies of a block: `edgelut get MB3D 224`."""
    query = Query(
        block=block,
        width=width,
        width_out=width_out,
        resolution=resolution,
        batch=batch,
        device=device,
        runtime=runtime,
        precision=precision,
        threads=threads,
        params=parse_params(param),
        kind=kind,
        measure=measure,
        require_unit=require_unit,
    )
    found, left_out = _search(source, query)
    if not found:
        raise _refusal(source, query)
    _print(found, as_json, pivot=False)
    _print_left_out(left_out, query)


@app.command()
def table(
    what: Annotated[str, typer.Argument(metavar="[check]", help="check: say what speaks against the table.")] = "show",
    device: Device = None,
    runtime: Runtime = None,
    precision: Precision = None,
    threads: Threads = None,
    block: Annotated[str | None, typer.Option(help="Kind of block.")] = None,
    kind: Kind = None,
    measure: Measured = None,
    require_unit: RequireUnit = None,
    source: From = None,
    as_json: Json = False,
) -> None:
    """Show the whole table: one line a block, one column a target; or check it."""
    if what not in ("show", "check"):
        raise InvalidSpec(f"table {what!r}: write 'edgelut table' or 'edgelut table check'")
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
    found, left_out = _search(source, query)
    if not found:
        raise _elsewhere(source, query) or LatencyNotFound(
            "the table has no such rows; fill it with 'edgelut profile efficientformer-l1'"
        )
    _print_left_out(left_out, query)
    if what == "check":
        _print_check(found, as_json)
    else:
        _print(found, as_json, pivot=True)
        if not as_json:
            _print_quality(found, source)


@app.command()
def snapshot(
    path: Annotated[Path, typer.Argument(help="File to write: .json or .json.gz.")],
    estimate: Annotated[
        list[str] | None,
        typer.Option(metavar="PRESET", help="Estimate what targets lack of a preset's blocks; may be repeated."),
    ] = None,
    source: From = None,
) -> None:
    """Freeze the current rows into one hashed file that a search reads without a server."""
    from . import presets
    from .snapshot import write

    wanted = [spec for name in estimate or () for spec in presets.get(name)]
    rows, _ = _search(source, Query(limit=1000))
    said = ""
    if wanted:
        from .estimated import completed

        guessed, lacking = completed(rows, wanted)
        rows += guessed
        said = f", {len(guessed)} of them estimated"
        if lacking:
            target, spec = lacking[0]
            others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            Console(stderr=True).print(
                f"no estimate of {spec} on {short(target)}{others}: 'edgelut estimate' says why of each",
                highlight=False,
                soft_wrap=True,
            )
    write(path, rows)
    Console().print(f"{len(rows)} rows in {path}{said}", highlight=False, soft_wrap=True)


def parse_params(texts: list[str] | None) -> Params:
    """Return NAME=VALUE texts as parameters, numbers as numbers; raise InvalidSpec."""
    params: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InvalidSpec(f"{text!r} is no parameter: write NAME=VALUE, such as expansion=4")
        try:
            params[name] = float(value)
        except ValueError:
            params[name] = value
    return Params(params)


def open_searchable(location: str | None) -> Searchable:
    """Open the table at a location; without one, EDGELUT_URL or the local database."""
    from .settings import default_source
    from .sources import open_source

    return cast("Searchable", open_source(location or default_source()))


def _search(location: str | None, query: Query) -> tuple[list[Entry], int]:
    """Return every match, page after page, and how many rows were left out for the unit that is required."""
    from dataclasses import replace

    source = open_searchable(location)
    entries: list[Entry] = []
    left_out = 0
    while True:
        page = source.search(query)
        entries += [row.entry for row in page.rows]
        left_out += page.left_out
        if page.next_cursor is None:
            return entries, left_out
        query = replace(query, cursor=page.next_cursor)


def _refusal(location: str | None, query: Query) -> LatencyNotFound:
    """Return the error for a query that matched nothing."""
    return _elsewhere(location, query) or LatencyNotFound(_advice(location, query))


def _elsewhere(location: str | None, query: Query) -> LatencyNotFound | None:
    """Return the error for rows that match but for the unit that is required; None where there are none."""
    from dataclasses import replace

    if query.require_unit is None:
        return None
    rows, _ = _search(location, replace(query, require_unit=None))
    return other_unit(f"{len(rows)} matching rows", rows, query.require_unit) if rows else None


def _advice(location: str | None, query: Query) -> str:
    """Return what there is instead, for a query that matched nothing."""
    from dataclasses import replace

    asked = f"{query.block} {query.width}" if query.width else f"{query.block}"
    wider, _ = _search(location, replace(query, width=None))
    if query.width is not None and wider:
        width = query.width
        near = sorted({entry.spec.width_in for entry in wider}, key=lambda has: (abs(has - width), has))[:8]
        resolution = query.resolution or wider[0].spec.resolution
        return (
            f"no latency of {asked}; the nearest widths are {', '.join(map(str, near))}; "
            f"'edgelut estimate {query.block} {width} --resolution {resolution}' estimates it"
        )
    of_kind, _ = _search(location, Query(block=query.block))
    if of_kind:
        return f"no latency of {asked} with those filters; 'edgelut table --block {query.block}' shows what there is"
    kinds = sorted({entry.spec.kind for entry in _search(location, Query(limit=1000))[0]})
    has = (
        f"the table has {', '.join(kinds)}"
        if kinds
        else "the table is empty: fill it with 'edgelut profile efficientformer-l1'"
    )
    return f"no latency of {asked}; {has}"


def _print(entries: list[Entry], as_json: bool, pivot: bool) -> None:
    if as_json:
        rows = [{**wire.dump(figures(entry)), **wire.dump(entry)} for entry in entries]
        sys.stdout.write(wire.encode(rows).decode() + "\n")
    else:
        Console().print(pivot_table(entries) if pivot else entries_table(entries))


def _print_left_out(left_out: int, query: Query) -> None:
    """Say on stderr how many rows did not run where they had to."""
    if left_out:
        more = f"{left_out} or more" if left_out >= MOST_LEFT_OUT else str(left_out)
        said = f"left out: {more} rows that did not run on {query.require_unit} alone"
        Console(stderr=True).print(said, highlight=False, soft_wrap=True)


def _print_quality(entries: list[Entry], location: str | None) -> None:
    """Print how far sums are off, for each target that has measured networks."""
    from .cli_network import quality_line
    from .quality import quality

    targets = {entry.target for entry in entries if entry.spec.kind == "network" and entry.kind == "measured"}
    source = open_searchable(location)
    for target in sorted(targets, key=str):
        Console().print(quality_line(quality(source, target)), highlight=False, soft_wrap=True)


def _print_check(entries: list[Entry], as_json: bool) -> None:
    """Print what speaks against the table and what to type; exit 1 where something does."""
    from .check import check
    from .render import check_lines

    checks = check(entries)
    if as_json:
        sys.stdout.write(wire.encode(checks).decode() + "\n")
    else:
        for line in check_lines(checks):
            Console().print(line, highlight=False, soft_wrap=True)
    raise typer.Exit(exits.OK if all(found.good for found in checks) else exits.FAILED)


def _add_commands() -> None:
    """Join the commands of what else is installed: the profiler's, the service's, the database's."""
    from .cli_ci import app as ci_app
    from .cli_estimate import app as estimate_app
    from .cli_exchange import app as exchange_app
    from .cli_jobs import app as jobs_app
    from .cli_network import app as network_app
    from .cli_tokens import app as token_app

    for own in (network_app, estimate_app, jobs_app, token_app):
        app.add_typer(own)
    app.add_typer(ci_app)
    app.add_typer(exchange_app)
    for point in sorted(entry_points(group="edgelut.commands"), key=lambda point: point.name):
        try:
            found: typer.Typer = point.load()
        except (ImportError, AttributeError) as error:
            raise _unloadable(point, error) from error
        app.add_typer(found)


def _unloadable(point: EntryPoint, error: Exception) -> BackendMissing:
    """Say why a command cannot be loaded, and from where it would come: most often a foreign package has its package's name."""
    if isinstance(error, BackendMissing):
        return error
    package = point.module.partition(".")[0]
    found = find_spec(package)
    places = list(found.submodule_search_locations or [str(found.origin)]) if found is not None else []
    where = f"; {package!r} is found in {', '.join(map(str, places))}: is that another package?" if places else ""
    return BackendMissing(f"the command {point.name!r} ({point.value}) cannot be loaded: {error}{where}")


def main() -> None:
    """Run the command line; an error of ours is one line and an exit code, never a traceback."""
    try:
        _add_commands()
        code = app(standalone_mode=False)
    except EdgelutError as error:
        _fail(str(error), exits.code_of(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", exits.INTERRUPTED)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # the reader of our output has gone, as `| head` does
            raise SystemExit(exits.OK) from None
        raise
    except Exception as error:
        said = getattr(error, "format_message", None)  # the parser's complaints, whatever package they come from
        if said is None:
            raise
        _fail(said(), exits.USAGE)
    else:
        if code == exits.INTERRUPTED:  # what the parser makes of Ctrl-C
            _fail("interrupted", exits.INTERRUPTED)
        raise SystemExit(code if isinstance(code, int) else exits.OK)


def _fail(message: str, code: int) -> None:
    Console(stderr=True).print(f"error: {message}", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(code)
