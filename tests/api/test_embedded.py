"""`edgelut serve` alone: service, engine and an agent that measures here; over TLS; and what ends with what."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from api import cli, local_agent
from edgelut import local_service
from edgelut.errors import BackendMissing, InvalidSpec

EDGELUT = Path(sys.executable).parent / "edgelut"
TINY = {"blocks": ["identity"], "widths": [8], "resolutions": [4], "alone": True, "devices": ["host"], "max_rounds": 2}


def wait_for(what: Callable[[], Any], timeout_s: float = 90) -> Any:
    """Return what is true at last."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a home; yield it and the address that it says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    process = subprocess.Popen(
        [EDGELUT, "serve", "--port", "0", *options],
        env={"EDGELUT_DASHBOARD": "off", **environment, "EDGELUT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "EdgeLUT serves" in said, said
        yield process, said.split()[2]
    finally:
        process.kill()
        process.communicate()


def agent_of(process: subprocess.Popen[str]) -> psutil.Process | None:
    """Return the agent that a service started."""
    found = [one for one in psutil.Process(process.pid).children() if "agent" in one.cmdline()]
    return found[0] if found else None


def measured(service: httpx.Client, asked: dict[str, Any]) -> int:
    """Run a job to its end; return how many points were measured."""

    def submitted() -> Any:
        answer = service.post("/jobs", json=asked)
        return answer.json()["id"] if answer.status_code == 202 else None  # the agent looks for its runtimes first

    job = wait_for(submitted)
    done = wait_for(lambda: (found := service.get(f"/jobs/{job}").json())["state"] == "done" and found)
    return int(done["points"]["measured"])


@pytest.mark.slow
def test_the_command_alone_runs_jobs_on_this_machine_and_outlives_its_agent(tmp_path: Path) -> None:
    with serving(tmp_path, "--agent") as (process, url), httpx.Client(base_url=url, timeout=20) as service:
        assert local_service.find(tmp_path) is not None
        assert measured(service, TINY) == 1
        first = wait_for(lambda: agent_of(process))
        first.kill()
        assert measured(service, {**TINY, "again": True}) == 1
        second = wait_for(lambda: agent_of(process))
        assert second.pid != first.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not second.is_running() and local_service.find(tmp_path) is None


@pytest.mark.slow
def test_an_agent_does_not_outlive_a_service_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, "--agent") as (process, _):
        agent = wait_for(lambda: agent_of(process))
        process.kill()
        process.wait()
        wait_for(lambda: not agent.is_running())
        assert local_service.find(tmp_path) is None


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key beside it, `key.pem`."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([*command.split(), *names], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    return tmp_path / "certificate.pem"


def test_the_service_speaks_tls_with_a_certificate_of_its_own(certificate: Path) -> None:
    key = certificate.with_name("key.pem")
    with serving(certificate.parent / "home", "--tls-cert", str(certificate), "--tls-key", str(key)) as (process, url):
        assert url.startswith("https://127.0.0.1:") and agent_of(process) is None
        trusted = ssl.create_default_context(cafile=certificate)
        assert httpx.get(f"{url}/healthz", verify=trusted, timeout=10).json()["status"] == "ok"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz", timeout=10)


def test_tls_takes_a_certificate_and_the_key_that_fits(certificate: Path) -> None:
    key = certificate.with_name("key.pem")
    assert cli._tls(certificate, key) == {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    with pytest.raises(InvalidSpec, match="both --tls-cert and --tls-key"):
        cli._tls(certificate, None)
    with pytest.raises(InvalidSpec, match="no-such"):
        cli._tls(certificate, certificate.with_name("no-such"))
    with pytest.raises(InvalidSpec, match=r"certificate\.pem and --tls-key"):
        cli._tls(certificate, certificate)


def test_the_log_levels_are_the_servers() -> None:
    assert tuple(uvicorn.config.LOG_LEVELS) == cli.LOG_LEVELS


def test_an_agent_is_started_where_it_can_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli._measures(None, True, {}) and not cli._measures(None, False, {}) and cli._measures(True, False, {})
    assert not cli._measures(False, True, {}) and not cli._measures(None, True, {"ssl_certfile": "x"})
    with pytest.raises(InvalidSpec, match="edgelut agent --url https"):
        cli._measures(True, True, {"ssl_certfile": "x"})
    monkeypatch.setattr(local_agent, "NEEDED", ("no_such_package",))
    assert not cli._measures(None, True, {})
    with pytest.raises(BackendMissing, match=r"no no_such_package .*pip install 'edgelut-service\[profile\]'"):
        cli._measures(True, True, {})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_the_agent_is_told_an_address_of_this_machine(host: str, url: str) -> None:
    assert cli._url(cli._reachable(host), 80, tls=False) == f"http://{url}:80"
