"""How the table is searched: filters, pages and listings whose cost does not grow with the rows that they leave out.

Rows come in the order (kind, width_in, width_out, resolution, batch, spec id, target id). A page walks the specs in that order
through their index, and looks up the rows of some specs at a time; where that finds little and the filter names targets that
have few rows, it starts from those instead. No statement reads `entries` other than by an index on both ids.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa

from edgelut.errors import InvalidSpec
from edgelut.query import MOST_LEFT_OUT, BlockListing, Page, Query, Row
from edgelut.types import BlockSpec, Params, Scalar, Target, canonical, digest

from .connect import Database, reading
from .filters import has, looked_at, matching_target_ids, row_filter, spec_filter
from .revisions import head_revision
from .rows import ENTRY, LARGEST, SPEC, TARGET, batches, entry_of, spec_of, storable, target_of
from .schema import block_values, entries, is_current, specs, targets

Conditions: TypeAlias = Sequence[sa.ColumnElement[bool]]
Place: TypeAlias = tuple[str, int, int, int, int, int]  # kind, width_in, width_out, resolution, batch, spec id
ORDER = (specs.c.width_in, specs.c.width_out, specs.c.resolution, specs.c.batch, specs.c.id)
PATIENCE = 1000  # specs looked at for a page before asking whether the named targets have few rows
FEW = 2000  # rows up to which it is then cheaper to start from them
FIRST, MOST = 8, 512  # specs read in one statement: few at first, as the first often have rows enough
NEAREST = 8
REMEMBERED = 20_000  # specs (about 1 kB each) that a store keeps in memory

V = TypeVar("V")


class Hit(NamedTuple):
    """Where a row stands in the order of a page, and its id."""

    place: Place
    target_id: int
    entry_id: int


class SqlSearch(Database):
    """A table's filters and listings."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._known: tuple[dict[int, BlockSpec], dict[int, Target]] = ({}, {})

    def _values(self) -> tuple[dict[int, BlockSpec], dict[int, Target]]:
        """Return the specs and targets seen so far by id: no row of theirs ever changes, and most time went into them."""
        if any(len(known) > REMEMBERED for known in self._known):
            self._known = ({}, {})
        return self._known

    def search(self, query: Query) -> Page:
        """Return a page of the current rows that match; raise InvalidSpec for a bad cursor or limit.

        A cursor goes on where its page ended, whatever was put since. The first page of a query that requires a unit counts the
        rows that it leaves out by looking for them too, which takes as long again.
        """
        if query.limit < 1:
            raise InvalidSpec(f"a page has at least one row, not {query.limit}")
        after = _decode(query)
        with reading(self.engine) as connection:
            hits = _hits(connection, query, after, row_filter(query))
            left_out = _left_out(connection, query) if after is None else 0
            of_spec, of_target = self._values()
            rows = _rows(connection, hits[: query.limit], of_spec, of_target)
        more = len(hits) > query.limit
        return Page(tuple(rows), _encode(query, hits[query.limit - 1]) if more else None, left_out)

    def nearest_widths(self, query: Query) -> list[int]:
        """Return up to 8 input widths that have rows for the rest of the filter: the nearest below and above first."""
        if query.width is None:
            raise InvalidSpec("the nearest widths of which? give a width")
        free, asked = replace(query, width=None, cursor=None), query.width

        def distance(width: int) -> tuple[int, int]:
            return abs(width - asked), width

        with reading(self.engine) as connection:
            below = sorted(_widths(connection, free, asked, down=True), key=distance)
            above = sorted(_widths(connection, free, asked, down=False), key=distance)
        first = sorted(below[:1] + above[:1], key=distance)
        return (first + sorted(below[1:] + above[1:], key=distance))[:NEAREST]

    def blocks(self) -> list[BlockListing]:
        """Return the kinds that have rows, each with the values that its fields and parameters take; counts no rows."""
        found: dict[str, dict[str, list[Scalar]]] = {}
        with reading(self.engine) as connection:
            for row in connection.execute(sa.select(*block_values.c)):
                found.setdefault(row.kind, {}).setdefault(row.name, []).append(json.loads(row.value))
        return [_listing(kind, names) for kind, names in sorted(found.items())]

    def targets(self) -> list[Target]:
        """Return the targets that have rows, in order of their names."""
        with reading(self.engine) as connection:
            listed = [target_of(row) for row in connection.execute(_TARGETS_WITH_ROWS).mappings()]
        return sorted(listed, key=lambda target: tuple(target.as_json().values()))

    def devices(self) -> list[str]:
        """Return the names of the devices that have rows, in order."""
        return sorted({target.device for target in self.targets()})

    def versions(self) -> dict[str, str | int]:
        """Return the schema's revision and a number that grows with every entry stored: what a cache is checked against."""
        with reading(self.engine) as connection:
            newest = connection.execute(sa.select(sa.func.max(entries.c.id))).scalar_one()
        return {"schema": head_revision(), "table": newest or 0}


