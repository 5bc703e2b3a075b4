"""Kills service, agents and measuring workers at random moments while jobs run, then looks at what is stored.

`python -m tests.faults.soak --kills 1000 --seed 0` runs it for as long as that takes; a test runs it at a smaller size.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from edgelut.errors import Conflict, EdgelutError, InvalidSpec, ServiceError
from edgelut.job_client import HttpJobs
from edgelut.jobs import Job, JobRequest
from tests.fakes import OUTSIDE, ROOT, install_plugins

DEVICES = ("dev-a", "dev-b")
WIDTHS = (8, 16, 24, 32, 40, 48)
OPEN_JOBS = 3  # that are kept going while things die
END_S = 240.0  # for what is left when nothing dies any more
# The command line itself, but for exports that do not load torch.
MAIN = f"""
import profiler.export_points as points
points.TASKS = "{OUTSIDE}.exporting"
from edgelut.cli import main
main()
"""


@dataclass
class Verdict:
    """What was found after the last kill. Nothing but `kills` and `jobs` may be above zero."""

    kills: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    points: int = 0
    unfinished: int = 0  # jobs that did not end
    not_measured: int = 0  # points that are not measured, after failed ones were retried
    doubled: int = 0  # points with more than one row of their sweep
    overlaps: int = 0  # bursts on one device that were timed at the same moment
    intervals: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, doubled or measured twice at once."""
        wrong = self.unfinished + self.not_measured + self.doubled + self.overlaps
        return wrong == 0 and self.jobs > 0 and self.intervals > 0


