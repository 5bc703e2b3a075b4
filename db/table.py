"""The latency table in SQL: its current rows and their history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from edgelut.errors import LatencyNotFound
from edgelut.placement import placed
from edgelut.query import Row
from edgelut.table import LatencyTable, replaces
from edgelut.types import BlockSpec, Entry, Target, canonical

from .connect import reading, writing
from .rows import (
    ENTRY,
    SPEC,
    TARGET,
    batches,
    entry_of,
    entry_row,
    find_ids,
    spec_ids,
    spec_of,
    target_ids,
    target_of,
)
from .schema import block_values, entries, is_current, specs, targets
from .search import SqlSearch

Point = tuple[int, int]  # ids of a spec and a target
Known = tuple[int, bool, Entry]  # an entry's id, whether it is current, and the entry

LONGEST_VALUE = 80  # of a listed parameter: a line of blocks is for no one to choose from, and too long for an index

WHOLE = sa.select(entries.c.id, *SPEC, *TARGET, *ENTRY).select_from(
    entries.join(specs, specs.c.id == entries.c.spec_id).join(targets, targets.c.id == entries.c.target_id)
)
_ALL = WHOLE.where(is_current)


class SqlTable(SqlSearch, LatencyTable):
    """The table in SQLite or PostgreSQL. Any number of processes may read and put at once.

    What was put is durable when `put_many` returns: a process killed the next moment loses nothing. There is exactly one
    current row for a spec and target; the database refuses a second.
    """

    def find_many(
        self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None
    ) -> list[Entry | None]:
        """Return the current rows in order, None where there is none; a statement for every thousand specs."""
        found: dict[str, Entry] = {}
        wanted = {spec.key: spec for spec in specs}
        with reading(self.engine) as connection:
            target_id = find_ids(connection, targets, [target.key]).get(target.key)
            for batch in batches(list(wanted)) if target_id is not None else ():
                for row in connection.execute(_CURRENT, {"target": target_id, "keys": batch}).mappings():
                    found[row["key"]] = entry_of(row, wanted[row["key"]], target)
        return placed([found.get(spec.key) for spec in specs], require_unit)

    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Store the entries in one transaction; return for each whether it is now the current row."""
        if not entries:
            return []
        with writing(self.engine) as connection:
            return put_entries(connection, entries)

    def history(self, spec: BlockSpec, target: Target) -> list[Entry]:
        """Return every entry put, oldest first."""
        with reading(self.engine) as connection:
            spec_id = find_ids(connection, specs, [spec.key]).get(spec.key)
            target_id = find_ids(connection, targets, [target.key]).get(target.key)
            if spec_id is None or target_id is None:
                return []
            statement = sa.select(*ENTRY).where(entries.c.spec_id == spec_id, entries.c.target_id == target_id)
            rows = connection.execute(statement.order_by(entries.c.id)).mappings()
            return [entry_of(row, spec, target) for row in rows]

    def entries(self) -> Iterator[Entry]:
        """Stream the current rows as they were when the iteration began; close the iterator if it is not run to its end."""
        with reading(self.engine) as connection, connection.execution_options(yield_per=1000).execute(_ALL) as result:
            for row in result.mappings():
                yield entry_of(row, spec_of(row), target_of(row))

    def get_row(self, id: int) -> Row:
        """Return the row of that id, be it current or replaced since; raise LatencyNotFound."""
        with reading(self.engine) as connection:
            row = (
                connection.execute(WHOLE.where(entries.c.id == id)).mappings().one_or_none() if 0 < id < 2**63 else None
            )
        if row is None:
            raise LatencyNotFound(f"no entry {id}")
        return Row(row["id"], entry_of(row, spec_of(row), target_of(row)))


_CURRENT = (
    sa.select(specs.c.key, *ENTRY)
    .select_from(specs.join(entries, entries.c.spec_id == specs.c.id))
    .where(
        specs.c.key.in_(sa.bindparam("keys", expanding=True)), entries.c.target_id == sa.bindparam("target"), is_current
    )
)


