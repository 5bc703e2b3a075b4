"""The command `edgelut estimate`: what a block that was not measured takes, and how far off such answers were where it is known."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from . import wire
from .cli import From, Json, open_searchable, parse_params
from .errors import InvalidSpec, LatencyNotFound
from .estimated import estimates_of, like_target, spec_of
from .figures import figures
from .render import short
from .types import Entry, Target

if TYPE_CHECKING:
    from .estimate import Estimates, Trial

CHECK = "check"

app = typer.Typer()


@app.command(name="estimate")
def estimate_command(
    block: Annotated[str, typer.Argument(help="Kind of block, such as MB3D; or check: how good estimates are.")],
    width: Annotated[int | None, typer.Argument(min=1, help="Input width.")] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Side of the input map.")] = None,
    width_out: Annotated[int | None, typer.Option(min=1, help="Output width.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size.")] = 1,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Block parameter; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device.")] = "host",
    runtime: Annotated[str, typer.Option(help="Runtime.")] = "onnxruntime-cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="Number of threads.")] = 1,
    unit: Annotated[str, typer.Option(help="Compute unit.")] = "cpu",
    like: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE[/RUNTIME...]",
            help="Another target whose table is to help, as far as it is another than this one.",
        ),
    ] = None,
    source: From = None,
    as_json: Json = False,
) -> None:
    """Estimate a block that was not measured: `edgelut estimate MB3D 232 --resolution 14`."""
    target = Target(device, runtime, precision, threads, unit)
    known = estimates_of(open_searchable(source), target, like_target(like, target))
    if block.lower() == CHECK:
        _print_check(known, as_json)
        return
    if width is None or resolution is None:
        raise InvalidSpec(
            f"say which block: 'edgelut estimate {block} 232 --resolution 14', or 'edgelut estimate {CHECK}'"
        )
    spec = spec_of(block, width, resolution, width_out, batch, parse_params(param))
    found = known.estimate(spec)
    if as_json:
        sys.stdout.write(wire.encode({**wire.dump(figures(found)), **wire.dump(found)}).decode() + "\n")
    else:
        for line in _lines(found):
            Console().print(line, highlight=False, soft_wrap=True)


def _lines(found: Entry) -> list[str]:
    """Say what a block takes, by what, and what speaks against it."""
    latency, said = found.latency, found.provenance
    low, high = latency.low_ns / 1e6, latency.high_ns / 1e6
    lines = [
        f"{found.spec} on {short(found.target)}: {latency.ms:.3f} ms, {low:.3f} to {high:.3f} (95 %), {found.kind}"
    ]
    if found.kind != "measured":
        by = f"by {said['rows']} rows" + (f" and the table of {said['from']}" if "from" in said else "")
        off = (
            f"; such rows left out were off by {said['median_error']:.1%} at the median"
            if "median_error" in said
            else ""
        )
        lines.append(by + off)
    return lines + [f"? {doubt}" for doubt in latency.doubts]


def _print_check(known: Estimates, as_json: bool) -> None:
    """Print what happened to rows that were left out, by kind of block."""
    trials = list(_trials(known))
    if not trials:
        raise LatencyNotFound(f"too few rows on {known.target} to estimate by: fill the table with 'edgelut profile'")
    if as_json:
        sys.stdout.write(wire.encode([_as_json(*one) for one in trials]).decode() + "\n")
        return
    table = Table(
        "block", "rows", "left out", "median off", "within 10 %", "deviations", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in table.columns[1:2] + table.columns[3:]:
        column.justify = "right"
    for kind, rows, how, trial in trials:
        off, near = (
            ("-", "-") if math.isnan(trial.median_error) else (f"{trial.median_error:.1%}", f"{trial.within_10:.0%}")
        )
        table.add_row(kind, str(rows), how, off, near, f"{trial.deviations:.1f}")
    Console().print(table)


def _trials(known: Estimates) -> list[tuple[str, int, str, Trial]]:
    from .estimate import Estimator
    from .transfer import Transfer

    if isinstance(known, Transfer):
        return [
            (kind, trial.rows, f"one by one, by {known.by(kind)}", trial)
            for kind, trial in sorted(known.trials.items())
        ]
    if isinstance(known, Estimator):
        return [
            (kind, len(found.rows), how, trial)
            for kind, found in known.kinds.items()
            for how, trial in found.all_trials()
        ]
    return []


def _as_json(kind: str, rows: int, how: str, trial: Trial) -> dict[str, Any]:
    near = {} if math.isnan(trial.median_error) else {"median_error": trial.median_error, "within_10": trial.within_10}
    return {"kind": kind, "rows": rows, "left_out": how, "tried": trial.rows, "deviations": trial.deviations, **near}
