"""What speaks against a table: rows in doubt, rows of several conditions, rows that sums lack; and what to measure again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from .sequences import SEQUENCES
from .slopes import needs
from .types import BlockSpec, Entry, Target


@dataclass(frozen=True, slots=True)
class TableCheck:
    """What was found on one target.

    `conditions` counts rows by the hash of their conditions; more than one means that the rows are not all comparable, and
    `unlike` are those that are not under the most common one. `incomplete` are blocks without chain, context or cold row.
    """

    target: Target
    rows: int
    doubtful: tuple[Entry, ...]
    conditions: tuple[tuple[str, int], ...]
    unlike: tuple[Entry, ...]
    incomplete: tuple[BlockSpec, ...]

    @property
    def good(self) -> bool:
        """Whether nothing has to be measured again."""
        return not (self.doubtful or self.unlike or self.incomplete)

    @property
    def again(self) -> tuple[BlockSpec, ...]:
        """What to measure again, each block once."""
        return tuple(
            dict.fromkeys([*(e.spec for e in self.doubtful), *(e.spec for e in self.unlike), *self.incomplete])
        )


def check(entries: Iterable[Entry]) -> list[TableCheck]:
    """Check current rows, target by target, in the order of their names."""
    by_target: dict[Target, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_target[entry.target].append(entry)
    return [_check(target, by_target[target]) for target in sorted(by_target, key=str)]


def _check(target: Target, entries: list[Entry]) -> TableCheck:
    conditions = Counter(str(entry.provenance.get("conditions", "")) for entry in entries if entry.kind == "measured")
    usual = conditions.most_common(1)[0][0] if conditions else ""
    return TableCheck(
        target,
        len(entries),
        tuple(entry for entry in entries if not entry.latency.stable),
        tuple(conditions.most_common()),
        tuple(e for e in entries if e.kind == "measured" and str(e.provenance.get("conditions", "")) != usual),
        tuple(entry.spec for entry in entries if _is_incomplete(entry)),
    )


def _is_incomplete(entry: Entry) -> bool:
    """Say whether a measured block lacks what its sums need."""
    latency = entry.latency
    if entry.kind != "measured" or entry.spec.kind in SEQUENCES or not needs(entry.spec):
        return False
    return latency.slope_ns is None and latency.context_ns is None
