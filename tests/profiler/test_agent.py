"""An agent against the real service, in this process: what it announces, claims, measures and sends, and what it outlives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from db.engine import SqlStore
from edgelut.errors import BackendMissing, Conflict, ServiceError, StorageError
from edgelut.jobs import Baseline, BatchPoint, Claim, Closed, Job
from edgelut.plan import Point, Policy
from edgelut.types import Run, Target
from profiler import agent as agents
from profiler import session, workshop
from profiler.artifacts import ArtifactStore
from profiler.lock import device_lock
from profiler.sweep import run_sweep
from tests.fakes import ROOT
from tests.profiler.lab import URL, Lab, specs, wait_until
from tests.profiler.outside.known import know_runtimes

LAB = Target("lab-1", "null")
SCRIPTED = Target("lab-1", "scripted")
ROUNDS = Policy().min_rounds


def nth(what: str, number: int, act: Callable[[], object]) -> Callable[[str], None]:
    """Return a hook that acts once, before the n-th message to a path that ends so; what is read does not count."""
    seen: Counter[str] = Counter()

    def on_request(path: str) -> None:
        if path.startswith("POST ") and path.endswith(what):
            seen[what] += 1
            if seen[what] == number:
                act()

    return on_request


def rounds_of(lab: Lab, job: Job) -> Counter[tuple[int, int]]:
    """Return how often each round of each point is stored."""
    return Counter((run.spec.width_in, run.round) for run in runs_of(lab, job))


def runs_of(lab: Lab, job: Job) -> list[Run]:
    return [run for sweep in {point.sweep for point in lab.points(job)} for run in lab.store.sweep_runs(sweep)]


def assert_each_round_once(lab: Lab, job: Job, *widths: int) -> None:
    assert rounds_of(lab, job) == Counter({(width, number): 1 for width in widths for number in range(ROUNDS)})


# What it measures


def test_rows_of_a_job_are_those_of_a_sweep_in_this_process(lab: Lab, store: SqlStore, tmp_path: Path) -> None:
    lab.register()
    job = lab.submit(8, 16, 24)
    lab.work()
    done = lab.wait(job)
    assert done.state == "done" and done.points.measured == done.points.total == 3 and done.rounds == 3 * ROUNDS
    here = [Point(spec, Target("null", "null"), "null") for spec in specs(8, 16, 24)]
    run_sweep(here, store, tmp_path / "here", Policy())
    for point in here:
        ours, theirs = store.get(point.spec, point.target), store.get(point.spec, LAB)
        assert theirs.latency == replace(ours.latency, peak_memory_bytes=theirs.latency.peak_memory_bytes)
        same = ("conditions", "format", "artifact_sha256", "parity_error")
        assert {name: theirs.provenance[name] for name in same} == {name: ours.provenance[name] for name in same}
        raw = [
            (run.round, run.wall_ns, run.cpu_ns, run.inner, run.artifact_sha256) for run in store.runs(point.spec, LAB)
        ]
        assert raw == [
            (run.round, run.wall_ns, run.cpu_ns, run.inner, run.artifact_sha256)
            for run in store.runs(point.spec, point.target)
        ]
    artifact = store.find_artifact(str(theirs.provenance["artifact_sha256"]))
    assert artifact is not None and artifact.spec == point.spec


def test_known_rows_are_closed_as_known(lab: Lab) -> None:
    lab.register()
    first = lab.submit(8, 16)
    lab.work()
    second = lab.submit(8, 16, 24)
    lab.work()
    assert lab.wait(first).points.measured == 2
    counts = lab.wait(second).points
    assert (counts.known, counts.measured) == (2, 1)
    again = lab.submit(8, again=True)
    lab.work()
    assert lab.wait(again).points.measured == 1


def test_a_point_that_fails_is_closed_with_its_reason_and_the_others_are_measured(lab: Lab, script: Path) -> None:
    (script / "fail-16").touch()
    lab.register()
    job = lab.submit(8, 13, 16, runtimes=("scripted",))
    lab.work()
    counts = lab.wait(job).points
    assert (counts.measured, counts.failed) == (1, 2)
    reasons = {point.point.spec.width_in: point.reason for point in lab.points(job)}
    assert reasons == {8: "", 13: "Unsupported: 13 is not exported", 16: "Unsupported: told to fail at 16"}
    assert "lab-1: failed: identity 16 @4 on scripted: told to fail at 16" in lab.said.getvalue()


def test_a_batch_that_this_agent_cannot_measure_at_all_fails_with_what_to_install(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.register()
    job = lab.submit(8, 16)

    def missing(*_: object, **__: object) -> None:
        raise BackendMissing("exporter 'null' needs acme: pip install acme")

    monkeypatch.setattr(workshop, "run_sweep", missing)
    lab.work()
    assert lab.wait(job).points.failed == 2
    assert {point.reason for point in lab.points(job)} == {"exporter 'null' needs acme: pip install acme"}


def test_devices_are_announced_by_their_names_in_the_fleet_with_facts_and_runtimes(lab: Lab) -> None:
    lab.register("null=lab-1", "host")
    fleet = {device.info.name: device for device in lab.jobs.fleet()}
    assert set(fleet) == {"lab-1", "host"}
    assert fleet["lab-1"].info.facts["device_model"] == "null" and fleet["lab-1"].info.facts["backend"] == "null"
    assert "observed_load" in fleet["host"].info.facts
    by_name = {runtime.name: runtime for runtime in fleet["lab-1"].info.runtimes}
    assert by_name["null"].version == "1" and by_name["null"].formats == ("null",)
    assert all(device.info.usable and device.agent == "lab" for device in fleet.values())
    (told,) = lab.jobs.agents()
    assert told.facts["hostname"] and told.version


def test_two_agents_of_one_service_have_devices_of_their_own(lab: Lab, processes: None, tmp_path: Path) -> None:
    first, second = lab.agent("null=a", name="one"), lab.agent("null=b", name="two", home=tmp_path / "other")
    with lab.running(first), lab.running(second):
        wait_until(lambda: len(lab.jobs.fleet()) == 2)
        jobs = [lab.submit(8, 16, devices=(name,)) for name in "ab"]
        assert [lab.wait(job).points.measured for job in jobs] == [2, 2]
    assert {lab.store.get(specs(8)[0], Target(name, "null")).target.device for name in "ab"} == {"a", "b"}


def test_an_agent_serves_until_it_is_stopped(lab: Lab) -> None:
    with lab.running(lab.agent()):
        wait_until(lambda: lab.jobs.fleet())
        for width in (8, 16):
            assert lab.wait(lab.submit(width)).points.measured == 1
    assert "batch" in lab.said.getvalue() and "1 measured in" in lab.said.getvalue()


def test_an_agent_that_is_to_work_once_ends_when_nothing_is_to_be_had(lab: Lab) -> None:
    started = time.monotonic()
    lab.work()
    assert time.monotonic() - started < 10


# What it outlives


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


# Devices


HOLDER = """
import sys
from pathlib import Path
from profiler.lock import device_lock
with device_lock(Path(sys.argv[1]), "null"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_device_that_somebody_else_measures_on_is_waited_for_and_no_attempt_is_spent(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "BUSY_S", 0.05)
    lab.register()
    job = lab.submit(8)
    argv = [sys.executable, "-c", HOLDER, str(lab.home / "locks")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdin is not None and holder.stdout is not None and holder.stdout.readline() == "held\n"
        with lab.running(lab.agent()):
            wait_until(lambda: lab.jobs.fleet()[0].state == "unusable")
            assert f"measured on by process {holder.pid}" in lab.jobs.fleet()[0].info.reason
            assert lab.job(job).state == "queued"
            holder.stdin.close()
            assert lab.wait(job).points.measured == 1
            wait_until(lambda: lab.jobs.fleet()[0].state == "idle")


def test_a_device_that_is_taken_between_claim_and_measuring_gives_the_batch_back_with_the_reason(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.register()
    job = lab.submit(8)
    monkeypatch.setattr(agents, "find_holder", lambda *_: None)
    monkeypatch.setattr(agents, "LONGEST_REST_S", 0.3)
    with device_lock(lab.home / "locks", "null"), lab.running(lab.agent()):
        wait_until(lambda: "DeviceBusy" in lab.said.getvalue())
        attempts = lab.said.getvalue().count("DeviceBusy")
        time.sleep(0.3)
        assert lab.said.getvalue().count("DeviceBusy") <= attempts + 2
    assert any("is being measured by" in event.text for event in lab.jobs.events(job.id))
    lab.work()
    assert lab.wait(job).points.measured == 1


PADS = "tests.profiler.outside.pads"


@pytest.fixture
def two_pads(script: Path, monkeypatch: pytest.MonkeyPatch, processes: None) -> None:
    """Two devices, `pad-one` and `pad-two`, measured in processes."""
    from tests.fakes import install_plugins

    folder = script.parent / "pads"
    install_plugins(folder, {"edgelut.devices": {"pad-one": f"{PADS}.one", "pad-two": f"{PADS}.two"}}, "pads")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), os.environ["PYTHONPATH"])))


