"""How far sums are off where only a share of a space's blocks was measured and the others are estimated.

The table of a search's space is measured once, with its chains and contexts; the estimates are then made in memory from the
blocks that a search would have measured for each share, and sums of networks, drawn by --seed, are compared with those of the
whole table. With --again the table is measured a second time: how far that is from the first is what no estimate can be better
than.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from additivity import Shown
from report import Figure, parser, publish

from db.engine import open_store
from edgelut import MemoryTable, NetworkSpec, Target
from edgelut.compose import Composition, compose
from edgelut.efficientformer import network
from edgelut.estimated import EstimatedSource
from edgelut.plan import Point, Policy
from edgelut.slopes import with_needs
from edgelut.types import BlockSpec, Entry
from profiler.sweep import run_sweep
from search.filling import chosen
from search.latency import Space
from search.presets import get

TARGET = Target("host", "onnxruntime-cpu")
SHARES = (0.2, 0.35, 0.5)


@dataclass(frozen=True, slots=True)
class Compared:
    """Sums that are estimated in part, beside those of the whole table: relative errors, and the shares of bars that hold."""

    measured: int  # blocks, those among them that could not be estimated
    errors: np.ndarray
    bars: np.ndarray  # half-widths, relative
    held: float
    of_estimates: np.ndarray  # half-widths of what estimates add
    seconds: float  # to learn and to estimate


def main() -> None:
    """Measure the table; print how far sums are off that are estimated in part."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--preset", default="fashion-small", help="whose space (default: fashion-small)")
    arguments.add_argument("--networks", type=int, default=200)
    arguments.add_argument("--half-width", type=float, default=0.01)
    arguments.add_argument("--max-rounds", type=int, default=40)
    arguments.add_argument("--again", action="store_true", help="measure the table twice")
    arguments.add_argument("--keep", type=Path, help="folder for databases and artifacts; goes on where it stopped")
    options = arguments.parse_args()
    space = get(options.preset).space
    policy = Policy(seed=options.seed, half_width=options.half_width, max_rounds=options.max_rounds)
    with ExitStack() as stack:
        home = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows, seconds = _measured(space, home, policy)
        again = _measured(space, home / "again", policy)[0] if options.again else None
    networks = _networks(space, options.networks, options.seed)
    truth = [compose(one, TARGET, MemoryTable(rows.values())) for one in networks]
    figures = _again(networks, truth, again) if again else []
    for share in SHARES:
        figures += _figures(options.preset, share, networks, truth, rows, seconds)
    publish(figures, options.json)


def _measured(space: Space, home: Path, policy: Policy) -> tuple[dict[BlockSpec, Entry], float]:
    """Measure a space's blocks with what their sums need; return the blocks' rows, and how long that took."""
    home.mkdir(parents=True, exist_ok=True)
    blocks, began = space.blocks(), time.monotonic()
    store = open_store(f"sqlite:///{home / 'edgelut.db'}", migrate=True)
    try:
        if any(entry is None for entry in store.find_many(blocks, TARGET)):
            points = [Point(spec, TARGET, "onnx") for spec in with_needs(blocks)]
            print(f"{len(blocks)} blocks, {len(points)} rows", flush=True)
            run_sweep(points, store, home, policy, observer=Shown())
        return dict(zip(blocks, store.get_many(blocks, TARGET), strict=True)), time.monotonic() - began
    finally:
        store.close()


def _networks(space: Space, count: int, seed: int) -> list[NetworkSpec]:
    """Return networks of a space: each stage's width and depth and the number of MB3D are drawn evenly."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        widths = [draw.choice(space.widths(stage)) for stage in range(4)]
        depths = [draw.randint(1, most) for most in space.config.depths]
        last = draw.randint(0, depths[2] + depths[3])
        shape = {"widths": tuple(widths), "depths": tuple(depths), "mb3d": last, "name": ""}
        found.append(network(replace(space.config, **shape)))
    return found


def compared(
    measured: Sequence[BlockSpec],
    networks: Sequence[NetworkSpec],
    truth: Sequence[Composition],
    rows: Mapping[BlockSpec, Entry],
) -> Compared:
    """Compare sums by some measured blocks with the whole table's; what cannot be estimated is measured too, as a search does."""
    began, known = time.monotonic(), dict.fromkeys(measured)
    while True:
        source = EstimatedSource(MemoryTable(rows[spec] for spec in known))
        filled = source.find_many(list(rows), TARGET)
        lacks = [spec for spec, entry in zip(rows, filled, strict=True) if entry is None]
        if not lacks:
            break
        known |= dict.fromkeys(lacks)
    seconds = time.monotonic() - began
    table = MemoryTable(entry for entry in filled if entry is not None)
    sums = [compose(one, TARGET, table) for one in networks]
    pairs = [(found, true.total_ns) for found, true in zip(sums, truth, strict=True)]
    return Compared(
        len(known),
        np.array([found.total_ns / true - 1 for found, true in pairs]),
        np.array([(found.interval_high_ns - found.total_ns) / true for found, true in pairs]),
        float(np.mean([found.interval_low_ns <= true <= found.interval_high_ns for found, true in pairs])),
        np.array([found.guessed_ns / true for found, true in pairs]),
        seconds,
    )


def _figures(
    preset: str,
    share: float,
    networks: Sequence[NetworkSpec],
    truth: Sequence[Composition],
    rows: Mapping[BlockSpec, Entry],
    seconds: float,
) -> list[Figure]:
    found = compared(chosen(list(rows), share), networks, truth, rows)
    name = f"estimated sums, {preset}, {share:.0%} asked for"
    mean, largest = 100 * float(np.abs(found.errors).mean()), 100 * float(np.abs(found.errors).max())
    saved = 1 - found.measured / len(rows)
    time_saved = f"{saved * seconds:.0f} of {seconds:.0f} s" if seconds > 1 else None
    return [
        Figure(f"{name}: blocks measured", found.measured, f"of {len(rows)}"),
        Figure(f"{name}: mean error", mean, "%", "<= 2 %", mean <= 2, f"bias {100 * found.errors.mean():+.2f} %"),
        Figure(f"{name}: largest error", largest, "%"),
        Figure(
            f"{name}: error bars that hold",
            100 * found.held,
            "%",
            ">= 95 %",
            found.held >= 0.95,
            f"median bar {100 * np.median(found.bars):.1f} %, of it estimates {100 * np.median(found.of_estimates):.1f} %",
        ),
        Figure(f"{name}: time of measuring saved", 100 * saved, "%", None, None, time_saved),
        Figure(f"{name}: to learn and to estimate", found.seconds, "s"),
    ]


def _again(
    networks: Sequence[NetworkSpec], truth: Sequence[Composition], again: Mapping[BlockSpec, Entry]
) -> list[Figure]:
    """Return how far the sums of the table measured a second time are from those of the first."""
    table = MemoryTable(again.values())
    off = np.array(
        [compose(one, TARGET, table).total_ns / true.total_ns - 1 for one, true in zip(networks, truth, strict=True)]
    )
    mean, largest = 100 * float(np.abs(off).mean()), 100 * float(np.abs(off).max())
    return [
        Figure("the whole table measured again: mean difference of sums", mean, "%"),
        Figure("the whole table measured again: largest difference", largest, "%"),
    ]


if __name__ == "__main__":
    main()