_TARGETS_WITH_ROWS = sa.select(*TARGET).where(
    # A scalar with LIMIT, as PostgreSQL may turn EXISTS into a join that reads every row.
    sa.select(entries.c.id)
    .where(entries.c.target_id == targets.c.id, is_current)
    .limit(1)
    .scalar_subquery()
    .is_not(None)
)


def _hits(connection: sa.Connection, query: Query, after: Hit | None, rows: Conditions) -> list[Hit]:
    """Return the first rows after a place that meet conditions, at least one more than the limit where there are more."""
    wanted = matching_target_ids(connection, query)
    if wanted == []:
        return []
    kinds = [kind for kind in _kinds(connection, query.block) if after is None or kind >= after.place[0]]
    hits: list[Hit] = []
    places, size, looked = _walk(connection, query, kinds, after and after.place), 1, 0
    while len(hits) <= query.limit and (piece := list(islice(places, size))):
        beyond = after.target_id if after is not None and piece[0] == after.place else 0
        hits += sorted(_of_specs(connection, piece, wanted, beyond, query.limit + 1, rows))
        if looked <= PATIENCE < looked + size and wanted is not None and _are_few(connection, wanted):
            return _from_rows(connection, query, kinds, wanted, after, rows)
        looked += size
        size = min(MOST, (query.limit + 1 - len(hits)) * looked // len(hits) + 1 if hits else size * 8)
    return hits


def _left_out(connection: sa.Connection, query: Query) -> int:
    """Return how many rows match but for the unit that is required, counted up to MOST_LEFT_OUT."""
    if query.require_unit is None:
        return 0
    anywhere = replace(query, require_unit=None, limit=MOST_LEFT_OUT)
    elsewhere = entries.c.ran_on.is_distinct_from(query.require_unit)
    return min(len(_hits(connection, anywhere, None, [*row_filter(anywhere), elsewhere])), MOST_LEFT_OUT)


def _kinds(connection: sa.Connection, block: str | None) -> list[str]:
    """Return the kinds there are, in order, or those of one name: one step in the index for each, not a scan."""
    smallest = sa.select(sa.func.min(specs.c.kind).label("kind")).cte("kinds", recursive=True)
    following = sa.select(sa.func.min(specs.c.kind)).where(specs.c.kind > smallest.c.kind).scalar_subquery()
    kinds = smallest.union_all(sa.select(following).where(smallest.c.kind.is_not(None)))
    statement = sa.select(kinds.c.kind).where(kinds.c.kind.is_not(None))
    if block is not None:
        statement = statement.where(sa.func.lower(kinds.c.kind) == sa.func.lower(block))
    return sorted(connection.execute(statement).scalars())


def _walk(
    connection: sa.Connection, query: Query, kinds: Sequence[str], start: Place | None, down: bool = False
) -> Iterator[Place]:
    """Yield the places of the specs that match, from a place on, in order or against it; reads more of them at each step."""
    order = [column.desc() for column in ORDER] if down else list(ORDER)
    for kind in kinds:
        statement = (
            sa.select(*ORDER, *looked_at(query)).where(specs.c.kind == kind, *spec_filter(query)).order_by(*order)
        )
        page, size = statement, FIRST
        if start is not None and start[0] == kind:
            page = statement.where(_beyond(start[1:], down, inclusive=True))
        while True:
            rows = connection.execute(page.limit(size)).all()
            for row in rows:
                if has(row, query.params):
                    yield (kind, *row[:5])
            if len(rows) < size:
                break
            page, size = statement.where(_beyond(tuple(rows[-1][:5]), down)), min(size * 4, MOST)


def _beyond(place: Sequence[int], down: bool, inclusive: bool = False) -> sa.ColumnElement[bool]:
    """Compare with a place as a whole, which both databases look up in the index."""
    here, there = sa.tuple_(*ORDER), sa.tuple_(*map(sa.literal, place))
    if down:
        return here <= there if inclusive else here < there
    return here >= there if inclusive else here > there


def _of_specs(
    connection: sa.Connection,
    places: Sequence[Place],
    wanted: Sequence[int] | None,
    beyond: int,
    limit: int,
    rows: Conditions,
) -> Iterator[Hit]:
    """Yield the current rows of those specs on the targets that are wanted; of a single spec, the first ones beyond a target."""
    by_id = {place[5]: place for place in places}
    for some in batches(wanted) if wanted is not None else (None,):
        statement = sa.select(entries.c.spec_id, entries.c.target_id, entries.c.id)
        statement = statement.where(entries.c.spec_id.in_(list(by_id)), is_current, *rows)
        if some is not None:
            statement = statement.where(entries.c.target_id.in_(some))
        if len(by_id) == 1:
            statement = statement.where(entries.c.target_id > beyond).order_by(entries.c.target_id).limit(limit)
        for spec_id, target_id, entry_id in connection.execute(statement):
            yield Hit(by_id[spec_id], target_id, entry_id)


def _are_few(connection: sa.Connection, wanted: Sequence[int]) -> bool:
    """Say whether those targets together have at most FEW rows."""
    left = FEW
    for some in batches(wanted):
        first = sa.select(entries.c.spec_id).where(entries.c.target_id.in_(some), is_current).limit(left + 1).subquery()
        left -= connection.execute(sa.select(sa.func.count()).select_from(first)).scalar_one()
        if left < 0:
            return False
    return True


def _from_rows(
    connection: sa.Connection,
    query: Query,
    kinds: Sequence[str],
    wanted: Sequence[int],
    after: Hit | None,
    conditions: Conditions,
) -> list[Hit]:
    """Return the rows of targets that have few, where their spec matches, in order, from a place on."""
    rows: list[tuple[int, int, int]] = []
    for some in batches(wanted):
        statement = sa.select(entries.c.spec_id, entries.c.target_id, entries.c.id)
        found = connection.execute(statement.where(entries.c.target_id.in_(some), is_current, *conditions))
        rows += [(spec_id, target_id, entry_id) for spec_id, target_id, entry_id in found]
    places: dict[int, Place] = {}
    for batch in batches(sorted({spec_id for spec_id, _, _ in rows})):
        # Not by kind too: SQLite would take that index and read every spec of the kind.
        listed = sa.select(specs.c.kind, *ORDER, *looked_at(query)).where(specs.c.id.in_(batch), *spec_filter(query))
        for row in connection.execute(listed):
            if row.kind in kinds and has(row, query.params):
                places[row.id] = (row[0], row[1], row[2], row[3], row[4], row[5])
    hits = sorted(Hit(places[spec_id], target_id, id_) for spec_id, target_id, id_ in rows if spec_id in places)
    return [hit for hit in hits if after is None or hit[:2] > after[:2]]


def _rows(
    connection: sa.Connection, hits: Sequence[Hit], of_spec: dict[int, BlockSpec], of_target: dict[int, Target]
) -> list[Row]:
    """Return the rows of the hits, in their order, and remember their specs and targets by id."""
    _remember(connection, specs, SPEC, spec_of, of_spec, {hit.place[5] for hit in hits})
    _remember(connection, targets, TARGET, target_of, of_target, {hit.target_id for hit in hits})
    points = {hit.entry_id: (of_spec[hit.place[5]], of_target[hit.target_id]) for hit in hits}
    found: dict[int, Row] = {}
    for batch in batches(list(points)):
        for row in connection.execute(sa.select(entries.c.id, *ENTRY).where(entries.c.id.in_(batch))).mappings():
            found[row["id"]] = Row(row["id"], entry_of(row, *points[row["id"]]))
    return [found[hit.entry_id] for hit in hits]


def _remember(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[sa.Column[Any]],
    value_of: Callable[[sa.RowMapping], V],
    known: dict[int, V],
    ids: set[int],
) -> None:
    """Read the values of those ids that are not known yet."""
    for batch in batches(sorted(ids - known.keys())):
        for row in connection.execute(sa.select(table.c.id, *columns).where(table.c.id.in_(batch))).mappings():
            known[row["id"]] = value_of(row)


def _widths(connection: sa.Connection, query: Query, width: int, down: bool) -> set[int]:
    """Return the 8 widths nearest below or above one, of each kind, that have a row."""
    wanted = matching_target_ids(connection, query)
    if wanted == []:
        return set()
    kinds = _kinds(connection, query.block)
    if wanted is not None and _are_few(connection, wanted):
        widths = {hit.place[1] for hit in _from_rows(connection, query, kinds, wanted, None, row_filter(query))}
        return {other for other in widths if (other < width if down else other > width)}
    found: set[int] = set()
    for kind in kinds:
        of_kind: list[int] = []
        start = min(width, LARGEST + 1)
        while len(of_kind) < NEAREST:
            near = _next_width(connection, query, kind, wanted, of_kind[-1] if of_kind else start, down)
            if near is None:
                break
            of_kind.append(near)
        found.update(of_kind)
    return found


def _next_width(
    connection: sa.Connection, query: Query, kind: str, wanted: Sequence[int] | None, width: int, down: bool
) -> int | None:
    """Return the nearest width beyond one that has a row, or None."""
    start: Place = (kind, width - 1, *(LARGEST,) * 4) if down else (kind, width + 1, 0, 0, 0, 0)
    places, size = _walk(connection, query, [kind], start, down), FIRST
    while piece := list(islice(places, size)):
        having = _having_rows(connection, [place[5] for place in piece], wanted, row_filter(query))
        if having:
            return next(place[1] for place in piece if place[5] in having)
        size = min(size * 8, MOST)
    return None


def _having_rows(
    connection: sa.Connection, ids: Sequence[int], wanted: Sequence[int] | None, rows: Conditions
) -> set[int]:
    """Return those of the specs that have a current row on one of the targets that meets the conditions."""
    found: set[int] = set()
    for some in batches(wanted) if wanted is not None else (None,):
        row = sa.select(entries.c.id).where(entries.c.spec_id == specs.c.id, is_current, *rows)
        if some is not None:
            row = row.where(entries.c.target_id.in_(some))
        has_row = row.limit(1).scalar_subquery().is_not(None)
        found.update(connection.execute(sa.select(specs.c.id).where(specs.c.id.in_(ids), has_row)).scalars())
    return found


def _listing(kind: str, names: Mapping[str, list[Scalar]]) -> BlockListing:
    def numbers(name: str) -> tuple[int, ...]:
        return tuple(sorted(int(value) for value in names.get(name, ())))

    params = {
        name.removeprefix("params."): tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))
        for name, values in sorted(names.items())
        if name.startswith("params.")
    }
    return BlockListing(
        kind, numbers("width_in"), numbers("width_out"), numbers("resolution"), numbers("batch"), params
    )


def _filter(query: Query) -> str:
    """Return what ties a cursor to its query: a page of other rows would skip some."""
    asked = {name: value for name, value in asdict(replace(query, limit=1, cursor=None, params=Params())).items()}
    return digest({**asked, "params": dict(query.params)})[:8]


def _encode(query: Query, hit: Hit) -> str:
    return base64.urlsafe_b64encode(canonical([_filter(query), *hit.place, hit.target_id])).decode().rstrip("=")


def _decode(query: Query) -> Hit | None:
    """Return the place that a cursor names; raise InvalidSpec for one that no page of this query gave."""
    if query.cursor is None:
        return None
    bad = InvalidSpec(
        f"not a cursor of this query: {query.cursor[:80]!r}; give `next_cursor` of the page before, unchanged"
    )
    try:
        padded = query.cursor + "=" * (-len(query.cursor) % 4)
        tied, kind, *numbers = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError):
        raise bad from None
    fits = len(numbers) == 6 and all(type(number) is int and 0 < number < 2**63 for number in numbers)
    if tied != _filter(query) or not isinstance(kind, str) or not storable(kind) or not fits:
        raise bad
    return Hit((kind, *numbers[:5]), numbers[5], 0)
