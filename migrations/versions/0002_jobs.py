"""Jobs: what is to be measured, by whom, who may ask, and named states of the table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def column(name: str, type_: sa.types.TypeEngine, null: bool = False) -> sa.Column:
    return sa.Column(name, type_, nullable=null)


def refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=f"fk_{table}_{column}")


def unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def create(table: str, *parts: sa.Column | sa.Constraint) -> None:
    """Create a table with an id."""
    op.create_table(table, column("id", ID), *parts, sa.PrimaryKeyConstraint("id", name=f"pk_{table}"))


def upgrade() -> None:
    upgrade_jobs()
    upgrade_fleet()
    create(
        "tokens",
        column("name", NAME),
        column("hash", NAME),
        column("scopes", sa.Text()),
        column("devices", sa.Text()),
        column("created_at", TIME),
        column("expires_at", TIME, null=True),
        column("revoked_at", TIME, null=True),
        column("last_used_at", TIME, null=True),
        unique("tokens", "hash"),
    )
    unrevoked = sa.text("revoked_at IS NULL")
    where = {"sqlite_where": unrevoked, "postgresql_where": unrevoked}
    op.create_index("uq_tokens_name", "tokens", ["name"], unique=True, **where)
    create("marks", column("name", NAME), column("made_at", TIME), column("last_entry", ID), unique("marks", "name"))


def upgrade_jobs() -> None:
    create(
        "jobs",
        column("key", NAME),
        column("name", NAME),
        column("state", NAME),
        column("request", sa.Text()),
        column("request_key", NAME),
        column("idempotency_key", NAME, null=True),
        column("submitter", NAME),
        column("baseline_job", NAME),
        column("labels", sa.Text()),
        column("policy", sa.Text()),
        column("again", sa.Boolean()),
        column("compares", sa.Boolean()),
        column("environment", sa.Text()),
        column("created_at", TIME),
        column("started_at", TIME, null=True),
        column("finished_at", TIME, null=True),
        unique("jobs", "key"),
        unique("jobs", "idempotency_key"),
    )
    op.create_index("ix_jobs_name", "jobs", ["name", "id"])
    op.create_index("ix_jobs_state", "jobs", ["state", "id"])
    create(
        "batches",
        column("key", NAME),
        column("job_id", ID),
        column("number", sa.Integer()),
        column("device", NAME),
        column("rank", sa.Integer()),
        column("state", NAME),
        column("cancelled", sa.Boolean()),
        column("points", sa.Integer()),
        column("rounds", sa.Integer()),
        column("attempts", sa.Integer()),
        column("fruitless", sa.Integer()),
        column("sweep_id", ID, null=True),
        column("baseline_sweep_id", ID, null=True),
        column("agent", NAME),
        column("lost_by", NAME, null=True),
        column("progress", sa.Text(), null=True),
        column("claimed_at", TIME, null=True),
        column("closed_at", TIME, null=True),
        refers("batches", "job_id", "jobs"),
        refers("batches", "sweep_id", "sweeps"),
        refers("batches", "baseline_sweep_id", "sweeps"),
        unique("batches", "key"),
        unique("batches", "job_id", "number"),
    )
    op.create_index("ix_batches_claim", "batches", ["device", "state", "rank", "job_id", "number"])
    op.create_index("ix_batches_state", "batches", ["state", "device"])
    lost = sa.text("lost_by IS NOT NULL")
    op.create_index("ix_batches_lost_by", "batches", ["lost_by"], sqlite_where=lost, postgresql_where=lost)
    create(
        "points",
        column("job_id", ID),
        column("number", sa.Integer()),
        column("batch_id", ID),
        column("spec_id", ID),
        column("target_id", ID),
        column("format", sa.Text()),
        column("options", sa.Text()),
        column("state", NAME),
        column("reason", sa.Text()),
        column("entry_id", ID, null=True),
        column("baseline", sa.Text(), null=True),
        column("closed_at", TIME, null=True),
        refers("points", "job_id", "jobs"),
        refers("points", "batch_id", "batches"),
        refers("points", "spec_id", "specs"),
        refers("points", "target_id", "targets"),
        refers("points", "entry_id", "entries"),
        unique("points", "job_id", "number"),
        unique("points", "job_id", "spec_id", "target_id"),
    )
    op.create_index("ix_points_state", "points", ["job_id", "state", "number"])
    op.create_index("ix_points_batch", "points", ["batch_id", "state"])
    create(
        "job_events",
        column("job_id", ID),
        column("at", TIME),
        column("level", sa.Text()),
        column("text", sa.Text()),
        refers("job_events", "job_id", "jobs"),
    )
    op.create_index("ix_job_events_job_id", "job_events", ["job_id", "id"])


def upgrade_fleet() -> None:
    create(
        "agents",
        column("name", NAME),
        column("installation", NAME),
        column("session", NAME),
        column("version", sa.Text()),
        column("facts", sa.Text()),
        column("environments", sa.Text()),
        column("bound", sa.Text()),
        column("announced_at", TIME),
        column("seen_at", TIME),
        unique("agents", "name"),
        unique("agents", "installation"),
    )
    create(
        "devices",
        column("name", NAME),
        column("agent_id", ID),
        column("facts", sa.Text()),
        column("runtimes", sa.Text()),
        column("usable", sa.Boolean()),
        column("reason", sa.Text()),
        refers("devices", "agent_id", "agents"),
        unique("devices", "name"),
    )
    op.create_index("ix_devices_agent_id", "devices", ["agent_id"])
    create(
        "leases",
        column("device", NAME),
        column("token", NAME),
        column("batch_id", ID),
        column("agent", NAME),
        column("session", NAME),
        column("beat", sa.BigInteger()),
        column("taken_at", TIME),
        column("expires_at", TIME),
        refers("leases", "batch_id", "batches"),
        unique("leases", "device"),
        unique("leases", "token"),
        unique("leases", "batch_id"),
    )
    op.create_index("ix_leases_session", "leases", ["session"])


def downgrade() -> None:
    for table in "marks tokens leases devices agents job_events points batches jobs".split():
        op.drop_table(table)
