"""Which units a model's operations are to run on, by Core ML's own plan, weighted by the cost that it estimates for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgelut.types import Scalar


@dataclass(frozen=True, slots=True)
class Shares:
    """What part of a model's estimated cost each unit (`cpu`, `gpu`, `ne`) has; together 1, or nothing at all."""

    by_unit: tuple[tuple[str, float], ...] = ()  # the largest first
    weighted: bool = True  # False: no costs were given, so operations were counted

    @property
    def ran_on(self) -> str:
        """The units with a share, joined by `+`; empty where nothing is known."""
        return "+".join(unit for unit, _ in self.by_unit)

    def facts(self) -> dict[str, Scalar]:
        """Return the shares as facts, to three decimals."""
        found: dict[str, Scalar] = {f"share_{unit}": share for unit, share in self.by_unit}
        return found if self.weighted else {**found, "shares_of": "operations"}


def shares(operations: Iterable[tuple[str, float | None]]) -> Shares:
    """Add up units and costs of operations, the cost None where there is no estimate; a share below 0.0005 is none."""
    known = list(operations)
    weighted = any(cost for _, cost in known)
    sums: dict[str, float] = {}
    for unit, cost in known:
        sums[unit] = sums.get(unit, 0.0) + ((cost or 0.0) if weighted else 1.0)
    total = sum(sums.values())
    rounded = [(unit, round(value / total, 3)) for unit, value in sums.items() if total]
    ordered = sorted(((unit, share) for unit, share in rounded if share), key=lambda pair: (-pair[1], pair[0]))
    return Shares(tuple(ordered), weighted)
