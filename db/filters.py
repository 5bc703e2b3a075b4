"""What a query asks, as conditions of SQL: of targets, of specs, and of rows themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from edgelut.query import Query
from edgelut.types import Params, canonical

from .rows import LARGEST, storable
from .schema import entries, specs, targets

NUMBERS = {"width": "width_in", "width_out": "width_out", "resolution": "resolution", "batch": "batch"}


def row_filter(query: Query) -> list[sa.ColumnElement[bool]]:
    """Return what the query asks of a row itself: its kind, its measure, and where it ran."""
    conditions: list[sa.ColumnElement[bool]] = []
    if query.kind is not None:
        conditions.append(entries.c.kind == query.kind)
    if query.measure is not None:
        counts = query.measure == "instructions"
        conditions.append(entries.c.clock == "instructions" if counts else entries.c.clock != "instructions")
    if query.require_unit is not None:
        conditions.append(entries.c.ran_on == query.require_unit)
    return conditions


def _possible(query: Query) -> bool:
    """Say whether a column could hold what is asked for; a driver may refuse to send what it could not."""
    numbers = (query.width, query.width_out, query.resolution, query.batch, query.threads)
    texts = (query.block, query.device, query.runtime, query.precision, query.unit, query.require_unit)
    fits = all(number is None or 1 <= number <= LARGEST for number in numbers)
    return fits and all(text is None or storable(text) for text in texts)


def matching_target_ids(connection: sa.Connection, query: Query) -> list[int] | None:
    """Return the targets that match, None for all; the table has some thousand rows and is read as a whole."""
    if not _possible(query):
        return []
    asked = {name: getattr(query, name) for name in ("device", "runtime", "precision", "unit")}
    conditions = [_same(targets.c[name], value) for name, value in asked.items() if value is not None]
    if query.threads is not None:
        conditions.append(targets.c.threads == query.threads)
    if not conditions:
        return None
    return list(connection.execute(sa.select(targets.c.id).where(*conditions)).scalars())


def _same(column: sa.Column[Any], value: str) -> sa.ColumnElement[bool]:
    """Compare whatever the case (SQLite knows that of ASCII alone)."""
    return sa.func.lower(column) == sa.func.lower(value)


def spec_filter(query: Query) -> list[sa.ColumnElement[bool]]:
    """Return what the query asks of a spec but its kind; parameters only roughly, `has` looks again."""
    conditions: list[sa.ColumnElement[bool]] = []
    for name, column in NUMBERS.items():
        if (value := getattr(query, name)) is not None:
            conditions.append(specs.c[column] == value)
    text = sa.type_coerce(specs.c.params, sa.Text)
    for name, value in query.params.items():
        conditions.append(text.contains(canonical({name: value}).decode()[1:-1], autoescape=True))
    return conditions


def looked_at(query: Query) -> Sequence[sa.Column[Any]]:
    """Return the column that `has` looks at, where it will."""
    return (specs.c.params,) if query.params else ()


def has(row: sa.Row[Any], asked: Params) -> bool:
    """Say whether a spec has the parameters asked for."""
    return not asked or all(name in row.params and row.params[name] == value for name, value in asked.items())
