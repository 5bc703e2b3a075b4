"""What the tests of the service share: a migrated database to copy, entries, and a client without a network."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.settings import Settings
from api.testing import InProcess
from db.engine import open_store
from db.store import SqlStore
from edgelut import wire
from edgelut.blocks import MB3D
from edgelut.jobs import Announcement, Claim, Closed, Job, JobRequest, Standing, Welcome
from edgelut.rest import Connection
from edgelut.types import Entry, EntryKind, Latency, Params, Run, Target
from jobs.service import Jobs
from tests.jobs.support import TinyAgent

TARGET = Target("host", "onnxruntime-cpu")
OTHER = Target("null", "null", "fp16", 2, "gpu")


def entry(
    width: int = 224,
    resolution: int = 7,
    *,
    ms: float = 1.0,
    target: Target = TARGET,
    kind: EntryKind = "measured",
    doubts: tuple[str, ...] = (),
    sweep: str = "s1",
) -> Entry:
    """A row of MB3D."""
    ns = ms * 1e6
    latency = Latency(ns, 1.1 * ns, 1.2 * ns, 0.99 * ns, 1.01 * ns, runs=3, samples=30, doubts=doubts)
    spec = MB3D.spec(width, resolution)
    return Entry(spec, target, latency, kind, Params({"sweep": sweep, "measured_at": "2026-01-05T10:00:00+00:00"}))


def run(of: Entry, sweep: str, number: int = 0) -> Run:
    """A raw run behind a row."""
    return Run(
        of.spec,
        of.target,
        sweep,
        "p1",
        number,
        wall_ns=(1_000_100, 1_000_200),
        cpu_ns=(1_000_000, 1_000_001),
        inner=1,
        warmups=2,
        reference_ns=5e5,
        started_at=datetime(2026, 1, 5, 10, number, tzinfo=UTC),
        facts=Params({"cpu": "test", "observed_load": 0.1}),
    )


@cache
def _migrated() -> Path:
    """Return an empty database at the current revision, made once: a copy takes a millisecond, the migration a tenth."""
    path = Path(tempfile.mkdtemp(prefix="edgelut-test-")) / "empty.db"
    open_store(f"sqlite:///{path}", migrate=True).close()
    return path


@contextmanager
def new_store(folder: Path) -> Iterator[SqlStore]:
    """Open an empty store in a folder."""
    path = folder / "edgelut.db"
    shutil.copyfile(_migrated(), path)
    with open_store(f"sqlite:///{path}") as store:
        yield store


@contextmanager
def new_client(store: SqlStore, settings: Settings | None = None, jobs: Jobs | None = None) -> Iterator[httpx.Client]:
    """Open a client of a service over that store."""
    with httpx.Client(transport=InProcess(create_app(store, settings, jobs)), base_url="http://service") as client:
        yield client


class RestJobs:
    """What of the facade an agent of the tests needs, over REST."""

    def __init__(self, connection: Connection, wait_s: float = 0.0) -> None:
        self.connection, self.wait_s = connection, wait_s

    def announce(self, announcement: Announcement) -> Welcome:
        return self.connection.call(Welcome, "POST", "/agents", body=announcement)

    def claim(self, name: str, session: str, devices: Sequence[str]) -> Claim | None:
        body = {"session": session, "devices": devices, "wait_s": self.wait_s}
        found: Claim | None = self.connection.call(Claim | None, "POST", f"/agents/{name}/claim", body=body, timeout=40)  # type: ignore[arg-type]
        return found

    def put_runs(self, batch: str, lease: str, runs: Sequence[Run]) -> Standing:
        return self._say(batch, "runs", {"lease": lease, "runs": runs})

    def put_entries(self, batch: str, lease: str, entries: Sequence[Entry]) -> Standing:
        return self._say(batch, "entries", {"lease": lease, "entries": entries})

    def close_points(self, batch: str, lease: str, closed: Sequence[Closed]) -> Standing:
        return self._say(batch, "closed", {"lease": lease, "closed": closed})

    def finish(self, batch: str, lease: str, *, interrupted: bool = False) -> Standing:
        return self._say(batch, "finish", {"lease": lease, "interrupted": interrupted})

    def _say(self, batch: str, what: str, body: dict[str, object]) -> Standing:
        return self.connection.call(Standing, "POST", f"/batches/{batch}/{what}", body=body)


def tiny_agent(jobs: Jobs | RestJobs, *devices: str, name: str = "lab") -> TinyAgent:
    """An agent with devices that has announced itself."""
    agent = TinyAgent(jobs, name, devices or ("a",))  # type: ignore[arg-type]
    agent.announce()
    return agent


def submit(client: httpx.Client, request: JobRequest, **headers: str) -> Job:
    """Submit a job."""
    response = client.post("/jobs", content=wire.encode(request), headers=headers)
    assert response.status_code == 202, response.text
    job = wire.decode(Job, response.content)
    assert response.headers["location"] == f"/jobs/{job.id}"
    return job


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port from a thread of this process; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
