"""What may be asked of a table that can be filtered, and the page that answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidSpec
from .types import Entry, Params, Scalar


@dataclass(frozen=True, slots=True)
class Query:
    """A filter over the current rows; None does not filter. Names match whatever their case.

    `width` is the input width; `width_out` the output width. `params` filters by equality (`{"expansion": 4}`). Rows come in
    the order (kind, width_in, width_out, resolution, batch), and within it in one that the holder keeps; `cursor` is the
    previous page's `next_cursor`.
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


@dataclass(frozen=True, slots=True)
class BlockListing:
    """A kind of block as a table has it: the values, in order, that its fields and parameters take in current rows."""

    kind: str
    widths: tuple[int, ...]
    widths_out: tuple[int, ...]
    resolutions: tuple[int, ...]
    batches: tuple[int, ...]
    params: Mapping[str, tuple[Scalar, ...]]


def matches(query: Query, entry: Entry) -> bool:
    """Say whether an entry passes a query's filters."""
    spec, target = entry.spec, entry.target
    wanted = (
        (query.block, spec.kind),
        (query.width, spec.width_in),
        (query.width_out, spec.width_out),
        (query.resolution, spec.resolution),
        (query.batch, spec.batch),
        (query.device, target.device),
        (query.runtime, target.runtime),
        (query.precision, target.precision),
        (query.threads, target.threads),
        (query.unit, target.unit),
    )
    if any(asked is not None and _folded(asked) != _folded(has) for asked, has in wanted):
        return False
    return all(spec.params.get(name) == value for name, value in query.params.items())


def search_entries(entries: Iterable[Entry], query: Query) -> Page:
    """Answer a query over entries in memory; their ids are their places in the order of `Query`."""
    if query.limit < 1:
        raise InvalidSpec(f"a page has at least one row, not {query.limit}")
    ordered = sorted(entries, key=_order)
    found = [Row(number, entry) for number, entry in enumerate(ordered) if matches(query, entry)]
    if query.cursor is not None and not (query.cursor.isascii() and query.cursor.isdigit()):
        raise InvalidSpec(f"{query.cursor!r} is no cursor of this table: use a page's next_cursor")
    start = int(query.cursor or 0)
    end = start + query.limit
    return Page(tuple(found[start:end]), str(end) if end < len(found) else None)


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _order(entry: Entry) -> tuple[Any, ...]:
    spec, target = entry.spec, entry.target
    return spec.kind, spec.width_in, spec.width_out, spec.resolution, spec.batch, str(target), spec.key
