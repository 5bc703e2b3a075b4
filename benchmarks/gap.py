"""How long a device idles between two points of a job: an agent over loopback, beside the same sweep without any service."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

from report import Figure, parser, publish

from db.engine import open_store
from edgelut.types import Run

GOAL_MS = 50.0
EDGELUT = [sys.executable, "-P", "-m", "edgelut"]
# The null runtime's calls take no time: from the start of a burst to the next one's all is overhead.
ASKED = [
    "--block",
    "MB4D",
    "--width",
    "16..160:16",
    "--resolution",
    "7,14,28,56",
    "--runtime",
    "null",
    "--format",
    "null",
]


@dataclass(frozen=True, slots=True)
class Gap:
    """From one burst to the next; a round's end is stored, or sent and stored, within it."""

    ms: float
    ends_round: bool


def main() -> None:
    """Measure the same 120 points (blocks, chains and cold runs) both ways, each into a database of its own."""
    options = parser(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder, "local"), Path(folder, "service")
        _edgelut(here, "profile", *ASKED, "--local", "--seed", str(options.seed))
        with _serving(there):
            _edgelut(there, "profile", *ASKED, "--seed", str(options.seed))
        local, served = _gaps(here), _gaps(there)
    publish(_figures(local, served), options.json)


def _figures(local_gaps: Sequence[Gap], served_gaps: Sequence[Gap]) -> list[Figure]:
    local, served = ([gap.ms for gap in gaps] for gaps in (local_gaps, served_gaps))
    rounds = [median(gap.ms for gap in gaps if gap.ends_round) for gaps in (served_gaps, local_gaps)]
    middle, high = median(served), quantiles(served, n=100)[94]
    return [
        Figure("between two rounds of a job, median", rounds[0], "ms", "<= 50 ms", rounds[0] <= GOAL_MS, rounds[1]),
        Figure("between two points of a job, median", middle, "ms", "<= 50 ms", middle <= GOAL_MS, median(local)),
        Figure("between two points of a job, 95th percentile", high, "ms", baseline=quantiles(local, n=100)[94]),
        Figure("between two points of a job, longest", max(served), "ms", baseline=max(local)),
        Figure("points compared", float(len(served)), "", baseline=float(len(local))),
    ]


def _gaps(home: Path) -> list[Gap]:
    """Return the times between the starts of bursts, in order: rounds' ends, uploads and batches' changes are among them."""
    runs: list[Run] = []
    with open_store(f"sqlite:///{home / 'edgelut.db'}") as store:
        for entry in store.entries():
            runs += store.runs(entry.spec, entry.target)
    runs.sort(key=lambda run: run.started_at)
    return [
        Gap((later.started_at - earlier.started_at).total_seconds() * 1e3, earlier.round != later.round)
        for earlier, later in pairwise(runs)
    ]


class _serving:
    """Runs `edgelut serve` with its agent on a home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            [*EDGELUT, "serve", "--port", "0", "--agent"],
            env=_environment(self._home),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=60)


def _edgelut(home: Path, *arguments: str) -> None:
    subprocess.run([*EDGELUT, *arguments], env=_environment(home), check=True, stdout=subprocess.DEVNULL)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    return kept | {"EDGELUT_HOME": str(home), "PYTHONUNBUFFERED": "1"}


if __name__ == "__main__":
    main()
