"""After a kill -9 of service, agent and measuring worker: how long until the next burst is timed, everything started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import httpx
import psutil
from report import Figure, parser, publish

GOAL_S = 5.0
POINTS = 16  # that are looked at: all are measured in each round
JOB = {
    "presets": ["efficientformer-l1"],
    "devices": ["host"],
    "half_width": 0.001,  # never reached: the job lasts until it is cancelled
    "max_rounds": 1000,
}
EDGELUT = [sys.executable, "-P", "-m", "edgelut"]


def main() -> None:
    """Kill everything some times in the middle of a job, start `edgelut serve` again, and look at the stored runs."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--kills", type=int, default=5)
    options = arguments.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        service = _serve(Path(folder), port)
        gaps = []
        try:
            job = _submit(client)
            _wait_for_runs(client, job, after=0.0)
            for number in range(options.kills):
                time.sleep(draw.uniform(1, 4))
                killed = _kill_all(service)
                service = _serve(Path(folder), port)
                gaps.append(_wait_for_runs(client, job, after=killed) - killed)
                print(f"kill {number + 1}: the next burst began {gaps[-1]:.2f} s later", flush=True)
        finally:
            _kill_all(service)
    publish(_figures(gaps), options.json)


def _figures(gaps: Sequence[float]) -> list[Figure]:
    longest = max(gaps)
    return [
        Figure(
            "from kill -9 of everything to the next burst, median", median(gaps), "s", "<= 5 s", median(gaps) <= GOAL_S
        ),
        Figure("from kill -9 of everything to the next burst, longest", longest, "s", "<= 5 s", longest <= GOAL_S),
    ]


def _serve(home: Path, port: int) -> psutil.Process:
    """Start the embedded service as a shell would: it starts its agent."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGELUT_")}
    process = subprocess.Popen(
        [*EDGELUT, "serve", "--port", str(port), "--agent"],
        env={**environment, "EDGELUT_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return psutil.Process(process.pid)


def _kill_all(service: psutil.Process) -> float:
    """Kill the service and all that it started at one moment; return that moment."""
    family = [service, *service.children(recursive=True)]
    moment = time.time()
    for one in family:
        one.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=30)
    return moment


def _submit(client: httpx.Client) -> str:
    """Submit the job as soon as the agent says what it can do."""
    while True:
        try:
            answer = client.post("/jobs", json=JOB)
            if answer.status_code == 202:
                return str(answer.json()["id"])
        except httpx.TransportError:
            pass
        time.sleep(0.2)


def _wait_for_runs(client: httpx.Client, job: str, after: float) -> float:
    """Return when the first burst began, in seconds since 1970, of those that began after a moment."""
    while True:
        try:
            numbers = ",".join(map(str, range(POINTS)))
            runs = client.get(f"/jobs/{job}/runs", params={"points": numbers}).raise_for_status().json()["runs"]
            starts = [datetime.fromisoformat(run["started_at"]).timestamp() for run in runs]
            if new := [start for start in starts if start > after]:
                return min(new)
        except httpx.TransportError:
            pass
        time.sleep(0.2)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
