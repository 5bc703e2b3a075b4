"""Runs as a gate sees them, by a seed: rounds with heavy tails, processes that differ, drift that both sides share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np

from edgelut.blocks import MB4D
from edgelut.gate import Pair
from edgelut.types import BlockSpec, Params, Run, Target

TARGET = Target("phone", "onnxruntime-cpu")
USUAL = Params({"os": "linux"})
START = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def spec(number: int) -> BlockSpec:
    """Return one of many specs."""
    return MB4D.spec(16 * (number + 1), 14)


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations of logarithms: of a round, of a process, of what all rows of a process share, and of the drift."""

    round: float = 0.05
    process: float = 0.005
    shared: float = 0.003
    drift: float = 0.1


QUIET = Noise(0.0, 0.0, 0.0, 0.0)


def run(
    which: BlockSpec, sweep: str, process: str, round_: int, ns: float, *, reference: float = 0.0, **facts: str
) -> Run:
    """Return a run of two equal samples of 4 calls."""
    total = round(ns * 4)
    conditions = Params({"os": "linux", **facts}) if facts else USUAL
    return Run(
        which,
        TARGET,
        sweep,
        process,
        round_,
        (total + 100,) * 2,
        (total,) * 2,
        4,
        1,
        reference,
        START + timedelta(seconds=round_),
        conditions,
        "ab" * 32,
    )


def session(
    rng: np.random.Generator,
    slowdowns: Sequence[float],
    *,
    generations: int = 3,
    rounds: int = 6,
    noise: Noise | None = None,
    everything: float = 1.0,
    pinned: Sequence[int] = (),
    numbers: Sequence[int] | None = None,
    doubts: Sequence[str] = (),
) -> list[Pair]:
    """Return pairs whose new side takes `slowdowns` (1.0 = equal) times `everything` of the old one's time."""
    noise = noise or Noise()
    count = len(slowdowns)
    new: list[list[Run]] = [[] for _ in slowdowns]
    old: list[list[Run]] = [[] for _ in slowdowns]
    names = list(numbers) if numbers is not None else list(range(count))
    for generation in range(generations):
        shared = rng.normal(0, noise.shared, 2)
        own = rng.normal(0, noise.process, (count, 2))
        for round_ in range(generation * rounds, (generation + 1) * rounds):
            drift = noise.drift * math.sin(round_ / 3)
            bursts = noise.round * rng.standard_t(2.5, (count, 2)) * 0.6
            for row, slowdown in enumerate(slowdowns):
                times = np.exp(drift + shared + own[row] + bursts[row]) * 1e6
                which = spec(names[row])
                new[row].append(run(which, "new", f"n{generation}", round_, times[0] * slowdown * everything))
                old[row].append(run(which, "old", f"o{generation}", round_, times[1]))
    return [
        Pair(spec(names[row]), TARGET, tuple(new[row]), tuple(old[row]), pinned=row in pinned, doubts=tuple(doubts))
        for row in range(count)
    ]


def apart(
    rng: np.random.Generator, slowdowns: Sequence[float], *, between: float = 0.02, sessions: int = 1, pinned: int = -1
) -> list[Pair]:
    """Return pairs of separate sessions, each with its own drift that the reference shares, and `between` that it does not."""
    pairs = []
    drifts = rng.normal(0, 0.1, sessions + 1)
    for row, slowdown in enumerate(slowdowns):
        sides: list[list[Run]] = []
        for number in range(sessions + 1):
            level = 1e6 * math.exp(drifts[number] + rng.normal(0, between)) * (slowdown if number == sessions else 1)
            reference = 1e5 * math.exp(drifts[number])
            sides.append(
                [
                    run(
                        spec(row),
                        f"s{number}",
                        f"p{number}",
                        r,
                        level * math.exp(rng.normal(0, 0.03)),
                        reference=reference,
                    )
                    for r in range(16)
                ]
            )
        old = [one for side in sides[:-1] for one in side]
        pairs.append(Pair(spec(row), TARGET, tuple(sides[-1]), tuple(old), interleaved=False, pinned=row == pinned))
    return pairs
