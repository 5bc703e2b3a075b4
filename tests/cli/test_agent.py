"""The command `edgelut agent`, and `edgelut profile` through a service: real processes that are killed, stopped and refused."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgelut import local_service
from edgelut.job_client import HttpJobs
from edgelut.plan import Policy
from profiler import cli_agent
from tests.cli.processes import Held, Processes, kill, start
from tests.fakes import ROOT

from .conftest import Command

ROUNDS = Policy().min_rounds
RUNS = """
SELECT specs.width_in, runs.round, processes.name FROM runs JOIN processes ON processes.id = process_id
JOIN specs ON specs.id = runs.spec_id
"""


@pytest.fixture
def lab(tmp_path: Path, script: Path) -> Iterator[Processes]:
    """A service that runs; its agent does not yet."""
    made = Processes(tmp_path)
    subprocess.run([sys.executable, "-m", "tests.profiler.outside.known", str(made.home)], check=True, cwd=ROOT)
    made.start_service()
    try:
        made.wait_for_service()
        yield made
    finally:
        made.end()


@pytest.fixture
def held(lab: Processes, script: Path) -> Iterator[Held]:
    """A worker that is to wait in the middle of its fourth round."""
    made = Held(script, 16, 4)
    yield made
    made.close()


def stored(lab: Processes) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(lab.folder / "service" / "edgelut.db")
    try:
        return connection.execute(RUNS).fetchall()
    finally:
        connection.close()


def assert_each_round_once(lab: Processes, *widths: int) -> None:
    found = Counter((width, number) for width, number, _ in stored(lab))
    assert found == Counter({(width, number): 1 for width in widths for number in range(ROUNDS)})


def begin(lab: Processes, *widths: int) -> Any:
    lab.start_agent()
    lab.wait_for_devices()
    return lab.submit(*widths)


# Kills


def test_an_agent_that_is_killed_in_the_middle_of_a_round_loses_that_round_alone(lab: Processes, held: Held) -> None:
    job = begin(lab, 8, 16)
    held.wait()
    before = stored(lab)
    assert 6 <= len(before) <= 7
    kill(lab.agent)
    held.release()
    started = time.monotonic()
    lab.start_agent()
    done = lab.wait(job)
    assert done.state == "done" and done.points.measured == 2 and time.monotonic() - started < 25  # no lease waited for
    assert_each_round_once(lab, 8, 16)
    assert set(before) < set(stored(lab)) and len({name for *_, name in stored(lab)}) == 2


def test_a_service_that_is_killed_while_an_agent_measures_stops_nothing(lab: Processes, held: Held) -> None:
    job = begin(lab, 8, 16)
    held.wait()
    kill(lab.service)
    held.release()
    time.sleep(1)
    lab.start_service()
    lab.wait_for_service()
    assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, 8, 16)
    assert len({name for *_, name in stored(lab)}) == 1  # the same worker all along
    assert lab.agent is not None and lab.agent.poll() is None


def test_everything_may_be_killed_at_once(lab: Processes, held: Held) -> None:
    job = begin(lab, 8, 16)
    held.wait()
    before = stored(lab)
    for process in (lab.agent, lab.service):
        kill(process)
    held.release()
    lab.start_agent()
    lab.start_service()
    lab.wait_for_service()
    assert lab.wait(job).points.measured == 2
    assert_each_round_once(lab, 8, 16)
    assert set(before) < set(stored(lab))


def test_a_worker_that_is_killed_costs_a_row_and_the_others_are_measured(lab: Processes, script: Path) -> None:
    (script / "die-16").touch()
    job = begin(lab, 8, 16, 24)
    counts = lab.wait(job).points
    assert (counts.measured, counts.failed) == (2, 1)
    with HttpJobs(lab.url) as jobs:
        (failed,) = jobs.points(job.id, state="failed")
        assert failed.point.spec.width_in == 16 and "signal 9" in failed.reason
        assert jobs.retry(job.id).points.open == 1
    assert lab.wait(job).points.measured == 3


# Ends


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_an_agent_that_is_told_to_end_gives_its_batch_back_within_seconds(
    lab: Processes, held: Held, number: int, code: int
) -> None:
    begin(lab, 8, 16)
    held.wait()
    assert lab.agent is not None
    started = time.monotonic()
    lab.agent.send_signal(number)
    time.sleep(0.2)
    held.release()
    out, err = lab.agent.communicate(timeout=30)
    assert lab.agent.returncode == code and out == "" and time.monotonic() - started < 25
    assert "left: the agent was stopped" in err and err.count("error") == (code == 130)  # "error: interrupted"
    assert max(found for _, found, _ in stored(lab)) == 3  # the round in hand is kept
    with HttpJobs(lab.url) as jobs:
        assert jobs.fleet()[0].state == "idle"


def test_an_agent_that_waits_for_work_ends_at_once(lab: Processes) -> None:
    agent = lab.start_agent()
    lab.wait_for_devices()
    time.sleep(0.5)
    started = time.monotonic()
    agent.terminate()
    agent.communicate(timeout=30)
    assert agent.returncode == 0 and time.monotonic() - started < 15


def test_an_agent_whose_round_does_not_end_is_ended_by_a_second_signal(lab: Processes, held: Held) -> None:
    begin(lab, 8, 16)
    held.wait()
    assert lab.agent is not None
    lab.agent.send_signal(signal.SIGINT)
    time.sleep(0.3)
    lab.agent.send_signal(signal.SIGINT)
    started = time.monotonic()
    lab.agent.communicate(timeout=30)
    assert lab.agent.returncode == 130 and time.monotonic() - started < 20
    with HttpJobs(lab.url) as jobs:
        assert jobs.fleet()[0].state == "idle"


def test_an_agent_ends_with_the_process_that_holds_its_input(lab: Processes) -> None:
    agent = lab.start_agent("--until-stdin-ends")
    lab.wait_for_devices()
    assert agent.stdin is not None
    agent.stdin.close()
    agent.wait(10)
    assert agent.returncode == 0


def test_an_agent_that_is_to_work_once_measures_what_there_is_and_ends(lab: Processes) -> None:
    lab.start_agent("--once").communicate(timeout=60)
    job = lab.submit(8, 16)
    agent = lab.start_agent("--once", "--quiet")
    assert agent.communicate(timeout=60) == ("", "") and agent.returncode == 0
    assert lab.wait(job).points.measured == 2


# Refusals


def test_a_second_agent_on_the_same_data_folder_is_code_2(lab: Processes) -> None:
    first = lab.start_agent()
    lab.wait_for_devices()
    second = start("agent", "--url", lab.url, "--device", "null=lab-2", "--home", str(lab.home))
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2 and f"process {first.pid}" in err and "already runs on" in err


def test_a_service_that_refuses_an_agent_is_code_4(lab: Processes, tmp_path: Path) -> None:
    lab.start_agent()
    lab.wait_for_devices()
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "tests.profiler.outside.known", str(other)], check=True, cwd=ROOT)
    thief = start("agent", "--url", lab.url, "--name", "thief", "--device", "null=lab-1", "--home", str(other))
    _, err = thief.communicate(timeout=60)
    assert thief.returncode == 4 and "device 'lab-1' is agent" in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "which service? give --url URL, or set EDGELUT_URL"),
        (("--url", "http://lab.example"), "can be read on the way to lab.example: use https://, or type --insecure"),
        (("--url", "https://u:p@lab.example"), "user name or password"),
        (("--url", "http://127.0.0.1:1", "--device", "=x"), "write BACKEND, or BACKEND=NAME"),
        (("--url", "http://127.0.0.1:1", "--device", "null=a/b"), "write BACKEND, or BACKEND=NAME"),
        (("--url", "http://127.0.0.1:1", "--device", "null=a", "--device", "null=b"), "null=a is given already"),
        (("--url", "http://127.0.0.1:1", "--environment", "before"), "write NAME=PYTHON"),
        (("--url", "http://127.0.0.1:1", "--environment", "before=/nowhere/python"), "is no program"),
        (("--url", "http://127.0.0.1:1", "--token-file", "/nowhere"), "cannot be read: No such file"),
    ],
)
def test_what_an_agent_cannot_be_told_is_code_2(edgelut: Command, argv: tuple[str, ...], said: str) -> None:
    done = edgelut("agent", *argv)
    assert done.code == 2 and said in done.error and "u:p" not in done.err


def test_a_device_that_there_is_not_is_code_6(edgelut: Command) -> None:
    done = edgelut("agent", "--url", "http://127.0.0.1:1", "--device", "toaster")
    assert done.code == 6 and "no device 'toaster'; there are host, null" in done.error


def test_a_token_on_the_command_line_is_taken_and_warned_of(edgelut: Command, tmp_path: Path) -> None:
    argv = ("agent", "--url", "http://127.0.0.1:1", "--device", "null", "--environment", "x", "--token", "edl_secret")
    done = edgelut(*argv)
    assert done.code == 2 and "secret" not in done.err
    file = tmp_path / "token"
    file.write_text("edl_secret\n")
    report = _Said()
    assert cli_agent._token(None, file, report) == "edl_secret" and not report.warnings  # type: ignore[arg-type]
    assert cli_agent._token("edl_secret", file, report) == "edl_secret"  # type: ignore[arg-type]
    assert "use EDGELUT_TOKEN or --token-file" in report.warnings[0]
    file.write_text(" \n")
    assert edgelut(*argv[:5], "--token-file", str(file)).code == 2


class _Said:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize(
    ("url", "device"),
    [
        ("http://127.0.0.1:8321", "host"),
        ("http://localhost:1", "host"),
        ("http://[::1]:1", "host"),
        ("https://lab.example", "host=lab-3"),
        ("https://10.0.0.1", "host=lab-3"),
    ],
)
def test_the_host_of_an_agent_has_its_agents_name_in_a_fleet_of_several(url: str, device: str) -> None:
    assert cli_agent._default_device(url, "lab-3") == device


# Profiling through a service


PROFILE = ("profile", "--block", "identity", "--width", "8,16", "--resolution", "4", "--runtime", "scripted")
PROFILE += ("--device", "lab-1", "--json")


def test_profile_through_a_service_says_what_it_says_without_one_and_the_job(lab: Processes, process: Command) -> None:
    lab.start_agent()
    lab.wait_for_devices()
    by = process(*PROFILE, "--url", lab.url)
    assert by.code == 0 and by.err == "", by
    with HttpJobs(lab.url) as jobs:
        assert by.json["job"] == jobs.jobs()[0].id and jobs.jobs()[0].points.measured == 2
        assert by.json["sweep"] == jobs.points(by.json["job"])[0].sweep
    out, _ = start(*(word.replace("lab-1", "null") for word in PROFILE), "--local").communicate(timeout=60)
    here = json.loads(out)
    assert set(by.json) == set(here) | {"job"}
    rows = [[(row["spec"], row["latency"]["p10_ns"]) for row in told["measured"]] for told in (by.json, here)]
    assert sorted(rows[0], key=str) == sorted(rows[1], key=str) and len(rows[0]) == 2
    again = process(*PROFILE, EDGELUT_URL=lab.url)
    assert again.code == 0 and len(again.json["known"]) == 2 and not again.json["measured"]
    shown = process(*PROFILE[:-1], "--url", lab.url)
    assert shown.code == 0 and "2 rows; 0 in doubt, 0 failed" in shown.out and f"at {lab.url}" in shown.err


def test_points_that_fail_at_a_service_are_told_and_are_code_1(lab: Processes, script: Path, process: Command) -> None:
    (script / "fail-16").touch()
    lab.start_agent()
    lab.wait_for_devices()
    done = process(*PROFILE, "--url", lab.url)
    assert done.code == 1 and len(done.json["measured"]) == 1
    (failure,) = done.json["failures"]
    assert failure["spec"]["width_in"] == 16 and failure["reason"] == "Unsupported: told to fail at 16"


def test_ctrl_c_leaves_the_job_running_and_says_how_to_watch_it(lab: Processes, held: Held) -> None:
    lab.start_agent()
    lab.wait_for_devices()
    asked = start(*PROFILE[:-1], "--url", lab.url)
    held.wait()
    asked.send_signal(signal.SIGINT)
    out, err = asked.communicate(timeout=30)
    with HttpJobs(lab.url) as jobs:
        (job,) = jobs.jobs()
    assert asked.returncode == 130 and out == ""
    assert f"'edgelut jobs watch {job.id}' shows it, 'edgelut jobs cancel {job.id}' ends it" in err
    held.release()
    assert lab.wait(job).points.measured == 2


def test_profile_finds_the_service_that_runs_on_its_data_folder(lab: Processes, process: Command, home: Path) -> None:
    lab.start_agent()
    lab.wait_for_devices()
    with local_service.announce(home, lab.url, None):
        assert "job" in process(*PROFILE).json
        asked = process(*(word.replace("lab-1", "lab-9") for word in PROFILE))
        assert asked.code == 2 and "no device 'lab-9'" in asked.error and "--local measures without it" in asked.error


def test_a_service_and_no_service_at_once_are_code_2(edgelut: Command) -> None:
    for argv in (("--local",), ("--database", "sqlite:///x.db")):
        done = edgelut(*PROFILE, "--url", "http://127.0.0.1:1", *argv)
        assert done.code == 2 and "give one of them" in done.error


def test_a_service_that_is_away_is_code_4(edgelut: Command) -> None:
    done = edgelut(*PROFILE, "--url", "http://127.0.0.1:1")
    assert done.code == 4 and "cannot reach" in done.error
