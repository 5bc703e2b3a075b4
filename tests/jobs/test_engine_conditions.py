"""The conditions that the engine asks of DBOS, each from a failure that was seen elsewhere."""

from __future__ import annotations

import re
import socket
import time

import pytest

from db.engine import SqlStore
from edgelut.errors import StorageError
from edgelut.jobs import Job
from jobs.engine import APPLICATION_VERSION, QUEUE
from jobs.service import Jobs
from tests.jobs.conftest import MakeEngine
from tests.jobs.support import (
    BOTH,
    TinyAgent,
    change,
    ended,
    measure,
    request_for,
    rows,
    wait_until,
    workflows,
)


def test_its_queue_has_no_limits_that_could_strand_it(store: SqlStore, make_engine: MakeEngine) -> None:
    make_engine().start()
    (queue,) = rows(store, "queues", "*", f"name = '{QUEUE}'")
    found = dict(queue._mapping)
    limits = [name for name in found if re.search("concurrency|rate_limit", name)]
    assert len(limits) >= 4 and all(found[name] is None for name in limits), found


def test_its_version_is_a_constant_so_no_edit_strands_a_job(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS__APPVERSION", "another")
    make_engine().start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    assert APPLICATION_VERSION == "jobs-1"
    assert {row[0] for row in rows(store, "workflow_status", "application_version")} == {"jobs-1"}


@BOTH
def test_a_process_that_comes_back_takes_up_its_own(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    first = make_engine()
    first.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    name = first.executor_id
    first.stop()
    measure(store, agent)
    second = make_engine(check_s=60.0)
    second.start()
    assert second.executor_id == name
    wait_until(ended(store, job))
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})


def test_what_belongs_to_an_executor_that_does_not_come_back_is_adopted(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELUT_EXECUTOR", "gone")
    first = make_engine()
    first.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    first.stop()
    monkeypatch.setenv("EDGELUT_EXECUTOR", "here")
    second = make_engine(adopt_s=0.5)
    second.start()
    wait_until(lambda: second._waiting == {job.id})
    measure(store, agent)
    second.tell(job.id)
    wait_until(ended(store, job))


def test_what_belongs_to_an_executor_that_lives_is_left_to_it(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELUT_EXECUTOR", "other")
    first = make_engine()
    first.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    held = first._executors
    monkeypatch.setattr(held, "release", lambda: None)
    first.stop()
    monkeypatch.setenv("EDGELUT_EXECUTOR", "here")
    second = make_engine(check_s=0.05, adopt_s=0.1)
    second.start()
    time.sleep(1.0)
    assert second._waiting == set()
    monkeypatch.undo()
    held.release()
    wait_until(lambda: second._waiting == {job.id})


def test_a_step_that_fails_is_tried_again(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, failures = store.close_job, iter([StorageError("away"), StorageError("away")])

    def failing(job: str) -> Job:
        for error in failures:
            raise error
        return close(job)

    monkeypatch.setattr(store, "close_job", failing)
    job = jobs.submit(request_for("a"))
    measure(store, agent)
    make_engine(check_s=60.0).start()
    wait_until(ended(store, job))
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})


def test_no_number_of_crashes_ends_a_workflow(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    first = make_engine()
    first.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    first.stop()
    change(store, "UPDATE workflow_status SET recovery_attempts = 100000")
    measure(store, agent)
    make_engine(check_s=60.0).start()
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})


def test_what_it_stores_is_json_and_never_a_pickle(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine
) -> None:
    engine = make_engine()
    engine.start()
    job = jobs.submit(request_for("a"))
    wait_until(lambda: workflows(store) == {job.id: "PENDING"})
    engine.tell(job.id)
    wait_until(lambda: rows(store, "notifications"))
    messages = {row[0] for row in rows(store, "notifications", "serialization")}
    assert messages == {"portable_json"}
    measure(store, agent)
    engine.tell(job.id)
    wait_until(lambda: workflows(store) == {job.id: "SUCCESS"})
    for table in ("workflow_status", "operation_outputs"):
        said = {row[0] for row in rows(store, table, "serialization")}
        assert said and said <= {"portable_json", None}, (table, said)
    assert [row[0] for row in rows(store, "workflow_output", "output")] == ['"done"']


def test_it_speaks_to_nobody_but_the_database(
    store: SqlStore, jobs: Jobs, agent: TinyAgent, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, lambda _, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    engine = make_engine()
    engine.start()
    job = jobs.submit(request_for("a"))
    measure(store, agent)
    wait_until(ended(store, job))
    time.sleep(1.5)  # its own threads wake every second
    engine.stop()
    assert asked == []


def test_it_does_not_run_as_a_part_of_somebody_elses_cloud(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS__CLOUD", "true")
    with pytest.raises(StorageError, match="unset DBOS__CLOUD"):
        make_engine().start()
