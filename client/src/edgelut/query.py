"""What may be asked of a table that can be filtered, and the page that answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from .types import Entry, Params


@dataclass(frozen=True, slots=True)
class Query:
    """A filter over the current rows; None does not filter. Names match whatever their case.

    `width` is the input width; `width_out` the output width. `params` filters by equality (`{"expansion": 4}`). Rows come in
    the order (kind, width_in, width_out, resolution, batch, target, id); `cursor` is the previous page's `next_cursor`.
    """

    block: str | None = None
    width: int | None = None
    width_out: int | None = None
    resolution: int | None = None
    batch: int | None = None
    device: str | None = None
    runtime: str | None = None
    precision: str | None = None
    threads: int | None = None
    unit: str | None = None
    params: Params = field(default_factory=Params)
    limit: int = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A current row with the id that `/runs/{id}` and `/entries/{id}` know it by."""

    id: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an answer; `next_cursor` is None on the last."""

    rows: tuple[Row, ...]
    next_cursor: str | None = None
