"""The flow of a build against a service in memory: which jobs it submits, when it passes, fails, or cannot tell."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from edgelut import MB4D, BlockSpec
from edgelut.ci.config import Config
from edgelut.ci.flow import Flow
from edgelut.ci.progress import Progress
from edgelut.ci.result import FailedPoint
from edgelut.errors import ServiceError
from edgelut.presets import whole
from edgelut.sequences import network_spec
from edgelut.types import Target
from tests.ci.fakes import FEATURE, MAIN, FakeJobs, configured, run

TEXT = """
name: blocks
job: {presets: efficientformer-l1, devices: host}
baseline: {branch: main}
record: {on-branch: main}
"""
SLOW = MB4D.spec(96, 28)
OTHER = MB4D.spec(224, 14)
HOST = Target("host", "onnxruntime-cpu")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path, TEXT)


@pytest.fixture
def jobs(config: Config) -> FakeJobs:
    """A service where main was built once."""
    jobs = FakeJobs()
    assert run(jobs, config, MAIN).exit_code == 0
    return jobs


def one_slow(spec: BlockSpec, session: int) -> float:
    return 1.25 if spec == SLOW else 1.0


def all_slow(spec: BlockSpec, session: int) -> float:
    return 1.3


def once_slow(spec: BlockSpec, session: int) -> float:
    return 1.25 if spec == SLOW and session == 0 else 1.0


def purposes(jobs: FakeJobs) -> list[str]:
    return [str(job.request.labels["purpose"]) for job in jobs.jobs_]


class TestTheFirstBuild:
    def test_of_the_recorded_branch_is_the_baseline_and_passes(self, config: Config) -> None:
        jobs = FakeJobs()
        result = run(jobs, config, MAIN)
        assert (result.outcome, result.exit_code) == ("passed", 0)
        assert "this build is the baseline of those to come" in result.reason
        (job,) = jobs.jobs_
        assert (job.request.baseline, job.request.name, job.request.alone) == ("", "blocks", False)
        assert dict(job.request.labels) == {"branch": "main", "commit": MAIN.commit, "purpose": "record"}

    def test_of_another_branch_could_not_tell_and_says_what_to_do(self, config: Config) -> None:
        jobs = FakeJobs()
        result = run(jobs, config)
        assert (result.outcome, result.exit_code, jobs.jobs_) == ("unclear", 2, [])
        assert "a build of the branch 'main' must come first, or --allow-no-baseline" in result.reason

    def test_of_another_branch_passes_where_that_is_allowed_but_is_no_baseline(self, config: Config) -> None:
        jobs = FakeJobs()
        result = run(jobs, config, allow_no_baseline=True)
        assert (result.exit_code, jobs.jobs_) == (0, [])
        assert "only a build of 'main' can become it" in result.reason

    def test_of_a_series_is_the_baseline_where_that_is_allowed(self, config: Config) -> None:
        jobs, config = FakeJobs(), replace(config, baseline="previous", record_on="")
        assert run(jobs, config).exit_code == 2
        assert run(jobs, config, allow_no_baseline=True).exit_code == 0
        second = run(jobs, config)
        assert (second.exit_code, second.baseline_job) == (0, "job1")

    @pytest.mark.parametrize(("baseline", "advice"), [("mark:v1", "edgelut marks"), ("job:nope", "edgelut jobs")])
    def test_against_what_it_cannot_become_could_not_tell(self, baseline: str, advice: str, config: Config) -> None:
        config = replace(config, baseline=baseline, record_on="")
        result = run(FakeJobs(), config, allow_no_baseline=True)
        assert result.exit_code == 2 and advice in result.reason

    def test_that_could_measure_nothing_could_not_tell(self, config: Config) -> None:
        jobs = FakeJobs(broken=dict.fromkeys(config.recorded.blocks_asked(), "no toolchain"))
        result = run(jobs, config, MAIN)
        assert result.exit_code == 2 and "could be measured" in result.reason


class TestABuild:
    def test_that_is_as_fast_as_its_baseline_passes(self, jobs: FakeJobs, config: Config) -> None:
        result = run(jobs, config)
        assert (result.outcome, result.exit_code) == ("passed", 0)
        assert (result.baseline_job, len(result.rows)) == ("job1", len(config.request.blocks_asked()))
        assert result.interleaved == (len(result.rows), len(result.rows))
        assert result.common == pytest.approx(1, abs=0.02)
        assert purposes(jobs) == ["record", "compare"]
        assert dict(jobs.jobs_[-1].request.labels)["branch"] == "feature"
        assert [link.url for link in result.jobs] == ["http://fake/jobs/job2"]
        assert all(row.new_ns and row.old_ns for row in result.rows)

    def test_that_is_slower_twice_is_a_regression(self, jobs: FakeJobs, config: Config) -> None:
        jobs.slow = one_slow
        result = run(jobs, config)
        assert (result.outcome, result.exit_code, result.confirmed) == ("regression", 1, True)
        (row,) = result.of("regression")
        assert row.verdict.spec == SLOW and row.verdict.ratio == pytest.approx(1.25, rel=0.05)
        assert "1 row is slower than the tolerance allows in both sessions: MB4D 96 @28 takes 1.2" in result.reason
        assert purposes(jobs) == ["record", "compare", "confirm"]

    def test_that_was_slower_once_passes(self, jobs: FakeJobs, config: Config) -> None:
        jobs.slow = once_slow
        result = run(jobs, config)
        assert (result.exit_code, result.confirmed, result.of("regression")) == (0, True, [])

    def test_that_need_not_be_confirmed_is_judged_by_one_session(self, jobs: FakeJobs, config: Config) -> None:
        jobs.slow = once_slow
        result = run(jobs, replace(config, confirm=False))
        assert (result.exit_code, result.confirmed) == (1, False)
        assert purposes(jobs) == ["record", "compare"]

    def test_that_is_slower_altogether_is_seen_by_the_pinned_network(self, tmp_path: Path) -> None:
        config = configured(tmp_path, TEXT + "reference: efficientformer-l1\n")
        jobs = FakeJobs()
        run(jobs, config, MAIN)
        jobs.slow = all_slow
        result = run(jobs, config)
        assert result.exit_code == 1 and result.common == pytest.approx(1.3, rel=0.02)
        assert result.uniform is not None and result.uniform.name == "efficientformer-l1 whole"
        assert [row.verdict.spec for row in result.of("regression")] == [network_spec(whole("l1"))]

    def test_whose_suspects_cannot_be_measured_again_could_not_tell(self, jobs: FakeJobs, config: Config) -> None:
        jobs.slow = one_slow

        class FailsLater(FakeJobs):
            def submit(self, request, *, key=""):  # type: ignore[no-untyped-def]
                if request.labels["purpose"] == "confirm":
                    raise ServiceError("cannot reach it")
                return super().submit(request, key=key)

        later = FailsLater(jobs_=jobs.jobs_, points_=jobs.points_, runs_=jobs.runs_, slow=one_slow)
        result = run(later, config)
        assert result.exit_code == 2
        assert "1 row looks slower, but could not be measured again: cannot reach it" in result.reason

    def test_with_points_that_failed_could_not_tell_and_says_why(self, jobs: FakeJobs, config: Config) -> None:
        jobs.broken = {OTHER: "ParityFailed: off by 3"}
        result = run(jobs, config)
        assert result.exit_code == 2
        assert result.failures == (FailedPoint("MB4D 224 @14", HOST, "ParityFailed: off by 3"),)
        assert "could not be measured (MB4D 224 @14): ParityFailed: off by 3" in result.reason

    def test_with_points_that_failed_and_a_regression_is_a_regression(self, jobs: FakeJobs, config: Config) -> None:
        jobs.broken, jobs.slow = {OTHER: "no"}, one_slow
        result = run(jobs, config)
        assert result.exit_code == 1 and len(result.failures) == 1

    def test_whose_baseline_lacks_rows_calls_them_new(self, jobs: FakeJobs, config: Config, tmp_path: Path) -> None:
        wider = configured(tmp_path, TEXT.replace("devices: host", "devices: host, specs: 'MB4D:32@7'"))
        result = run(jobs, wider)
        assert result.exit_code == 0
        assert [row.name for row in result.of("new")] == ["MB4D 32 @7"]

    def test_whose_baseline_is_not_there_any_more_is_compared_with_its_runs(
        self, jobs: FakeJobs, config: Config
    ) -> None:
        jobs.apart = frozenset({OTHER})
        result = run(jobs, config)
        apart = [row for row in result.rows if not row.verdict.interleaved]
        assert [row.verdict.spec for row in apart] == [OTHER]
        assert apart[0].old_ns is not None
        assert result.interleaved == (len(result.rows) - 1, len(result.rows))

    def test_on_an_unknown_device_could_not_tell(self, jobs: FakeJobs, tmp_path: Path) -> None:
        config = configured(tmp_path, TEXT.replace("devices: host", "devices: phone"))
        result = run(jobs, config)
        assert (result.exit_code, result.reason) == (2, "no device 'phone'; there are host")

    def test_that_nobody_measures_is_cancelled_after_its_time(self, jobs: FakeJobs, config: Config) -> None:
        jobs.never = True
        result = run(jobs, config)
        assert result.exit_code == 2 and jobs.cancelled == ["job2"]
        assert (
            "job job2 did not end within 1 h 0 min ('timeout') and was cancelled; no agent ever claimed it"
            in result.reason
        )

    def test_whose_job_somebody_cancels_could_not_tell(self, jobs: FakeJobs, config: Config) -> None:
        jobs.ends = "cancelled"
        result = run(jobs, config)
        assert (result.exit_code, result.reason) == (2, "job job2 was cancelled")

    def test_whose_service_goes_away_could_not_tell(self, jobs: FakeJobs, config: Config) -> None:
        jobs.fails = ServiceError("cannot reach http://fake: gone; is 'edgelut serve' running there?")
        result = run(jobs, config)
        assert result.exit_code == 2 and "cannot reach http://fake" in result.reason
        assert [link.id for link in result.jobs] == ["job2"]

    def test_that_is_interrupted_cancels_its_job(self, jobs: FakeJobs, config: Config) -> None:
        jobs.fails = KeyboardInterrupt()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            run(jobs, config)
        assert jobs.cancelled == ["job2"]


class TestTheRecordedBranch:
    def test_is_compared_and_fills_the_table(self, jobs: FakeJobs, config: Config) -> None:
        result = run(jobs, config, replace(MAIN, run="run-3"))
        assert result.exit_code == 0
        assert purposes(jobs) == ["record", "compare", "record"]
        assert [link.purpose for link in result.jobs] == ["compare", "record"]

    def test_fills_the_table_when_it_is_slower_too(self, jobs: FakeJobs, config: Config) -> None:
        jobs.slow = one_slow
        result = run(jobs, config, replace(MAIN, run="run-3"))
        assert result.exit_code == 1 and purposes(jobs)[-1] == "record"

    def test_is_judged_the_same_where_the_table_cannot_be_filled(self, jobs: FakeJobs, config: Config) -> None:
        class Full(FakeJobs):
            def submit(self, request, *, key=""):  # type: ignore[no-untyped-def]
                if request.labels["purpose"] == "record":
                    raise ServiceError("the disk is full")
                return super().submit(request, key=key)

        full = Full(jobs_=jobs.jobs_, points_=jobs.points_, runs_=jobs.runs_)
        result = run(full, config, replace(MAIN, run="run-3"))
        assert (result.exit_code, result.notes) == (0, ("the table was not filled: the disk is full",))

    def test_is_not_a_pull_request_from_a_branch_of_that_name(self, jobs: FakeJobs, config: Config) -> None:
        theirs = replace(MAIN, run="run-3", pull_request=True).beside("main")
        run(jobs, config, theirs)
        assert purposes(jobs) == ["record", "compare"]
        assert jobs.jobs_[-1].request.labels["branch"] == "pull-request:main"
        assert run(jobs, config).baseline_job == "job1"


class TestAStepThatRunsAgain:
    def test_joins_its_own_jobs(self, jobs: FakeJobs, config: Config) -> None:
        jobs.slow = one_slow
        first, again = run(jobs, config), run(jobs, config)
        assert (first.exit_code, again.exit_code) == (1, 1)
        assert first.jobs == again.jobs and len(jobs.jobs_) == 3
        assert [row.verdict for row in first.rows] == [row.verdict for row in again.rows]

    def test_submits_others_in_another_attempt(self, jobs: FakeJobs, config: Config) -> None:
        run(jobs, config)
        run(jobs, config, replace(FEATURE, run="run-2/2"))
        assert len(jobs.jobs_) == 3

    def test_submits_others_for_another_configuration(self, jobs: FakeJobs, config: Config) -> None:
        run(jobs, config)
        run(jobs, replace(config, fdr=0.1))
        assert len(jobs.jobs_) == 3

    def test_submits_others_where_no_run_is_known(self, jobs: FakeJobs, config: Config) -> None:
        for _ in range(2):
            run(jobs, config, replace(FEATURE, run=""))
        assert len(jobs.jobs_) == 3


def test_the_confirming_job_is_no_baseline_and_has_the_same_one(jobs: FakeJobs, config: Config) -> None:
    jobs.slow = one_slow
    run(jobs, config)
    confirming = jobs.jobs_[-1]
    assert (confirming.request.name, confirming.request.baseline) == ("blocks (confirm)", "job:job1")
    specs = confirming.request.blocks_asked()
    assert SLOW in specs and 1 < len(specs) <= 9


def test_what_a_build_waits_for_is_said(jobs: FakeJobs, config: Config) -> None:
    said = io.StringIO()
    jobs.broken = {OTHER: "it broke\n::error::not a command"}
    Flow(jobs, config, FEATURE, Progress(said)).run()
    lines = said.getvalue().splitlines()
    assert lines[0] == "blocks: comparing with the baseline"
    assert "| job job2 on host: http://fake/jobs/job2" in lines
    assert "| job job2 queued, 0 of 1 rows, 0 rounds" in lines
    assert any(line.startswith("| error: ") and line.endswith("it broke ::error::not a command") for line in lines)


@pytest.mark.parametrize(("late", "looks", "waited"), [(0, 1, 0.0), (3, 4, 1.5), (1000, 21, 10.0)])
def test_devices_whose_agent_is_starting_are_waited_for(
    late: int, looks: int, waited: float, jobs: FakeJobs, config: Config
) -> None:
    jobs.late, slept = late, [0.0]
    flow = Flow(jobs, config, FEATURE, Progress(io.StringIO()), wait_for_devices_s=10, clock=lambda: sum(slept))
    flow.sleep = slept.append
    assert flow.run().exit_code == 0
    assert (jobs.looks, sum(slept)) == (looks, waited)


def test_rows_of_several_targets_are_confirmed_on_their_own(tmp_path: Path) -> None:
    config = configured(tmp_path, TEXT.replace("devices: host", "devices: host, runtimes: [x, y], threads: [1, 2]"))
    jobs = FakeJobs()
    run(jobs, config, MAIN)
    jobs.slow = one_slow
    result = run(jobs, config)
    assert result.exit_code == 1 and len(result.of("regression")) == 4
    assert {row.verdict.spec for row in result.of("regression")} == {SLOW}
    assert len({row.verdict.target for row in result.rows}) == 4
    assert len(result.rows) == 4 * len(config.request.blocks_asked())
