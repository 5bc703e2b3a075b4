"""Jobs over REST: submitted, listed, read, cancelled, retried and watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import httpx
import pytest

from api import feeds
from api.job_bodies import AnnouncementIn, ArtifactIn, ClosedIn, DeviceIn, JobIn, ProgressIn, RunIn, RuntimeIn
from api.settings import Settings
from api.testing import InProcess
from db.store import SqlStore
from edgelut import wire
from edgelut.jobs import (
    Announcement,
    Closed,
    DeviceInfo,
    Job,
    JobEvent,
    JobPoint,
    JobRequest,
    Mark,
    Progress,
    RuntimeInfo,
)
from edgelut.rest import Connection
from edgelut.types import Artifact, Run
from jobs.service import Jobs
from tests.api.support import RestJobs, entry, new_client, submit, tiny_agent
from tests.api.test_latency import problem
from tests.jobs.support import SPECS, TinyAgent, request_for


@pytest.fixture
def jobs(store: SqlStore) -> Jobs:
    return Jobs(store)


@pytest.fixture
def client(store: SqlStore, jobs: Jobs) -> Iterator[httpx.Client]:
    """A client of a service that has jobs."""
    with new_client(store, jobs=jobs) as opened:
        yield opened


@pytest.fixture
def agent(client: httpx.Client) -> TinyAgent:
    """An agent over REST with the devices a and b."""
    connection = Connection("http://service", transport=client._transport)
    return tiny_agent(RestJobs(connection), "a", "b")


@pytest.mark.parametrize(
    ("taken", "value"),
    [
        (JobIn, JobRequest),
        (RunIn, Run),
        (ArtifactIn, Artifact),
        (ProgressIn, Progress),
        (RuntimeIn, RuntimeInfo),
        (DeviceIn, DeviceInfo),
        (AnnouncementIn, Announcement),
        (ClosedIn, Closed),
    ],
)
def test_a_request_takes_every_field_that_a_value_has(taken: Any, value: Any) -> None:
    assert taken.__struct_fields__ == tuple(field.name for field in fields(value))


def test_defaults_of_a_request_are_those_of_its_value() -> None:
    assert wire.decode(JobIn, b'{"devices": ["a"]}').value() == JobRequest(devices=("a",))


def test_a_job_is_accepted_with_its_link_and_read_there(client: httpx.Client, agent: TinyAgent) -> None:
    request = request_for("a", name="nightly", labels={"branch": "main"}, priority=3)
    job = submit(client, request)
    assert (job.state, job.points.open, job.request) == ("queued", 4, request)
    assert wire.decode(Job, client.get(f"/jobs/{job.id}").content) == job


def test_a_job_is_measured_over_rest_and_its_rows_are_found(client: httpx.Client, agent: TinyAgent) -> None:
    job = submit(client, request_for("a", "b"))
    claim = agent.claim()
    agent.jobs.put_runs(claim.batch, claim.lease, [agent.run(claim, one) for one in claim.points[:3]])
    (kept,) = {run.sweep for run in wire.load(list[Run], client.get(f"/batches/{claim.batch}/runs").json()["runs"])}
    assert kept == claim.sweep
    agent.measure(claim, claim.points[:3])
    assert wire.decode(Job, client.get(f"/jobs/{job.id}").content).points.measured == 3
    agent.fail(claim, claim.points[3:], "no such operator")
    agent.jobs.finish(claim.batch, claim.lease)
    assert agent.work() == 4
    done = wire.decode(Job, client.get(f"/jobs/{job.id}").content)
    assert (done.state, done.points.measured, done.points.failed) == ("done", 7, 1)
    (failed,) = wire.load(list[JobPoint], client.get(f"/jobs/{job.id}/points?state=failed").json()["points"])
    assert failed.reason == "no such operator"
    runs = wire.load(list[Run], client.get(f"/jobs/{job.id}/runs?points=0,1").json()["runs"])
    assert {run.spec for run in runs} == set(SPECS[:2])
    assert len(client.get("/latency?runtime=null").json()["entries"]) == 7
    log = wire.load(list[JobEvent], client.get(f"/jobs/{job.id}/log").json()["events"])
    assert "no such operator" in "".join(line.text for line in log)
    after = wire.load(list[JobEvent], client.get(f"/jobs/{job.id}/log?after={log[1].id}").json()["events"])
    assert after == log[2:]


def test_jobs_are_listed_newest_first_a_page_at_a_time(client: httpx.Client, agent: TinyAgent) -> None:
    made = [submit(client, request_for("a", name=name)).id for name in ("x", "y", "x", "y", "x")]
    client.post(f"/jobs/{made[0]}/cancel")

    def listed(query: str) -> tuple[list[str], str | None]:
        page = client.get(f"/jobs?{query}").json()
        return [job["id"] for job in page["jobs"]], page["next_cursor"]

    assert listed("") == (made[::-1], None)
    first, cursor = listed("limit=2")
    assert first == made[:2:-1] and cursor == made[3]
    assert listed(f"limit=3&cursor={cursor}") == (made[2::-1], None)
    assert listed("name=y")[0] == [made[3], made[1]]
    assert listed("state=cancelled")[0] == [made[0]]
    problem(client.get("/jobs?cursor=nothing"), 404, "no-such-job")


def test_points_are_listed_a_page_at_a_time(client: httpx.Client, agent: TinyAgent) -> None:
    job = submit(client, request_for("a", "b"))
    page = client.get(f"/jobs/{job.id}/points?limit=5").json()
    assert [point["number"] for point in page["points"]] == [0, 1, 2, 3, 4]
    rest = client.get(f"/jobs/{job.id}/points?cursor={page['next_cursor']}").json()
    assert [point["number"] for point in rest["points"]] == [5, 6, 7] and rest["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "state=asleep",
        "stat=done",
        "limit=0",
        "limit=101",
        "limit=ten",
        "name=",
        "state=done&state=done",
    ],
)
def test_a_filter_that_is_misspelt_is_refused_with_what_there_is(client: httpx.Client, query: str) -> None:
    assert query.partition("=")[0] in problem(client.get(f"/jobs?{query}"), 422, "invalid")["detail"]


def test_runs_are_asked_for_by_numbers_and_not_too_many(client: httpx.Client, agent: TinyAgent) -> None:
    job = submit(client, request_for("a"))
    assert "give points" in problem(client.get(f"/jobs/{job.id}/runs"), 422, "invalid")["detail"]
    many = ",".join(map(str, range(129)))
    assert "128" in problem(client.get(f"/jobs/{job.id}/runs?points={many}"), 422, "invalid")["detail"]
    problem(client.get(f"/jobs/{job.id}/runs?points=1,x"), 422, "invalid")


def test_the_same_key_is_the_same_job_and_with_another_request_a_conflict(
    client: httpx.Client, agent: TinyAgent
) -> None:
    headers = {"Idempotency-Key": "build 17 of main"}
    first = submit(client, request_for("a"), **headers)
    assert submit(client, request_for("a"), **headers).id == first.id
    other = client.post("/jobs", content=wire.encode(request_for("b")), headers=headers)
    assert first.id in problem(other, 409, "conflict")["detail"]
    assert submit(client, request_for("a")).id != first.id


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "naïve", "a\tb"])
def test_a_key_that_cannot_be_is_refused(client: httpx.Client, agent: TinyAgent, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode())]
    problem(client.post("/jobs", content=wire.encode(request_for("a")), headers=headers), 422, "invalid")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"devices": ["c"]}, "there are a, b"),
        ({"runtimes": ["tpu"]}, "it has null"),
        ({"precisions": ["fp8"]}, "fp32"),
        ({"priority": 1000}, "priority"),
        ({"widths": [0]}, "widths"),
        ({"block": ["MB3D"]}, "block"),
        ({"selector": {"model": "x"}, "devices": []}, "model is null"),
        ({"specs": [], "blocks": ["MB5D"], "widths": [8], "resolutions": [8]}, "MB5D"),
        (
            {"specs": [], "blocks": ["MB3D"], "widths": [*range(1, 1000)], "resolutions": [*range(1, 1000)]},
            "50,000 points",
        ),
        ({"baseline": "yesterday"}, "baseline"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_what_there_is(
    client: httpx.Client, agent: TinyAgent, change: dict[str, Any], said: str
) -> None:
    body = wire.dump(request_for("a")) | change
    assert said in problem(client.post("/jobs", json=body), 422, "invalid")["detail"]


def test_a_baseline_that_is_not_there_is_said(client: httpx.Client, agent: TinyAgent) -> None:
    for baseline in ("previous", "mark:v1", "job:none", "branch:main"):
        body = wire.encode(request_for("a", name="nightly", baseline=baseline))
        problem(client.post("/jobs", content=body), 404, "no-baseline")


def test_a_job_is_cancelled_and_what_was_cancelled_is_retried(client: httpx.Client, agent: TinyAgent) -> None:
    job = submit(client, request_for("a"))
    problem(client.post(f"/jobs/{job.id}/retry"), 409, "conflict")
    for _ in range(2):
        cancelled = wire.decode(Job, client.post(f"/jobs/{job.id}/cancel").content)
        assert (cancelled.state, cancelled.points.cancelled) == ("cancelled", 4)
    response = client.post(f"/jobs/{job.id}/retry")
    assert response.status_code == 202
    assert wire.decode(Job, response.content).points.open == 4
    assert agent.work() == 4
    assert "nothing" in problem(client.post(f"/jobs/{job.id}/retry"), 409, "conflict")["detail"]


@pytest.mark.parametrize("path", ["", "/points", "/runs?points=0", "/log", "/events"])
def test_a_job_that_is_not_there_is_a_404(client: httpx.Client, path: str) -> None:
    assert "7f3a" in problem(client.get(f"/jobs/7f3a{path}"), 404, "no-such-job")["detail"]


@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_a_job_that_is_not_there_cannot_be_changed(client: httpx.Client, what: str) -> None:
    problem(client.post(f"/jobs/7f3a/{what}"), 404, "no-such-job")


@pytest.mark.parametrize("id_", ["%00", "a%0a", "-", "x" * 101, "é"])
def test_an_id_that_cannot_be_is_refused(client: httpx.Client, id_: str) -> None:
    problem(client.get(f"/jobs/{id_}"), 422, "invalid")


def test_marks_are_made_moved_listed_and_deleted(client: httpx.Client, store: SqlStore) -> None:
    first = wire.decode(Mark, client.put("/marks/v 1").content)
    assert (first.name, first.last_entry) == ("v 1", 0)
    store.put(entry(224))
    moved = wire.decode(Mark, client.put("/marks/v 1").content)
    assert moved.last_entry == 1
    assert wire.load(list[Mark], client.get("/marks").json()["marks"]) == [moved]
    assert wire.decode(Mark, client.delete("/marks/v 1").content) == moved
    problem(client.delete("/marks/v 1"), 404, "no-such-mark")


# Events


def events(response: httpx.Response) -> Iterator[tuple[str, str, str]]:
    """Yield event, id and data of each event of a stream; comments are events of their own."""
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if not line:
            yield event.get("event", event.get("", "")), event.get("id", ""), event.get("data", "")
            event = {}
        else:
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")


def test_a_stream_tells_the_job_and_its_log_as_they_change_and_ends_with_it(
    client: httpx.Client, agent: TinyAgent
) -> None:
    job = submit(client, request_for("a"))
    seen: list[tuple[str, str, str]] = []
    with client.stream("GET", f"/jobs/{job.id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        for event in events(response):
            seen.append(event)
            if event[0] == "job" and len([one for one in seen if one[0] == "job"]) == 1:
                assert wire.decode(Job, event[2]) == job
                agent.work()
    states = [wire.decode(Job, data).state for name, _, data in seen if name == "job"]
    assert states[0] == "queued" and states[-1] == "done" and len(states) >= 2
    assert seen[-1][0] == "job"
    log = [wire.decode(JobEvent, data) for name, _, data in seen if name == "log"]
    assert log == wire.load(list[JobEvent], client.get(f"/jobs/{job.id}/log").json()["events"])
    assert [int(id_) for name, id_, _ in seen if name == "log"] == [line.id for line in log]


def test_a_stream_goes_on_after_the_last_event_that_was_heard(client: httpx.Client, agent: TinyAgent) -> None:
    job = submit(client, request_for("a"))
    agent.work()
    log = wire.load(list[JobEvent], client.get(f"/jobs/{job.id}/log").json()["events"])
    with client.stream("GET", f"/jobs/{job.id}/events", headers={"Last-Event-ID": str(log[0].id)}) as response:
        told = [int(id_) for name, id_, _ in events(response) if name == "log"]
    assert told == [line.id for line in log[1:]]
    problem(client.get(f"/jobs/{job.id}/events", headers={"Last-Event-ID": "x"}), 422, "invalid")


def test_a_long_log_is_told_whole_to_who_begins_at_its_start(
    client: httpx.Client, agent: TinyAgent, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "KEPT", 5)
    monkeypatch.setattr(feeds, "PAGE", 3)
    job = submit(client, request_for("a"))
    for number in range(20):
        store.log_job(job.id, "info", f"line {number}")
    client.post(f"/jobs/{job.id}/cancel")
    with client.stream("GET", f"/jobs/{job.id}/events") as response:
        told = [wire.decode(JobEvent, data).text for name, _, data in events(response) if name == "log"]
    assert [text for text in told if text.startswith("line")] == [f"line {number}" for number in range(20)]
    assert len(told) == len(set(told)) == 22


def test_a_stream_with_nothing_to_tell_beats(
    client: httpx.Client, agent: TinyAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BEAT_S", 0.1)
    job = submit(client, request_for("a"))
    with client.stream("GET", f"/jobs/{job.id}/events") as response:
        beats = [event for event, _ in zip(events(response), range(6), strict=False) if event[0] == "beat"]
    assert beats


def test_what_another_process_does_is_told_within_seconds(
    client: httpx.Client, agent: TinyAgent, store: SqlStore
) -> None:
    job = submit(client, request_for("a"))
    with client.stream("GET", f"/jobs/{job.id}/events") as response:
        heard = events(response)
        next(event for event in heard if event[0] == "job")
        began = time.monotonic()
        Jobs(store).cancel(job.id)  # a facade of its own, which rings no bell here
        assert [wire.decode(Job, data).state for name, _, data in heard if name == "job"] == ["cancelled"]
        assert time.monotonic() - began < 10


def test_50_streams_read_a_job_no_more_often_than_one(
    client: httpx.Client, agent: TinyAgent, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(client, request_for("a"))
    reads = 0
    find_job = store.find_job

    def counted(id: str) -> Job | None:
        nonlocal reads
        reads += 1
        return find_job(id)

    monkeypatch.setattr(store, "find_job", counted)
    told = threading.Barrier(51, timeout=20)

    def watch() -> str:
        with client.stream("GET", f"/jobs/{job.id}/events") as response:
            heard = events(response)
            next(event for event in heard if event[0] == "job")
            told.wait()
            return [wire.decode(Job, data).state for name, _, data in heard if name == "job"][-1]

    with ThreadPoolExecutor(50) as pool:
        watching = [pool.submit(watch) for _ in range(50)]
        told.wait()
        at_first, began = reads, time.monotonic()
        time.sleep(2.2)
        quiet = reads - at_first
        assert quiet <= (time.monotonic() - began) / feeds.LONGEST_S + 1
        agent.work()
        assert [one.result(timeout=20) for one in watching] == ["done"] * 50
    assert at_first <= 50 + 5  # each stream looks once whether there is such a job


def test_a_stream_ends_when_its_token_is_revoked(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "CHECK_S", 0.05)
    jobs = Jobs(store)
    tiny_agent(jobs, "a")
    job = jobs.submit(request_for("a"))
    secret, _ = store.create_token("mine", ["read"])
    with new_client(store, Settings(token="s3cret"), jobs) as client:
        headers = {"Authorization": f"Bearer {secret}"}
        with client.stream("GET", f"/jobs/{job.id}/events", headers=headers) as response:
            heard = events(response)
            next(event for event in heard if event[0] == "job")
            client.delete("/tokens/mine", headers={"Authorization": "Bearer s3cret"})
            assert [name for name, _, _ in heard if name == "job"] == []


def test_a_service_that_stops_ends_its_streams_at_once(store: SqlStore, jobs: Jobs) -> None:
    tiny_agent(jobs, "a")
    job = jobs.submit(request_for("a"))
    with new_client(store, jobs=jobs) as client:
        transport = client._transport
        assert isinstance(transport, InProcess)
        service: Any = transport._app.state.service
        with client.stream("GET", f"/jobs/{job.id}/events") as response:
            heard = events(response)
            next(event for event in heard if event[0] == "job")
            began = time.monotonic()
            transport._loop.call_soon_threadsafe(service.end)
            assert list(heard) == []
            assert time.monotonic() - began < 10
