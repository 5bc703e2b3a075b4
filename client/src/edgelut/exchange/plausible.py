"""Whether a file's values can be in the unit that was said: by the multiply-accumulates a second that they imply.

Seconds read as milliseconds are 1,000 times off, and no other figure of a row shows it. The bounds are wide enough for every
phone and board, and narrow enough for that factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec, Entry, Target

from .base import UNITS

# Median rows of public tables: 6.1e9 (Pixel 1), 1.2e10 (Pixel 4), one thread. A factor of 1,000 leaves the bounds on both sides.
SLOWEST = 1e8  # MACs/s: below it are microcontrollers, whose tables need a word from the user
FASTEST_THREAD = (
    1e12  # of a CPU's thread: 44 times the fp32 peak of a Cortex-A76 at 2.84 GHz (2 units of 4 lanes: 22.7e9)
)
FASTEST = 1e14  # of any other unit: about 6 times what the largest phone NPU is sold with (35 TOPS are 1.75e13 MACs/s)
FAR = 100.0  # a row's rate against the median of its file: public tables stay within a factor of 50


@dataclass(frozen=True, slots=True)
class Rates:
    """What a file's rows imply in MACs/s: their median, the bounds, and rows far off the median (with their factor)."""

    median: float
    slowest: float
    fastest: float
    far: tuple[tuple[Entry, float], ...] = ()

    @property
    def plausible(self) -> bool:
        """Whether the median is within the bounds."""
        return self.slowest <= self.median <= self.fastest


def rates(entries: Sequence[Entry], macs: Callable[[BlockSpec], int | None]) -> Rates | None:
    """Return what rows imply, None where no row's MACs are known. Counts of instructions are no times and are left out."""
    found: list[tuple[Entry, float]] = []
    for entry in entries:
        count = macs(entry.spec) if entry.latency.measure == "time" else None
        if count:
            found.append((entry, count * 1e9 / entry.latency.p10_ns))
    if not found:
        return None
    middle = median(rate for _, rate in found)
    far = tuple((entry, rate / middle) for entry, rate in found if not middle / FAR <= rate <= middle * FAR)
    return Rates(middle, SLOWEST, max(map(_fastest, {entry.target for entry in entries})), far)


def refuse(found: Rates, unit: str) -> None:
    """Raise InvalidSpec for rates that no device has, with the units in which they would be possible."""
    if found.plausible:
        return
    scaled = {name: found.median * UNITS[unit] / scale for name, scale in UNITS.items()} if unit in UNITS else {}
    fits = [name for name, rate in scaled.items() if found.slowest <= rate <= found.fastest]
    hint = f"; in {' or '.join(fits)} they would be possible" if fits else ""
    raise InvalidSpec(
        f"read in {unit}, the median row computes {found.median:.1e} MACs/s, and devices compute {found.slowest:.0e} to "
        f"{found.fastest:.0e}{hint}. Give the right --values-in, or --implausible where this is so all the same"
    )


def odd(rows: Iterable[tuple[Entry, float]]) -> dict[Entry, str]:
    """Return the doubt of each row that is far off its file's median."""
    return {
        entry: f"its MACs/s are {factor:.2g} times the median of its file: is it in another unit?"
        for entry, factor in rows
    }


def _fastest(target: Target) -> float:
    return FASTEST_THREAD * target.threads if target.unit.startswith("cpu") else FASTEST


__all__ = ["FAR", "FASTEST", "FASTEST_THREAD", "SLOWEST", "Rates", "odd", "rates", "refuse"]