def test_devices_of_one_agent_are_measured_beside_each_other(lab: Lab, script: Path, two_pads: None) -> None:
    lab.register("pad-one", "pad-two")
    for name in ("held-16", "until-16"):
        os.mkfifo(script / name)
    (script / "hold-16").write_text("3")
    slow = lab.submit(16, devices=("pad-one",), runtimes=("scripted",))
    with lab.running(lab.agent("pad-one", "pad-two")):
        seen = os.open(script / "held-16", os.O_RDONLY)  # here it holds
        quick = lab.submit(8, devices=("pad-two",), runtimes=("scripted",))
        assert lab.wait(quick).points.measured == 1
        assert lab.job(slow).state == "running"
        (script / "hold-16").unlink()
        (script / "until-16").write_text("go")
        assert lab.wait(slow).points.measured == 1
    os.close(seen)


def test_what_runs_on_this_hosts_processor_is_measured_one_device_at_a_time(
    lab: Lab, script: Path, two_pads: None, hosted: None
) -> None:
    lab.register("pad-one", "pad-two")
    for name in ("held-16", "until-16"):
        os.mkfifo(script / name)
    (script / "hold-16").write_text("3")
    slow = lab.submit(16, devices=("pad-one",), runtimes=("scripted",))
    with lab.running(lab.agent("pad-one", "pad-two")):
        seen = os.open(script / "held-16", os.O_RDONLY)
        quick = lab.submit(8, devices=("pad-two",), runtimes=("scripted",))
        other = lab.submit(8, devices=("pad-two",), runtimes=("null",))
        wait_until(lambda: lab.job(quick).state == "running")  # claimed, and waits for its turn
        time.sleep(0.5)
        assert not runs_of(lab, quick)
        cancelled = lab.submit(24, devices=("pad-two",), runtimes=("scripted",))
        lab.jobs.cancel(cancelled.id)
        (script / "hold-16").unlink()
        (script / "until-16").write_text("go")
        assert all(lab.wait(job).points.measured == 1 for job in (slow, quick, other))
    os.close(seen)
    ends = {job.id: max(run.started_at for run in runs_of(lab, job)) for job in (slow, quick)}
    assert ends[slow.id] < min(run.started_at for run in runs_of(lab, quick))


