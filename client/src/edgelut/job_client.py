"""Jobs over REST: submit what is to be measured, watch it, wait for it, and see the fleet that measures it."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec

from . import wire
from .errors import ServiceError
from .jobs import ENDED, Agent, FleetDevice, Job, JobEvent, JobPoint, JobRequest, Mark, NewToken, TokenInfo
from .rest import Connection
from .types import Run

PAGE = 1_000  # points or lines of a log in a request; the service gives no more
POINTS_OF_RUNS = 32  # points whose runs are asked for at once: a run is about 1 kB, and a point has up to 30
SILENT_S = 30.0  # a stream that says nothing for so long is dead: a live one says something every 10 s
PATIENCE_S = 300.0  # how long a service that was there may be away before a wait for one of its jobs ends
LONGEST_WAIT_S = 5.0  # between two tries to reach it

OnJob = Callable[[Job], object]
OnEvent = Callable[[JobEvent], object]


class HttpJobs:
    """The jobs of a service. Close it, or use it in a `with` block; safe for threads.

    Every call is bounded in time and may safely be sent twice. A refusal is raised with the service's own words:
    LatencyNotFound for a job, mark or token that is not there, InvalidSpec for what cannot be asked, Conflict, Forbidden for
    a scope that the token lacks, else ServiceError. The token is in no message and no repr.

    `timeout` is in seconds for connecting and for each wait for bytes; `patience_s` is how long a service that was reached
    once may be away before `events` and `wait` give up; `transport` replaces the network in tests.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 4,
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(url, token, timeout=timeout, retries=retries, transport=transport, sleep=sleep)
        self._patience_s = patience_s
        self._sleep = sleep
        self.url = self._connection.url

    def submit(self, request: JobRequest, *, key: str = "") -> Job:
        """Submit a job and return it, queued.

        `key` makes it one job however often it is sent; without one each call is another job. Raises Conflict where the
        service knows the key with another request, and InvalidSpec for what no device of it can measure.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}  # a request that is tried again must not be two jobs
        return self._connection.call(Job, "POST", "/jobs", body=request, headers=headers)

    def job(self, job_id: str) -> Job:
        """Return a job; raise LatencyNotFound where there is none."""
        return self._connection.call(Job, "GET", _path("jobs", job_id))

    def jobs(self, *, state: str | None = None, name: str | None = None, limit: int = 50) -> list[Job]:
        """Return jobs, newest first, at most `limit`."""
        found: list[Job] = []
        cursor: str | None = None
        while len(found) < limit:
            asked = _given(state=state, name=name, limit=min(limit - len(found), 100), cursor=cursor)
            page = self._connection.call(_Jobs, "GET", "/jobs", params=asked)
            found += page.jobs
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    def points(self, job_id: str, *, state: str | None = None) -> list[JobPoint]:
        """Return a job's points in order, or those in one state."""
        found: list[JobPoint] = []
        cursor: str | None = None
        while True:
            asked = _given(state=state, limit=PAGE, cursor=cursor)
            page = self._connection.call(_Points, "GET", _path("jobs", job_id, "points"), params=asked)
            found += page.points
            cursor = page.next_cursor
            if cursor is None:
                return found

    def runs(self, job_id: str, points: Sequence[int] | None = None, *, baseline: bool = False) -> list[Run]:
        """Return the raw runs of points, by number, or of all; of a comparing job the new artifact's or the baseline's."""
        numbers = [point.number for point in self.points(job_id)] if points is None else list(points)
        found: list[Run] = []
        for start in range(0, len(numbers), POINTS_OF_RUNS):
            chunk = ",".join(map(str, numbers[start : start + POINTS_OF_RUNS]))
            asked: dict[str, str | int] = {"points": chunk, "side": "baseline" if baseline else "new"}
            found += self._connection.call(_Runs, "GET", _path("jobs", job_id, "runs"), params=asked).runs
        return found

    def log(self, job_id: str, *, after: int = 0) -> list[JobEvent]:
        """Return the lines of a job's log that came after the one of that id, oldest first."""
        found: list[JobEvent] = []
        while True:
            path = _path("jobs", job_id, "log")
            page = self._connection.call(_Log, "GET", path, params={"after": after, "limit": PAGE})
            found += page.events
            if len(page.events) < PAGE:
                return found
            after = page.events[-1].id

    def cancel(self, job_id: str) -> Job:
        """Cancel what is open of a job and return it; one that has ended stays as it is."""
        return self._connection.call(Job, "POST", _path("jobs", job_id, "cancel"))

    def retry(self, job_id: str) -> Job:
        """Open a job's failed and cancelled points again; raise Conflict where there are none."""
        return self._connection.call(Job, "POST", _path("jobs", job_id, "retry"))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Job | JobEvent]:
        """Yield the job whenever it changed and each new line of its log, until it has ended.

        Goes on where it was after a lost connection or a restarted service; raises ServiceError when that was away for
        `patience_s`.
        """
        with closing(self._follow(job_id, after, None)) as followed:
            for one in followed:
                if one is not None:
                    yield one

    def wait(
        self,
        job_id: str,
        on_job: OnJob | None = None,
        on_event: OnEvent | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Return the job once it has ended, whatever came of it; tell the observers what happens meanwhile.

        Raises ServiceError (problem `timeout`) where it has not ended in time, to within 10 s; the job itself goes on.
        """
        job = self.job(job_id)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with closing(self._follow(job_id, 0, deadline)) as followed:
            for one in followed:
                if isinstance(one, Job):
                    job = one
                    if on_job is not None:
                        on_job(job)
                elif one is not None and on_event is not None:
                    on_event(one)
                if deadline is not None and time.monotonic() >= deadline and job.state not in ENDED:
                    raise ServiceError(
                        f"job {job_id} did not end within {timeout_s:g} s; it goes on: 'edgelut jobs watch {job_id}'",
                        problem="timeout",
                    )
        return job

    def agents(self) -> list[Agent]:
        """Return the agents that ever announced themselves."""
        return self._connection.call(_Agents, "GET", "/agents").agents

    def fleet(self) -> list[FleetDevice]:
        """Return the agents' devices and what each is doing."""
        return self._connection.call(_Fleet, "GET", "/fleet").devices

    def marks(self) -> list[Mark]:
        """Return the named states of the table."""
        return self._connection.call(_Marks, "GET", "/marks").marks

    def mark(self, name: str) -> Mark:
        """Name the table's present state; a mark of that name is moved."""
        return self._connection.call(Mark, "PUT", _path("marks", name))

    def delete_mark(self, name: str) -> Mark:
        """Delete a mark and return what it was; the rows stay."""
        return self._connection.call(Mark, "DELETE", _path("marks", name))

    def tokens(self) -> list[TokenInfo]:
        """Return what may be told of every token."""
        return self._connection.call(_Tokens, "GET", "/tokens").tokens

    def create_token(
        self, name: str, scopes: Sequence[str], *, devices: Sequence[str] = (), expires_in_s: float | None = None
    ) -> NewToken:
        """Create a token; its secret is in this answer and nowhere else. Raises Conflict where the name is taken."""
        body = {"name": name, "scopes": scopes, "devices": devices, "expires_in_s": expires_in_s}
        return self._connection.call(NewToken, "POST", "/tokens", body=body)

    def revoke_token(self, name: str) -> TokenInfo:
        """Revoke a token: within 5 s it opens nothing any more."""
        return self._connection.call(TokenInfo, "DELETE", _path("tokens", name))

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HttpJobs({self.url!r})"

    def _follow(self, job_id: str, after: int, deadline: float | None) -> Generator[Job | JobEvent | None, None, None]:
        """Yield what a job's streams say, one stream after another until the job has ended; None now and then."""
        self.job(job_id)  # a wrong address, token or id is told at once, and not taken for a service that is away
        heard = time.monotonic()
        attempt = 0
        while True:
            failure: ServiceError | None = None
            try:
                with closing(self._stream(job_id, after, deadline)) as stream:
                    for event, data in stream:
                        heard, attempt = time.monotonic(), 0
                        if event == "log":
                            line = _decoded(JobEvent, data)
                            after = line.id
                            yield line
                        elif event == "job":
                            job = _decoded(Job, data)
                            yield job
                            if job.state in ENDED:
                                return  # it is the last thing that a service says
                        else:
                            yield None
            except ServiceError as error:
                if error.problem not in ("", "storage", "internal"):
                    raise
                failure = error
            yield None
            if failure is not None and time.monotonic() - heard > self._patience_s:
                raise failure
            left = LONGEST_WAIT_S if deadline is None else max(0.0, deadline - time.monotonic())
            first = 1.0 if failure is None else 0.2  # who ends streams early may do so always, as some proxies do
            self._sleep(min(first * 2.0**attempt, LONGEST_WAIT_S, left) * random.uniform(0.5, 1.0))
            attempt = min(attempt + 1, 10)

    def _stream(self, job_id: str, after: int, deadline: float | None) -> Generator[tuple[str, str], None, None]:
        """Yield the events of one stream, as names and data; a comment is an event without either."""
        left = SILENT_S if deadline is None else max(0.5, deadline - time.monotonic())
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        path = _path("jobs", job_id, "events")
        with self._connection.stream(path, headers=headers, timeout=min(SILENT_S, left)) as lines:
            event, data = "", ""
            for line in lines:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "event":
                    event = value
                elif name == "data":
                    data += value
                elif not line:
                    yield event, data
                    event, data = "", ""


class _Jobs(msgspec.Struct, frozen=True):
    jobs: list[Job]
    next_cursor: str | None = None


class _Points(msgspec.Struct, frozen=True):
    points: list[JobPoint]
    next_cursor: str | None = None


class _Runs(msgspec.Struct, frozen=True):
    runs: list[Run]


class _Log(msgspec.Struct, frozen=True):
    events: list[JobEvent]


class _Agents(msgspec.Struct, frozen=True):
    agents: list[Agent]


class _Fleet(msgspec.Struct, frozen=True):
    devices: list[FleetDevice]


class _Marks(msgspec.Struct, frozen=True):
    marks: list[Mark]


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[TokenInfo]


def _path(*parts: str) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _given(**params: str | int | None) -> Mapping[str, str | int]:
    return {name: value for name, value in params.items() if value is not None}


def _decoded(type_: type[Any], data: str) -> Any:
    try:
        return wire.decode(type_, data)
    except ValueError as error:
        raise ServiceError(f"the service's stream holds what is not EdgeLUT's: {error}", problem="stream") from error


__all__ = ["HttpJobs"]
