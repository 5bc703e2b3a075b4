"""The child process and the parent's handle: whatever happens in the child, the parent gets an answer or an error."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgelut.errors import InvalidSpec
from edgelut.testing import make_run
from profiler.errors import TaskFailed, WorkerDied
from profiler.worker import Worker
from tests.fakes import OUTSIDE, ROOT

TASKS = f"{OUTSIDE}.tasks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(TASKS) as started:
        yield started


def wait_until_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 30)[0], f"process {pid} is still there"
    finally:
        os.close(descriptor)


def test_a_worker_is_another_process_that_answers_with_values(worker: Worker) -> None:
    assert worker.call("pid") != os.getpid()
    for value in (make_run("s"), {"a": [1, None]}, b"x" * 10_000_000):
        assert worker.call("echo", value=value) == value


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("refuse", InvalidSpec, "cannot be"),
        ("break_library", TaskFailed, "LibraryError: code 3: inside"),
        ("break_plugin", TaskFailed, "PluginError: plugin because reasons"),
        ("no_such_task", TaskFailed, "AttributeError"),
        ("unreadable", TaskFailed, "the answer to 'unreadable' cannot be read here: ModuleNotFoundError"),
    ],
)
def test_what_a_task_raises_comes_back_and_the_worker_goes_on(
    worker: Worker, name: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        worker.call(name)
    assert type(caught.value) is error and said in str(caught.value)
    assert worker.call("echo", value=1) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("kill", {"number": signal.SIGUSR1}, ["'kill' (signal 10)", "last words"]),
        ("kill", {"number": signal.SIGKILL}, ["'kill' (signal 9)", "last words"]),
        ("segfault", {}, ["'segfault' (signal 11)"]),
        ("leave", {"code": 3}, ["'leave' (exit 3)"]),
        ("unpicklable", {}, ["'unpicklable' (exit 1)", "pickle"]),
    ],
)
def test_a_death_is_told_with_its_signal_and_last_words(
    worker: Worker, name: str, arguments: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(WorkerDied) as caught:
        worker.call(name, **arguments)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    with pytest.raises(WorkerDied):
        worker.call("echo", value=1)


@pytest.mark.parametrize("name", ["hang", "stop"])
def test_a_worker_that_does_not_answer_in_time_is_killed(worker: Worker, name: str) -> None:
    pid = worker.call("pid")
    with pytest.raises(WorkerDied, match=rf"did not answer '{name}' within 0\.05 s"):
        worker.call(name, 0.05)
    wait_until_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_ask_to_end_are_left_to_the_parent(worker: Worker, number: int) -> None:
    assert worker.call("interrupted", number=number) == "alive"


def test_megabytes_of_printing_neither_block_nor_break_the_talk(worker: Worker) -> None:
    assert worker.call("chatter", 60.0, megabytes=4) == "done"
    assert worker.call("echo", value=1) == 1


def test_last_words_are_the_end_of_much_that_was_said(worker: Worker) -> None:
    worker.call("chatter", 60.0, megabytes=1)
    with pytest.raises(WorkerDied) as caught:
        worker.call("kill", number=signal.SIGABRT)
    assert str(caught.value).endswith("last words") and len(str(caught.value)) < 700


def test_the_environment_of_a_runtime_is_set_before_it_starts() -> None:
    with Worker(TASKS, {"EDGELUT_OWN": "1"}) as worker:
        assert worker.call("environment", name="EDGELUT_OWN") == "1"
        assert worker.call("environment", name="OMP_NUM_THREADS") == "1"
    assert "EDGELUT_OWN" not in os.environ


def test_a_closed_worker_is_gone(worker: Worker) -> None:
    pid = worker.call("pid")
    worker.close()
    wait_until_gone(pid)


def test_a_task_module_that_cannot_be_imported_is_told() -> None:
    with Worker("no.such.tasks") as worker, pytest.raises(WorkerDied, match="ModuleNotFoundError"):
        worker.call("pid")


PARENT = f"""
import sys
from profiler.worker import Worker
workers = [Worker({TASKS!r}) for _ in range(2)]
print(*(worker.call("pid") for worker in workers), flush=True)
if sys.argv[1] == "busy":
    for worker in workers:
        worker.send("hang")
sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_children_end_at_once_when_their_parent_is_killed(state: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path("/"),
    ) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.kill()
        for pid in children:
            wait_until_gone(pid)
