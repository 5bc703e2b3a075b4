"""An agent as small as can be: it announces, claims, sends a round and a row for each point, all against the facade."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from db.engine import SqlStore
from edgelut import MB3D, MB4D
from edgelut.jobs import Announcement, BatchPoint, Claim, Closed, DeviceInfo, Job, JobRequest, RuntimeInfo, Standing
from edgelut.testing import make_entry, make_run
from edgelut.types import BlockSpec, Entry, Params, Run
from jobs.service import Jobs

BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
NULL = RuntimeInfo("null", "1", ("null",), ("fp32",))
SPECS = (MB3D.spec(64, 7), MB3D.spec(128, 7), MB4D.spec(64, 14), MB4D.spec(128, 14))


def request_for(*devices: str, **changes: object) -> JobRequest:
    """Return a request for four blocks on some devices."""
    fields: dict[str, object] = {"specs": SPECS, "devices": devices, "runtimes": ("null",), "alone": True}
    return JobRequest(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass
class TinyAgent:
    """An agent with devices. `session` is a new one in each process, `installation` is kept."""

    jobs: Jobs
    name: str = "lab"
    devices: tuple[str, ...] = ("a",)
    installation: str = field(default_factory=lambda: uuid.uuid4().hex)
    session: str = field(default_factory=lambda: uuid.uuid4().hex)

    def announce(self, **changes: object) -> None:
        infos = tuple(DeviceInfo(name, Params({"model": "null"}), (NULL,)) for name in self.devices)
        fields: dict[str, object] = {"devices": infos, **changes}
        self.jobs.announce(Announcement(self.name, self.installation, self.session, "0.1.0", **fields))  # type: ignore[arg-type]

    def restart(self) -> None:
        """Die and come back."""
        self.session = uuid.uuid4().hex
        self.announce()

    def claim(self) -> Claim:
        claim = self.jobs.claim(self.name, self.session, self.devices)
        assert claim is not None
        return claim

    def work(self) -> int:
        """Measure all that there is; return how many points were sent."""
        sent = 0
        while (claim := self.jobs.claim(self.name, self.session, self.devices)) is not None:
            self.measure(claim, claim.points)
            self.jobs.finish(claim.batch, claim.lease)
            sent += len(claim.points)
        return sent

    def measure(self, claim: Claim, points: Sequence[BatchPoint]) -> Standing:
        """Send one round and the rows of some points."""
        self.jobs.put_runs(claim.batch, claim.lease, [self.run(claim, one) for one in points])
        return self.jobs.put_entries(claim.batch, claim.lease, [self.row(claim, one) for one in points])

    def fail(self, claim: Claim, points: Sequence[BatchPoint], reason: str = "it is broken") -> Standing:
        return self.jobs.close_points(
            claim.batch, claim.lease, [Closed(one.number, "failed", reason) for one in points]
        )

    def run(self, claim: Claim, one: BatchPoint) -> Run:
        return make_run(claim.sweep, process=self.session, spec=one.point.spec, target=one.point.target)

    def row(self, claim: Claim, one: BatchPoint) -> Entry:
        return make_entry(1e6, one.point.spec, one.point.target, provenance=Params({"sweep": claim.sweep}))


def counts(job: Job | None) -> dict[str, int]:
    """Return a job's points by state, those that there are."""
    assert job is not None
    states = ("open", "measured", "known", "compared", "failed", "cancelled")
    return {state: count for state in states if (count := getattr(job.points, state))}


def widths(count: int) -> tuple[BlockSpec, ...]:
    """Return so many specs."""
    return tuple(MB3D.spec(8 * (number + 1), 7) for number in range(count))


def wait_until(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Return when something is so; fail after a while."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for what did not come"
        time.sleep(0.02)


def measure(store: SqlStore, agent: TinyAgent) -> None:
    """Close all points that there are, and no job."""
    while (claim := store.claim(agent.name, agent.session, agent.devices)) is not None:
        store.put_batch_entries(claim.batch, claim.lease, [agent.row(claim, one) for one in claim.points])
        store.finish_batch(claim.batch, claim.lease, interrupted=False)


def ended(store: SqlStore, job: Job) -> Callable[[], bool]:
    def has_ended() -> bool:
        found = store.find_job(job.id)
        return found is not None and found.state in ("done", "cancelled")

    return has_ended


def rows(store: SqlStore, table: str, columns: str = "*", where: str = "1 = 1") -> list[Any]:
    """Return rows of DBOS's own tables."""
    schema = "dbos." if store.engine.dialect.name == "postgresql" else ""
    with store.engine.connect() as connection:
        return list(connection.execute(sa.text(f"SELECT {columns} FROM {schema}{table} WHERE {where}")))


def workflows(store: SqlStore) -> dict[str, str]:
    return {row[0]: row[1] for row in rows(store, "workflow_status", "workflow_uuid, status")}


def looks(store: SqlStore, job: Job) -> int:
    """Return how often a job's workflow has looked at it and stored what it saw."""
    where = f"workflow_uuid = '{job.id}' AND function_name = 'edgelut.look'"
    return int(rows(store, "operation_outputs", "count(*)", where)[0][0])


def change(store: SqlStore, statement: str) -> None:
    schema = "dbos." if store.engine.dialect.name == "postgresql" else ""
    with store.engine.execution_options(edgelut_writes=True).begin() as connection:
        connection.execute(sa.text(statement.replace("workflow_status", f"{schema}workflow_status")))
