"""What one more row costs on the emulated phone beyond its own timing, with its files there and with files to be pushed."""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from attached import attached_phone, measured
from report import Figure, parser, publish

from backends import registry
from backends.devices.android import Android
from edgelut.blocks import MB4D
from edgelut.plan import Policy
from edgelut.types import BlockSpec, Run

SPECS = [MB4D.spec(width, 7) for width in range(16, 257, 16)]
FEW = 4
MORE = len(SPECS) - FEW
TURNS = 3
RUNTIME = "onnxruntime-native"
GOAL_S = 0.5


class Bench:
    """Sweeps of some of the blocks; artifacts and the host's outputs are there after the first one."""

    def __init__(self, device: str, home: Path) -> None:
        self._device, self._home = device, home
        self._sweeps = 0

    def seconds(self, specs: Sequence[BlockSpec], *, push: bool = False) -> tuple[float, float]:
        """Measure blocks in a new database, on a phone without any of our files if they are to be pushed.

        Returns how long it took, and how much of it was the rows' own bursts.
        """
        device = registry.load_device(self._device)
        if push and isinstance(device, Android):
            device.clean()
        self._sweeps += 1
        database = self._home / f"{self._sweeps}.db"
        started = time.perf_counter()
        _, runs = measured(specs, self._device, RUNTIME, Policy(), database, self._home)
        return time.perf_counter() - started, _own_seconds(runs)


def _own_seconds(runs: Sequence[Run]) -> float:
    """Return how long the bursts took: each begins when the one before it has ended, but for a look at the phone now and then."""
    ordered = sorted(runs, key=lambda run: run.started_at)
    took: dict[BlockSpec, list[float]] = defaultdict(list)
    for run, after in pairwise(ordered):
        took[run.spec].append((after.started_at - run.started_at).total_seconds())
    rounds = len(runs) / len(took)
    return sum(rounds * float(np.median(some)) for some in took.values())


def main() -> None:
    """Measure 4 and 16 rows in turn, both ways; what 12 more cost, less their own bursts, is the figure."""
    options = parser(__doc__ or "").parse_args()
    few = random.Random(options.seed).sample(SPECS, FEW)
    found: dict[bool, list[float]] = {False: [], True: []}
    own = []
    with tempfile.TemporaryDirectory() as folder, attached_phone() as device:
        bench = Bench(device, Path(folder))
        bench.seconds(SPECS)
        for push in [False, True] * TURNS:
            (short, own_short), (long, own_long) = bench.seconds(few, push=push), bench.seconds(SPECS, push=push)
            own.append((own_long - own_short) / MORE)
            found[push].append((long - short) / MORE - own[-1])
            print(
                f"{FEW} rows {short:.1f} s, of them {own_short:.1f} s bursts; {len(SPECS)} rows {long:.1f} s, {own_long:.1f} s"
            )
    there, pushed = (float(np.median(found[push])) for push in (False, True))
    figures = [
        Figure("one more row, its files there, beyond its own timing", there, "s", f"<= {GOAL_S} s", there <= GOAL_S),
        Figure("the same, slowest of the turns", max(found[False]), "s"),
        Figure(
            "one more row whose files are pushed, beyond its own timing",
            pushed,
            "s",
            f"<= {GOAL_S} s",
            pushed <= GOAL_S,
        ),
        Figure("the same, slowest of the turns", max(found[True]), "s"),
        Figure("its own timing", float(np.median(own)), "s"),
    ]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
