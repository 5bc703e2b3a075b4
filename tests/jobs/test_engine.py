"""The engine ends every job, whatever happened to its workflows, and meets what is known of DBOS's conditions."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa
from dbos import DBOS

from db.engine import SqlStore
from edgelut.errors import StorageError
from jobs import engine as engine_module
from jobs.engine import Engine
from jobs.service import Jobs
from tests.jobs.conftest import MakeEngine
from tests.jobs.support import (
    BOTH,
    TinyAgent,
    counts,
    ended,
    looks,
    measure,
    request_for,
    rows,
    wait_until,
    widths,
    workflows,
)


@BOTH
def test_a_job_that_has_nothing_open_is_ended_by_its_workflow(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    heard: list[str] = []
    engine = make_engine(check_s=60.0)
    engine.on_end(heard.append)
    engine.start()
    wait_until(lambda: engine._forgot_at is not None)  # the first check is over, and finds no job to tell of
    job = jobs.submit(request_for("a"))
    engine.tell(job.id)
    wait_until(lambda: looks(store, job) == 1)  # from here on it waits for a word
    measure(store, agent)
    assert not ended(store, job)()
    engine.tell(job.id)
    wait_until(ended(store, job))
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})
    assert heard == [job.id]


@BOTH
def test_the_facade_tells_the_engine_all_that_it_needs(
    store: SqlStore, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    agent.jobs = jobs = Jobs(store, make_engine(check_s=60.0))
    jobs.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    claim = agent.claim()
    agent.fail(claim, claim.points[:1])
    agent.measure(claim, claim.points[1:])
    jobs.finish(claim.batch, claim.lease)
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})
    jobs.retry(job.id)
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS", f"{job.id}-2": "PENDING"})
    jobs.cancel(job.id)
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS", f"{job.id}-2": "SUCCESS"})
    assert counts(jobs.find_job(job.id)) == {"measured": 3, "cancelled": 1}
    jobs.stop()
    jobs.stop()


@pytest.mark.parametrize("state", ["queued", "running", "done", "cancelled"])
def test_a_job_that_is_cancelled_in_any_state_ends_its_workflow_without_a_word_of_fault(
    store: SqlStore,
    agent: TinyAgent,
    make_engine: MakeEngine,
    state: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent.jobs = jobs = Jobs(store, make_engine())
    jobs.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    claim = agent.claim() if state in ("running", "done") else None
    if claim is not None and state == "done":
        agent.measure(claim, claim.points)
    if state == "cancelled":
        jobs.cancel(job.id)
    assert jobs.cancel(job.id).state == ("done" if state == "done" else "cancelled")
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})
    jobs.stop()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed_and_no_thread_is_left(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    for _ in range(2):  # a second time in the same process, too
        engine = make_engine()
        engine.start()
        for _ in range(3):
            engine.tell(jobs.submit(request_for("a")).id)
        wait_until(lambda: "PENDING" in workflows(store).values())
        engine.stop()
        engine.stop()
    assert capfd.readouterr() == ("", "")
    wait_until(lambda: threading.active_count() == before)


def test_a_job_that_waits_holds_no_thread(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    engine = make_engine()
    engine.start()
    for _ in range(60):
        jobs.submit(request_for("a", specs=widths(1)))
    wait_until(lambda: len(engine._waiting) == 60, 30)
    assert threading.active_count() < 40


def test_jobs_that_were_stored_before_a_crash_get_their_workflows_when_the_engine_starts(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    made = [jobs.submit(request_for("a")) for _ in range(3)]
    measure(store, agent)
    make_engine(check_s=60.0).start()
    for job in made:
        wait_until(ended(store, job))


def test_a_workflow_that_ended_too_early_is_followed_by_another(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    engine = make_engine()
    engine.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    DBOS.cancel_workflow(job.id)
    wait_until(lambda: f"{job.id}-2" in workflows(store))
    measure(store, agent)
    engine.tell(job.id)
    wait_until(ended(store, job))


def test_a_job_that_was_forgotten_ends_its_workflow(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    engine = make_engine()
    engine.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    jobs.cancel(job.id)
    assert jobs.store.forget_jobs(job.created_at + timedelta(days=1)) == 1
    engine.tell(job.id)
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})


def test_finished_workflows_are_removed_when_they_are_old(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    engine = make_engine()
    engine.start()
    job = jobs.submit(request_for("a"))
    measure(store, agent)
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})
    engine.stop()
    waiting = jobs.submit(request_for("a"))
    make_engine(keep=timedelta(seconds=-60)).start()
    wait_until(lambda: workflows(store) == {waiting.id: "PENDING"})
    assert {row[0] for row in rows(store, "operation_outputs", "workflow_uuid")} <= {waiting.id}


def test_a_job_costs_few_rows(store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine) -> None:
    engine = make_engine(check_s=0.05)
    engine.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    time.sleep(1.0)  # twenty checks
    measure(store, agent)
    engine.tell(job.id)
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})
    assert len(rows(store, "operation_outputs")) <= 4


def test_its_tables_share_our_file_which_stays_wal(store: SqlStore, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    assert workflows(store) == {}
    for database in (store.engine, engine._engine):
        with database.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_its_tables_are_in_a_schema_of_their_own_on_postgresql(store: SqlStore, make_engine: MakeEngine) -> None:
    make_engine().start()
    with store.engine.connect() as connection:
        where = "SELECT table_schema FROM information_schema.tables WHERE table_name IN ('workflow_status', 'queues')"
        assert list(connection.execute(sa.text(where)).scalars()) == ["dbos", "dbos"]


# When the database is slow, full or away


def test_there_is_one_in_a_process(make_engine: MakeEngine) -> None:
    make_engine().start()
    with pytest.raises(StorageError, match="an engine runs in this process already"):
        make_engine().start()


def test_a_database_that_is_away_at_the_start_is_a_storage_error_and_a_later_start_works(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    engine = make_engine()
    sa.event.listen(engine._engine, "do_connect", refuse)
    with pytest.raises(StorageError, match=r"the job engine cannot start on sqlite:.*unable to open database file"):
        engine.start()
    sa.event.remove(engine._engine, "do_connect", refuse)
    job = jobs.submit(request_for("a"))
    measure(store, agent)
    engine.start()
    wait_until(ended(store, job))


def test_it_goes_on_beside_writers_that_never_rest(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    engine.start()
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        mine = 0
        while not stop.is_set():
            store.pulse(agent.name, agent.session)
            mine += 1
        written.append(mine)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        made = [jobs.submit(request_for("a", specs=widths(2))) for _ in range(5)]
        for job in made:
            engine.tell(job.id)
        measure(store, agent)
        for job in made:
            engine.tell(job.id)
        for job in made:
            wait_until(ended(store, job), 60)
    finally:
        stop.set()
        for writer in writers:
            writer.join(60)
    assert len(written) == 4 and sum(written) > 40
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_full_disk_is_said_and_when_there_is_room_again_everything_goes_on(
    store: SqlStore,
    jobs: Jobs,
    agent: TinyAgent,
    make_engine: MakeEngine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine()
    engine.start()
    made = [jobs.submit(request_for("a")) for _ in range(2)]
    wait_until(lambda: engine._waiting == {job.id for job in made})
    with store.engine.connect() as connection:
        limit = [connection.exec_driver_sql("PRAGMA page_count").scalar_one()]

    def fill(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    for database in (store.engine, engine._engine):
        sa.event.listen(database, "checkout", fill)
    with pytest.raises(StorageError, match=r"disk is full.*free some space and run again"):
        for _ in range(50):
            jobs.submit(request_for("a", specs=widths(500)))

    monkeypatch.setattr("jobs.quiet.QUIET_S", 0.0)

    def is_said() -> bool:
        for job in made:  # until a message needs a page of its own
            engine.tell(job.id)
        return any("disk is full" in record.getMessage() for record in caplog.records)

    wait_until(is_said)
    limit[0] = 2**30
    measure(store, agent)
    for job in made:
        wait_until(ended(store, job))
    wait_until(lambda: not engine._waiting & {job.id for job in made})


def test_telling_never_waits_for_the_database(jobs: Jobs, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.tell("not started yet")
    engine.start()

    def slow(*_: object) -> None:
        time.sleep(2.0)

    sa.event.listen(engine._engine, "begin", slow)
    started = time.perf_counter()
    for number in range(100):
        engine.tell(f"job{number}")
    assert time.perf_counter() - started < 20  # of the 200 s that a hundred transactions take
    sa.event.remove(engine._engine, "begin", slow)


def test_no_more_than_one_engine_is_known() -> None:
    assert engine_module._running is None
    with pytest.raises(StorageError, match="has stopped"):
        engine_module._started()


def test_an_engine_that_was_never_started_stops(make_engine: MakeEngine) -> None:
    engine: Engine = make_engine()
    engine.stop()
