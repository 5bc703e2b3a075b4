"""Pairs: a new and an older artifact of each point timed in the same rounds, each side in worker processes of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelut.jobs import BatchPoint, Closed
from edgelut.plan import Policy
from edgelut.runs import RunStore

from .observer import Observer


@dataclass(frozen=True, slots=True)
class Pairing:
    """How a session of pairs is cut up: fresh processes several times over, for between two processes a row moves by 2-4 %."""

    generations: int = 4
    rounds: int = 4  # of each generation


def run_pairs(
    points: Sequence[BatchPoint],
    store: RunStore,
    baseline_store: RunStore,
    sweep: str,
    baseline_sweep: str,
    home: Path,
    policy: Policy,
    *,
    pairing: Pairing | None = None,
    observer: Observer | None = None,
    environment: Path | None = None,
) -> list[Closed]:
    """Measure the points beside their baselines; return how each ended, `compared` or `failed` with a reason.

    Runs of the new artifacts are put into `store` as of `sweep`, those of the old ones into `baseline_store` as of
    `baseline_sweep`, both round by round; rounds that these sweeps hold already are not measured again. A point whose
    baseline's artifact is not in the artifacts of `home`, or that has no baseline, is measured on the new side only.
    `environment` is the Python interpreter that the baseline's side runs in, by default this one. Raises DeviceBusy,
    StorageError; what one point raises is its reason.
    """
    raise NotImplementedError
