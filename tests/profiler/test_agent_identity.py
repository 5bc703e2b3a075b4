"""Who an agent may be: one a home and a name, known to the service, with a token that holds, at a service it understands."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import httpx
import pytest

from edgelut.errors import Conflict, ServiceError
from profiler import session
from tests.profiler.lab import (
    URL,
    Lab,
    assert_each_round_once,
    nth,
    rounds_of,
    runs_of,
    wait_until,
)
from tests.profiler.outside.known import know_runtimes


def test_a_second_agent_on_the_same_home_is_told_which_process_the_first_one_is(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.agent_home.ENDING_S", 0.05)
    with lab.running(lab.agent()):
        wait_until(lambda: lab.jobs.fleet())
        with pytest.raises(Conflict, match=rf"an agent already runs on {lab.home} \(process {os.getpid()}\)"):
            lab.agent(name="other").run()
    lab.work()


def test_an_agent_waits_a_moment_for_one_that_is_ending(lab: Lab) -> None:
    from profiler.agent_home import only_one

    held = threading.Event()

    def hold() -> None:
        with only_one(lab.home):
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    lab.work()
    thread.join()


def test_an_agent_that_starts_again_is_the_same_installation_and_what_it_held_is_free_at_once(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8)
    installed = json.loads((lab.home / "agent.json").read_text())["installation"]
    session_id = lab.line.sent("/agents")[-1]
    claim = lab.jobs.claim("lab", json.loads(session_id)["session"], ["lab-1"])
    assert claim is not None and lab.store.leases()
    lab.work()
    assert lab.wait(job).points.measured == 1
    assert json.loads((lab.home / "agent.json").read_text())["installation"] == installed


def test_a_name_that_is_another_live_agents_ends_this_one(lab: Lab, tmp_path: Path) -> None:
    with lab.running(lab.agent()):
        wait_until(lambda: lab.jobs.fleet())
        with pytest.raises(ServiceError, match="another installation") as caught:
            lab.agent("null=lab-2", home=tmp_path / "other").run()
        assert caught.value.problem == "conflict"
        with pytest.raises(ServiceError, match="device 'lab-1' is agent lab's"):
            lab.agent("null=lab-1", name="two", home=tmp_path / "other").run()


def test_an_agent_that_the_service_forgot_announces_itself_again_and_goes_on(lab: Lab) -> None:
    import sqlalchemy as sa

    lab.register()
    job = lab.submit(8, 16)

    def forget() -> None:
        with lab.store.engine.begin() as connection:
            connection.execute(sa.text("UPDATE agents SET session = 'of nobody'"))

    agent = lab.agent()
    lab.line.on_request = nth("/runs", 4, forget)
    with lab.running(agent):
        wait_until(lambda: rounds_of(lab, job))
        agent._beating.changed()
        assert lab.wait(job).points.measured == 2
        announced = len(lab.line.sent("/agents"))
        agent._beating.changed()
        assert lab.wait(lab.submit(24)).points.measured == 1
        assert len(lab.line.sent("/agents")) <= announced + 1
    assert_each_round_once(lab, job, 8, 16)


def test_two_agents_of_a_copied_home_do_not_fight_for_ever(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy as sa

    agent = lab.agent()

    def forget(path: str) -> None:
        if path.endswith(("/pulse", "/claim")):
            with lab.store.engine.begin() as connection:
                connection.execute(sa.text("UPDATE agents SET session = 'of a copy'"))

    lab.line.on_request = forget
    with pytest.raises(ServiceError, match=r"was .* copied"), lab.running(agent):
        wait_until(lambda: agent._stopping.is_set())


class Other(httpx.BaseTransport):
    """A service of another version."""

    def __init__(self, status: int, body: object) -> None:
        self._answer = httpx.Response(status, json=body)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, {"type": "urn:problem-type:edgelut:no-such-path", "detail": "there is no /agents"}, "knows no agents"),
        (200, {"protocol": 99, "version": "9.0", "lease_s": 30, "heartbeat_s": 5}, "speaks protocol 99 and this agent"),
        (409, {"type": "urn:problem-type:edgelut:protocol", "detail": "upgrade the agent"}, "upgrade the agent"),
        (403, {"type": "urn:problem-type:edgelut:forbidden", "detail": "for b and not for a"}, "for b and not for a"),
        (401, {"type": "urn:problem-type:edgelut:unauthorized", "detail": "send a token"}, "send a token"),
    ],
)
def test_a_service_that_cannot_be_served_is_told_and_not_tried_again(
    lab: Lab, status: int, body: object, said: str
) -> None:
    from profiler.agent import Agent
    from profiler.agent_report import Report
    from profiler.fleet import DeviceChoice
    from profiler.session import Options

    know_runtimes(lab.home)
    options = Options(URL, "lab", [DeviceChoice("null", "a")], lab.home)
    with pytest.raises(ServiceError, match=said):
        Agent(options, Report(file=lab.said), transport=Other(status, body)).run()


def test_a_token_that_is_revoked_ends_the_agent_and_what_was_measured_is_kept_for_another(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8, 16)

    def close() -> None:
        lab.line.closed = True

    lab.line.on_request = nth("/runs", 5, close)
    agent = lab.agent()
    with pytest.raises(ServiceError, match="the token was revoked"), lab.running(agent):
        wait_until(agent._stopping.is_set)
    lab.line.closed = False
    lab.work()
    assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, job, 8, 16)
    (kept,) = {run.process for run in runs_of(lab, job) if run.round == 4}
    assert kept == {run.process for run in runs_of(lab, job) if run.round == 0}.pop()


def test_a_service_that_is_not_there_yet_is_waited_for_and_that_is_said_once(lab: Lab) -> None:
    lab.line.down = True
    with lab.running(lab.agent()):
        wait_until(lambda: "trying again" in lab.said.getvalue())
        time.sleep(0.5)
        lab.line.down = False
        wait_until(lambda: lab.jobs.fleet())
    assert lab.said.getvalue().count("trying again") == 1


def test_an_agent_that_is_to_work_once_does_not_wait_for_ever_for_a_service(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ONCE_PATIENCE_S", 0.2)
    lab.line.down = True
    with pytest.raises(ServiceError, match="cannot reach"):
        lab.work()