class Soak:
    """One service on SQLite, and one agent for each device, all to be killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._draw = folder, random.Random(seed)
        with socket.create_server(("127.0.0.1", 0)) as one:
            self._port = one.getsockname()[1]
        self._url = f"http://127.0.0.1:{self._port}"
        install_plugins(folder / "plugins", {"edgelut.runtimes": {"logged": "tests.faults.outside.logged"}})
        self._service = self._start_service()
        self._agents = {device: self._start_agent(device) for device in DEVICES}
        self._jobs: list[str] = []
        self.verdict = Verdict()

    def run(self, kills: int, pause_s: float) -> Verdict:
        """Kill so often, with random pauses of that mean; return what is found at the end."""
        with HttpJobs(self._url, patience_s=60.0, timeout=20.0) as jobs:
            self._wait_for_fleet(jobs)
            while sum(self.verdict.kills.values()) < kills:
                self._keep_going(jobs)
                time.sleep(self._draw.expovariate(1 / pause_s))
                self._kill_one()
            self._finish(jobs)
        self._look()
        return self.verdict

    def close(self) -> None:
        """End every process."""
        for process in (self._service, *self._agents.values()):
            _kill_family(process)

    # Processes

    def _start(self, home: Path, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
        path = os.pathsep.join((str(self._folder / "plugins"), str(ROOT)))
        with (home / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", MAIN, *arguments],
                env={**kept, "EDGELUT_DASHBOARD": "off", "EDGELUT_HOME": str(home), "PYTHONPATH": path, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _start_service(self) -> subprocess.Popen[bytes]:
        return self._start(self._folder / "service", "serve", "--no-agent", "--port", str(self._port))

    def _start_agent(self, device: str) -> subprocess.Popen[bytes]:
        arguments = ("agent", "--url", self._url, "--name", device, "--device", f"null={device}", "--quiet")
        return self._start(self._folder / device, *arguments, EDGELUT_INTERVALS=str(self._folder / f"{device}.log"))

    def _kill_one(self) -> None:
        """Kill one process with no warning; what a person or an init system would start again is started again."""
        what = self._draw.choice(("service", "agent", "agent", "worker", "worker"))
        device = self._draw.choice(DEVICES)
        if what == "service":
            self._service.kill()
            self._service.wait()
            self._service = self._start_service()
        elif what == "agent":
            self._agents[device].kill()  # and not its workers: they are to end by themselves
            self._agents[device].wait()
            self._agents[device] = self._start_agent(device)
        else:
            workers = _workers(self._agents[device])
            if not workers:
                return
            with suppress(psutil.NoSuchProcess):
                self._draw.choice(workers).kill()
        self.verdict.kills[what] += 1

    # Jobs

    def _wait_for_fleet(self, jobs: HttpJobs) -> None:
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline:
            with suppress(ServiceError):
                if {device.info.name for device in jobs.fleet() if device.info.usable} == set(DEVICES):
                    return
            time.sleep(0.2)
        raise TimeoutError("the agents did not come; their logs are in the folders")

    def _keep_going(self, jobs: HttpJobs) -> None:
        """Submit jobs until there is enough to do. A submit that is cut off is sent again under its key by the client."""
        with suppress(ServiceError, InvalidSpec):  # away; or an agent that has just come back looks for its runtimes
            going = [job for job in jobs.jobs(limit=50) if job.state in ("queued", "running")]
            for _ in range(OPEN_JOBS - len(going)):
                request = JobRequest(
                    blocks=("identity",),
                    widths=WIDTHS,
                    resolutions=(4,),
                    alone=True,
                    devices=DEVICES,
                    runtimes=("logged",),
                    max_rounds=4,
                    again=True,
                )
                self._jobs.append(jobs.submit(request, key=f"soak-{len(self._jobs)}").id)

    def _finish(self, jobs: HttpJobs) -> None:
        """Wait until all jobs have ended; points that failed by a kill of their worker are tried again, as a person would."""
        deadline = time.monotonic() + END_S
        for job in self._jobs:
            while time.monotonic() < deadline:
                found = self._ended(jobs, job, deadline)
                if found is None or not found.points.failed:
                    break
                with suppress(Conflict):
                    jobs.retry(job)

    def _ended(self, jobs: HttpJobs, job: str, deadline: float) -> Job | None:
        while time.monotonic() < deadline:
            with suppress(EdgelutError):
                found = jobs.job(job)
                if found.state in ("done", "cancelled"):
                    return found
            time.sleep(0.1)
        return None

    # What is stored

    def _look(self) -> None:
        verdict = self.verdict
        connection = sqlite3.connect(self._folder / "service" / "edgelut.db")
        try:
            ((verdict.jobs, verdict.unfinished),) = connection.execute(
                "SELECT count(*), sum(state != 'done') FROM jobs"
            )
            ((verdict.points, verdict.not_measured),) = connection.execute(
                "SELECT count(*), sum(state != 'measured' OR entry_id IS NULL) FROM points"
            )
            rows = connection.execute(
                "SELECT spec_id, target_id, json_extract(provenance, '$.sweep') FROM entries"
            ).fetchall()
            own = connection.execute("SELECT count(DISTINCT entry_id) FROM points").fetchone()[0]
        finally:
            connection.close()
        verdict.doubled = sum(count - 1 for count in Counter(rows).values()) + (verdict.points - own)
        for device in DEVICES:
            intervals = read_intervals(self._folder / f"{device}.log")
            verdict.intervals += len(intervals)
            verdict.overlaps += overlaps(intervals)


def read_intervals(path: Path) -> list[tuple[float, float]]:
    """Return a device's own log, by when bursts began; a line that a kill cut off is not there."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return sorted((float(line[0]), float(line[1])) for line in lines if len(line) == 3)


def overlaps(intervals: list[tuple[float, float]]) -> int:
    """Return how many bursts began before an earlier one had ended."""
    found, latest = 0, float("-inf")
    for began, ended in intervals:
        found += began < latest
        latest = max(latest, ended)
    return found


def _workers(agent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(agent.pid).children(recursive=True))
    return []


def _kill_family(process: subprocess.Popen[bytes]) -> None:
    for one in _workers(process):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait()


def main() -> None:
    """Run it; exit with 1 unless all is sound."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--pause", type=float, default=0.8, help="mean pause between two kills in seconds")
    arguments.add_argument("--keep", type=Path, help="keep the data in this folder")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        folder.mkdir(exist_ok=True)
        soak = Soak(folder, options.seed)
        try:
            verdict = soak.run(options.kills, options.pause)
        finally:
            soak.close()
    sys.stdout.write(f"{verdict}\n")
    raise SystemExit(0 if verdict.sound else 1)


if __name__ == "__main__":
    main()
