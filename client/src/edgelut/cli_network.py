"""The command `edgelut network`: what a network costs by the table, with its bracket, its error bar and its parts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from . import wire
from .check import profile_commands
from .cli import From, Json, RequireUnit, open_searchable
from .compose import GUESSED, Composition
from .efficientformer import get_config, network
from .errors import InvalidSpec, LatencyNotFound
from .notation import parse_blocks
from .quality import Quality, estimate, network_latency, quality
from .render import short
from .sequences import network_spec
from .table import Searchable
from .types import NetworkSpec, Target

app = typer.Typer()


@app.command(name="network")
def network_command(
    name: Annotated[str, typer.Argument(help="efficientformer-l1, -l3, -l7, or blocks: 'stem:48@224 + 3*MB4D:48@56'.")],
    device: Annotated[str, typer.Option(help="Device.")] = "host",
    runtime: Annotated[str, typer.Option(help="Runtime.")] = "onnxruntime-cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="Number of threads.")] = 1,
    unit: Annotated[str, typer.Option(help="Compute unit.")] = "cpu",
    require_unit: RequireUnit = None,
    compare_measured: Annotated[
        bool, typer.Option("--compare-measured", help="Show the measured whole network beside the sum.")
    ] = False,
    align: Annotated[
        bool, typer.Option("--align", help="Divide out the drift of older sweeps against the newest one.")
    ] = False,
    estimate_missing: Annotated[
        bool, typer.Option("--estimate", help="Estimate the blocks that the table lacks, where that is possible.")
    ] = False,
    like: Annotated[
        str | None,
        typer.Option(metavar="DEVICE[/RUNTIME...]", help="With --estimate: another target whose table is to help."),
    ] = None,
    source: From = None,
    as_json: Json = False,
) -> None:
    """Add up a network's blocks: `edgelut network efficientformer-l1`."""
    target = Target(device, runtime, precision, threads, unit)
    if like is not None and not estimate_missing:
        raise InvalidSpec("--like helps estimates: give --estimate too")
    wanted = parse_network(name)
    found = open_searchable(source)
    if align:
        from .drift import AlignedSource

        found = AlignedSource(found, target)
    known = quality(found, target)
    filled = _filled(found, target, like) if estimate_missing else found
    composition = estimate(wanted, target, filled, known, require_unit=require_unit)
    if compare_measured and composition.measured is None:
        raise LatencyNotFound(_not_measured(wanted, target))
    if as_json:
        answer = network_latency(composition, known, aligned=align)
        sys.stdout.write(wire.encode(answer).decode() + "\n")
    else:
        _print(composition, known, compare_measured)


def _filled(source: Searchable, target: Target, like: str | None) -> Searchable:
    """Return a table whose gaps are filled by estimates."""
    from .estimated import EstimatedSource, like_target

    return EstimatedSource(source, like=like_target(like, target))


def parse_network(text: str) -> NetworkSpec:
    """Return a published network by name, or a line of blocks; raise InvalidSpec."""
    if ":" in text:
        return NetworkSpec(parse_blocks(text))
    return network(get_config(text))


def _not_measured(wanted: NetworkSpec, target: Target) -> str:
    (command,) = profile_commands([network_spec(wanted)], target, wanted.name)
    command += " --whole" if wanted.name else ""
    return f"{wanted.name or 'this network'} was not measured as a whole on {target}; '{command}' does"


def _print(composition: Composition, known: Quality | None, compare: bool) -> None:
    console = Console()
    console.print(_parts_table(composition))
    name = composition.network.name or f"{len(composition.network.blocks)} blocks"
    low, high = composition.low_ns / 1e6, composition.high_ns / 1e6
    error = (composition.interval_high_ns - composition.total_ns) / 1e6

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    total = f"{composition.ms:.3f} ms ±{error:.3f}"
    say(f"{name} on {short(composition.target)}: {total}, between {low:.3f} (hot) and {high:.3f} (cold)")
    guessed = sum(part.entry.kind in GUESSED for part in composition.parts)
    if guessed:
        say(
            f"{guessed} of {len(composition.parts)} rows are estimates: ±{composition.guessed_ns / 1e6:.3f} of it is theirs"
        )
    if compare and composition.measured is not None and composition.error is not None:
        measured = composition.measured.latency
        say(f"measured: {measured.ms:.3f} ms ±{measured.half_width:.1%}; the sum is {composition.error:+.2%} off")
    say(quality_line(known))
    for doubt in composition.doubts[:8]:
        say(f"? {doubt}")


def quality_line(known: Quality | None) -> str:
    """Return a target's quality in one line."""
    if known is None:
        return "sums on this target were never compared with a measured network: 'edgelut profile ... --whole' does"
    return (
        f"sums on {short(known.target)}: off by {known.mape:.1%} on average and {known.largest:.1%} at most "
        f"on {known.networks} measured networks ({known.measured_at[:10]})"
    )


def _parts_table(composition: Composition) -> Table:
    table = Table("block", "copies", "each ms", "share", "from", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for part in composition.parts:
        share = part.each_ns * part.copies / composition.total_ns if composition.total_ns else 0.0
        source = part.basis + ("" if part.entry.kind == "measured" else f", {part.entry.kind}")
        mark = "" if part.entry.latency.stable else " ?"
        table.add_row(str(part.spec), str(part.copies), f"{part.each_ns / 1e6:.3f}", f"{share:.1%}", source + mark)
    return table
