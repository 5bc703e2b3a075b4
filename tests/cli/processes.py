"""A service and agents as real processes on this machine, for tests that kill them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from edgelut.job_client import HttpJobs
from edgelut.jobs import ENDED, Job, JobRequest
from tests.fakes import OUTSIDE
from tests.profiler.lab import specs

# The command line itself, but for exports that do not load torch.
MAIN = f"""
import profiler.export_points as points
points.TASKS = "{OUTSIDE}.exporting"
from edgelut.cli import main
main()
"""


def start(*argv: str, **env: str) -> subprocess.Popen[str]:
    """Start the command line with what it says kept."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", MAIN, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Return when something is so; fail after a while."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for what did not come"
        time.sleep(0.02)


@dataclass
class Processes:
    """A service on a port that it keeps, and one agent; each is killed and started by itself."""

    folder: Path
    port: int = field(default_factory=free_port)
    service: subprocess.Popen[str] | None = None
    agent: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        """The agent's data folder."""
        return self.folder / "agent"

    def start_service(self) -> None:
        argv = ("serve", "--no-agent", "--port", str(self.port))
        self.service = start(*argv, EDGELUT_HOME=str(self.folder / "service"))

    def start_agent(self, *more: str) -> subprocess.Popen[str]:
        self.agent = start("agent", "--url", self.url, "--device", "null=lab-1", "--home", str(self.home), *more)
        return self.agent

    def wait_for_service(self) -> None:
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self.service is not None and self.service.poll() is None
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=2).is_success
        return False

    def wait_for_devices(self) -> None:
        with HttpJobs(self.url) as jobs:
            wait_until(lambda: any(device.info.usable for device in jobs.fleet()))

    def submit(self, *widths: int) -> Job:
        request = JobRequest(specs=specs(*widths), alone=True, devices=("lab-1",), runtimes=("scripted",))
        with HttpJobs(self.url) as jobs:
            return jobs.submit(request)

    def wait(self, job: Job, seconds: float = 60.0) -> Job:
        with HttpJobs(self.url) as jobs:
            wait_until(lambda: jobs.job(job.id).state in ENDED, seconds)
            return jobs.job(job.id)

    def end(self) -> None:
        for process in (self.agent, self.service):
            if process is not None:
                kill(process)


def kill(process: subprocess.Popen[str] | None) -> None:
    """kill -9, and wait until it is gone."""
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class Held:
    """Makes the scripted runtime wait in the middle of a burst, and sees that it does."""

    def __init__(self, script: Path, width: int, burst: int) -> None:
        self._script, self._width = script, width
        for name in ("held", "until"):
            os.mkfifo(script / f"{name}-{width}")
        (script / f"hold-{width}").write_text(str(burst))
        self._seen = os.open(script / f"held-{width}", os.O_RDONLY | os.O_NONBLOCK)

    def wait(self) -> None:
        """Wait until a worker holds."""
        assert select.select([self._seen], [], [], 60)[0]

    def release(self) -> None:
        """Let a worker that waits go on, and let later ones pass."""
        (self._script / f"hold-{self._width}").unlink()
        with suppress(OSError):  # one that was killed is gone: nobody reads
            until = os.open(self._script / f"until-{self._width}", os.O_WRONLY | os.O_NONBLOCK)
            os.write(until, b"go")
            os.close(until)

    def close(self) -> None:
        os.close(self._seen)
