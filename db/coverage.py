"""The table from far above: counted by the database, and one target's rows as columns, for which no values are built."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from edgelut.coverage import COLUMNS, ColumnPage, Coverage
from edgelut.errors import InvalidSpec
from edgelut.types import Target

from .connect import Database, reading
from .rows import TARGET, target_of
from .schema import entries, is_current, specs, targets

# As COLUMNS, where a column of the database is what is answered.
FIGURES = COLUMNS[COLUMNS.index("clock") : COLUMNS.index("samples") + 1]


class SqlCoverage(Database):
    """Counts of a table's rows, and rows as columns."""

    def columns(self, target: Target, limit: int, cursor: str | None = None) -> ColumnPage:
        """Return current rows of a target as columns; none where the target has none. Raises InvalidSpec for a bad cursor.

        JSON stays text in the statement: of thousands of rows few parameters and doubts are distinct.
        """
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise InvalidSpec(f"{cursor!r} is no cursor of this table: use a page's next_cursor")
        with reading(self.engine) as connection:
            found = connection.execute(sa.select(targets.c.id).where(targets.c.key == target.key)).scalar_one_or_none()
            if found is None:
                return ColumnPage(target, COLUMNS, tuple(() for _ in COLUMNS))
            asked = _COLUMNS.where(entries.c.target_id == found, entries.c.spec_id > int(cursor or 0)).limit(limit + 1)
            rows: list[Any] = list(connection.execute(asked).all())
        more, rows = len(rows) > limit, rows[:limit]
        of_text: dict[str, Any] = {}
        lines = [_line(row, of_text) for row in rows]
        columns = tuple(zip(*lines, strict=True)) if lines else tuple(() for _ in COLUMNS)
        return ColumnPage(target, COLUMNS, columns, str(rows[-1].spec_id) if more else None)

    def coverage(self) -> list[Coverage]:
        """Return how many current rows each target has of each kind of block and entry, in order."""
        in_doubt = sa.case((sa.cast(entries.c.doubts, sa.Text) == "[]", 0), else_=1)
        counted = (
            sa.select(
                entries.c.target_id,
                specs.c.kind.label("block"),
                entries.c.kind.label("entry_kind"),
                sa.func.count().label("rows"),
                sa.func.sum(in_doubt).label("doubtful"),
                sa.func.max(entries.c.id).label("newest"),
                sa.func.max(entries.c.created_at).label("newest_at"),
            )
            .join(specs, specs.c.id == entries.c.spec_id)
            .where(is_current)
            .group_by(entries.c.target_id, specs.c.kind, entries.c.kind)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(counted).mappings().all()
            found = sa.select(targets.c.id, *TARGET)
            of_id = {row["id"]: target_of(row) for row in connection.execute(found).mappings()}
        listed = [
            Coverage(
                of_id[row["target_id"]],
                row["block"],
                row["entry_kind"],
                row["rows"],
                int(row["doubtful"]),
                row["newest"],
                row["newest_at"],
            )
            for row in rows
        ]
        return sorted(listed, key=lambda one: (*one.target.as_json().values(), one.block, one.kind))


def _text(column: sa.Column[Any]) -> sa.ColumnElement[str]:
    return sa.type_coerce(column, sa.Text)


_COLUMNS = (
    sa.select(
        entries.c.spec_id,
        entries.c.id,
        *(specs.c[name] for name in ("kind", "width_in", "width_out", "resolution", "batch")),
        _text(specs.c.params).label("params"),
        entries.c.kind.label("entry_kind"),
        *(entries.c[name] for name in FIGURES),
        _text(entries.c.doubts).label("doubts"),
        _text(entries.c.provenance).label("provenance"),
    )
    .join(specs, specs.c.id == entries.c.spec_id)
    .where(is_current)
    .order_by(entries.c.spec_id)
)


def _line(row: Sequence[Any], of_text: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row's values in the order of COLUMNS; equal texts are read once."""
    _, id, kind, width_in, width_out, resolution, batch, params, entry_kind, *figures, doubts, provenance = row
    if params not in of_text:
        of_text[params] = json.loads(params)
    if doubts not in of_text:
        of_text[doubts] = "; ".join(json.loads(doubts))
    spec = (id, kind, width_in, width_out, resolution, batch, of_text[params])
    return (
        *spec,
        entry_kind,
        *figures,
        of_text[doubts],
        _field(provenance, "measured_at"),
        _field(provenance, "sweep"),
    )


def _field(provenance: str, name: str) -> str:
    """Return a field of a canonical JSON object, which is not read whole: two short ones are wanted of each row."""
    _, found, rest = provenance.partition(f'"{name}":"')
    return rest.partition('"')[0] if found else ""
