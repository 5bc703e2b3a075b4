"""Processes are killed at any moment: every point is stored once, and every job ends."""

from __future__ import annotations

import random
import time

import sqlalchemy as sa

from db.engine import SqlStore, open_store
from edgelut.jobs import Job
from jobs.service import Jobs
from tests.jobs.nursery import Nursery
from tests.jobs.support import BOTH, TinyAgent, counts, request_for, wait_until, widths
from tests.jobs.test_engine import measure, rows, workflows

KILLS = 20


def submit(store: SqlStore, points: int) -> Job:
    jobs = Jobs(store)
    TinyAgent(jobs, name="lab", installation="lab").announce()
    return jobs.submit(request_for("a", specs=widths(points)))


def check_stored_once(store: SqlStore, job: Job, points: int) -> None:
    """Every point has its one row, and the log tells of one end."""
    done = store.find_job(job.id)
    assert done is not None and (done.state, counts(done)) == ("done", {"measured": points})
    entries = [point.entry for point in store.job_points(job.id)]
    assert len(set(entries)) == points
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM entries")).scalar() == points
    assert [event.text for event in store.job_events(job.id) if event.text.startswith("done")] == [
        f"done: {points} measured"
    ]
    assert store.leases() == []


def test_kill_9_of_the_process_that_runs_everything_at_random_points_costs_nothing(
    store: SqlStore, url: str, nursery: Nursery
) -> None:
    draw = random.Random(4)
    points = 250
    job = submit(store, points)
    for _ in range(KILLS):
        child = nursery.start(url, installation="lab", pause_s=0.02)
        time.sleep(draw.uniform(0.02, 0.6))
        nursery.kill(child)
    nursery.end(nursery.start(url, installation="lab", pause_s=0.0))
    check_stored_once(store, job, points)
    assert set(workflows(store).values()) == {"SUCCESS"}


@BOTH
def test_a_kill_between_the_last_point_and_the_end_of_a_job_is_made_good_at_the_next_start(
    store: SqlStore, url: str, nursery: Nursery
) -> None:
    job = submit(store, 3)
    child = nursery.start(url)
    wait_until(lambda: "PENDING" in _states(store))
    nursery.kill(child)
    agent = TinyAgent(Jobs(store), name="lab", installation="lab")
    agent.announce()
    claim = agent.claim()
    store.put_batch_entries(claim.batch, claim.lease, [agent.row(claim, one) for one in claim.points])
    store.finish_batch(claim.batch, claim.lease, interrupted=False)
    nursery.end(nursery.start(url))
    check_stored_once(store, job, 3)


def test_two_processes_on_one_server_share_the_jobs_and_when_one_is_killed_for_good_the_other_finishes_them(
    postgres_url: str, nursery: Nursery
) -> None:
    with open_store(postgres_url) as store:
        agent = TinyAgent(Jobs(store), name="lab", installation="lab")
        agent.announce()
        made = [agent.jobs.submit(request_for("a"))]
        first, second = (nursery.start(postgres_url, executor=name, adopt_s=1.0) for name in ("one", "two"))

        def share() -> bool:
            if len(made) < 100:
                made.append(agent.jobs.submit(request_for("a")))
            return {"one", "two"} <= _owners(store)

        wait_until(share, 60)
        nursery.kill(first)
        measure(store, agent)
        nursery.end(second)  # which it does when all jobs have ended
        assert {counts(store.find_job(job.id))["measured"] for job in made} == {4}
        assert {store.find_job(job.id).state for job in made} == {"done"}  # type: ignore[union-attr]
        assert not _owners(store) - {"two"}


def _states(store: SqlStore) -> set[str]:
    try:
        return set(workflows(store).values())
    except sa.exc.DBAPIError:  # its tables are being made
        return set()


def _owners(store: SqlStore) -> set[str]:
    try:
        return {row[0] for row in rows(store, "workflow_status", "executor_id", "status = 'PENDING'")}
    except sa.exc.DBAPIError:
        return set()
