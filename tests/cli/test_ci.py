"""`edgelut ci` as a command: exit codes, reports, and what it never prints."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgelut import cli_ci
from edgelut.errors import ServiceError
from tests.ci.fakes import FakeJobs
from tests.ci.test_flow import TEXT, all_slow, one_slow
from tests.cli.conftest import Command

SHORT = "name: blocks\nurl: http://lut.example.com\njob: {presets: efficientformer-l1, devices: host}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, outside any repository and any runner."""
    for name in [name for name in os.environ if name.startswith(("GITHUB_", "GIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> FakeJobs:
    """A service in memory in the place of the real one."""
    fake = FakeJobs()

    class Opened:
        def __init__(self, url: str, token: str | None) -> None:
            fake.url = url

        def __enter__(self) -> FakeJobs:
            return fake

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("edgelut.job_client.HttpJobs", Opened)
    (folder / "edgelut-ci.yaml").write_text(f"{TEXT}url: http://lut.example.com\n")
    return fake


def test_a_first_build_passes_and_the_next_is_compared(jobs: FakeJobs, edgelut: Command) -> None:
    assert edgelut("ci", "--branch", "main").code == 0
    done = edgelut("ci", "--branch", "feature", "--commit", "beef", "--run-id", "7")
    assert done.code == 0 and "unchanged" in done.out
    assert done.out.splitlines()[-1].startswith("blocks: passed: none of ")
    assert "| job job2 on host: http://lut.example.com/jobs/job2" in done.err
    assert dict(jobs.jobs_[-1].request.labels) == {"branch": "feature", "commit": "beef", "purpose": "compare"}
    assert edgelut("ci", "--branch", "feature", "--commit", "beef", "--run-id", "7").code == 0
    assert len(jobs.jobs_) == 2


def test_a_regression_exits_with_one_and_writes_every_report(jobs: FakeJobs, edgelut: Command, folder: Path) -> None:
    edgelut("ci", "--branch", "main")
    jobs.slow = one_slow
    reports = {name: folder / "made" / name for name in ("v.md", "v.xml", "v.json")}
    asked = [
        "--markdown",
        str(reports["v.md"]),
        "--junit",
        str(reports["v.xml"]),
        "--json-file",
        str(reports["v.json"]),
    ]
    done = edgelut("ci", "--branch", "feature", *asked)
    assert done.code == 1 and "blocks: regression: 1 row is slower" in done.out
    assert reports["v.md"].read_text().startswith("### ❌ blocks\n\n**Regression: 1 row")
    assert b"<failure " in reports["v.xml"].read_bytes()
    found = json.loads(reports["v.json"].read_text())
    assert (found["outcome"], found["exit_code"]) == ("regression", 1)


def test_json_is_all_that_is_printed(jobs: FakeJobs, edgelut: Command) -> None:
    edgelut("ci", "--branch", "main")
    done = edgelut("ci", "--branch", "feature", "--json")
    assert done.code == 0 and done.out.count("\n") == 1 and done.json["outcome"] == "passed"


@pytest.mark.parametrize(
    ("config", "argv", "said"),
    [
        (None, [], "there is no edgelut-ci.yaml; 'edgelut ci init' writes one"),
        ("nam: x\n", [], "edgelut-ci.yaml, line 1: nam: there is no such field; is it 'name'?"),
        (SHORT.replace("url: http://lut.example.com\n", ""), [], "no service is named: put 'url: https://...'"),
        (SHORT, ["--url", "ftp://x"], "no service is named"),
        (SHORT, ["--url", "http://me:pass@x"], "holds a user name or password"),
        (SHORT, ["--config", "other.yaml"], "there is no other.yaml"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exits_with_two(
    config: str | None, argv: list[str], said: str, edgelut: Command, folder: Path
) -> None:
    if config is not None:
        (folder / "edgelut-ci.yaml").write_text(config)
    done = edgelut("ci", *argv, "--junit", "v.xml")
    assert done.code == 2 and said in done.error and "pass@" not in done.err
    assert b"could not tell" in (folder / "v.xml").read_bytes()


def test_without_a_reader_of_yaml_the_install_line_is_given(
    edgelut: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "edgelut-ci.yaml").write_text(SHORT)
    monkeypatch.setitem(sys.modules, "yaml", None)
    done = edgelut("ci")
    assert done.code == 2 and "pip install 'edgelut[ci]'" in done.error


def test_a_service_that_is_away_could_not_tell(edgelut: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "edgelut-ci.yaml").write_text(SHORT.replace("lut.example.com", "127.0.0.1:9"))
    monkeypatch.setenv("EDGELUT_TOKEN", "secret-token")
    monkeypatch.setattr("edgelut.rest._wait_s", lambda *_: 0.0)
    done = edgelut("ci", "--json")
    assert done.code == 2 and "cannot reach http://127.0.0.1:9" in done.json["reason"]
    assert "secret-token" not in done.out + done.err


def test_an_unknown_option_exits_with_two(edgelut: Command) -> None:
    assert edgelut("ci", "--nonsense").code == 2


def test_a_report_that_cannot_be_written_changes_no_verdict(jobs: FakeJobs, edgelut: Command, folder: Path) -> None:
    (folder / "file").write_text("")
    done = edgelut("ci", "--branch", "main", "--markdown", "file/v.md")
    assert done.code == 0 and "warning: file/v.md cannot be written" in done.err


class TestOnGithub:
    @pytest.fixture(autouse=True)
    def runner(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        names = {"ACTIONS": "true", "REPOSITORY": "a/b", "REF_NAME": "main", "SHA": "c0ffee", "RUN_ID": "1"}
        for name, value in names.items():
            monkeypatch.setenv(f"GITHUB_{name}", value)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))

    def test_the_summary_is_added_to_and_lines_are_grouped(
        self, jobs: FakeJobs, edgelut: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "summary.md").write_text("before\n")
        assert edgelut("ci").code == 0
        monkeypatch.setenv("GITHUB_REF_NAME", "feature")
        jobs.slow = one_slow
        done = edgelut("ci")
        assert done.code == 1
        summary = (folder / "summary.md").read_text()
        assert summary.startswith("before\n### ✅ blocks\n") and "### ❌ blocks" in summary
        assert done.err.count("::group::") == done.err.count("::endgroup::") == 2
        assert "::error title=slower::MB4D 96 @28: 1." in done.err

    def test_the_table_is_no_command_to_the_runner(self, jobs: FakeJobs, edgelut: Command) -> None:
        edgelut("ci")
        lines = edgelut("ci", "--branch", "feature").out.splitlines()
        start, end = lines[0], lines[-1]
        assert start.startswith("::stop-commands::stop-") and end == f"::{start.removeprefix('::stop-commands::')}::"


def test_a_uniform_slowdown_is_told_by_the_pinned_network(jobs: FakeJobs, edgelut: Command, folder: Path) -> None:
    with (folder / "edgelut-ci.yaml").open("a") as file:
        file.write("reference: efficientformer-l1\n")
    edgelut("ci", "--branch", "main")
    jobs.slow = all_slow
    done = edgelut("ci", "--branch", "feature")
    assert done.code == 1 and "efficientformer-l1 as a whole 1." in done.out
    assert (
        "everything is slower than the tolerance allows in both sessions: efficientformer-l1 whole takes 1." in done.out
    )


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_stopped_cancels_its_job(name: signal.Signals, jobs: FakeJobs, edgelut: Command) -> None:
    edgelut("ci", "--branch", "main")

    def wait(*_: Any, **__: Any) -> None:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), name)).start()
        time.sleep(30)

    jobs.wait = wait  # type: ignore[method-assign, assignment]
    done = edgelut("ci", "--branch", "feature")
    assert done.code == 130 and jobs.cancelled == ["job2"]


def test_a_lost_connection_while_waiting_could_not_tell(jobs: FakeJobs, edgelut: Command) -> None:
    edgelut("ci", "--branch", "main")
    jobs.fails = ServiceError("cannot reach it")
    assert edgelut("ci", "--branch", "feature").code == 2


def test_a_mistake_of_ours_is_no_regression(jobs: FakeJobs, edgelut: Command) -> None:
    edgelut("ci", "--branch", "main")
    jobs.fails = ZeroDivisionError("a mistake")
    done = edgelut("ci", "--branch", "feature", "--json")
    assert done.code == 2 and done.json["reason"] == "edgelut itself failed: ZeroDivisionError: a mistake"
    assert "Traceback" in done.err and jobs.cancelled == ["job2"]


class TestInit:
    def test_writes_a_configuration_that_can_be_read(self, edgelut: Command, folder: Path) -> None:
        from edgelut.ci.config import load

        done = edgelut("ci", "init")
        assert done.code == 0 and "edgelut-ci.yaml is written" in done.out
        assert load(folder / "edgelut-ci.yaml").name == "my-blocks"

    def test_overwrites_nothing(self, edgelut: Command, folder: Path) -> None:
        (folder / "edgelut-ci.yaml").write_text("mine")
        done = edgelut("ci", "init")
        assert done.code == 2 and "edgelut-ci.yaml is there already; nothing was written" in done.error
        assert (folder / "edgelut-ci.yaml").read_text() == "mine"

    def test_takes_another_name_and_says_why_it_cannot(self, edgelut: Command, folder: Path) -> None:
        assert edgelut("ci", "init", "--config", "other.yaml").code == 0 and (folder / "other.yaml").exists()
        done = edgelut("ci", "init", "--config", "no/such/folder.yaml")
        assert done.code == 2 and "cannot be written: No such file" in done.error


def test_the_default_name_is_the_configurations() -> None:
    from edgelut.ci.config import FILE

    assert cli_ci.FILE == FILE


class TestSelfTest:
    def test_prints_how_often_the_gate_is_wrong(self, jobs: FakeJobs, edgelut: Command, folder: Path) -> None:
        done = edgelut("ci", "--self-test", "--runs", "2", "--json-file", "rates.json")
        assert done.code == 0 and "false alarms, builds:" in done.out and "one row +10%, found:" in done.out
        assert json.loads((folder / "rates.json").read_text())["runs"]["of"] == 2
        assert edgelut("ci", "--self-test", "--runs", "1", "--json").json["runs"]["of"] == 1

    def test_that_cannot_be_done_exits_with_two(self, jobs: FakeJobs, edgelut: Command) -> None:
        jobs.fails = ServiceError("cannot reach it")
        done = edgelut("ci", "--self-test", "--runs", "1")
        assert done.code == 2 and done.err.endswith("error: cannot reach it\n") and done.out == ""
        assert edgelut("ci", "--self-test", "--junit", "v.xml").code == 2
