"""What an agent outlives: a service that is away, answers that are lost, leases, full disks, faults of its own."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgelut.errors import StorageError
from profiler import agent as agents
from profiler import session, workshop
from profiler.artifacts import ArtifactStore
from tests.profiler.lab import (
    ROUNDS,
    Lab,
    assert_each_round_once,
    nth,
    rounds_of,
    wait_until,
)


def test_a_service_that_is_restarted_in_the_middle_loses_nothing(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8, 16)
    lab.line.on_request = nth("/runs", 5, lab.line.restart)
    with lab.running(lab.agent()):
        assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, job, 8, 16)


def test_measuring_goes_on_while_the_service_is_away(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8, 16)

    def cut() -> None:
        lab.line.down = True

    lab.line.on_request = nth("/runs", 5, cut)
    with lab.running(lab.agent()):
        wait_until(lambda: lab.line.down)
        folder = next((lab.home / "spool").iterdir())

        def waiting() -> int:
            return sum(file.read_bytes().count(b"/runs") for file in folder.glob("*.jsonl"))

        wait_until(lambda: waiting() == ROUNDS - 4)  # all that were left
        assert max(number for _, number in rounds_of(lab, job)) == 3
        lab.line.down = False
        assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, job, 8, 16)
    assert "trying again, and what is measured is kept" in lab.said.getvalue()
    assert lab.said.getvalue().count("the service answers again") == 1


def test_what_could_not_be_sent_is_sent_by_the_next_agent_of_that_home(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8, 16)

    def cut() -> None:
        lab.line.down = True

    lab.line.on_request = nth("/runs", 5, cut)
    with lab.running(lab.agent()):
        wait_until(lambda: lab.line.down)
        time.sleep(0.2)
    assert list((lab.home / "spool").rglob("*.jsonl"))
    lab.line.down = False
    lab.work()
    assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, job, 8, 16)
    assert "messages that were left from before" in lab.said.getvalue()
    assert not list((lab.home / "spool").rglob("*.jsonl"))


@pytest.mark.parametrize("what", ["/agents", "/claim", "/runs", "/entries", "/artifacts", "/finish", "/latency/batch"])
def test_an_answer_that_is_lost_is_asked_for_again_and_doubles_nothing(lab: Lab, what: str) -> None:
    lab.register()
    job = lab.submit(8, 16)
    lost: list[str] = []

    def loses(path: str) -> bool:
        if path.endswith(what) and len(lost) < 3:
            lost.append(path)
            return True
        return False

    lab.line.loses = loses
    with lab.running(lab.agent()):
        assert lab.wait(job).points.measured == 2
    assert len(lost) >= 1
    assert_each_round_once(lab, job, 8, 16)


def test_a_job_that_is_cancelled_in_the_middle_is_left_and_the_next_one_is_measured(lab: Lab) -> None:
    lab.register()
    job, other = lab.submit(8, 16), lab.submit(24)
    lab.line.on_request = nth("/runs", 3, lambda: lab.jobs.cancel(job.id))
    with lab.running(lab.agent()):
        assert lab.wait(other).points.measured == 1
    assert lab.job(job).state == "cancelled" and lab.job(job).points.cancelled == 2
    assert max(number for _, number in rounds_of(lab, job)) < ROUNDS - 1
    assert "the job was cancelled" in lab.said.getvalue()


def test_a_lease_that_is_lost_in_the_middle_is_taken_again_and_no_round_is_measured_twice(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8, 16)

    def lose() -> None:
        (lease,) = lab.store.leases()
        assert lab.store.free_leases([(lease.token, lease.beat)])

    lab.line.on_request = nth("/runs", 3, lose)
    with lab.running(lab.agent()):
        assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, job, 8, 16)
    assert "going on with 6 rounds that were measured before" in lab.said.getvalue()


def test_a_batch_is_left_when_a_heartbeat_says_that_it_is_not_wanted(
    lab: Lab, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.register()
    for name in ("held-16", "until-16"):
        os.mkfifo(script / name)
    (script / "hold-16").write_text("3")
    job = lab.submit(8, 16, runtimes=("scripted",))
    seen = os.open(script / "held-16", os.O_RDONLY | os.O_NONBLOCK)
    beats = len(lab.line.sent("/pulse"))
    monkeypatch.setattr(session.Session, "heartbeat_s", 0.05, raising=False)
    with lab.running(agent := lab.agent()):
        wait_until(lambda: lab.jobs.fleet()[0].state == "measuring")
        wait_until(lambda: _readable(seen))
        lab.jobs.cancel(job.id)
        agent._session.heartbeat_s = 0.05
        agent._beating.changed()
        wait_until(lambda: len(lab.line.sent("/pulse")) > beats + 2)
        (script / "hold-16").unlink()
        (script / "until-16").write_text("go")
        wait_until(lambda: lab.jobs.fleet()[0].state == "idle")
    os.close(seen)
    assert "the service told to stop" in lab.said.getvalue() and lab.job(job).state == "cancelled"


def _readable(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        return bool(os.read(descriptor, 10))
    return False


def test_a_stopped_agent_gives_its_batch_back_after_the_round_in_hand(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8, 16)
    agent = lab.agent()
    lab.line.on_request = nth("/runs", 4, agent.stop)
    with lab.running(agent):
        wait_until(lambda: agent._stopping.is_set() and not lab.store.leases())
    assert max(number for _, number in rounds_of(lab, job)) == 3 and not lab.store.leases()
    assert "left: the agent was stopped" in lab.said.getvalue()
    lab.work()
    assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, job, 8, 16)


def test_a_fault_of_ours_interrupts_the_batch_and_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab.register()
    job = lab.submit(8)
    real, calls = workshop.run_sweep, []

    def once(*args: object, **named: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("a fault")
        return real(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(workshop, "run_sweep", once)
    monkeypatch.setattr(agents, "LONGEST_REST_S", 0.05)
    with lab.running(lab.agent()):
        assert lab.wait(job).points.measured == 1
    assert any("RuntimeError: a fault" in event.text for event in lab.jobs.events(job.id))
    assert "a fault" in caplog.text


def test_a_disk_that_is_full_on_the_agents_host_fails_no_point_and_the_batch_goes_on_when_there_is_room(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.register()
    job = lab.submit(8, 16)
    real, tries = ArtifactStore.add, []

    def add(*args: Any) -> Any:
        tries.append(args)
        if len(tries) <= 2:
            raise StorageError("cannot keep artifacts in ...: No space left on device; free space or set EDGELUT_HOME")
        return real(*args)

    monkeypatch.setattr(ArtifactStore, "add", add)
    monkeypatch.setattr(agents, "LONGEST_REST_S", 0.05)
    with lab.running(lab.agent()):
        assert lab.wait(job).points.measured == 2
    assert any("No space left" in event.text for event in lab.jobs.events(job.id))
