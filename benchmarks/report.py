"""What every benchmark shares: `--seed`, `--json FILE`, and one table of figures against their goals."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured claim. `goal` is what the project aims at, as text (`<= 1 %`); `baseline` what stands beside it."""

    name: str
    value: float
    unit: str
    goal: str | None = None
    met: bool | None = None
    baseline: float | str | None = None


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser that has the arguments every benchmark takes."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return arguments


def publish(figures: Sequence[Figure], path: Path | None) -> None:
    """Print the figures as a table and write them to `path` where one is given."""
    if path is not None:
        path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    show(figures)


def show(figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    table = Table("figure", "value", "goal", "met", "baseline")
    for figure in figures:
        met = "" if figure.met is None else ("yes" if figure.met else "NO")
        baseline = f"{figure.baseline:.4g}" if isinstance(figure.baseline, float) else str(figure.baseline or "")
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}", figure.goal or "", met, baseline)
    Console().print(table)