# Who it may be


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


# Comparing


def test_a_comparing_batch_is_measured_in_pairs_and_closed_as_compared(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[object, ...]] = []

    def pairs(points: list[BatchPoint], *given: object, **named: object) -> list[Closed]:
        calls.append((points, *given[2:4], named["environment"]))
        return [Closed(point.number, "compared") for point in points]

    monkeypatch.setattr(workshop, "run_pairs", pairs)
    told: list[Closed] = []
    store = _held(lab, baseline_sweep="older", environment="before")
    monkeypatch.setattr(store, "close_points", told.extend)
    shop = workshop.Workshop(lab.home, lab.agent()._toolchains, {"before": tmp_path}, lab.agent()._report)
    assert shop.measure(store)
    ((points, sweep, old, python),) = calls
    assert {point.point.target for point in points} == {Target("null", "null")}  # type: ignore[attr-defined]
    assert (sweep, old, python) == (store.claim.sweep, "older", tmp_path)
    assert [one.state for one in told] == ["compared"]
    shop.close()


def test_an_environment_that_this_agent_has_not_fails_the_batch_with_what_to_type(lab: Lab) -> None:
    store = _held(lab, baseline_sweep="older", environment="before")
    shop = workshop.Workshop(lab.home, lab.agent()._toolchains, {}, lab.agent()._report)
    shop.measure(store)
    assert "start it with --environment before=PYTHON" in lab.said.getvalue()
    assert json.loads(lab.line.sent("/finish")[-1])["interrupted"] is False
    shop.close()


def _held(lab: Lab, **claimed: object) -> workshop.BatchStore:
    """Return the store of a batch that is claimed under other terms than the service gave it away."""
    lab.register()
    lab.submit(8)
    session_id = json.loads(lab.line.sent("/agents")[-1])["session"]
    claim = lab.jobs.claim("lab", session_id, ["lab-1"])
    assert isinstance(claim, Claim)
    point = replace(claim.points[0], baseline=Baseline("ab" * 32, "older"))
    return workshop.BatchStore(replace(claim, points=(point,), **claimed), "null", lab.agent()._uplink, lab.home)  # type: ignore[arg-type]
