"""Jobs through the client: against a service in this process, and against one that fails in the ways that services fail."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.settings import Settings
from api.testing import InProcess
from db.store import SqlStore
from edgelut import wire
from edgelut.errors import Conflict, Forbidden, InvalidSpec, LatencyNotFound, ServiceError
from edgelut.job_client import HttpJobs
from edgelut.jobs import Job, JobCounts, JobEvent, JobRequest
from edgelut.types import Params
from jobs.service import Jobs
from tests.api.support import new_store, tiny_agent
from tests.jobs.support import TinyAgent, request_for

TOKEN = "s3cret-token"


@pytest.fixture
def store(tmp_path: Any) -> Iterator[SqlStore]:
    """An empty store."""
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def jobs(store: SqlStore) -> Jobs:
    return Jobs(store)


@pytest.fixture
def agent(jobs: Jobs) -> TinyAgent:
    """An agent with the devices a and b."""
    return tiny_agent(jobs, "a", "b")


@pytest.fixture
def service(store: SqlStore, jobs: Jobs) -> Iterator[HttpJobs]:
    """The jobs of a service in this process, with a token."""
    transport = InProcess(create_app(store, Settings(token=TOKEN), jobs))
    with HttpJobs("http://service/", TOKEN, transport=transport) as opened:
        yield opened


def test_a_job_is_submitted_read_and_listed(service: HttpJobs, agent: TinyAgent) -> None:
    request = request_for("a", name="nightly", labels=Params({"branch": "main"}))
    job = service.submit(request)
    assert (job.request, job.submitter) == (request, "EDGELUT_TOKEN")
    assert service.job(job.id) == job
    assert service.jobs() == [job]
    assert service.jobs(state="done") == service.jobs(name="x") == []
    assert service.jobs(state="queued", name="nightly", limit=1) == [job]


def test_each_submit_is_another_job_and_each_key_is_one(service: HttpJobs, agent: TinyAgent) -> None:
    request = request_for("a")
    assert service.submit(request).id != service.submit(request).id
    assert service.submit(request, key="k").id == service.submit(request, key="k").id
    with pytest.raises(Conflict, match="another request"):
        service.submit(request_for("b"), key="k")


def test_lists_are_read_page_by_page(
    service: HttpJobs, agent: TinyAgent, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelut.job_client.PAGE", 3)
    monkeypatch.setattr("edgelut.job_client.POINTS_OF_RUNS", 3)
    job = service.submit(request_for("a", "b"))
    agent.work()
    for number in range(7):
        store.log_job(job.id, "info", f"line {number}")
    assert [point.number for point in service.points(job.id)] == list(range(8))
    assert len(service.points(job.id, state="measured")) == 8 and service.points(job.id, state="failed") == []
    assert len(service.runs(job.id)) == 8
    assert {run.spec for run in service.runs(job.id, [0])} == {service.points(job.id)[0].point.spec}
    log = service.log(job.id)
    assert [line.text for line in log[-7:]] == [f"line {number}" for number in range(7)]
    assert service.log(job.id, after=log[3].id) == log[4:]


def test_a_job_is_cancelled_and_retried(service: HttpJobs, agent: TinyAgent) -> None:
    job = service.submit(request_for("a"))
    assert service.cancel(job.id).state == service.cancel(job.id).state == "cancelled"
    assert service.retry(job.id).state == "queued"
    agent.work()
    with pytest.raises(Conflict, match="nothing"):
        service.retry(job.id)


def test_the_fleet_the_marks_and_the_tokens_are_told(service: HttpJobs, agent: TinyAgent) -> None:
    assert [one.name for one in service.agents()] == ["lab"]
    assert [one.info.name for one in service.fleet()] == ["a", "b"]
    mark = service.mark("v 1")
    assert service.marks() == [mark] and service.delete_mark("v 1") == mark and service.marks() == []
    made = service.create_token("lab", ["agent"], devices=["a"], expires_in_s=3600)
    assert made.token.startswith("edl_") and made.token not in repr(made)
    assert [token.name for token in service.tokens()] == ["lab"]
    assert service.revoke_token("lab").revoked_at is not None


def test_what_is_not_there_is_raised_with_the_services_words(service: HttpJobs) -> None:
    for ask in (service.job, service.cancel, service.retry, service.points, service.log, service.wait):
        with pytest.raises(LatencyNotFound, match="7f3a"):
            ask("7f3a")  # type: ignore[operator]
    with pytest.raises(LatencyNotFound, match="v1"):
        service.delete_mark("v1")
    with pytest.raises(LatencyNotFound, match="ci"):
        service.revoke_token("ci")
    with pytest.raises(InvalidSpec, match="edgelut agent"):
        service.submit(request_for("a"))


def test_a_scope_that_is_lacking_is_raised_as_forbidden(service: HttpJobs, agent: TinyAgent, store: SqlStore) -> None:
    secret, _ = store.create_token("reader", ["read"])
    app = service._connection._client._transport._app  # type: ignore[attr-defined]
    with HttpJobs("http://service", secret, transport=InProcess(app)) as reader:
        assert reader.jobs() == []
        with pytest.raises(Forbidden, match="scope submit; the token 'reader' has read"):
            reader.submit(request_for("a"))
    with (
        HttpJobs("http://service", "wrong", transport=InProcess(app)) as nobody,
        pytest.raises(ServiceError, match="Authorization") as caught,
    ):
        nobody.wait("7f3a")
    assert caught.value.problem == "unauthorized"


def test_a_wait_tells_what_happens_and_returns_the_job_that_ended(service: HttpJobs, agent: TinyAgent) -> None:
    job = service.submit(request_for("a"))
    states: list[str] = []
    lines: list[JobEvent] = []
    working = threading.Timer(0.3, agent.work)
    working.start()
    done = service.wait(job.id, lambda one: states.append(one.state), lines.append, timeout_s=20)
    working.join()
    assert done == service.job(job.id) and done.state == "done"
    assert states[0] == "queued" and states[-1] == "done"
    assert lines == service.log(job.id)


def test_a_wait_for_a_job_that_has_ended_returns_at_once(service: HttpJobs, agent: TinyAgent) -> None:
    job = service.submit(request_for("a"))
    agent.work()
    began = time.monotonic()
    assert service.wait(job.id).state == "done"
    assert time.monotonic() - began < 10


def test_a_wait_that_is_too_long_ends_and_leaves_the_job_alone(service: HttpJobs, agent: TinyAgent) -> None:
    job = service.submit(request_for("a"))
    began = time.monotonic()
    with pytest.raises(ServiceError, match="it goes on") as caught:
        service.wait(job.id, timeout_s=0.6)
    assert caught.value.problem == "timeout"
    assert time.monotonic() - began < 10
    assert service.job(job.id).state == "queued"


def test_who_stops_watching_leaves_the_service_nothing(service: HttpJobs, agent: TinyAgent) -> None:
    job = service.submit(request_for("a"))
    for one in service.events(job.id):
        assert isinstance(one, Job | JobEvent)
        break
    transport: Any = service._connection._client._transport
    feeds = transport._app.state.service.feeds
    deadline = time.monotonic() + 5
    while feeds._feeds:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Services that fail


def a_job(state: str, **counts: int) -> Job:

    request = JobRequest(devices=("a",))
    return Job("7f3a", state, request, JobCounts(**counts), datetime(2026, 1, 5, tzinfo=UTC))  # type: ignore[arg-type]


def told(*events: Job | JobEvent | None) -> bytes:
    """Return a stream's bytes."""
    found = b"retry: 1000\n\n"
    for event in events:
        if event is None:
            found += b": beat\n\n"
        elif isinstance(event, Job):
            found += b"event: job\ndata: " + wire.encode(event) + b"\n\n"
        else:
            found += b"event: log\nid: %d\ndata: %b\n\n" % (event.id, wire.encode(event))
    return found


