"""Builds against a real service and a real agent: the command, and the action's steps as a runner runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgelut.job_client import HttpJobs
from tests.ci import github
from tests.ci.conftest import EDGELUT, Lab, configure
from tests.fakes import ROOT

ACTION = github.load(ROOT / "action.yml")
SLOW, BROKEN, ALL = "{slow: 48, by: 1.25}", "{broken: 48}", "{all: 1.3}"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ci(lab: Lab, workspace: Path, branch: str, *argv: str, run: str = "") -> Done:
    """Run `edgelut ci` of a branch as a process."""
    words = [*EDGELUT, "ci", "--branch", branch, "--url", lab.url, *(["--run-id", run] if run else []), *argv]
    done = subprocess.run(words, cwd=workspace, env=lab.env, capture_output=True, text=True, timeout=240, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def built(lab: Lab, workspace: Path) -> Path:
    """A workspace whose main branch was built once."""
    done = ci(lab, workspace, "main")
    assert done.code == 0 and "this build is the baseline of those to come" in done.out, done
    return workspace


def series(lab: Lab, workspace: Path) -> list[Any]:
    """Return the jobs of a workspace's series, the oldest first."""
    with HttpJobs(lab.url) as jobs:
        return [job for job in reversed(jobs.jobs(limit=100)) if job.request.name.startswith(workspace.parent.name)]


def test_a_build_passes_joins_itself_and_fails_when_a_block_is_slower(lab: Lab, built: Path) -> None:
    same = ci(lab, built, "feature", "--json", run="7")
    assert same.code == 0, same
    rows = same.json["rows"]
    assert len(rows) == 8 and all(row["verdict"]["interleaved"] for row in rows)
    assert {row["verdict"]["outcome"] for row in rows} <= {"unchanged", "unclear"}

    jobs = len(series(lab, built))
    again = ci(lab, built, "feature", "--json", run="7")
    assert again.code == 0 and again.json["rows"] == rows
    assert again.json["jobs"] == same.json["jobs"] and len(series(lab, built)) == jobs

    configure(built, SLOW)
    slower = ci(lab, built, "feature", "--junit", "v.xml", run="8")
    assert slower.code == 1, slower
    assert "1 row is slower than the tolerance allows in both sessions: identity 48 @4 takes 1.2" in slower.out
    assert (built / "v.xml").read_text().count("<failure ") == 1
    compare, confirm = series(lab, built)[-2:]
    assert (compare.request.labels["purpose"], confirm.request.labels["purpose"]) == ("compare", "confirm")
    assert confirm.request.baseline == f"job:{compare.baseline_job}"

    configure(built, SLOW, "tolerance: {default: 0.05, blocks: {'identity:48@4': 0.4}}\n")
    tolerated = ci(lab, built, "feature", run="9")
    assert tolerated.code == 0, tolerated


def test_what_cannot_be_measured_or_told_is_neither_passed_nor_failed(lab: Lab, built: Path) -> None:
    configure(built, BROKEN)
    broken = ci(lab, built, "feature", "--json")
    assert broken.code == 2, broken
    assert [row["name"] for row in broken.json["failures"]] == ["identity 48 @4"]
    assert "this artifact was made to fail" in broken.json["reason"]

    configure(built, ALL)
    uniform = ci(lab, built, "feature", "--json")
    assert uniform.code == 2 and "no pinned network says whether it is real" in uniform.json["reason"], uniform

    configure(built)
    text = (built / "edgelut-ci.yaml").read_text()
    (built / "edgelut-ci.yaml").write_text(text.replace("devices: [lab]", "devices: [phone]"))
    unknown = ci(lab, built, "feature")
    assert unknown.code == 2 and "no device 'phone'" in unknown.err and "lab" in unknown.err


def test_an_artifact_that_the_agent_lost_is_compared_with_its_earlier_runs(lab: Lab, built: Path) -> None:
    for folder in (lab.folder / "agent" / "artifacts").iterdir():
        if folder.is_dir():
            subprocess.run(["rm", "-rf", str(folder)], check=True)
    configure(built, "{all: 1.001}")  # another artifact: the old one is not made again
    done = ci(lab, built, "feature", "--json")
    rows = done.json["rows"]
    assert len(rows) == 8 and not any(row["verdict"]["interleaved"] for row in rows)
    assert all(row["old_ns"] for row in rows)
    assert done.code in (0, 2), done


