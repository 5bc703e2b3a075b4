"""An agent against the real service, in this process: what it announces, claims, measures and sends, and what it outlives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from db.engine import SqlStore
from edgelut.errors import BackendMissing
from edgelut.jobs import Baseline, BatchPoint, Claim, Closed
from edgelut.plan import Point, Policy
from edgelut.types import Target
from profiler import agent as agents
from profiler import workshop
from profiler.lock import device_lock
from profiler.sweep import run_sweep
from tests.fakes import ROOT
from tests.profiler.lab import (
    LAB,
    ROUNDS,
    Lab,
    runs_of,
    specs,
    wait_until,
)

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
