"""Entries on their way into the table: each waits for the rows that complete it (chain, context, cold) and is stored once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgelut.plan import Point
from edgelut.slopes import complete, needs
from edgelut.types import BlockSpec, Entry, Target

if TYPE_CHECKING:
    from .sweep import SweepContext

Key = tuple[Target, BlockSpec]


class Ledger:
    """Stores entries as soon as nothing that is still to be measured could complete them."""

    def __init__(self, context: SweepContext, points: Iterable[Point]) -> None:
        self._context = context
        self._expected = {(point.target, point.spec) for point in points}
        self._waiting: dict[Key, tuple[Point, Entry]] = {}
        self._done: dict[Key, Entry] = {}

    def add(self, point: Point, entry: Entry) -> None:
        """Take an entry that is measured."""
        self._waiting[point.target, point.spec] = (point, entry)
        self.drop(point)

    def drop(self, point: Point) -> None:
        """Expect no entry of that point any longer: it failed, or is known."""
        self._expected.discard((point.target, point.spec))

    def completes(self, point: Point, entry: Entry) -> bool:
        """Say whether this sweep measures what the entry lacks: then a known row is measured again, to be completed."""
        latency = entry.latency
        if latency.cold_ns is not None and (latency.slope_ns is not None or latency.context_ns is not None):
            return False
        return any((point.target, spec) in self._expected for spec in needs(point.spec))

    def release(self) -> None:
        """Complete and store what waits for nothing any more."""
        for point, entry in list(self._waiting.values()):
            if not any((point.target, spec) in self._expected for spec in needs(point.spec)):
                self._put(point, complete(entry, Finder(self, point.target, entry)))
        self._waiting = {key: value for key, value in self._waiting.items() if key not in self._done}

    def _put(self, point: Point, entry: Entry) -> None:
        current = self._context.store.put_many((entry,))[0]
        self._done[point.target, point.spec] = entry
        self._context.result.measured.append(entry)
        self._context.observer.row(point, entry, current)

    def find(self, key: Key, asking: Entry) -> Entry | None:
        """Return a row: of this sweep, else of the table if it was measured under the conditions of the row that asks."""
        if key in self._waiting:
            return self._waiting[key][1]
        if key in self._done:
            return self._done[key]
        kept = self._context.store.find_many((key[1],), key[0])[0]
        alike = kept is not None and kept.provenance.get("conditions") == asking.provenance["conditions"]
        return kept if alike else None


class Finder:
    """Finds the rows that complete one entry."""

    def __init__(self, ledger: Ledger, target: Target, asking: Entry) -> None:
        self._ledger, self._target, self._asking = ledger, target, asking

    def __call__(self, spec: BlockSpec) -> Entry | None:
        return self._ledger.find((self._target, spec), self._asking)
