"""What the table covers, counted by the database: one pass over the current rows, whose figures alone are read."""

from __future__ import annotations

import sqlalchemy as sa

from edgelut.coverage import Coverage

from .connect import Database, reading
from .rows import TARGET, target_of
from .schema import entries, is_current, specs, targets


class SqlCoverage(Database):
    """Counts of a table's rows."""

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
