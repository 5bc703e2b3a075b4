"""The durable engine: a DBOS workflow for each job, which waits until nothing of it is open and then closes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID, WorkflowStatus

from db.connect import BUSY_TIMEOUT_S, file_of, shown
from db.store import SqlStore
from edgelut.errors import EdgelutError, StorageError
from edgelut.jobs import ENDED

from . import KEEP
from .executors import executors_on
from .quiet import quieten

APPLICATION_VERSION = (
    "jobs-1"  # never a hash of the source: every edit would strand the jobs that wait (DBOS.patch changes steps)
)
QUEUE = "edgelut-jobs"  # without limits: they are counted and claimed in two statements, and can strand a queue
SCHEMA = "dbos"  # of PostgreSQL
POLL_S = 0.2  # how often DBOS looks for workflows to run
MESSAGE_POLL_S = 5.0  # on SQLite, how often it looks for messages: a statement for each job that waits, and 200 may
CHECK_S = 10.0  # how often workflows are compared with jobs and executors
ADOPT_S = 60.0  # after so long without a sign of life an executor's workflows are anybody's
WAIT_S = 3600.0  # a workflow wakes by itself so often; each time costs three rows, of which a weekend has 200
FORGET_S = 3600.0  # between two looks for finished workflows that are old
STOP_S = 2  # what running steps get to end in
_ACTIVE = ["PENDING", "ENQUEUED", "DELAYED"]
_FINISHED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_log = logging.getLogger("edgelut.jobs")
_running: Engine | None = None  # DBOS is one in a process, and its functions are registered once


class Engine:
    """DBOS over the service's own database; one in a process.

    Obligations: `tell` returns at once and never raises, whatever state the database is in; what it cannot do now is done at
    the next check. Jobs without a workflow get one, a workflow that is lost is run again, and so are those of a process that
    was not seen for `adopt_s`. Two copies of a workflow do no harm: each step may be done twice, and DBOS lets only the copy
    that was started last store what it did.
    """

    def __init__(
        self,
        store: SqlStore,
        *,
        check_s: float = CHECK_S,
        adopt_s: float = ADOPT_S,
        keep: timedelta = KEEP,
    ) -> None:
        self._store = store
        self._ended: Callable[[str], None] = lambda job: None
        self._check_s, self._adopt_s, self._keep = check_s, adopt_s, keep
        self._executors = executors_on(store.engine)
        self._engine = _engine_for(store.engine)
        self._changed = threading.Condition()
        self._told: dict[str, None] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._dbos: DBOS | None = None
        self._waiting: set[str] = set()  # workflows whose function runs in this process
        self._looking: set[str] = set()  # jobs that a step looks at just now
        self._suspects: set[str] = set()  # of ours, but they did not run at the last check
        self._forgot_at: float | None = None
        self._missed: dict[str, float] = {}  # executors that are not alive, and since when on the monotonic clock

    @property
    def executor_id(self) -> str:
        """The name under which this process runs workflows, once it is started."""
        return self._executors.name

    def start(self) -> None:
        """Make DBOS's tables, take up what this executor left, and look after jobs. Raises StorageError."""
        global _running
        if _running is not None:
            raise StorageError("an engine runs in this process already: stop it first")
        if os.environ.get("DBOS__CLOUD") == "true":
            raise StorageError("unset DBOS__CLOUD: it makes the job engine call a server of others")
        _running = self
        try:
            quieten()
            self._dbos = DBOS(config=self._config(self._executors.take()))
            DBOS.launch()
            DBOS.register_queue(QUEUE, polling_interval_sec=POLL_S, on_conflict="always_update")
        except Exception as error:
            self._release()
            if isinstance(error, EdgelutError):
                raise
            where = shown(self._store.engine.url)
            raise StorageError(f"the job engine cannot start on {where}: {_first_line(error)}") from error
        self._stopping = (
            threading.Event()
        )  # each thread its own: one that hangs in a database that is away must not go on later
        self._thread = threading.Thread(
            target=self._look_after, args=(self._stopping,), name="edgelut-engine", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End it; what waits goes on when this executor, or after `adopt_s` another, runs. Idempotent."""
        if self._thread is None:
            return
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(STOP_S)
        self._thread = None
        self._release()

    def on_end(self, ended: Callable[[str], None]) -> None:
        """Call a function, in any thread, with the id of each job that the engine finds ended."""
        self._ended = ended

    def tell(self, job: str) -> None:
        """Say that a job was made, closed its last point, was cancelled or retried: its workflow looks soon."""
        with self._changed:
            self._told[job] = None
            self._changed.notify_all()

    # What workflows do

    def look(self, job: str) -> str:
        """Close a job that has nothing open; return its state, or `forgotten` where there is no such job."""
        self._looking.add(job)
        try:
            if self._store.find_job(job) is None:
                return "forgotten"
            state = self._store.close_job(job).state
        finally:
            self._looking.discard(job)
        if state in ENDED:
            self._ended(job)
        return state

    # What looks after them

    def _look_after(self, stopping: threading.Event) -> None:
        checked = -self._check_s
        while not stopping.is_set():
            try:
                if time.monotonic() - checked >= self._check_s:
                    checked = time.monotonic()
                    self._check()
                self._attend_told(stopping)
            except Exception as error:  # noqa: BLE001  # the database is away, or DBOS is: the next check tries again
                if not stopping.is_set():
                    _log.warning("jobs are looked after again in %g s: %s", self._check_s, _first_line(error))
            with self._changed:
                if not self._told and not stopping.is_set():
                    self._changed.wait(max(0.0, checked + self._check_s - time.monotonic()))

    def _attend_told(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            with self._changed:
                if not self._told:
                    return
                job = next(iter(self._told))
                del self._told[job]
            self._attend(job)

    def _attend(self, job: str) -> None:
        """Wake a job's workflow, or give it one where it needs one and has none."""
        made = DBOS.list_workflows(workflow_id_prefix=job, name=_job_name, load_input=False, load_output=False)
        mine = {_number(job, one.workflow_id): one for one in made if _number(job, one.workflow_id) is not None}
        active = [one for one in mine.values() if one.status in _ACTIVE]
        if active:
            for one in active:
                DBOS.send(one.workflow_id, "look")
            return
        found = self._store.find_job(job)
        if found is not None and found.state not in ENDED:
            number = max((number for number in mine if number is not None), default=0) + 1
            with SetWorkflowID(job if number == 1 else f"{job}-{number}"):
                DBOS.enqueue_workflow(QUEUE, _job, job)

    def _check(self) -> None:
        """Compare what should run with what runs."""
        self._executors.keep()
        active = DBOS.list_workflows(status=_ACTIVE, name=_job_name, load_input=False, load_output=False)
        self._resume_lost(active)
        self._adopt(active)
        attended = {_job_of(one.workflow_id) for one in active}
        unfinished = dict.fromkeys(self._store.unfinished_jobs())
        without = [job for job in unfinished if job not in attended]
        unheard = [job for job in attended if job not in unfinished]  # a message is missed where its connection was cut
        for job in dict.fromkeys([*without, *unheard, *self._store.complete_jobs()]):
            self._attend(job)
        self._forget()

    def _resume_lost(self, active: list[WorkflowStatus]) -> None:
        """Run again what should run here and does not: its last step could not store what it did."""
        mine = {one.workflow_id for one in active if one.status == "PENDING" and one.executor_id == self.executor_id}
        lost = mine - self._waiting
        for workflow in lost & self._suspects:
            DBOS.resume_workflow(workflow)
        self._suspects = lost - self._suspects

    def _adopt(self, active: list[WorkflowStatus]) -> None:
        """Run what belongs to executors that were not alive for `adopt_s` of our own clock."""
        others = {str(one.executor_id) for one in active if one.status == "PENDING"} - {self.executor_id}
        now = time.monotonic()
        gone = others - self._executors.alive(others)
        self._missed = {name: self._missed.get(name, now) for name in gone}
        for one in active:
            if one.status == "PENDING" and now - self._missed.get(str(one.executor_id), now) >= self._adopt_s:
                _log.info("taking over %s from %s", one.workflow_id, one.executor_id)
                DBOS.resume_workflow(one.workflow_id)

    def _forget(self) -> None:
        """Remove finished workflows that are old, a thousand an hour at most, so that writers take turns."""
        if self._forgot_at is not None and time.monotonic() - self._forgot_at < FORGET_S:
            return
        self._forgot_at = time.monotonic()
        until = (datetime.now(UTC) - self._keep).isoformat()
        old = DBOS.list_workflows(
            status=_FINISHED, completed_before=until, name=_job_name, limit=1000, load_input=False, load_output=False
        )
        if old:
            DBOS.delete_workflows([one.workflow_id for one in old])

    def _config(self, executor: str) -> DBOSConfig:
        return DBOSConfig(
            name="edgelut",
            system_database_engine=self._engine,
            dbos_system_schema=SCHEMA,
            application_version=APPLICATION_VERSION,
            executor_id=executor,
            serializer=DBOSPortableJSONSerializer(),
            enable_otlp=False,
            log_level="WARNING",
            max_executor_threads=16,
            notification_listener_polling_interval_sec=MESSAGE_POLL_S,
            notification_coalesce_sec=POLL_S,
            scheduler_polling_interval_sec=3600.0,  # nothing is scheduled
        )

    def _release(self) -> None:
        global _running
        if self._dbos is not None:
            _rest(self._dbos)
            self._dbos = None
        with contextlib.suppress(Exception):
            DBOS.destroy(workflow_completion_timeout_sec=STOP_S if self._looking else 0)
        self._executors.release()
        if self._engine is not self._store.engine:
            self._engine.dispose()
        _running = None


def _rest(dbos: DBOS) -> None:
    """End what starts workflows, before `destroy` ends the loop that they start in: in between one would wait for ever."""
    for event in dbos.background_thread_stop_events:
        event.set()
    for thread in threading.enumerate():
        if thread.name.startswith("queue-worker-"):
            thread.join(STOP_S)


def _started() -> Engine:
    if _running is None:
        raise StorageError("the job engine has stopped")
    return _running


# Retried for a quarter of an hour, then the workflow ends and the next check starts another.
@DBOS.step(name="edgelut.look", retries_allowed=True, max_attempts=10, interval_seconds=1.0, backoff_rate=2.0)
async def _look(job: str) -> str:
    return await asyncio.to_thread(_started().look, job)


_job_name = "edgelut.job"


@DBOS.workflow(name=_job_name, max_recovery_attempts=None)
async def _job(job: str) -> str:
    """Wait until nothing of a job is open; no thread is held meanwhile."""
    engine, workflow = _started(), str(DBOS.workflow_id)
    engine._waiting.add(workflow)
    try:
        while True:
            state = await _look(job)
            if state in (*ENDED, "forgotten"):
                return state
            await DBOS.recv_async(timeout_seconds=WAIT_S)
    finally:
        engine._waiting.discard(workflow)


def _engine_for(engine: sa.Engine) -> sa.Engine:
    """Return the engine that DBOS gets: on PostgreSQL the store's, on SQLite one of its own on the same file.

    DBOS counts on sqlite3's own transactions: statements outside one until the first that writes, and that one takes the
    writer's lock. So its polls never hold up a writer, and no transaction turns from reader to writer, which SQLite refuses as soon
    as another has committed. The store's engine begins at once and deferred; and with BEGIN IMMEDIATE for all, five polls a
    second would queue up with the writers. File, WAL and timeouts are the same.
    """
    if file_of(engine.url) is None:
        return engine
    own = sa.create_engine(
        engine.url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=5, max_overflow=15, hide_parameters=True
    )

    @sa.event.listens_for(own, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    return own


def _number(job: str, workflow: str) -> int | None:
    """Return which of a job's workflows that is: 1 for the first, or None for another job's."""
    if workflow == job:
        return 1
    match = re.fullmatch(re.escape(job) + r"-(\d+)", workflow)
    return int(match[1]) if match else None


def _job_of(workflow: str) -> str:
    """Return the job of a workflow's id; jobs' ids have no dash."""
    return workflow.partition("-")[0]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
