"""What a sweep tells whoever watches it; the base class watches nothing."""

from __future__ import annotations

from dataclasses import dataclass

from edgelut.plan import Point
from edgelut.types import Entry


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the measuring is: rows that are done, rows in all, the round, and the seconds that are probably left."""

    done: int
    total: int
    round: int
    seconds_left: float


class Observer:
    """Override what is of interest."""

    def exported(self, done: int, total: int, point: Point, made: bool) -> None:
        """An artifact is in the store; `made` is false where it was there before."""

    def known(self, point: Point, entry: Entry) -> None:
        """A row is known under these very conditions and is not measured again."""

    def step(self, in_round: bool = False) -> None:
        """A session is about to be opened, or a burst of a round to be timed: what is raised here ends the sweep."""

    def waiting(self, device: str, why: str) -> None:
        """A device is waited for: it is too hot, or busy with something else."""

    def resumed(self, rounds: int) -> None:
        """A sweep that was cut off goes on with that many rounds in hand."""

    def progress(self, progress: Progress) -> None:
        """A round is stored."""

    def row(self, point: Point, entry: Entry, current: bool) -> None:
        """A row is done; `current` is false where a stable older row stays in its place."""

    def failed(self, point: Point, reason: str) -> None:
        """A point cannot be measured; the reason is stored."""
