"""Why a query matched nothing, and what there is instead: names that exist, and the nearest values that have rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from db.store import SqlStore
from edgelut import placement
from edgelut.blocks import find_kind
from edgelut.query import Query
from edgelut.types import Entry, Params, Scalar

from .problems import Problem, other_unit

NEAREST = 5
LOOKED_AT = 1000


def explain(store: SqlStore, query: Query) -> Problem:
    """Return the problem that says why nothing matches."""
    return _empty(store) or _elsewhere(store, query) or _unknown(store, query) or _nearest(store, query)


def _empty(store: SqlStore) -> Problem | None:
    if store.targets():
        return None
    return Problem("empty-table", "the table is empty; fill it with 'edgelut profile efficientformer-l1'")


def _elsewhere(store: SqlStore, query: Query) -> Problem | None:
    """Return the problem for rows that match, but did not run on the unit that is required."""
    if query.require_unit is None:
        return None
    rows = store.search(replace(query, require_unit=None, limit=LOOKED_AT, cursor=None)).rows
    if not rows:
        return None
    count = f"{len(rows)}{' or more' if len(rows) == LOOKED_AT else ''} matching rows"
    return other_unit(placement.other_unit(count, [row.entry for row in rows], query.require_unit))


def _unknown(store: SqlStore, query: Query) -> Problem | None:
    """Return the problem for the first name that no row has, whatever its case."""
    targets = store.targets()
    known: dict[str, set[str]] = {"block": {listing.kind for listing in store.blocks()}}
    for name in ("device", "runtime", "precision", "unit"):
        known[name] = {getattr(target, name) for target in targets}
    for name, names in known.items():
        asked = getattr(query, name)
        if asked is not None and asked.lower() not in {one.lower() for one in names}:
            return _no_such(name, asked, sorted(names))
    return _unknown_parameter(query)


def _unknown_parameter(query: Query) -> Problem | None:
    kind = find_kind(query.block) if query.block else None
    for name in query.params:
        if kind is not None and name not in kind.params:
            has = sorted(kind.params)
            detail = f"{kind.name} has no parameter {name!r}; its parameters: {', '.join(has) or 'none'}"
            return Problem("unknown-name", detail, members={"known": has})
    return None


def _no_such(what: str, asked: str, known: list[str]) -> Problem:
    detail = f"the table has no {what} {asked!r}; it has {', '.join(known)}"
    if what == "block" and (kind := find_kind(asked)) is not None:
        detail += f"; {kind.name} is a kind that nobody has measured yet: 'edgelut profile --block {kind.name}' does"
    return Problem("unknown-name", detail, members={"known": known})


def _nearest(store: SqlStore, query: Query) -> Problem:
    """Return the problem that names the one filter without which rows would match, and its values that have them."""
    for name, asked, relaxed in _relaxed(query):
        found = store.nearest_widths(query) if name == "width" else _values(store, relaxed, name)
        if found:
            near = _by_distance(found, asked)
            detail = f"no row has {name} {asked} with the rest of what you ask; the nearest that do: {_listed(near)}"
            if query.block is not None and name in ("width", "resolution"):
                detail += "; GET /estimates estimates it"
            return Problem("no-match", detail, members={"nearest": {name: near}})
    return _nearest_of_block(store, query)


def _nearest_of_block(store: SqlStore, query: Query) -> Problem:
    """Return the problem for two filters or more that fail: what the block and width alone have."""
    detail = "no row has all of this at once; leave two or more of the filters out"
    if query.width is None:
        return Problem("no-match", detail)
    alone = Query(block=query.block, width=query.width)
    resolutions = _values(store, alone, "resolution")
    name = "resolution" if resolutions else "width"
    if resolutions:
        near = _by_distance(resolutions, query.resolution or 1)
    else:
        near = _by_distance(store.nearest_widths(alone), query.width)
    what = f"width {query.width} has rows at resolution" if resolutions else "the nearest widths with rows:"
    return Problem("no-match", f"{detail}; {what} {_listed(near)}", members={"nearest": {name: near}})


def _relaxed(query: Query) -> Iterator[tuple[str, Scalar, Query]]:
    """Give each filter with the query that lacks it, the likeliest to be mistaken first."""
    for name in (
        "width",
        "resolution",
        "width_out",
        "batch",
        "threads",
        "precision",
        "unit",
        "runtime",
        "device",
        "kind",
        "measure",
        "block",
    ):
        asked = getattr(query, name)
        if asked is not None:
            without: dict[str, Any] = {name: None}
            yield name, asked, replace(query, **without)
    for name, asked in query.params.items():
        others = Params({other: value for other, value in query.params.items() if other != name})
        yield f"param.{name}", asked, replace(query, params=others)


def _values(store: SqlStore, query: Query, name: str) -> set[Scalar]:
    """Return the values of one filter among the first rows that match."""
    rows = store.search(replace(query, limit=LOOKED_AT, cursor=None)).rows
    return {value for row in rows if (value := _value(row.entry, name)) is not None}


def _value(entry: Entry, name: str) -> Scalar | None:
    if name.startswith("param."):
        return entry.spec.params.get(name.removeprefix("param."))
    own: dict[str, Scalar] = {"block": entry.spec.kind, "resolution": entry.spec.resolution, "batch": entry.spec.batch}
    own |= {"kind": entry.kind, "measure": entry.latency.measure}
    if name in own:
        return own[name]
    value: Scalar = entry.spec.width_out if name == "width_out" else getattr(entry.target, name)
    return value


def _by_distance(values: Iterable[Scalar], asked: Scalar) -> list[Scalar]:
    """Return the nearest numbers, or the names in order."""
    if isinstance(asked, str):
        return sorted(values, key=str)[:NEAREST]
    numbers = [value for value in values if not isinstance(value, str)]
    return list(sorted(numbers, key=lambda value: (abs(value - asked), value))[:NEAREST])


def _listed(values: Iterable[Scalar]) -> str:
    return ", ".join(map(str, values))
