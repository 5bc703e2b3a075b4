"""What 20 agents with 200 devices cost the service: the protocol at the pace of phones, and the most that half a core bears."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil
from report import Figure, parser, publish

from edgelut.errors import ServiceError
from edgelut.job_client import HttpJobs
from edgelut.jobs import Announcement, Claim, DeviceInfo, JobRequest, Pulse, RuntimeInfo, Standing, Welcome
from edgelut.rest import Connection
from edgelut.types import Params, Run

AGENTS, DEVICES = 20, 10
POINTS = 35  # of a batch: EfficientFormer-L1's blocks with what their sums need
ROUND_S = 5.0  # a phone's: 35 bursts of 8 ms with warm-ups, each a command over adb, and a look at its temperature
SAMPLES = 12
GOAL = 0.5
EDGELUT = [sys.executable, "-P", "-m", "edgelut"]
RUNTIME = RuntimeInfo("null", "1", ("null",), ("fp32",))
FACTS = Params({"device_model": "null", "os": "none", "reference": 2, "runtime_version": "1"})


@dataclass
class Tally:
    """What the agents did while it was looked at."""

    rounds: int = 0
    runs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, runs: int) -> None:
        """Count a round."""
        with self.lock:
            self.rounds += 1
            self.runs += runs


class SimulatedAgent(threading.Thread):
    """One agent with its devices: announces, claims, sends rounds and pulses as `edgelut agent` does, and measures nothing."""

    def __init__(self, number: int, url: str, pace_s: float, tally: Tally, until: threading.Event, seed: int) -> None:
        super().__init__(daemon=True)
        self.name = f"agent-{number:02}"
        self.devices = [f"phone-{number:02}-{one}" for one in range(DEVICES)]
        self._session, self._pace_s, self._tally, self._until = uuid.uuid4().hex, pace_s, tally, until
        self._draw = random.Random(seed * 1000 + number)
        self._connection = Connection(url, timeout=60)
        infos = tuple(DeviceInfo(name, FACTS, (RUNTIME,)) for name in self.devices)
        said = Announcement(self.name, uuid.uuid4().hex, self._session, "0.1.0", devices=infos)
        self._connection.call(Welcome, "POST", "/agents", body=said)

    def run(self) -> None:
        """Send rounds until the end; a service that has ended by then is no failure."""
        try:
            self._take_turns()
        except ServiceError:
            if not self._until.is_set():
                raise

    def _take_turns(self) -> None:
        """Send the round of whichever device is due."""
        due: list[tuple[float, Claim | None, int, str]] = [
            (time.monotonic() + self._draw.uniform(0, self._pace_s), None, 0, device) for device in self.devices
        ]
        beat = time.monotonic()
        while not self._until.is_set():
            due.sort(key=lambda one: one[0])
            at, claim, round_, device = due.pop(0)
            self._until.wait(max(0.0, at - time.monotonic()))
            if time.monotonic() > beat:
                body = {"session": self._session, "devices": None}
                self._connection.call(Pulse, "POST", f"/agents/{self.name}/pulse", body=body)
                beat = time.monotonic() + 5
            claim = claim or self._claim(device)
            if claim is not None:
                self._send(claim, round_)
            due.append((max(at + self._pace_s, time.monotonic()), claim, round_ + 1, device))

    def _claim(self, device: str) -> Claim | None:
        body = {"session": self._session, "devices": [device], "wait_s": 0}
        found: Claim | None = self._connection.call(Claim | None, "POST", f"/agents/{self.name}/claim", body=body)  # type: ignore[arg-type]
        return found

    def _send(self, claim: Claim, round_: int) -> None:
        runs = [self._run_of(claim, one.point, round_) for one in claim.points]
        progress = {"done": 0, "total": len(runs), "round": round_, "seconds_left": 60.0, "step": "measure"}
        body = {"lease": claim.lease, "runs": runs, "baseline_runs": [], "progress": progress}
        self._connection.call(Standing, "POST", f"/batches/{claim.batch}/runs", body=body)
        self._tally.add(len(runs))

    def _run_of(self, claim: Claim, point: Any, round_: int) -> Run:
        samples = tuple(self._draw.randrange(900_000, 1_100_000) for _ in range(SAMPLES))
        return Run(
            point.spec,
            point.target,
            claim.sweep,
            claim.lease,
            round_,
            samples,
            samples,
            1,
            2,
            0.0,
            datetime.now(UTC),
            FACTS,
        )


def main() -> None:
    """Look at the service's CPU time while the fleet measures at a phone's pace, and as fast as it is let."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--seconds", type=float, default=30.0, help="how long each pace is looked at (default: 30)")
    options = arguments.parse_args()
    paced = _load(ROUND_S, options.seconds, options.seed)
    free = _load(0.0, options.seconds / 2, options.seed)
    most = free[1] / free[0] * GOAL
    figures = [
        Figure(
            "CPU of the service, 200 devices, a round of 35 rows each 5 s",
            paced[0],
            "cores",
            "<= 0.5",
            paced[0] <= GOAL,
        ),
        Figure("rounds a second meanwhile", paced[1], "1/s", baseline=AGENTS * DEVICES / ROUND_S),
        Figure("CPU of one round of 35 rows", free[0] / free[1] * 1e3, "ms"),
        Figure("rounds a second that half a core bears", most, "1/s"),
    ]
    publish(figures, options.json)


def _load(pace_s: float, seconds: float, seed: int) -> tuple[float, float]:
    """Return the cores that the service took, and the rounds a second that it stored."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*EDGELUT, "serve", "--port", "0", "--no-agent"],
            env={**os.environ, "EDGELUT_HOME": folder, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        until = threading.Event()
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[2]
            tally = Tally()
            agents = [SimulatedAgent(number, url, pace_s, tally, until, seed) for number in range(AGENTS)]
            _submit(url, [device for agent in agents for device in agent.devices])
            for agent in agents:
                agent.start()
            time.sleep(min(pace_s, 5.0) + 2)  # all have claimed
            service, began, rounds = psutil.Process(process.pid), time.monotonic(), tally.rounds
            cpu = sum(service.cpu_times()[:2])
            time.sleep(seconds)
            took = time.monotonic() - began
            return (sum(service.cpu_times()[:2]) - cpu) / took, (tally.rounds - rounds) / took
        finally:
            until.set()
            process.terminate()
            process.communicate(timeout=60)


def _submit(url: str, devices: list[str]) -> None:
    """Give every device a batch that lasts."""
    common: dict[str, Any] = {"runtimes": ("null",), "formats": ("null",), "max_rounds": 1000, "half_width": 0.001}

    def submit(jobs: HttpJobs, device: str) -> None:
        jobs.submit(JobRequest(presets=("efficientformer-l1",), devices=(device,), **common))

    with HttpJobs(url) as jobs, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda device: submit(jobs, device), devices))


if __name__ == "__main__":
    main()
