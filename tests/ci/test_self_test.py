"""The self-test against a service in memory: which jobs it submits, what it prints, and how it ends."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgelut import MB4D
from edgelut.ci import self_test
from edgelut.ci.config import Config
from edgelut.ci.flow import Flow
from edgelut.ci.progress import Progress
from edgelut.errors import ServiceError
from tests.ci.fakes import MAIN, FakeJobs, configured
from tests.ci.test_flow import TEXT


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path, TEXT)


def test_builds_are_compared_with_themselves(config: Config) -> None:
    jobs, said = FakeJobs(), io.StringIO()
    found = self_test.run(Flow(jobs, config, MAIN, Progress(said)), 3)
    assert found.runs.of == 3 and found.rows.of == 3 * len(config.request.blocks_asked())
    assert found.found[0.2].share > 0.8 and found.uniform.of == 0
    first, *others = jobs.jobs_
    assert len(others) == 6 and {job.request.baseline for job in others} == {f"job:{first.id}"}
    assert {job.request.name for job in jobs.jobs_} == {"blocks (self-test)"}
    assert "3 of 3 builds" in said.getvalue()


def test_both_rates_are_printed_with_their_intervals(config: Config) -> None:
    found = self_test.run(Flow(FakeJobs(), config, MAIN, Progress(io.StringIO())), 2)
    lines = list(self_test.lines(found))
    assert lines[0].startswith("false alarms, builds:") and "0.0% (0.0% to 65.8%, 0 of 2)" in lines[0]
    assert any(line.startswith("one row +10%, found:") for line in lines)
    assert "no pinned network" in lines[-1]
    plain = json.loads(self_test.as_json(found))
    assert plain["runs"] == {"found": 0, "of": 2, "share": 0.0, "low": 0.0, "high": pytest.approx(0.658, abs=1e-3)}
    assert set(plain["found"]) == {"0.1", "0.2"} and plain["uniform"]["share"] is None


def test_a_pinned_network_shows_what_slows_down_everything(tmp_path: Path) -> None:
    config = configured(tmp_path, TEXT + "reference: l1\n")
    found = self_test.run(Flow(FakeJobs(noise=0.002), config, MAIN, Progress(io.StringIO())), 2)
    assert found.uniform.of and found.uniform.found == found.uniform.of
    assert any(line.startswith("all rows +10%, found:") for line in self_test.lines(found))


def test_a_second_self_test_of_a_run_joins_the_first(config: Config) -> None:
    jobs = FakeJobs()
    for _ in range(2):
        self_test.run(Flow(jobs, config, MAIN, Progress(io.StringIO())), 2)
    assert len(jobs.jobs_) == 5
    self_test.run(Flow(jobs, config, replace(MAIN, run="other"), Progress(io.StringIO())), 1)
    assert len(jobs.jobs_) == 8


def test_what_cannot_be_measured_ends_it(config: Config) -> None:
    jobs = FakeJobs(broken={MB4D.spec(224, 14): "no toolchain"})
    with pytest.raises(ServiceError, match="MB4D 224 @14 could not be measured: no toolchain"):
        self_test.run(Flow(jobs, config, MAIN, Progress(io.StringIO())), 1)
