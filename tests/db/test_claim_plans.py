"""What agents ask all the time stays quick with 100,000 points and 1,000 batches in the database: each is a walk in an index."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from db.engine import SqlStore
from db.schema import batches, jobs, points, specs, targets
from edgelut import wire
from edgelut.jobs import Claim, Closed
from edgelut.plan import Policy
from edgelut.testing import widths
from edgelut.types import BlockSpec
from tests.db.support import SESSION, announcement, hold, request, submit, target

FRESH = True  # what 100,000 rows leave behind would slow down other tests
JOBS, BATCHES, POINTS = 20, 50, 100  # of a job, of a batch
DEVICES = [f"lab-{number}" for number in range(10)]
LARGE = ("points", "batches", "runs", "specs", "entries", "jobs", "job_events")


@pytest.fixture
def full(store: SqlStore) -> SqlStore:
    """A store with 20 jobs of 50 batches of 100 points, five batches of each job for each device."""
    asked, now = request(), datetime.now(UTC)
    job: dict[str, Any] = {"name": "", "state": "queued", "request": wire.dump(asked), "request_key": asked.key}
    job |= {"submitter": "", "baseline_job": "", "labels": {}, "policy": wire.dump(Policy()), "again": False}
    job |= {"compares": False, "environment": "", "created_at": now}
    batch = {"rank": 0, "state": "open", "cancelled": False, "points": POINTS, "agent": ""}
    batch |= {"rounds": 0, "attempts": 0, "fruitless": 0}
    blocks = widths(BATCHES // len(DEVICES) * POINTS)
    with store.engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # looks up no foreign key: half a million of them take seconds
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        connection.execute(specs.insert(), [row(n + 1, block) for n, block in enumerate(blocks)])
        connection.execute(targets.insert(), [row(n + 1, target(name)) for n, name in enumerate(DEVICES)])
        connection.execute(jobs.insert(), [job | {"id": n + 1, "key": f"job {n}"} for n in range(JOBS)])
        connection.execute(
            batches.insert(),
            [
                batch
                | {"id": j * BATCHES + b + 1, "key": f"{j} {b}", "job_id": j + 1, "number": b}
                | {"device": DEVICES[b % len(DEVICES)]}
                for j in range(JOBS)
                for b in range(BATCHES)
            ],
        )
        # In the database, for 100,000 rows that pass through a driver take seconds.
        numbers = sa.select(sa.literal(0).label("n")).cte("numbers", recursive=True)
        numbers = numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < POINTS - 1))
        number = (batches.c.number * POINTS + numbers.c.n).label("number")
        spec = sa.cast(sa.func.floor(batches.c.number * 1.0 / len(DEVICES)), sa.Integer) * POINTS + numbers.c.n + 1
        rows = sa.select(
            batches.c.job_id,
            number,
            batches.c.id,
            spec,
            batches.c.number % len(DEVICES) + 1,
            *(sa.literal(text) for text in ("null", "{}", "open", "")),
        ).join(numbers, sa.true())
        names = ("job_id", "number", "batch_id", "spec_id", "target_id", "format", "options", "state", "reason")
        connection.execute(points.insert().from_select(names, rows))
        connection.execute(sa.text("ANALYZE"))
        if connection.dialect.name == "postgresql":  # ids were given above, and the sequences do not know
            for table in ("specs", "targets", "jobs", "batches"):
                connection.execute(
                    sa.text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
                )
    store.announce(announcement(*DEVICES))
    return store


def row(id_: int, value: BlockSpec | Any) -> dict[str, Any]:
    return {**value.as_json(), "key": value.key, "id": id_}


def explained(store: SqlStore, sent: list[tuple[str, object]]) -> dict[str, str]:
    """The plans of the statements, each once."""
    plans: dict[str, str] = {}
    with store.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.execute(sa.text("SET enable_seqscan = off"))  # is there any other way?
        for statement, parameters in sent:
            if "pg_advisory" in statement or not statement.startswith(("SELECT", "UPDATE", "DELETE")):
                continue
            one = parameters[0] if isinstance(parameters, list) else parameters
            explain = ("EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN ") + statement
            rows = connection.exec_driver_sql(explain, one).all()  # type: ignore[arg-type]
            plans[statement] = "\n".join(str(found[-1]) for found in rows)
    return plans


def test_what_agents_ask_walks_indexes_alone(full: SqlStore, statements: list[tuple[str, object]]) -> None:
    statements.clear()
    assert full.has_work(DEVICES)
    holder = hold(full, *DEVICES)
    assert len(holder.claim.points) == POINTS and holder.claim.job == "job 0"
    numbers = [one.number for one in holder.claim.points]
    holder.put_round(0)
    holder.put_entries(*numbers[:5])
    holder.close(Closed(numbers[6], "failed", "why"))
    holder.progress(6, 10.0)
    full.batch_runs(holder.claim.batch)
    full.pulse("agent", SESSION)
    full.leases()
    holder.finish(interrupted=True)
    full.is_complete("job 0")
    full.close_job("job 0")
    full.job_points("job 0", after=2000, limit=50)
    full.job_points("job 0", state="failed")
    full.job_events("job 0", after=2)
    plans = explained(full, statements)
    assert len(plans) > 20
    for statement, plan in plans.items():
        scanned = re.findall(r"SCAN (\w+)|Seq Scan on (\w+)", plan)
        names = {one or other for one, other in scanned}
        assert not names & set(LARGE), f"{statement}\n{plan}"
    claim = next(plan for text, plan in plans.items() if "firsts" in text)
    assert "ix_batches_claim" in claim


def test_claims_take_no_longer_for_what_waits_behind_them(full: SqlStore) -> None:
    with full.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(points)).scalar() == 100_000
        assert connection.execute(sa.select(sa.func.count()).select_from(batches)).scalar() == 1_000
    urgent = submit(full, 1, device="lab-7", priority=1)
    assert hold(full, *DEVICES).claim.job == urgent.id
    started = time.perf_counter()
    claims: list[Claim] = []
    while len(claims) < 9:
        free = set(DEVICES) - {"lab-7"} - {claim.device for claim in claims}
        claims.append(hold(full, *free).claim)
    each_s = (time.perf_counter() - started) / len(claims)
    assert each_s < 0.25, f"{each_s:.3f} s"  # 6 ms where this was written
    assert {claim.device for claim in claims} == set(DEVICES) - {"lab-7"}
    assert {claim.job for claim in claims} == {"job 0"}
    job = full.find_job("job 0")
    assert job is not None and job.points.open == 5000 and len(job.devices) == 10
