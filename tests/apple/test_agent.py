"""`edgelut agent --apple`: a Mac on each of its compute units and a phone that is attached to it, from a job to its rows."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.testing import InProcess
from backends import registry
from db.engine import SqlStore, open_store
from edgelut.blocks import IDENTITY
from edgelut.job_client import HttpJobs
from edgelut.jobs import Job, JobRequest
from edgelut.plan import Policy
from edgelut.types import Target
from jobs.service import Jobs
from profiler import agent as agents
from profiler import phones, rounds, timing
from profiler.agent import Agent
from profiler.agent_report import Report
from profiler.fleet import DeviceChoice
from profiler.phones import Phones, require_xcode
from profiler.session import Options
from profiler.toolchains import Toolchains
from tests.apple.support import IDENTIFIER, TEAM, Mac
from tests.cli.processes import free_port
from tests.fakes import InlineWorker
from tests.profiler.lab import URL, Line, wait_until

PHONE = f"iphone:{IDENTIFIER}"
SPEC = IDENTITY.spec(3, 4)
UNITS = {
    "cpu_only": ("cpu", 2_000_000),
    "cpu_and_ne": ("ne+cpu", 500_000),
    "cpu_and_gpu": ("gpu", 900_000),
    "all": ("ne+gpu+cpu", 450_000),
}


def request(device: str, unit: str) -> JobRequest:
    return JobRequest(
        specs=(SPEC,),
        alone=True,
        devices=(device,),
        runtimes=("coreml",),
        precisions=("fp16",),
        unit=unit,
        max_rounds=2,
    )


def know_all_but_core_ml(home: Path) -> None:
    """Spare an agent the loading of runtimes that no test here asks for."""
    known = Toolchains(home / "toolchains")
    for name in registry.names("runtimes"):
        if name != "coreml":
            known.missing("runtimes", name, "not in this test")


@dataclass
class Bench:
    """A service, and an agent of it that runs on a Mac, all in this process but the exports."""

    store: SqlStore
    home: Path
    said: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.store)
        self.line = Line(lambda: InProcess(create_app(self.store, None, self.jobs)))

    @contextmanager
    def running(self) -> Iterator[None]:
        know_all_but_core_ml(self.home)
        options = Options(URL, "mac-1", [DeviceChoice("host", "mac-1")], self.home)
        agent = Agent(options, Report(file=self.said), transport=self.line, look=Phones().look)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            yield
        finally:
            agent.stop()
            thread.join(30)
            assert not thread.is_alive()
            wait_until(lambda: not any(loop.is_alive() for loop in agent._loops))

    def usable(self) -> set[str]:
        return {one.info.name for one in self.jobs.fleet() if one.info.usable}

    def reason(self, name: str) -> str:
        return next((one.info.reason for one in self.jobs.fleet() if one.info.name == name), "unknown")

    def ended(self, job: Job) -> bool:
        found = self.jobs.find_job(job.id)
        return found is not None and found.state == "done"


@pytest.fixture
def bench(mac: Mac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(rounds, "Worker", InlineWorker)
    monkeypatch.setattr(phones, "Worker", _Inline)
    monkeypatch.setattr(timing, "time_reference", lambda warmups, samples: timing.ReferenceTime(1e6, 1e6))
    monkeypatch.setattr(Policy, "pause_s", lambda self, round_s: 0.0)
    monkeypatch.setattr(agents, "LOOK_S", 2.0)
    monkeypatch.setattr(agents, "POLL_S", 0.5)
    with open_store(f"sqlite:///{tmp_path / 'edgelut.db'}", migrate=True) as store:
        made = Bench(store, home)
        yield made
        made.line.end()
    for kept in (registry._load, registry._class):
        kept.cache_clear()


class _Inline(InlineWorker):
    """A worker of a block, in this process."""

    def __enter__(self) -> _Inline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_job_for_each_unit_of_the_mac_becomes_a_row_that_says_where_it_ran(mac: Mac, bench: Bench) -> None:
    mac.now(unplugged=True)
    with bench.running():
        wait_until(lambda: bench.usable() == {"mac-1"}, 60)
        (info,) = [one.info for one in bench.jobs.fleet() if one.info.name == "mac-1"]
        assert info.facts["soc"] == "Apple M2" and "coreml" in [one.name for one in info.runtimes]
        assert set(info.runtimes[0].units) == set(UNITS)
        asked = [bench.jobs.submit(request("mac-1", unit)) for unit in UNITS]
        wait_until(lambda: all(map(bench.ended, asked)), 300)
    failures = [point.reason for job in asked for point in bench.jobs.points(job.id) if point.reason]
    assert not failures, failures
    for unit, (ran_on, ns) in UNITS.items():
        entry = bench.store.get(SPEC, Target("mac-1", "coreml", "fp16", 1, unit))
        assert entry.provenance["ran_on"] == ran_on and entry.ran_on == ran_on
        assert entry.latency.clock == "wall" and entry.latency.p10_ns == pytest.approx(ns, rel=0.01)
        assert entry.latency.load_ns and entry.latency.compile_ns and entry.latency.compile_ns < entry.latency.load_ns
        run = bench.store.runs(SPEC, entry.target)[-1]
        assert run.facts["ran_on"] == ran_on and run.facts["low_power_mode"] == 0


def test_phones_come_and_go_while_the_agent_runs(mac: Mac, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "LOOK_S", 0.3)
    mac.now(locked=True)
    with bench.running():
        wait_until(lambda: "locked" in bench.reason(PHONE))
        mac.now()
        wait_until(lambda: PHONE in bench.usable())
        mac.now(unplugged=True)
        wait_until(lambda: "not attached" in bench.reason(PHONE))
        mac.now(identifier="ANOTHER-1", udid="U-1", hardwareProperties={"udid": "U-1"})
        wait_until(lambda: "iphone:ANOTHER-1" in bench.usable())
        assert "not attached" in bench.reason(PHONE)
    assert f"{PHONE}: it is locked" in bench.said.getvalue().replace("\n", " ")


def test_an_app_that_cannot_be_built_is_the_phones_trouble(
    mac: Mac, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELUT_APPLE_TEAM", "BADTEAM000")
    with bench.running():
        wait_until(lambda: "xcodebuild ended with 65" in bench.reason(PHONE))
    assert mac.calls().count("xcodebuild") == 1  # not again at each look


# The command


def edgelut(*argv: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "edgelut", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env},
    )


def test_on_a_machine_without_xcode_the_command_ends_with_6_and_says_what_it_needs(tmp_path: Path) -> None:
    with edgelut("agent", "--apple", "--url", "http://127.0.0.1:9", PATH="", EDGELUT_HOME=str(tmp_path)) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 6 and "no xcrun here" in said and "docs/apple.md" in said


def test_xcode_is_all_that_is_asked_of_a_machine(mac: Mac) -> None:
    require_xcode()


def test_the_command_measures_on_a_phone_with_processes_of_its_own(tmp_path: Path) -> None:
    mac = Mac(tmp_path / "mac").make()
    home, port = tmp_path / "agent", free_port()
    url = f"http://127.0.0.1:{port}"
    know_all_but_core_ml(home)
    served = {"EDGELUT_HOME": str(tmp_path / "service")}
    service = edgelut("serve", "--no-agent", "--port", str(port), **served)
    agent = edgelut("agent", "--apple", "--url", url, "--home", str(home), **mac.env)
    try:
        with HttpJobs(url) as jobs:
            wait_until(
                lambda: _quietly(lambda: any(one.info.name == PHONE and one.info.usable for one in jobs.fleet())), 90
            )
            job = jobs.submit(request(PHONE, "cpu_and_ne"))
            wait_until(lambda: jobs.job(job.id).state == "done", 300)
            (point,) = jobs.points(job.id)
            assert point.state == "measured", point.reason
    finally:
        for process in (agent, service):
            process.terminate()
            process.communicate(timeout=30)
    wait_until(lambda: not mac.is_running())  # the app ended with the worker
    with open_store(f"sqlite:///{tmp_path / 'service' / 'edgelut.db'}") as store:
        entry = store.get(SPEC, Target(PHONE, "coreml", "fp16", 1, "cpu_and_ne"))
        run = store.runs(SPEC, entry.target)[-1]
    assert (entry.ran_on, entry.latency.load_ns, entry.latency.clock) == ("ne+cpu", 31_000_000, "wall")
    assert entry.latency.p10_ns == pytest.approx(250_000, rel=0.01)
    assert "reference_factor" not in entry.provenance  # this Mac's processor says nothing of the phone's
    assert run.facts["device_model"] == "iPhone 13" and run.facts["share_ne"] == 0.97
    assert run.facts["observed_loop"] == "queued"
    assert list((home / "apple" / "build").rglob("*.app")) and mac.calls().count("xcodebuild") == 1
    assert [one.name for one in (mac.phone / "data").iterdir()] == [f"org.edgelut.modelrunner.{TEAM.lower()}"]


def _quietly(look: Any) -> bool:
    try:
        return bool(look())
    except Exception:  # noqa: BLE001 - the service is not up yet
        return False
