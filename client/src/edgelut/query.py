"""What may be asked of a table that can be filtered, and the page that answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import InvalidSpec
from .placement import unit_name
from .types import ENTRY_KINDS, MEASURES, Entry, Params, Scalar

MOST_LEFT_OUT = 1000  # rows that are counted as left out


@dataclass(frozen=True, slots=True)
class Query:
    """A filter over the current rows; None does not filter. Names match whatever their case.

    `width` is the input width; `width_out` the output width. `params` filters by equality (`{"expansion": 4}`). Rows come in
    the order (kind, width_in, width_out, resolution, batch), and within it in one that the holder keeps; `cursor` is the
    previous page's `next_cursor`.

    `kind` is the entry's (`measured`, `emulated`, ...), `measure` is `time` or `instructions`. `require_unit` leaves out every
    row that did not run on that compute unit alone, whatever its target's unit says. Raises InvalidSpec for another kind or
    measure than there is.
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
    kind: str | None = None
    measure: str | None = None
    require_unit: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("kind", ENTRY_KINDS), ("measure", MEASURES)):
            asked = getattr(self, name)
            if asked is not None and asked not in known:
                if asked.lower() not in known:
                    raise InvalidSpec(f"there is no {name} {asked[:80]!r}; there are {', '.join(known)}")
                object.__setattr__(self, name, asked.lower())
        if self.require_unit is not None:
            object.__setattr__(self, "require_unit", unit_name(self.require_unit))


@dataclass(frozen=True, slots=True)
class Row:
    """A current row with the id that `/runs/{id}` and `/entries/{id}` know it by."""

    id: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an answer; `next_cursor` is None on the last.

    `left_out` is told on the first page: how many rows match but for `require_unit`, counted up to MOST_LEFT_OUT.
    """

    rows: tuple[Row, ...]
    next_cursor: str | None = None
    left_out: int = 0


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
        (query.kind, entry.kind),
        (query.measure, entry.latency.measure),
    )
    if any(asked is not None and _folded(asked) != _folded(has) for asked, has in wanted):
        return False
    if query.require_unit is not None and entry.ran_on != query.require_unit:
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
    return Page(tuple(found[start:end]), str(end) if end < len(found) else None, _left_out(ordered, query, len(found)))


def _left_out(entries: Iterable[Entry], query: Query, found: int) -> int:
    """Return how many rows match but for the unit that is required."""
    if query.require_unit is None or query.cursor is not None:
        return 0
    anywhere = replace(query, require_unit=None)
    return min(sum(matches(anywhere, entry) for entry in entries) - found, MOST_LEFT_OUT)


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _order(entry: Entry) -> tuple[Any, ...]:
    spec, target = entry.spec, entry.target
    return spec.kind, spec.width_in, spec.width_out, spec.resolution, spec.batch, str(target), spec.key
