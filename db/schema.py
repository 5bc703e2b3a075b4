"""The tables: what they hold and what keeps them consistent; no logic. `migrations/` brings them to be."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from .columns import Id, Json, Name, UtcTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

specs = Table(
    "specs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name, nullable=False, unique=True),
    Column("kind", Name, nullable=False),
    Column("width_in", Integer, nullable=False),
    Column("width_out", Integer, nullable=False),
    Column("resolution", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("params", Json, nullable=False),
    # The order of a page; GET /latency walks it.
    Index("ix_specs_order", "kind", "width_in", "width_out", "resolution", "batch", "id"),
)

targets = Table(
    "targets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name, nullable=False, unique=True),
    Column("device", Name, nullable=False),
    Column("runtime", Name, nullable=False),
    Column("precision", Name, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("unit", Name, nullable=False),
)

# Every value that a current row's kind, widths, resolution, batch and parameters take: what `blocks()` lists without a scan.
block_values = Table(
    "block_values",
    metadata,
    Column("kind", Name, primary_key=True),
    Column("name", Name, primary_key=True),  # "width_in", ... or "params.expansion"
    Column("value", Name, primary_key=True),  # JSON
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name, nullable=False, unique=True),
    Column("plan_key", Name, nullable=False, index=True),
    Column("plan", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
)

processes = Table(
    "processes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("sweep_id", Id, ForeignKey("sweeps.id"), nullable=False),
    Column("name", Name, nullable=False),
    UniqueConstraint("sweep_id", "name"),
)

# Facts that must be equal in pooled runs: one row for each distinct set, shared by all runs under it.
conditions = Table(
    "conditions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name, nullable=False, unique=True),
    Column("facts", Json, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("process_id", Id, ForeignKey("processes.id"), nullable=False),
    Column("spec_id", Id, ForeignKey("specs.id"), nullable=False),
    Column("target_id", Id, ForeignKey("targets.id"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("conditions_id", Id, ForeignKey("conditions.id"), nullable=False),
    Column("observed", Json),  # the facts that may differ from run to run; NULL = none
    Column("started_at", UtcTime, nullable=False),
    Column("inner", Integer, nullable=False),
    Column("warmups", Integer, nullable=False),
    Column("reference_ns", Double, nullable=False),
    Column("wall_ns", LargeBinary, nullable=False),  # db/samples.py
    Column("cpu_ns", LargeBinary, nullable=False),
    Column("load_ns", sa.BigInteger),
    Column("compile_ns", sa.BigInteger),
    Column("peak_memory_bytes", sa.BigInteger),
    Column("artifact_sha256", Text, nullable=False),
    UniqueConstraint("process_id", "spec_id", "target_id", "round"),
    Index("ix_runs_point", "spec_id", "target_id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("sha256", Name, nullable=False, unique=True),
    Column("spec_id", Id, ForeignKey("specs.id"), nullable=False),
    Column("format", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("exporter_version", Text, nullable=False),
    Column("parity_error", Double, nullable=False),
    Column("size_bytes", sa.BigInteger, nullable=False),
)

failures = Table(
    "failures",
    metadata,
    Column("id", Id, primary_key=True),
    Column("sweep_id", Id, ForeignKey("sweeps.id"), nullable=False, index=True),
    Column("spec_id", Id, ForeignKey("specs.id"), nullable=False),
    Column("target_id", Id, ForeignKey("targets.id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("spec_id", Id, ForeignKey("specs.id"), nullable=False),
    Column("target_id", Id, ForeignKey("targets.id"), nullable=False),
    Column("kind", Text, nullable=False),  # measured, interpolated, predicted, transferred, emulated
    Column("p10_ns", Double, nullable=False),
    Column("p50_ns", Double, nullable=False),
    Column("p90_ns", Double, nullable=False),
    Column("low_ns", Double, nullable=False),
    Column("high_ns", Double, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("clock", Text, nullable=False),
    Column("wall_p10_ns", Double),
    Column("wall_p50_ns", Double),
    Column("chain_ns", Double),
    Column("slope_ns", Double),
    Column("context_ns", Double),
    Column("cold_ns", Double),
    Column("load_ns", sa.BigInteger),
    Column("compile_ns", sa.BigInteger),
    Column("peak_memory_bytes", sa.BigInteger),
    Column("doubts", Json, nullable=False),
    Column("provenance", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("current", Boolean, nullable=False),
    Column("ran_on", Name),  # `Entry.ran_on`, for filters alone: what is read is the provenance; NULL: not known
    Index("ix_entries_history", "spec_id", "target_id", "id"),
)

# Written as the partial indexes are, so that both planners see that the one implies the other.
is_current = entries.c.current.is_(sa.true())

Index(
    "uq_entries_current",
    entries.c.spec_id,
    entries.c.target_id,
    unique=True,
    sqlite_where=is_current,
    postgresql_where=is_current,
)
Index("ix_entries_target", entries.c.target_id, entries.c.spec_id, sqlite_where=is_current, postgresql_where=is_current)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name, nullable=False, unique=True),  # the job's id for everybody else
    Column("name", Name, nullable=False),
    Column("state", Name, nullable=False),  # queued, running, done, cancelled
    Column("request", Json, nullable=False),
    Column("request_key", Name, nullable=False),
    Column("idempotency_key", Name, unique=True),
    Column("submitter", Name, nullable=False),
    Column("baseline_job", Name, nullable=False),
    # What a claim needs of the request, which may be megabytes long.
    Column("labels", Json, nullable=False),
    Column("policy", Json, nullable=False),
    Column("again", Boolean, nullable=False),
    Column("compares", Boolean, nullable=False),
    Column("environment", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Index("ix_jobs_name", "name", "id"),
    Index("ix_jobs_state", "state", "id"),
)

# Points of one device that are measured interleaved: what an agent claims.
batches = Table(
    "batches",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name, nullable=False, unique=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("device", Name, nullable=False),
    Column("rank", Integer, nullable=False),  # the job's priority, negated: the first to be claimed has the least
    Column("state", Name, nullable=False),  # open, claimed, closed (no point of it is open)
    Column("cancelled", Boolean, nullable=False),
    Column("points", Integer, nullable=False),  # as it was planned
    Column("rounds", Integer, nullable=False),  # runs stored
    Column("attempts", Integer, nullable=False),  # claims
    Column("fruitless", Integer, nullable=False),  # claims since anything was stored
    Column("sweep_id", Id, ForeignKey("sweeps.id")),  # from the first claim on
    Column("baseline_sweep_id", Id, ForeignKey("sweeps.id")),
    Column("agent", Name, nullable=False),  # that claimed it last
    Column("lost_by", Name),  # the session that lost it, until it is claimed again
    Column("progress", Json),
    Column("claimed_at", UtcTime),
    Column("closed_at", UtcTime),
    UniqueConstraint("job_id", "number"),
    Index("ix_batches_claim", "device", "state", "rank", "job_id", "number"),
    Index("ix_batches_state", "state", "device"),
)

is_lost = batches.c.lost_by.is_not(sa.null())

Index("ix_batches_lost_by", batches.c.lost_by, sqlite_where=is_lost, postgresql_where=is_lost)

points = Table(
    "points",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("batch_id", Id, ForeignKey("batches.id"), nullable=False),
    Column("spec_id", Id, ForeignKey("specs.id"), nullable=False),
    Column("target_id", Id, ForeignKey("targets.id"), nullable=False),
    Column("format", Text, nullable=False),
    Column("options", Json, nullable=False),
    Column("state", Name, nullable=False),  # open, measured, known, compared, failed, cancelled
    Column("reason", Text, nullable=False),
    Column("entry_id", Id, ForeignKey("entries.id")),
    Column("baseline", Json),
    Column("closed_at", UtcTime),
    UniqueConstraint("job_id", "number"),
    UniqueConstraint("job_id", "spec_id", "target_id"),  # exactly once
    Index("ix_points_state", "job_id", "state", "number"),
    Index("ix_points_batch", "batch_id", "state"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("level", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_job_events_job_id", "job_id", "id"),
)

agents = Table(
    "agents",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("installation", Name, nullable=False, unique=True),
    Column("session", Name, nullable=False),
    Column("version", Text, nullable=False),
    Column("facts", Json, nullable=False),
    Column("environments", Json, nullable=False),
    Column("bound", Json, nullable=False),  # the devices that its token is for; empty: any
    Column("announced_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("agent_id", Id, ForeignKey("agents.id"), nullable=False, index=True),
    Column("facts", Json, nullable=False),
    Column("runtimes", Json, nullable=False),
    Column("usable", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)

# Who measures on a device: one at a time, and one batch at a time.
leases = Table(
    "leases",
    metadata,
    Column("id", Id, primary_key=True),
    Column("device", Name, nullable=False, unique=True),
    Column("token", Name, nullable=False, unique=True),
    Column("batch_id", Id, ForeignKey("batches.id"), nullable=False, unique=True),
    Column("agent", Name, nullable=False),
    Column("session", Name, nullable=False, index=True),
    Column("beat", sa.BigInteger, nullable=False),  # grows while the session lives: db/fleet.py
    Column("taken_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),  # for people
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False),
    Column("hash", Name, nullable=False, unique=True),  # SHA-256 of the secret, hex
    Column("scopes", Json, nullable=False),
    Column("devices", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
)

is_unrevoked = tokens.c.revoked_at.is_(sa.null())

Index("uq_tokens_name", tokens.c.name, unique=True, sqlite_where=is_unrevoked, postgresql_where=is_unrevoked)

marks = Table(
    "marks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
    Column("made_at", UtcTime, nullable=False),
    Column("last_entry", Id, nullable=False),
)

searches = Table(
    "searches",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name, nullable=False, unique=True),  # the search's own id
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),  # running, done, failed, interrupted
    Column("target_id", Id, ForeignKey("targets.id"), nullable=False),
    Column("target_ms", Double, nullable=False),
    Column("about", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # What the events tell, kept so that a list reads none of them.
    Column("events", Integer, nullable=False),
    Column("stage", Text, nullable=False),
    Column("share", Double),
    Column("best_accuracy", Double),
)

search_events = Table(
    "search_events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("search_id", Id, ForeignKey("searches.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # stage, epoch, round, network
    Column("content", Json, nullable=False),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("search_id", "number"),
)
