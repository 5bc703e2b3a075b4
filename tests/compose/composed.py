"""Reads docker-compose.yml as compose does, and runs its services as processes of this machine: no container engine is needed.

A service's command and environment are taken as they are written; only names that containers resolve (`db:5432`, `api:8321`)
and ports that containers have to themselves become addresses of this machine.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.fakes import ROOT

FILE = ROOT / "docker-compose.yml"
BIN = Path(sys.executable).parent
PORTS = r"\b832[12]\b"  # the ports inside the containers of the api and of the dashboard
SECRET = "p@ss/w:rd #1"  # of the database: what a URL could not hold as it is
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")


class MissingVariable(Exception):
    """A `${NAME:?message}` without a value: compose refuses to start."""


def load(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with its variables put in."""

    def put(found: re.Match[str]) -> str:
        name, form, rest = found.groups()
        value = environment.get(name, "")
        if value:
            return value
        if form == ":?":
            raise MissingVariable(rest)
        return rest if form == ":-" else ""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(item) for name, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return _VARIABLE.sub(put, value) if isinstance(value, str) else value

    found: dict[str, Any] = filled(yaml.safe_load(FILE.read_text()))
    return found


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Server:
    """Where PostgreSQL listens, and how its own programs are called."""

    port: int
    programs: Path


@dataclass(slots=True)
class Composed:
    """The services of the file as processes. `places` are the addresses that container names stand for."""

    services: Mapping[str, Any]
    places: Mapping[str, str]
    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, name: str, replica: int = 0, port: int | None = None) -> subprocess.Popen[str]:
        """Start a service's command with its environment, in a home of its own as a container has it."""
        service = self.services[name]
        home = self.folder / f"{name}-{replica}"
        home.mkdir(exist_ok=True)
        log = (home / "log").open("a")
        process = subprocess.Popen(
            [self._word(word, port) for word in service["command"]],
            env=self._environment(service, home, port),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        log.close()
        self.running.append(process)
        return process

    def log(self, name: str, replica: int = 0) -> str:
        """Return what a replica said."""
        return (self.folder / f"{name}-{replica}" / "log").read_text()

    def logs(self) -> str:
        """Return what all said."""
        return "\n".join(f"== {path.parent.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*/log")))

    def is_healthy(self, name: str, port: int | None = None, extra: Mapping[str, str] | None = None) -> bool:
        """Run the service's health check as it is written."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        command: Sequence[str] | str = [self._word(word, port) for word in words]
        if kind == "CMD-SHELL":
            command = command[0]
        environment = self._environment(self.services[name], self.folder, port) | dict(extra or {})
        done = subprocess.run(
            command, shell=kind == "CMD-SHELL", env=environment, capture_output=True, timeout=30, check=False
        )
        return done.returncode == 0

    def wait_healthy(self, name: str, port: int, process: subprocess.Popen[str], timeout_s: float = 60) -> None:
        """Wait for the health check, as `depends_on` does."""
        deadline = time.monotonic() + timeout_s
        while not self.is_healthy(name, port):
            assert process.poll() is None and time.monotonic() < deadline, f"{name} did not become healthy"
            time.sleep(0.2)

    def close(self) -> None:
        """End what still runs."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait(30)

    def _environment(self, service: Mapping[str, Any], home: Path, port: int | None) -> dict[str, str]:
        given = {name: self._word(str(value), port) for name, value in service.get("environment", {}).items()}
        return {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8", **given}

    def _word(self, word: str, port: int | None) -> str:
        for place, address in self.places.items():
            word = word.replace(place, address)
        return re.sub(PORTS, str(port), word).replace("0.0.0.0", "127.0.0.1") if port is not None else word


def wait_job(client: httpx.Client, job: str, logs: Callable[[], str], timeout_s: float = 120) -> dict[str, Any]:
    """Return a job once it has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        found: dict[str, Any] = client.get(f"/jobs/{job}").raise_for_status().json()
        if found["state"] in ("done", "cancelled"):
            return found
        assert time.monotonic() < deadline, f"{found}\n{logs()}"
        time.sleep(0.2)
