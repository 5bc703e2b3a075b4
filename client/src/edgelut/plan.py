"""The timing policy, pure: what is measured, how many calls a burst has, in which order, and when a row is done."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from .sequences import COLD, blocks_of, label
from .types import BlockSpec, Params, Target, digest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a sweep measures. Every figure was found by trying: docs/measuring.md, "Why these figures"."""

    warmups: int = 2  # calls at the start of each burst that are thrown away: they pay for cold caches
    burst_ns: int = 8_000_000  # a burst lasts about this long ...
    min_samples: int = 3  # ... but has at least so many samples ...
    max_samples: int = 12  # ... and at most so many
    min_sample_ns: int = (
        400_000  # a shorter call is repeated inside one sample, so that reading clocks costs below 0.5 %
    )
    min_rounds: int = 16
    max_rounds: int = 30
    spread_s: float = 8.0  # a sweep of few rows pauses between rounds, so that `min_rounds` last so long at least
    half_width: float = 0.02  # a row is done when its bootstrap half-width is this small
    drift: float = 0.05  # a reference that moves by more between the halves of a sweep makes its rows doubtful
    cold_rounds: int = 6  # of a cold row, which only bounds a sum from above
    cold_samples: int = 2  # of a cold row in a round: each is preceded by a flush that takes longer than the call
    seed: int = 0  # of the random order of the rounds

    def inner(self, call_ns: float) -> int:
        """Return how many calls one sample has, for a block whose call takes about `call_ns`: a power of two."""
        return 1 if call_ns >= self.min_sample_ns else 2 ** math.ceil(math.log2(self.min_sample_ns / max(call_ns, 1.0)))

    def samples(self, call_ns: float, inner: int) -> int:
        """Return how many samples one burst has."""
        return max(self.min_samples, min(self.max_samples, int(self.burst_ns / max(call_ns * inner, 1.0))))

    def pause_s(self, round_s: float) -> float:
        """Return how long to wait after a round that took `round_s`."""
        return max(0.0, self.spread_s / self.min_rounds - round_s)

    def order(self, items: Sequence[T], round_: int) -> list[T]:
        """Return the items in the random order of that round, the same for the same seed."""
        shuffled = list(items)
        random.Random(self.seed * 1_000_003 + round_).shuffle(shuffled)
        return shuffled


@dataclass(frozen=True, slots=True)
class Point:
    """One row to be: a block on a target, and the file that the runtime reads."""

    spec: BlockSpec
    target: Target
    format: str
    options: Params = field(default_factory=Params)

    @property
    def precision(self) -> str:
        """The precision that the artifact is exported in: the target's."""
        return self.target.precision

    @property
    def artifact_spec(self) -> BlockSpec:
        """What is exported: a cold block is the block itself."""
        return blocks_of(self.spec)[0] if self.is_cold else self.spec

    @property
    def is_cold(self) -> bool:
        """Whether caches are flushed before each call."""
        return self.spec.kind == COLD.name

    def __str__(self) -> str:
        return f"{label(self.spec)} on {self.target}"


def plan_key(points: Sequence[Point], policy: Policy) -> str:
    """Return the hash of what a sweep is to do: a sweep that was cut off is found again by it."""
    return digest({"points": sorted(map(_point_key, points)), "policy": asdict(policy)})


def describe(points: Sequence[Point], policy: Policy) -> Mapping[str, Any]:
    """Return what a sweep was asked, for people."""
    return {
        "points": len(points),
        "blocks": sorted({point.spec.kind for point in points}),
        "targets": sorted({str(point.target) for point in points}),
        "policy": asdict(policy),
    }


def _point_key(point: Point) -> str:
    return digest([point.spec.key, point.target.key, point.format, dict(point.options)])
