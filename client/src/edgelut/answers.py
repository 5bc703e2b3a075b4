"""What a service answers of entries, as a client reads it."""

from __future__ import annotations

import msgspec

from .types import BlockSpec, Entry, EntryKind, Latency, Params, Target


class NumberedEntry(msgspec.Struct, frozen=True):
    """One row with its id: of `GET /entries/{id}`, and in the pages of `GET /latency`."""

    id: int
    spec: BlockSpec
    target: Target
    latency: Latency
    kind: EntryKind
    provenance: Params

    def entry(self) -> Entry:
        """Return the row without its id."""
        return Entry(self.spec, self.target, self.latency, self.kind, self.provenance)


class EntryPage(msgspec.Struct, frozen=True):
    """One page of `GET /latency`."""

    entries: list[NumberedEntry]
    next_cursor: str | None = None
    left_out: int = 0


class EntryHistory(msgspec.Struct, frozen=True):
    """What was ever stored of one spec on one target, oldest first."""

    entries: list[Entry]
