"""The first tables.

Types are written out here and not imported, so that this file goes on meaning what it meant. A later migration that rebuilds
`entries`, `specs` or `targets` (SQLite's batch mode) drops the view `latency_table` first and creates it again at its end.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)

LATENCY_TABLE = """
CREATE VIEW latency_table AS
SELECT entries.id, specs.kind AS block, specs.width_in, specs.width_out, specs.resolution, specs.batch, specs.params,
       targets.device, targets.runtime, targets.precision, targets.threads, targets.unit,
       entries.p10_ns / 1e6 AS ms, entries.p10_ns, entries.p50_ns, entries.p90_ns, entries.low_ns, entries.high_ns,
       entries.runs, entries.samples, entries.clock, entries.kind AS entry_kind, entries.doubts, entries.provenance,
       entries.created_at
FROM entries JOIN specs ON specs.id = entries.spec_id JOIN targets ON targets.id = entries.target_id
"""


def column(name: str, type_: sa.types.TypeEngine, null: bool = False) -> sa.Column:
    return sa.Column(name, type_, nullable=null)


def refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=f"fk_{table}_{column}")


def create(table: str, *parts: sa.Column | sa.Constraint, key: str | None = None) -> None:
    """Create a table with an id, and with a unique column where one is named."""
    unique = [sa.UniqueConstraint(key, name=f"uq_{table}_{key}")] if key else []
    op.create_table(table, column("id", ID), *parts, sa.PrimaryKeyConstraint("id", name=f"pk_{table}"), *unique)


def upgrade() -> None:
    create(
        "specs",
        column("key", NAME),
        column("kind", NAME),
        column("width_in", sa.Integer()),
        column("width_out", sa.Integer()),
        column("resolution", sa.Integer()),
        column("batch", sa.Integer()),
        column("params", sa.Text()),
        key="key",
    )
    op.create_index("ix_specs_order", "specs", ["kind", "width_in", "width_out", "resolution", "batch", "id"])
    create(
        "targets",
        column("key", NAME),
        column("device", NAME),
        column("runtime", NAME),
        column("precision", NAME),
        column("threads", sa.Integer()),
        column("unit", NAME),
        key="key",
    )
    op.create_table(
        "block_values",
        column("kind", NAME),
        column("name", NAME),
        column("value", NAME),
        sa.PrimaryKeyConstraint("kind", "name", "value", name="pk_block_values"),
    )
    upgrade_runs()
    upgrade_entries()


def upgrade_runs() -> None:
    create(
        "sweeps",
        column("key", NAME),
        column("plan_key", NAME),
        column("plan", sa.Text()),
        column("state", sa.Text()),
        column("started_at", TIME),
        column("finished_at", TIME, null=True),
        key="key",
    )
    op.create_index("ix_sweeps_plan_key", "sweeps", ["plan_key"])
    create(
        "processes",
        column("sweep_id", ID),
        column("name", NAME),
        refers("processes", "sweep_id", "sweeps"),
        sa.UniqueConstraint("sweep_id", "name", name="uq_processes_sweep_id_name"),
    )
    create("conditions", column("key", NAME), column("facts", sa.Text()), key="key")
    create(
        "runs",
        column("process_id", ID),
        column("spec_id", ID),
        column("target_id", ID),
        column("round", sa.Integer()),
        column("conditions_id", ID),
        column("observed", sa.Text(), null=True),
        column("started_at", TIME),
        column("inner", sa.Integer()),
        column("warmups", sa.Integer()),
        column("reference_ns", sa.Double()),
        column("wall_ns", sa.LargeBinary()),
        column("cpu_ns", sa.LargeBinary()),
        column("load_ns", sa.BigInteger(), null=True),
        column("compile_ns", sa.BigInteger(), null=True),
        column("peak_memory_bytes", sa.BigInteger(), null=True),
        column("artifact_sha256", sa.Text()),
        refers("runs", "process_id", "processes"),
        refers("runs", "spec_id", "specs"),
        refers("runs", "target_id", "targets"),
        refers("runs", "conditions_id", "conditions"),
        sa.UniqueConstraint(
            "process_id", "spec_id", "target_id", "round", name="uq_runs_process_id_spec_id_target_id_round"
        ),
    )
    op.create_index("ix_runs_point", "runs", ["spec_id", "target_id"])
    create(
        "failures",
        column("sweep_id", ID),
        column("spec_id", ID),
        column("target_id", ID),
        column("reason", sa.Text()),
        column("at", TIME),
        refers("failures", "sweep_id", "sweeps"),
        refers("failures", "spec_id", "specs"),
        refers("failures", "target_id", "targets"),
    )
    op.create_index("ix_failures_sweep_id", "failures", ["sweep_id"])
    create(
        "artifacts",
        column("sha256", NAME),
        column("spec_id", ID),
        column("format", sa.Text()),
        column("precision", sa.Text()),
        column("exporter_version", sa.Text()),
        column("parity_error", sa.Double()),
        column("size_bytes", sa.BigInteger()),
        refers("artifacts", "spec_id", "specs"),
        key="sha256",
    )


def upgrade_entries() -> None:
    create(
        "entries",
        column("spec_id", ID),
        column("target_id", ID),
        column("kind", sa.Text()),
        column("p10_ns", sa.Double()),
        column("p50_ns", sa.Double()),
        column("p90_ns", sa.Double()),
        column("low_ns", sa.Double()),
        column("high_ns", sa.Double()),
        column("runs", sa.Integer()),
        column("samples", sa.Integer()),
        column("clock", sa.Text()),
        column("wall_p10_ns", sa.Double(), null=True),
        column("wall_p50_ns", sa.Double(), null=True),
        column("chain_ns", sa.Double(), null=True),
        column("slope_ns", sa.Double(), null=True),
        column("context_ns", sa.Double(), null=True),
        column("cold_ns", sa.Double(), null=True),
        column("load_ns", sa.BigInteger(), null=True),
        column("compile_ns", sa.BigInteger(), null=True),
        column("peak_memory_bytes", sa.BigInteger(), null=True),
        column("doubts", sa.Text()),
        column("provenance", sa.Text()),
        column("created_at", TIME),
        column("current", sa.Boolean()),
        refers("entries", "spec_id", "specs"),
        refers("entries", "target_id", "targets"),
    )
    sqlite = op.get_context().dialect.name == "sqlite"
    current = sa.text("current IS 1" if sqlite else "current IS true")
    op.create_index("ix_entries_history", "entries", ["spec_id", "target_id", "id"])
    where = {"sqlite_where": current, "postgresql_where": current}
    op.create_index("uq_entries_current", "entries", ["spec_id", "target_id"], unique=True, **where)
    op.create_index("ix_entries_target", "entries", ["target_id", "spec_id"], **where)
    op.execute(LATENCY_TABLE + ("WHERE entries.current IS 1" if sqlite else "WHERE entries.current IS true"))


def downgrade() -> None:
    op.execute("DROP VIEW latency_table")
    tables = "entries failures artifacts runs conditions processes sweeps block_values targets specs"
    for table in tables.split():
        op.drop_table(table)
