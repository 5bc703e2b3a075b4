"""Where rows ran, and a view that tells counts of instructions from times."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UNITS = {**{unit: unit for unit in ("cpu", "gpu", "ne", "npu", "dsp")}, "cpu-little": "cpu"}  # that are one piece of hardware

ENTRIES = sa.table("entries", *map(sa.column, ("id", "target_id", "ran_on", "provenance")))
TARGETS = sa.table("targets", *map(sa.column, ("id", "unit")))

LATENCY_TABLE = """
CREATE VIEW latency_table AS
SELECT entries.id, specs.kind AS block, specs.width_in, specs.width_out, specs.resolution, specs.batch, specs.params,
       targets.device, targets.runtime, targets.precision, targets.threads, targets.unit, {columns}
       entries.p10_ns, entries.p50_ns, entries.p90_ns, entries.low_ns, entries.high_ns,
       entries.runs, entries.samples, entries.clock, entries.kind AS entry_kind, entries.doubts, entries.provenance,
       entries.created_at
FROM entries JOIN specs ON specs.id = entries.spec_id JOIN targets ON targets.id = entries.target_id
WHERE entries.current {current}
"""
BEFORE = "entries.p10_ns / 1e6 AS ms,"
NOW = """entries.ran_on,
       CASE WHEN entries.clock <> 'instructions' THEN entries.p10_ns / 1e6 END AS ms,
       CASE WHEN entries.clock = 'instructions' THEN entries.p10_ns END AS instructions,"""


def upgrade() -> None:
    op.execute("DROP VIEW latency_table")
    op.add_column("entries", sa.Column("ran_on", NAME, nullable=True))
    fill()
    create_view(NOW)


def fill() -> None:
    """Write down where the rows there are ran: what their provenance says, else their target's unit where that is one."""
    connection = op.get_bind()
    unit = sa.select(sa.case(UNITS, value=sa.func.lower(TARGETS.c.unit))).where(TARGETS.c.id == ENTRIES.c.target_id)
    connection.execute(ENTRIES.update().values(ran_on=unit.scalar_subquery()))
    saying = sa.select(ENTRIES.c.id, ENTRIES.c.provenance).where(ENTRIES.c.provenance.like('%"ran_on":%'))
    for id_, provenance in connection.execute(saying).all():
        said = json.loads(provenance).get("ran_on")
        if said and "\0" not in str(said):
            connection.execute(ENTRIES.update().where(ENTRIES.c.id == id_).values(ran_on=str(said).lower()))


def create_view(columns: str) -> None:
    sqlite = op.get_context().dialect.name == "sqlite"
    op.execute(LATENCY_TABLE.format(columns=columns, current="IS 1" if sqlite else "IS true"))


def downgrade() -> None:
    op.execute("DROP VIEW latency_table")
    op.drop_column("entries", "ran_on")
    create_view(BEFORE)