def test_a_build_that_is_stopped_cancels_its_job(lab: Lab, built: Path) -> None:
    words = [*EDGELUT, "ci", "--branch", "feature", "--url", lab.url]
    with subprocess.Popen(words, cwd=built, env=lab.env, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while "job " not in running.stderr.readline():
            pass
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 130
    assert series(lab, built)[-1].state == "cancelled"


def test_a_build_whose_time_is_up_cancels_its_job_and_says_how_far_it_came(lab: Lab, built: Path) -> None:
    text = (built / "edgelut-ci.yaml").read_text()
    (built / "edgelut-ci.yaml").write_text(text.replace("timeout: 3m", "timeout: 1s"))
    done = ci(lab, built, "feature")
    assert done.code == 2 and "did not end within 1 s ('timeout') and was cancelled" in done.err, done
    assert series(lab, built)[-1].state == "cancelled"


def test_a_build_outlives_nothing_but_says_so(workspace: Path, lab: Lab) -> None:
    """No service there: within its retries the command says so, and writes what it was asked to write."""
    started = time.monotonic()
    done = ci(Lab("http://127.0.0.1:9", lab.env, lab.folder), workspace, "main", "--junit", "v.xml")
    assert done.code == 2 and "cannot reach http://127.0.0.1:9" in done.err and time.monotonic() - started < 30
    assert "could not tell" in (workspace / "v.xml").read_text()


def test_the_gate_measures_itself(lab: Lab, workspace: Path) -> None:
    done = ci(lab, workspace, "main", "--self-test", "--runs", "2", "--json")
    assert done.code == 0, done
    assert done.json["runs"]["of"] == 2 and done.json["found"]["0.1"]["of"] == 14
    assert done.json["found"]["0.2"]["share"] > 0.8
    jobs = series(lab, workspace)
    assert len(jobs) == 5 and {job.request.name for job in jobs} == {f"{workspace.parent.name} (self-test)"}


class TestTheAction:
    """Its run steps in order, by bash, with the real command; only pip is left out."""

    @pytest.fixture
    def path(self, lab: Lab, tmp_path: Path) -> str:
        """The PATH of a runner: `edgelut` there makes exports without torch."""
        (tmp_path / "bin").mkdir()
        command = tmp_path / "bin" / "edgelut"
        command.write_text(f'#!/bin/sh\nexec {" ".join(EDGELUT)} "$@"\n')
        command.chmod(0o755)
        return f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def act(self, lab: Lab, workspace: Path, path: str, branch: str, run: int, **inputs: str) -> github.Ended:
        temp = workspace.parent / f"temp-{run}"
        temp.mkdir()
        names = {"ACTIONS": "true", "REPOSITORY": "us/lut", "REF_NAME": branch, "REF_TYPE": "branch", "SHA": "c0ffee"}
        env = {f"GITHUB_{name}": value for name, value in {**names, "RUN_ID": str(run), "RUN_ATTEMPT": "1"}.items()}
        return github.run_action(
            ACTION,
            {name.replace("_", "-"): value for name, value in inputs.items()},
            workspace=workspace,
            temp=temp,
            env={**lab.env, **env, "PATH": path},
            action_path=ROOT,
            without=("install",),
        )

    def test_passes_fails_and_cannot_tell(self, lab: Lab, workspace: Path, path: str) -> None:
        first = self.act(lab, workspace, path, "feature", 1, url=lab.url)
        assert (first.failed, first.outputs["verdict"], first.outputs["exit-code"]) == (True, "unclear", "2")
        assert "a build of the branch 'main' must come first" in first.summary

        main = self.act(lab, workspace, path, "main", 2, url=lab.url)
        assert (main.failed, main.outputs["verdict"]) == (False, "passed")

        passed = self.act(lab, workspace, path, "feature", 3, url=lab.url)
        assert (passed.failed, passed.outputs["verdict"], passed.outputs["exit-code"]) == (False, "passed", "0"), passed
        assert passed.ran == [
            "Set up Python",
            "Install edgelut",
            "Measure and compare",
            "Upload the reports",
            "Verdict",
        ]
        assert json.loads(Path(passed.outputs["json"]).read_text())["branch"] == "feature"
        assert Path(passed.outputs["markdown"]).read_text().strip() == passed.summary.strip()

        configure(workspace, SLOW)
        slower = self.act(lab, workspace, path, "feature", 4, url=lab.url)
        assert (slower.failed, slower.outputs["verdict"], slower.outputs["exit-code"]) == (True, "regression", "1")
        assert "::error title=slower::identity 48 @4: 1.2" in slower.printed
        assert "<failure " in Path(slower.outputs["junit"]).read_text()
        assert slower.printed.count("::group::") == slower.printed.count("::endgroup::") == 2


@pytest.mark.slow
def test_a_runner_alone_measures_real_blocks(tmp_path: Path, lab: Lab) -> None:
    """Service, agent and device are one machine: `agent: true` and nothing else; what is kept between builds is the data folder."""
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgelut-service[onnxruntime-cpu]'")
    (tmp_path / "edgelut-ci.yaml").write_text(
        "name: runner\njob: {blocks: [MB4D], widths: [16, 24, 32, 40, 48, 56], resolutions: [7], devices: host}\n"
        "baseline: {branch: main}\nrecord: {on-branch: main}\ntimeout: 4m\n"
    )
    env = {name: value for name, value in lab.env.items() if name != "PYTHONPATH"} | {
        "EDGELUT_HOME": str(tmp_path / "home"),
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": "us/lut",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    ended = []
    for run, branch in enumerate(("main", "feature")):
        (tmp_path / f"temp-{run}").mkdir()
        ended.append(
            github.run_action(
                ACTION,
                {"agent": "true"},
                workspace=tmp_path,
                temp=tmp_path / f"temp-{run}",
                env={**env, "GITHUB_REF_NAME": branch, "GITHUB_RUN_ID": str(run)},
                action_path=ROOT,
                without=("install",),
            )
        )
    first, second = ended
    assert first.outputs["verdict"] == "passed", first
    found = json.loads(Path(second.outputs["json"]).read_text())
    assert len(found["rows"]) == 6 and all(row["verdict"]["interleaved"] for row in found["rows"]), second
    assert second.outputs["verdict"] in ("passed", "unclear"), second  # it is the same thing twice
    assert "Stop the agent" in second.ran and "serves http://127.0.0.1" in second.printed
