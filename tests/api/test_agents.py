"""What agents and a service say to each other over REST, and how a claim waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from api import polls
from api.app import create_app
from api.deps import Service
from api.settings import Settings
from db.store import SqlStore
from edgelut import wire
from edgelut.jobs import Agent, Claim, FleetDevice, Progress, Pulse, Standing, Welcome
from edgelut.rest import Connection
from edgelut.types import Artifact, Params
from jobs.service import Jobs
from tests.api.support import RestJobs, entry, new_client, served, submit, tiny_agent
from tests.api.test_auth import bearer
from tests.api.test_latency import problem
from tests.jobs.support import TinyAgent, request_for


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
    return tiny_agent(RestJobs(Connection("http://service", transport=client._transport)), "a", "b")


def announced(name: str = "lab", *devices: str, **changes: Any) -> dict[str, Any]:
    """What an agent sends of itself."""
    infos = [{"name": device, "runtimes": [], "facts": {"model": "null"}} for device in devices]
    body = {"name": name, "installation": f"{name}-1", "session": f"{name}-s", "version": "0.1.0", "protocols": [1]}
    return body | {"devices": infos} | changes


def test_an_agent_is_welcomed_and_listed_with_its_devices(client: httpx.Client) -> None:
    welcome = wire.decode(Welcome, client.post("/agents", json=announced("lab", "a", "b")).content)
    assert (welcome.protocol, welcome.lease_s, welcome.heartbeat_s) == (1, 30.0, 5.0)
    (agent,) = wire.load(list[Agent], client.get("/agents").json()["agents"])
    assert (agent.name, agent.live, agent.devices) == ("lab", True, ("a", "b"))
    devices = wire.load(list[FleetDevice], client.get("/fleet").json()["devices"])
    assert [(one.info.name, one.state, one.info.facts) for one in devices] == [
        ("a", "idle", Params({"model": "null"})),
        ("b", "idle", Params({"model": "null"})),
    ]


def test_names_and_devices_of_another_live_agent_are_conflicts(client: httpx.Client) -> None:
    client.post("/agents", json=announced("lab", "a"))
    same = client.post("/agents", json=announced("lab", "b", installation="other"))
    assert "another name" in problem(same, 409, "conflict")["detail"]
    device = client.post("/agents", json=announced("other", "a"))
    assert "'a'" in problem(device, 409, "conflict")["detail"] and "lab" in device.json()["detail"]


def test_an_agent_of_another_protocol_is_told_what_to_upgrade(client: httpx.Client) -> None:
    detail = problem(client.post("/agents", json=announced(protocols=[0])), 409, "protocol")["detail"]
    assert "upgrade the agent" in detail and "pip install" in detail
    newer = problem(client.post("/agents", json=announced(protocols=[7])), 409, "protocol")["detail"]
    assert "upgrade the service" in newer


def test_an_unknown_session_is_told_to_announce_itself(client: httpx.Client) -> None:
    for path, body in (("pulse", {}), ("claim", {"devices": ["a"]})):
        said = client.post(f"/agents/lab/{path}", json={"session": "unknown", **body})
        assert "announce" in problem(said, 409, "session")["detail"]


def test_a_token_that_is_bound_to_devices_announces_no_others(store: SqlStore) -> None:
    secret, _ = store.create_token("lab", ["agent"], ["a"])
    with new_client(store, Settings(token="s3cret")) as client:
        client.headers.update(bearer(secret))
        assert client.post("/agents", json=announced("lab", "a")).status_code == 200
        refused = problem(client.post("/agents", json=announced("lab", "a", "b")), 403, "forbidden")
        assert "'lab' is bound to a" in refused["detail"] and "b" in refused["detail"]
        later = {"session": "lab-s", "devices": announced("lab", "b")["devices"]}
        problem(client.post("/agents/lab/pulse", json=later), 403, "forbidden")
        assert client.post("/agents/lab/pulse", json={"session": "lab-s"}).json() == {"stop": []}


@pytest.mark.parametrize(
    "change",
    [
        {"devices": [{"name": "a/b"}]},
        {"devices": [{"name": "a", "facts": {"x": [1]}}]},
        {"session": "with space"},
        {"protocols": []},
        {"version": "\n"},
        {"colour": "blue"},
    ],
)
def test_an_announcement_that_cannot_be_is_refused(client: httpx.Client, change: dict[str, Any]) -> None:
    problem(client.post("/agents", json=announced() | change), 422, "invalid")


def test_every_message_about_a_batch_is_answered_with_how_its_sender_stands(
    client: httpx.Client, agent: TinyAgent, store: SqlStore
) -> None:
    job = submit(client, request_for("a"))
    claim = agent.claim()
    spec = claim.points[0].point.spec
    messages: dict[str, dict[str, Any]] = {
        "runs": {"runs": [agent.run(claim, claim.points[0])], "progress": Progress(0, 4, 1, 9.5)},
        "progress": {"progress": Progress(1, 4, 2, 9.0, "export")},
        "artifacts": {"artifacts": [Artifact(spec, "null", "fp32", "ab" * 32, "1", 0.0, 12)]},
        "entries": {"entries": [agent.row(claim, claim.points[0])]},
        "closed": {"closed": [{"number": 1, "state": "failed", "reason": "why\nnot"}]},
    }

    def said(lease: str) -> list[Standing]:
        answers = [
            client.post(f"/batches/{claim.batch}/{name}", content=wire.encode({"lease": lease, **message}))
            for name, message in messages.items()
        ]
        return [wire.decode(Standing, response.content) for response in answers]

    for _ in range(2):  # each may be sent twice
        assert [standing.state for standing in said(claim.lease)] == ["held"] * 5
    assert said(claim.lease)[3].current == (True,)
    assert [standing.state for standing in said("another")] == ["lost"] * 5
    assert store.find_artifact("ab" * 32) is not None
    client.post(f"/jobs/{job.id}/cancel")
    assert [standing.state for standing in said(claim.lease)] == ["cancelled"] * 5
    pulse = client.post("/agents/lab/pulse", json={"session": agent.session})
    assert wire.decode(Pulse, pulse.content).stop == (claim.batch,)
    agent.jobs.finish(claim.batch, claim.lease)
    assert store.leases() == []


def test_a_batch_that_is_not_there_is_a_404(client: httpx.Client) -> None:
    problem(client.get("/batches/b41c/runs"), 404, "no-such-batch")
    for what, body in (
        ("runs", {"runs": []}),
        ("entries", {"entries": []}),
        ("finish", {}),
        ("closed", {"closed": []}),
    ):
        response = client.post(f"/batches/b41c/{what}", json={"lease": "x", **body})
        problem(response, 404, "no-such-batch")


def test_rows_that_are_no_points_of_the_batch_are_refused(client: httpx.Client, agent: TinyAgent) -> None:
    submit(client, request_for("a"))
    claim = agent.claim()
    body = wire.encode({"lease": claim.lease, "entries": [entry(999)]})
    problem(client.post(f"/batches/{claim.batch}/entries", content=body), 422, "invalid")


# Claims that wait


def ask(client: httpx.Client, agent: TinyAgent, wait_s: float) -> httpx.Response:
    body = {"session": agent.session, "devices": agent.devices, "wait_s": wait_s}
    return client.post("/agents/lab/claim", json=body, timeout=60)


def test_a_claim_for_which_there_is_nothing_is_empty_after_its_wait(client: httpx.Client, agent: TinyAgent) -> None:
    assert ask(client, agent, 0).status_code == 204
    began = time.monotonic()
    response = ask(client, agent, 1.2)
    assert (response.status_code, response.content) == (204, b"")
    assert time.monotonic() - began > 1.1


def test_a_claim_waits_for_no_device_at_all_no_time_at_all(client: httpx.Client, agent: TinyAgent) -> None:
    body = {"session": agent.session, "devices": [], "wait_s": 20}
    began = time.monotonic()
    assert client.post("/agents/lab/claim", json=body).status_code == 204
    assert time.monotonic() - began < 10


def test_a_claim_that_waits_is_answered_as_soon_as_a_job_is_submitted(
    client: httpx.Client, agent: TinyAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "POLL_S", 20.0)  # so that only the bell can wake it
    answered: list[tuple[float, httpx.Response]] = []

    def wait() -> None:
        response = ask(client, agent, 20)
        answered.append((time.monotonic(), response))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    job = submit(client, request_for("a"))
    submitted = time.monotonic()
    waiting.join(timeout=30)
    at, response = answered[0]
    assert wire.decode(Claim, response.content).job == job.id
    assert at - submitted < 10


def test_what_another_process_submits_is_claimed_within_seconds(
    client: httpx.Client, agent: TinyAgent, store: SqlStore
) -> None:
    other = Jobs(store)  # rings no bell of this process
    timer = threading.Timer(0.3, lambda: other.submit(request_for("b")))
    timer.start()
    began = time.monotonic()
    claim = wire.decode(Claim, ask(client, agent, 20).content)
    assert claim.device == "b" and time.monotonic() - began < 10
    timer.join()


def test_100_claims_that_wait_hold_no_thread_and_look_cheaply(
    store: SqlStore, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = 0
    claim = store.claim

    def counted(*arguments: Any) -> Claim | None:
        nonlocal claims
        claims += 1
        return claim(*arguments)

    monkeypatch.setattr(store, "claim", counted)

    async def play() -> float:
        app = create_app(store, jobs=jobs)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60) as client:
            for number in range(100):
                said = announced(f"lab{number}", f"d{number}")
                assert (await client.post("/agents", json=said)).status_code == 200
            bodies = [{"session": f"lab{number}-s", "devices": [f"d{number}"], "wait_s": 3.0} for number in range(100)]
            asking = [
                asyncio.ensure_future(client.post(f"/agents/lab{number}/claim", json=body))
                for number, body in enumerate(bodies)
            ]
            await asyncio.sleep(1.5)
            began = time.monotonic()
            assert (await client.get("/fleet")).status_code == 200  # a thread is free for it
            took = time.monotonic() - began
            assert {response.status_code for response in await asyncio.gather(*asking)} == {204}
        app.state.service.close()
        return took

    assert asyncio.run(play()) < 1.0
    assert claims == 100  # once each at its beginning: `has_work` alone after that


def waiting_claim(store: SqlStore, jobs: Jobs) -> tuple[Service, asyncio.Queue[dict[str, Any]], Any]:
    """A service, and a claim of 30 s on it whose client sends what is put into the queue."""
    service: Service = create_app(store, jobs=jobs).state.service
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    request = Request({"type": "http", "headers": []}, inbox.get)
    agent = tiny_agent(jobs, "a")
    return service, inbox, polls.wait_for_claim(service, request, "lab", agent.session, ["a"], 30.0)


def test_a_client_that_goes_away_ends_its_claim_and_is_given_nothing(store: SqlStore, jobs: Jobs) -> None:
    async def play() -> None:
        service, inbox, claim = waiting_claim(store, jobs)
        asking = asyncio.ensure_future(claim)
        await asyncio.sleep(0.3)
        inbox.put_nowait({"type": "http.disconnect"})
        assert await asyncio.wait_for(asking, 10) is None
        jobs.submit(request_for("a"))
        await asyncio.sleep(0.1)
        service.close()

    asyncio.run(play())
    assert store.leases() == []


def test_a_connection_that_is_cut_while_its_claim_waits_is_given_nothing(store: SqlStore, jobs: Jobs) -> None:
    agent = tiny_agent(jobs, "a")
    body = {"session": agent.session, "devices": ["a"], "wait_s": 30}
    with served(create_app(store, jobs=jobs)) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/agents/lab/claim", json=body, timeout=0.5)
        time.sleep(0.3)
        jobs.submit(request_for("a"))
        time.sleep(0.3)
        assert store.leases() == []


def test_a_service_that_stops_ends_waiting_claims_at_once(store: SqlStore, jobs: Jobs) -> None:
    async def play() -> None:
        service, _, claim = waiting_claim(store, jobs)
        asking = asyncio.ensure_future(claim)
        await asyncio.sleep(0.3)
        service.end()
        assert await asyncio.wait_for(asking, 10) is None
        service.close()

    asyncio.run(play())


def test_a_claim_ends_when_its_token_is_revoked(store: SqlStore, jobs: Jobs) -> None:
    secret, _ = store.create_token("lab", ["agent"])
    with new_client(store, Settings(token="s3cret"), jobs) as client:
        agent = tiny_agent(jobs, "a")
        revoking = threading.Timer(0.5, lambda: client.delete("/tokens/lab", headers=bearer("s3cret")))
        revoking.start()
        body = {"session": agent.session, "devices": ["a"], "wait_s": 20}
        began = time.monotonic()
        response = client.post("/agents/lab/claim", json=body, headers=bearer(secret), timeout=30)
        problem(response, 401, "unauthorized")
        assert time.monotonic() - began < 10
        revoking.join()
