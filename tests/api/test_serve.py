from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from edgelut import __version__
from edgelut.http import HttpTable
from tests.api.support import TARGET, entry

EDGELUT = [sys.executable, "-c", "from edgelut.cli import main; main()", "serve"]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment with a data folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    return kept | {"EDGELUT_HOME": str(home), "PYTHONUNBUFFERED": "1"} | more


def refused(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is to end at once."""
    return subprocess.run(
        [*EDGELUT, *arguments], env=environment(home, **more), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def serving(home: Path, *arguments: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Start the service on a free port; give the process, its URL and the example that it printed."""
    argv = [*EDGELUT, "--port", "0", *arguments]
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
