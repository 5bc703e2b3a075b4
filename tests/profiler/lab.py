"""A service with an agent beside it, without a network and without toolchains: what tests of agents share."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from api.app import create_app
from api.testing import InProcess
from db.engine import SqlStore
from edgelut.blocks import IDENTITY
from edgelut.jobs import ENDED, Job, JobPoint, JobRequest
from edgelut.plan import Policy
from edgelut.types import BlockSpec, Run, Target
from jobs.service import Jobs
from profiler.agent import Agent
from profiler.agent_report import Report
from profiler.fleet import DeviceChoice
from profiler.session import Options
from tests.profiler.outside.known import know_runtimes

URL = "http://service"
SIDE = 4
LAB = Target("lab-1", "null")
SCRIPTED = Target("lab-1", "scripted")
ROUNDS = Policy().min_rounds


def specs(*widths: int) -> tuple[BlockSpec, ...]:
    return tuple(IDENTITY.spec(width, SIDE) for width in widths)


class Line(httpx.BaseTransport):
    """The network to an app: it can be cut, the service behind it restarted, and its answers lost on the way."""

    def __init__(self, make: Callable[[], InProcess]) -> None:
        self.down = False
        self.closed = False  # the token does not open any more
        self.loses: Callable[[str], bool] = lambda path: False  # an answer, after the service did what was asked
        self.seen: list[tuple[str, str, bytes]] = []
        self.on_request: Callable[[str], None] = lambda path: None
        self._make = make
        self._inner = make()
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.on_request(f"{request.method} {path}")
        if self.down:
            raise httpx.ConnectError("the network is cut", request=request)
        if self.closed:
            problem = {"type": "urn:problem-type:edgelut:unauthorized", "detail": "the token was revoked"}
            return httpx.Response(401, json=problem, request=request)
        self.seen.append((request.method, path, request.read()))
        response = self._inner.handle_request(request)
        if self.loses(path):
            response.close()
            raise httpx.ReadError("the answer was lost", request=request)
        return response

    def restart(self) -> None:
        """End the service and start another on the same database."""
        with self._lock:
            self._inner.close()
            self._inner = self._make()

    def sent(self, what: str) -> list[bytes]:
        """Return the bodies of the messages to paths that end so."""
        return [body for _, path, body in list(self.seen) if path.endswith(what)]

    def close(self) -> None:
        """Stay: several clients share this line."""

    def end(self) -> None:
        self._inner.close()


@dataclass
class Lab:
    """A service over a store, and agents of it."""

    store: SqlStore
    home: Path
    clock: Callable[[], float] = time.monotonic
    line: Line = field(init=False)
    jobs: Jobs = field(init=False)
    said: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        def make() -> InProcess:
            self.jobs = Jobs(self.store, clock=lambda: self.clock())
            return InProcess(create_app(self.store, None, self.jobs))

        self.line = Line(make)

    def agent(self, *devices: str, home: Path | None = None, **how: Any) -> Agent:
        """Return an agent with devices, `BACKEND=NAME`; it did not start."""
        folder = home or self.home
        know_runtimes(folder)
        pairs = [device.partition("=") for device in devices or ("null=lab-1",)]
        choices = [DeviceChoice(backend, name or backend) for backend, _, name in pairs]
        options = Options(URL, how.pop("name", "lab"), choices, folder, **how)
        return Agent(options, Report(file=self.said), transport=self.line)

    @contextmanager
    def running(self, agent: Agent, patience_s: float = 20.0) -> Iterator[Agent]:
        """Run an agent beside the block; it ends with it."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                agent.run()
            except BaseException as error:  # noqa: BLE001 - it is raised in the test
                errors.append(error)

        thread = threading.Thread(target=run, name="agent")
        thread.start()
        try:
            yield agent
        finally:
            agent.stop()
            thread.join(patience_s)
            assert not thread.is_alive(), "the agent does not end"
            # In a process of its own these would have ended with it: they wait for claims.
            wait_until(lambda: not any(loop.is_alive() for loop in agent._loops))
        if errors:
            raise errors[0]

    def work(self, *devices: str, **how: Any) -> None:
        """Let an agent measure all that there is."""
        self.agent(*devices, once=True, **how).run()

    def register(self, *devices: str) -> None:
        """Let the service know of devices before anything is asked of them."""
        with self.running(self.agent(*devices)):
            wait_until(lambda: len(self.jobs.fleet()) >= len(devices or ("",)))

    def submit(self, *widths: int, devices: Sequence[str] = ("lab-1",), **how: Any) -> Job:
        request = {"runtimes": ("null",), "alone": True, "devices": tuple(devices), "specs": specs(*widths)}
        return self.jobs.submit(JobRequest(**{**request, **how}))

    def job(self, job: Job) -> Job:
        found = self.jobs.find_job(job.id)
        assert found is not None
        return found

    def points(self, job: Job) -> list[JobPoint]:
        return self.jobs.points(job.id)

    def wait(self, job: Job, seconds: float = 30.0) -> Job:
        """Return the job when it has ended."""
        wait_until(lambda: self.job(job).state in ENDED, seconds)
        return self.job(job)


def wait_until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Return when something is so; fail after a while."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for what did not come"
        time.sleep(0.01)


def nth(what: str, number: int, act: Callable[[], object]) -> Callable[[str], None]:
    """Return a hook that acts once, before the n-th message to a path that ends so; what is read does not count."""
    seen: Counter[str] = Counter()

    def on_request(path: str) -> None:
        if path.startswith("POST ") and path.endswith(what):
            seen[what] += 1
            if seen[what] == number:
                act()

    return on_request


def rounds_of(lab: Lab, job: Job) -> Counter[tuple[int, int]]:
    """Return how often each round of each point is stored."""
    return Counter((run.spec.width_in, run.round) for run in runs_of(lab, job))


def runs_of(lab: Lab, job: Job) -> list[Run]:
    return [run for sweep in {point.sweep for point in lab.points(job)} for run in lab.store.sweep_runs(sweep)]


def assert_each_round_once(lab: Lab, job: Job, *widths: int) -> None:
    assert rounds_of(lab, job) == Counter({(width, number): 1 for width in widths for number in range(ROUNDS)})
