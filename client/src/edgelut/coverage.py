"""What a table covers: how many current rows of which kind of block on which target, and how many of them are in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .types import EntryKind, Target


@dataclass(frozen=True, slots=True)
class Coverage:
    """The current rows of one kind of block and one kind of entry on one target.

    `newest` is the id of the row that was stored last: as long as it and `rows` are what they were, no row has changed.
    """

    target: Target
    block: str
    kind: EntryKind
    rows: int
    doubtful: int
    newest: int
    newest_at: datetime


__all__ = ["Coverage"]
