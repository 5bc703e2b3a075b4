"""The command `edgelut devices`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgelut import wire
from edgelut.cli import Json

app = typer.Typer()


@app.command()
def devices(
    clean: Annotated[
        str | None, typer.Option(metavar="SERIAL", help="Remove what EdgeLUT left on that device instead.")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Where locks lie.  [default: $EDGELUT_HOME]")] = None,
    as_json: Json = False,
) -> None:
    """List this host and what is attached to it: what it is, how warm and how full, and why one cannot be used."""
    from .devices import attached, devices_table, notes

    if clean is not None:
        _clean(clean, home, as_json)
        return
    found = attached()
    if as_json:
        _print_json([{"name": one.name, "usable": one.usable, "why": one.why, "facts": one.facts} for one in found])
        return
    console = Console()
    console.print(devices_table(found), markup=False)
    for line in notes(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _clean(text: str, home: Path | None, as_json: bool) -> None:
    """Remove our files from a device that nobody measures on."""
    from backends import registry
    from edgelut import settings

    from .devices import resolve
    from .lock import device_lock

    name = resolve(text)
    with device_lock((home or settings.home()).resolve() / "locks", name):
        freed = registry.load_device(name).clean()
    if as_json:
        _print_json({"device": name, "freed_bytes": freed})
    else:
        Console().print(f"removed {freed / 2**20:.1f} MiB from {name}", highlight=False, soft_wrap=True)


def _print_json(value: object) -> None:
    sys.stdout.write(wire.encode(value).decode() + "\n")
