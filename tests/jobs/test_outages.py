"""A PostgreSQL that is stopped and started again under the service: nothing ends, nothing is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from dbos import DBOS

from db.engine import open_store
from edgelut.errors import StorageError
from jobs.engine import Engine
from jobs.service import Jobs
from tests.jobs.servers import Server, running_server
from tests.jobs.support import TinyAgent, counts, request_for, wait_until
from tests.jobs.test_engine import ended, workflows


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that a test may stop."""
    with running_server() as server:
        yield server


def test_a_server_that_is_stopped_and_started_goes_on_with_everything(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.service.WATCH_S", 0.2)
    with open_store(server.url, migrate=True) as store:
        jobs = Jobs(store, Engine(store, check_s=0.2))
        jobs.start()
        try:
            agent = TinyAgent(jobs)
            agent.announce()
            first, second = jobs.submit(request_for("a")), jobs.submit(request_for("a"))
            wait_until(lambda: workflows(store) == {first.id: "PENDING", second.id: "PENDING"})
            claim = agent.claim()
            agent.measure(claim, claim.points[:2])

            server.stop()
            with pytest.raises(StorageError):
                agent.measure(claim, claim.points[2:])
            with pytest.raises(StorageError):
                jobs.submit(request_for("a"))
            jobs.engine.tell(first.id)  # type: ignore[union-attr]
            time.sleep(1.0)
            server.start()

            wait_until(lambda: _measured(agent, claim))
            jobs.finish(claim.batch, claim.lease)
            third = jobs.submit(request_for("a"))
            agent.work()
            for job in (first, second, third):
                wait_until(ended(store, job), 60)
                assert counts(jobs.find_job(job.id)) == {"measured": 4}
            wait_until(lambda: set(workflows(store).values()) == {"SUCCESS"}, 60)
        finally:
            jobs.stop()
    assert any("again in" in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def test_an_engine_that_is_stopped_while_the_server_is_away_stops_soon(server: Server) -> None:
    with open_store(server.url, migrate=True) as store:
        engine = Engine(store, check_s=0.1)
        engine.start()
        server.stop()
        time.sleep(0.5)
        started = time.monotonic()
        engine.stop()
        assert time.monotonic() - started < 20
        with pytest.raises(StorageError, match="did not say"):
            engine.start()
        server.start()
        engine.start()
        assert DBOS.list_workflows(status="PENDING") == []
        engine.stop()


def _measured(agent: TinyAgent, claim: object) -> bool:
    try:
        agent.measure(claim, claim.points[2:])  # type: ignore[arg-type, attr-defined]
    except StorageError:
        return False
    return True
