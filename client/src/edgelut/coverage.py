"""A table from far above: how many rows it has of what, and the rows of one target as columns of figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

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


# The columns of a target's rows: of the spec, of the entry, of its latency. `doubts` are joined by "; "; `measured_at` and
# `sweep` may be empty.
COLUMNS = (
    "id",
    "block",
    "width_in",
    "width_out",
    "resolution",
    "batch",
    "params",
    "kind",
    "clock",
    "p10_ns",
    "p50_ns",
    "p90_ns",
    "low_ns",
    "high_ns",
    "slope_ns",
    "context_ns",
    "cold_ns",
    "runs",
    "samples",
    "doubts",
    "measured_at",
    "sweep",
)


@dataclass(frozen=True, slots=True)
class ColumnPage:
    """Current rows of one target as columns: `columns[n]` are the values of `names[n]`, one for each row.

    They come in the order in which their specs were first stored; `next_cursor` is None on the last page.
    """

    target: Target
    names: tuple[str, ...]
    columns: tuple[tuple[Any, ...], ...]
    next_cursor: str | None = None


__all__ = ["COLUMNS", "ColumnPage", "Coverage"]
