"""How latencies are read and kept, whatever holds them: memory, SQL, REST, a snapshot file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from .errors import LatencyNotFound
from .placement import placed, require
from .query import Page, Query, search_entries
from .types import BlockSpec, Entry, Target

if TYPE_CHECKING:
    from .arrays import TableArrays


class LatencySource(ABC):
    """Where a search reads latencies. Holders implement `find_many`; a search cannot tell them apart.

    Obligations: what is returned is frozen; a missing row is None (`find`) or LatencyNotFound (`get`), never a zero; a holder
    that cannot be read raises StorageError, ServiceError or SnapshotCorrupted, never LatencyNotFound. Where a unit is
    required, a row that did not run on it alone is None (`find`) or OtherUnit (`get`), which says what it ran on.
    """

    @abstractmethod
    def find_many(
        self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None
    ) -> list[Entry | None]:
        """Return the current row of each spec on the target, in order; None where there is none, or none on that unit."""

    def find(self, spec: BlockSpec, target: Target, *, require_unit: str | None = None) -> Entry | None:
        """Return the current row, or None."""
        found = self.find_many((spec,), target)
        return found[0] if require_unit is None else placed(found, require_unit)[0]

    def get(self, spec: BlockSpec, target: Target, *, require_unit: str | None = None) -> Entry:
        """Return the current row; raise LatencyNotFound, or OtherUnit."""
        return self.get_many((spec,), target, require_unit=require_unit)[0]

    def get_many(self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None) -> list[Entry]:
        """Return the current rows in order; raise LatencyNotFound, which names every missing spec, or OtherUnit."""
        found = self.find_many(specs, target)
        missing = [spec for spec, entry in zip(specs, found, strict=True) if entry is None]
        if missing:
            raise LatencyNotFound(_lacks(missing, target))
        rows = [entry for entry in found if entry is not None]
        require(rows, require_unit)
        return rows

    def arrays(self, target: Target, *, require_unit: str | None = None) -> TableArrays:
        """Return a target's rows as they are now, as arrays: for a search that asks for millions. One read of them all.

        Raises InvalidSpec for a source that cannot list its rows.
        """
        from .arrays import TableArrays

        return TableArrays.read(self, target, require_unit=require_unit)


class Searchable(Protocol):
    """A source that can be filtered too: SQL, REST, snapshot, memory."""

    def find_many(self, specs: Sequence[BlockSpec], target: Target) -> list[Entry | None]:
        """Return the current row of each spec on the target, in order; None where there is none."""

    def search(self, query: Query) -> Page:
        """Return one page of the current rows that match."""


class LatencyTable(LatencySource):
    """A source that can be written.

    Obligations: `put` keeps every entry in the row's history and makes it the current one if `replaces` says so; putting the
    same entry again changes nothing; `entries` gives the current rows alone, in an order of the holder's choice.
    """

    @abstractmethod
    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Store the entries, all or none; return for each whether it is now the current row."""

    @abstractmethod
    def history(self, spec: BlockSpec, target: Target) -> list[Entry]:
        """Return every entry ever put for that spec and target, oldest first."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Iterate over the current rows."""

    def put(self, entry: Entry) -> bool:
        """Store one entry; return whether it is now the current row."""
        return self.put_many((entry,))[0]


def replaces(new: Entry, old: Entry | None) -> bool:
    """Say whether a newer entry becomes the current row.

    A doubtful row does not replace a stable one, and what was not measured does not replace what was.
    """
    if old is None:
        return True
    if (old.kind == "measured") != (new.kind == "measured"):
        return new.kind == "measured"
    return new.latency.stable or not old.latency.stable


class MemoryTable(LatencyTable):
    """A table in this process's memory."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._history: dict[tuple[str, str], list[Entry]] = {}
        self._current: dict[tuple[str, str], Entry] = {}
        self.put_many(tuple(entries))

    def find_many(
        self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None
    ) -> list[Entry | None]:
        """Return the current row of each spec, None where there is none."""
        return placed([self._current.get((spec.key, target.key)) for spec in specs], require_unit)

    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Store the entries; return for each whether it is now the current row."""
        points = [
            (entry.spec.key, entry.target.key) for entry in entries
        ]  # fails, if at all, before anything is stored
        for key, entry in zip(points, entries, strict=True):
            known = self._history.setdefault(key, [])
            if entry in known:
                continue
            known.append(entry)
            if replaces(entry, self._current.get(key)):
                self._current[key] = entry
        return [self._current[key] == entry for key, entry in zip(points, entries, strict=True)]

    def history(self, spec: BlockSpec, target: Target) -> list[Entry]:
        """Return every entry put, oldest first."""
        return list(self._history.get((spec.key, target.key), ()))

    def entries(self) -> Iterator[Entry]:
        """Iterate over the current rows."""
        return iter(tuple(self._current.values()))

    def search(self, query: Query) -> Page:
        """Return the current rows that match."""
        return search_entries(self._current.values(), query)

    def __len__(self) -> int:
        return len(self._current)


def _lacks(missing: Sequence[BlockSpec], target: Target) -> str:
    names = ", ".join(str(spec) for spec in missing[:8])
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    return f"no latency for {names}{more} on {target}; measure with 'edgelut profile'"