def put_entries(connection: sa.Connection, put: Sequence[Entry]) -> list[bool]:
    """Store entries in the writer's transaction, as MemoryTable does in memory."""
    of_spec, of_target = spec_ids(connection, [e.spec for e in put]), target_ids(connection, [e.target for e in put])
    points = [(of_spec[entry.spec.key], of_target[entry.target.key]) for entry in put]
    known = _known(connection, dict(zip(points, put, strict=True)))
    seen = {point: [entry for _, _, entry in rows] for point, rows in known.items()}
    current = {point: entry for point, rows in known.items() for _, is_now, entry in rows if is_now}
    before = dict(current)
    rows: list[tuple[Point, Entry]] = []
    for point, entry in zip(points, put, strict=True):
        if entry in seen.setdefault(point, []):
            continue
        seen[point].append(entry)
        rows.append((point, entry))
        if replaces(entry, current.get(point)):
            current[point] = entry
    replaced = [
        id_
        for point, known_rows in known.items()
        for id_, is_now, entry in known_rows
        if is_now and entry is not current[point]
    ]
    _store(connection, rows, current, replaced)
    _list_values(connection, [entry.spec for point, entry in current.items() if point not in before])
    return [current[point] == entry for point, entry in zip(points, put, strict=True)]


def standing_of(connection: sa.Connection, put: Sequence[Entry]) -> list[tuple[int, bool]]:
    """Return for each entry its id, 0 where it is not stored, and whether it is its point's current row."""
    of_spec = find_ids(connection, specs, [entry.spec.key for entry in put])
    of_target = find_ids(connection, targets, [entry.target.key for entry in put])
    points = [(of_spec.get(entry.spec.key, 0), of_target.get(entry.target.key, 0)) for entry in put]
    known = _known(connection, dict(zip(points, put, strict=True)))
    found = []
    for point, entry in zip(points, put, strict=True):
        same = [(id_, is_now) for id_, is_now, other in known.get(point, ()) if other == entry]
        found.append(same[-1] if same else (0, False))
    return found


def _known(connection: sa.Connection, wanted: Mapping[Point, Entry]) -> dict[Point, list[Known]]:
    """Return all that is stored of the points, oldest first."""
    known: dict[Point, list[Known]] = {}
    for target_id, group in groupby(sorted(wanted), key=lambda point: point[1]):
        for batch in batches([spec_id for spec_id, _ in group]):
            statement = sa.select(entries.c.id, entries.c.spec_id, entries.c.current, *ENTRY)
            statement = statement.where(entries.c.spec_id.in_(batch), entries.c.target_id == target_id)
            for row in connection.execute(statement.order_by(entries.c.id)).mappings():
                point = (row["spec_id"], target_id)
                entry = entry_of(row, wanted[point].spec, wanted[point].target)
                known.setdefault(point, []).append((row["id"], row["current"], entry))
    return known


def _store(
    connection: sa.Connection,
    new: Sequence[tuple[Point, Entry]],
    current: Mapping[Point, Entry],
    replaced: Sequence[int],
) -> None:
    """Insert the new entries, after the rows that they replace have stepped down."""
    for batch in batches(replaced):
        connection.execute(entries.update().where(entries.c.id.in_(batch)).values(current=False))
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for point, entry in new:
        place = {"spec_id": point[0], "target_id": point[1], "created_at": now, "current": current[point] is entry}
        rows.append(entry_row(entry) | place)
    if rows:
        connection.execute(entries.insert(), rows)


def _list_values(connection: sa.Connection, new: Sequence[BlockSpec]) -> None:
    """Add what specs with their first row bring to what `blocks` lists."""
    values: set[tuple[str, str, str]] = set()
    for spec in new:
        numbers = {name: getattr(spec, name) for name in ("width_in", "width_out", "resolution", "batch")}
        named = numbers | {f"params.{name}": value for name, value in spec.params.items()}
        listed_values = ((name, canonical(value).decode()) for name, value in named.items())
        values.update((spec.kind, name, value) for name, value in listed_values if len(value) <= LONGEST_VALUE)
    known: set[tuple[str, str, str]] = set()
    for kind in {kind for kind, _, _ in values}:
        listed = connection.execute(sa.select(*block_values.c).where(block_values.c.kind == kind))
        known.update((row.kind, row.name, row.value) for row in listed)
    rows = [{"kind": kind, "name": name, "value": value} for kind, name, value in sorted(values - known)]
    if rows:
        connection.execute(block_values.insert(), rows)