def line(id_: int) -> JobEvent:
    return JobEvent(id_, a_job("done").created_at, "info", f"line {id_}")


Answer = Callable[[httpx.Request], httpx.Response]


def jobs_of(answers: list[Answer], **changes: Any) -> tuple[HttpJobs, list[httpx.Request], list[float]]:
    """The jobs of a service whose streams are answered one after another, what it was asked for, and the waits between."""
    asked: list[httpx.Request] = []
    waits: list[float] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, content=wire.encode(a_job("running", open=2)))
        asked.append(request)
        return answers[min(len(asked), len(answers)) - 1](request)

    transport = httpx.MockTransport(handler)
    return HttpJobs("http://service", TOKEN, transport=transport, sleep=waits.append, **changes), asked, waits


def says(*events: Job | JobEvent | None) -> Answer:
    return lambda _: httpx.Response(200, content=told(*events))


def lost(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_a_stream_that_breaks_off_is_taken_up_after_the_last_line_that_was_heard() -> None:
    service, asked, waits = jobs_of(
        [
            says(line(1), a_job("running", open=2), None, line(2)),
            lost,
            lambda _: httpx.Response(503, json={"type": "urn:problem-type:edgelut:storage"}),
            lambda _: httpx.Response(502, text="<html>"),
            says(),
            says(line(3), a_job("done", measured=2)),
        ]
    )
    heard = list(service.events("7f3a"))
    assert [one.id for one in heard if isinstance(one, JobEvent)] == [1, 2, 3]
    assert [one.state for one in heard if isinstance(one, Job)] == ["running", "done"]
    assert [request.headers["last-event-id"] for request in asked] == ["0", "2", "2", "2", "2", "2"]
    assert len(waits) == 5 and all(wait <= 5 for wait in waits)


def test_a_service_that_stays_away_is_given_up_after_a_while() -> None:
    service, asked, _ = jobs_of([says(a_job("running")), lost], patience_s=0.2)
    service._sleep = lambda _: time.sleep(0.02)
    with pytest.raises(ServiceError, match="cannot reach http://service"):
        service.wait("7f3a")
    assert len(asked) >= 3


def test_a_token_that_was_revoked_ends_a_wait() -> None:
    refusal = httpx.Response(401, json={"type": "urn:problem-type:edgelut:unauthorized", "detail": "no"})
    service, asked, _ = jobs_of([says(a_job("running")), lambda _: refusal])
    with pytest.raises(ServiceError) as caught:
        service.wait("7f3a")
    assert caught.value.problem == "unauthorized" and len(asked) == 2


def test_a_stream_that_is_not_ours_is_a_service_error() -> None:
    answer = httpx.Response(200, content=b'event: job\ndata: {"id": 7}\n\n')
    service, _, _ = jobs_of([lambda _: answer])
    with pytest.raises(ServiceError, match="not EdgeLUT's"):
        service.wait("7f3a")


def test_a_submit_that_is_sent_again_after_a_lost_answer_has_the_same_key() -> None:
    keys: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ReadError("reset", request=request)
        return httpx.Response(202, content=wire.encode(a_job("queued")))

    service = HttpJobs("http://service", transport=httpx.MockTransport(handler), sleep=lambda _: None)
    service.submit(request_for("a"))
    assert len(keys) == 2 and len(set(keys)) == 1 and keys[0]


def test_the_token_is_in_no_repr_message_or_traceback() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, json={"detail": f"you sent {request.headers['authorization']}"})

    service = HttpJobs("http://service", TOKEN, transport=httpx.MockTransport(handler), retries=0)
    assert TOKEN not in repr(service)
    try:
        service.job("7f3a")
    except ServiceError as error:
        assert TOKEN not in "".join(traceback.format_exception(error))
