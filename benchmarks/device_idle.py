"""How much of a sweep a device far away has nothing to do, and what one more row costs beyond its own timing."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from report import Figure, parser, publish

from db.engine import open_store
from edgelut import presets
from edgelut.plan import Point, Policy
from edgelut.slopes import with_needs
from edgelut.types import Target

HERE = Path(__file__).resolve().parent
GOAL_IDLE, GOAL_ROW_S = 0.05, 0.5
ROWS, FEWER = 72, 24
TARGET = Target("slow-phone", "slow-phone")


@dataclass(frozen=True, slots=True)
class Swept:
    """One sweep: how long it took, and when the device was timing something."""

    wall_s: float
    span_s: float  # from the first burst of all to the last
    busy_s: float

    @property
    def idle(self) -> float:
        """The share of the span in which no burst, reference or warm-up was on the device."""
        return 1 - self.busy_s / self.span_s


def main() -> None:
    """Measure the demo's blocks and others with all that their sums need on a phone that sleeps; print its idle share."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rows", type=int, default=ROWS, help=f"rows of the long sweep (default: {ROWS})")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _install(folder / "plugins")
        blocks = dict.fromkeys(
            spec for name in ("demo", "efficientformer-l3", "efficientformer-l7") for spec in presets.get(name)
        )
        specs = with_needs(list(blocks))[: options.rows]
        if len(specs) < options.rows:
            raise SystemExit(f"there are {len(specs)} rows")
        points = [Point(spec, TARGET, "onnx") for spec in specs]
        made = _sweep(folder, "made", points, options.seed)
        long = _sweep(folder, "long", points, options.seed)
        short = _sweep(folder, "short", points[:FEWER], options.seed)
        os.environ["SLOW_PHONE_ONE_BY_ONE"] = "1"
        slow = _sweep(folder, "slow", points[:FEWER], options.seed)
    publish(_figures(made, long, short, slow, len(points) - FEWER), options.json)


def _figures(made: Swept, long: Swept, short: Swept, slow: Swept, more: int) -> list[Figure]:
    row_s = ((long.span_s - short.span_s) - (long.busy_s - short.busy_s)) / more
    goal = f"<= {GOAL_IDLE:.0%}"
    return [
        Figure(
            "idle after the first burst, artifacts made meanwhile",
            100 * made.idle,
            "%",
            goal,
            made.idle <= GOAL_IDLE,
            f"one burst at a time {slow.idle:.0%}",
        ),
        Figure(
            "idle after the first burst, artifacts in the store", 100 * long.idle, "%", goal, long.idle <= GOAL_IDLE
        ),
        Figure("one more row, beyond its timing", row_s, "s", f"<= {GOAL_ROW_S} s", row_s <= GOAL_ROW_S),
        Figure("one more row, its timing", (long.busy_s - short.busy_s) / more, "s"),
        Figure("the whole sweep, exports included", made.wall_s, "s", baseline=long.wall_s),
    ]


def _install(folder: Path) -> None:
    """Make the phone known, to this process and to workers."""
    info = folder / "slow_phone-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-phone\nVersion: 1\n")
    groups = "".join(f"[edgelut.{axis}]\nslow-phone = slow_phone\n" for axis in ("devices", "runtimes"))
    (info / "entry_points.txt").write_text(groups)
    sys.path[:0] = [str(folder), str(HERE)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(HERE), os.environ.get("PYTHONPATH", "")])


def _sweep(folder: Path, name: str, points: Sequence[Point], seed: int) -> Swept:
    """Measure into a database of its own, on a phone that has nothing yet; artifacts stay from one sweep to the next."""
    from profiler.sweep import run_sweep

    phone = folder / f"phone-{name}"
    phone.mkdir()
    os.environ["SLOW_PHONE"] = str(phone)
    started = time.monotonic()
    with open_store(f"sqlite:///{folder / name}.db", migrate=True) as store:
        result = run_sweep(points, store, folder / "home", Policy(seed=seed))
    wall_s = time.monotonic() - started
    if result.failures or len(result.measured) != len(points):
        raise SystemExit(f"{len(result.failures)} rows failed: {result.failures[:3]}")
    intervals = sorted(tuple(map(float, line.split())) for line in (phone / "log").read_text().splitlines())
    return Swept(wall_s, max(end for _, end in intervals) - intervals[0][0], _busy_s(intervals))


def _busy_s(intervals: Sequence[tuple[float, ...]]) -> float:
    """Return the length of the union of intervals in order."""
    total, until = 0.0, 0.0
    for start, end in intervals:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


if __name__ == "__main__":
    main()
