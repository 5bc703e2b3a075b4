from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from edgelut import __version__
from edgelut.http import HttpTable
from edgelut.job_client import HttpJobs
from edgelut.rest import Connection
from tests.api.support import TARGET, RestJobs, entry, tiny_agent
from tests.jobs.support import TinyAgent, request_for

TOKEN = "s3cret-token"
EDGELUT = [sys.executable, "-c", "from edgelut.cli import main; main()", "serve"]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment with a data folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    return kept | {"EDGELUT_DASHBOARD": "off", "EDGELUT_HOME": str(home), "PYTHONUNBUFFERED": "1"} | more


def refused(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is to end at once."""
    return subprocess.run(
        [*EDGELUT, *arguments], env=environment(home, **more), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def serving(home: Path, *arguments: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Start the service on a free port; give the process, its URL and the example that it printed."""
    argv = [*EDGELUT, "--no-agent", "--port", "0", *arguments]  # which would load torch for a minute
    with subprocess.Popen(
        argv, env=environment(home, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert "http://" in said, process.communicate(timeout=10)
            yield process, said.split()[2], process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_a_new_database_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as (process, url, example):
        assert example == f'curl "{url}/latency?block=MB3D&width=224"'
        with HttpTable(url) as table:
            assert table.put(entry(224))
            assert table.find(entry(224).spec, TARGET) == entry(224)
        answered = httpx.get(f"{url}/latency?block=MB3D&width=224")
        assert answered.json()["entries"][0]["latency_ms"] == 1.0
        assert answered.headers["edgelut-version"] == __version__
        assert "server" not in answered.headers
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert (tmp_path / "edgelut.db").exists()


def test_a_token_from_the_environment_guards_any_address(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", EDGELUT_TOKEN="s3cret-token") as (_, url, example):
        assert "s3cret-token" not in example and "$EDGELUT_TOKEN" in example
        local = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{local}/latency").status_code == 401
        assert httpx.get(f"{local}/devices", headers={"Authorization": "Bearer s3cret-token"}).json() == {"devices": []}


def test_a_body_over_the_limit_is_refused_on_a_real_connection(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, url, _example), httpx.Client(base_url=url, timeout=30) as client:
        sent = client.put("/entries", content=(b" " * 2**20 for _ in range(17)))
        assert sent.status_code == 413
        assert client.get("/healthz").status_code == 200


def test_a_port_in_use_is_one_line_and_exit_code_4(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = refused(tmp_path, "--port", port)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert port in done.stderr and "--port" in done.stderr


def test_an_open_address_without_a_token_is_refused_with_what_to_type(tmp_path: Path) -> None:
    done = refused(tmp_path, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "EDGELUT_TOKEN=" in done.stderr and "--host 127.0.0.1" in done.stderr


def test_a_database_that_cannot_be_opened_is_exit_code_3(tmp_path: Path) -> None:
    done = refused(tmp_path, "--port", "0", "--database", "mysql://me:pass@host/x")
    assert done.returncode == 3
    assert "pass@" not in done.stderr


def test_an_unknown_log_level_lists_those_there_are(tmp_path: Path) -> None:
    done = refused(tmp_path, "--log-level", "loud")
    assert done.returncode == 2
    assert "warning" in done.stderr


def test_help_imports_no_server() -> None:
    code = "import sys, api.cli; print([m for m in ('uvicorn', 'fastapi', 'sqlalchemy', 'db') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# Jobs


@contextmanager
def agent_at(
    url: str, *devices: str, token: str | None = None, wait_s: float = 0.0
) -> Iterator[tuple[TinyAgent, RestJobs]]:
    """An agent that has announced itself to a service, and what it says to it."""
    with Connection(url, token) as connection:
        said = RestJobs(connection, wait_s)
        yield tiny_agent(said, *devices), said


def test_sigterm_ends_claims_and_streams_that_wait_and_jobs_go_on_after_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url, _):
        port = url.rpartition(":")[2]
        with (
            agent_at(url, "a", "b", wait_s=30) as (agent, said),
            HttpJobs(url, patience_s=60) as jobs,
            ThreadPoolExecutor(2) as pool,
        ):
            job = jobs.submit(request_for("a"))
            claim = agent.claim()  # the only work there is for a, and none for b
            agent.measure(claim, claim.points[:1])
            states: list[str] = []
            waiting = pool.submit(jobs.wait, job.id, lambda one: states.append(one.state), None, 90)
            polling = pool.submit(said.claim, "lab", agent.session, ["b"])
            time.sleep(1.0)
            assert not waiting.done() and not polling.done() and states
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
            assert time.monotonic() - began < 15  # and not when what waits has waited for 30 s
            assert (process.returncode, out, err) == (0, "", "")
            with serving(tmp_path, "--port", port) as (_, again, _example):
                assert again == url
                assert polling.result(timeout=30) is None  # it was answered, or asked the new process
                agent.measure(claim, claim.points[1:])
                assert said.finish(claim.batch, claim.lease).state == "held"  # the lease outlived the process
                done = waiting.result(timeout=30)
    assert (done.state, done.points.measured) == ("done", 4)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two processes of the service on one database, with a token."""
    home = tmp_path_factory.mktemp("two")
    with (
        serving(home, EDGELUT_TOKEN=TOKEN) as (_, first, _example),
        serving(home, EDGELUT_TOKEN=TOKEN) as (_, second, _also),
    ):
        yield first, second


def test_two_processes_share_the_work(two: tuple[str, str]) -> None:
    first, second = two
    with (
        agent_at(second, "a", token=TOKEN, wait_s=20) as (agent, said),
        HttpJobs(first, TOKEN) as jobs,
        ThreadPoolExecutor(2) as pool,
    ):
        claiming = pool.submit(agent.claim)
        time.sleep(0.5)
        job = jobs.submit(request_for("a"))
        watching = pool.submit(jobs.wait, job.id, None, None, 30)
        began = time.monotonic()
        claim = claiming.result(timeout=10)
        assert claim.job == job.id and time.monotonic() - began < 10
        agent.measure(claim, claim.points)
        began = time.monotonic()
        assert watching.result(timeout=10).state == "done"  # what the other process was told
        assert time.monotonic() - began < 10
        said.finish(claim.batch, claim.lease)


def test_a_token_that_one_process_revokes_opens_nothing_of_another_5_s_later(two: tuple[str, str]) -> None:
    first, second = two
    with HttpJobs(first, TOKEN) as admin:
        secret = admin.create_token("reader", ["read"]).token
        with httpx.Client(base_url=second, headers={"Authorization": f"Bearer {secret}"}) as reader:
            assert reader.get("/jobs").status_code == 200
            admin.revoke_token("reader")
            revoked = time.monotonic()
            while reader.get("/jobs").status_code != 401:
                assert time.monotonic() - revoked < 30
                time.sleep(0.1)


def test_a_stored_token_guards_any_address(tmp_path: Path) -> None:
    argv = [*EDGELUT[:-1], "db", "token", "me", "--scope", "admin"]
    made = subprocess.run(argv, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=True)
    secret = made.stdout.strip()
    with serving(tmp_path, "--host", "0.0.0.0") as (_, url, example):
        assert "$EDGELUT_TOKEN" in example
        local = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{local}/devices").status_code == 401
        assert httpx.get(f"{local}/devices", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
