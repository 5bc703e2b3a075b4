"""`edgelut serve` and the dashboard that it starts: where it listens, when it is not there, and what ends with what."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from api import cli, local_dashboard
from edgelut.errors import BackendMissing, InvalidSpec
from tests.api.test_embedded import wait_for

EDGELUT = Path(sys.executable).parent / "edgelut"
SLOW_S = 60


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command with its dashboard; yield it and what it says of that."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    with subprocess.Popen(
        [EDGELUT, "serve", "--no-agent", "--port", "0", *options],
        env={**kept, "EDGELUT_HOME": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, next(line.strip() for line in process.stdout if "dashboard: " in line)
        finally:
            process.kill()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children() if "dashboard" in one.cmdline()]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=SLOW_S).is_success
    except httpx.HTTPError:
        return False


def test_a_dashboard_is_there_while_its_service_is_and_comes_again_when_it_dies(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, said):
        url = said.split()[1]
        assert url.startswith("http://127.0.0.1:") and answers(url)
        (first,) = children(process)
        assert "EDGELUT_TOKEN" not in first.environ()
        first.kill()
        first.wait(SLOW_S)
        assert answers(url)  # the port is kept: who asks meanwhile waits
        (second,) = wait_for(lambda: children(process))
        assert second.pid != first.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(SLOW_S) == 0
        assert not second.is_running()


def test_a_dashboard_does_not_outlive_a_service_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, _):
        (child,) = wait_for(lambda: children(process))
        process.kill()
        process.wait()
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_port_that_is_asked_for_and_taken_is_said_and_the_service_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(tmp_path, "--dashboard-port", str(port)) as (process, said):
            assert re.fullmatch(rf"no dashboard: port {port} on 127\.0\.0\.1: .* in use.*; give another .*", said)
            time.sleep(0.2)
            assert process.poll() is None and not children(process)


def test_the_port_beside_the_services_is_left_for_a_free_one_where_it_is_taken() -> None:
    told: list[str | None] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        child = local_dashboard.LocalDashboard(
            "http://127.0.0.1:9", "127.0.0.1", port, fixed=False, told=lambda address, _: told.append(address)
        )
        child.prepare()
        child.stop()
    assert told[0] is not None and not told[0].endswith(f":{port}")


def test_there_is_none_where_it_is_turned_off_or_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli._has_pages(None, {}) and cli._has_pages(True, {}) and not cli._has_pages(False, {})
    assert not cli._has_pages(None, {"ssl_certfile": "x"})
    with pytest.raises(InvalidSpec, match="edgelut dashboard --url https"):
        cli._has_pages(True, {"ssl_certfile": "x"})
    monkeypatch.setattr(local_dashboard, "NEEDED", "no_such_package")
    assert not cli._has_pages(None, {})
    with pytest.raises(BackendMissing, match=r"pip install 'edgelut-service\[dashboard\]'"):
        cli._has_pages(True, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost", "127.0.0.1"])
def test_it_listens_on_this_machine_alone(host: str) -> None:
    child = cli._pages("http://127.0.0.1:8321", host, 8321, None)
    assert (child._host, child._port) == ("127.0.0.1", 8322)
