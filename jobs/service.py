"""Jobs as the service sees them: what submitters and agents ask for, told to the database, the engine and who waits."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from db.batches import LEASE_S
from db.fleet import LIVE_S
from db.marks import MARK
from db.store import SqlStore
from edgelut import __version__
from edgelut.errors import Conflict, EdgelutError, LatencyNotFound
from edgelut.jobs import (
    PROTOCOL,
    Agent,
    Announcement,
    Claim,
    Closed,
    DeviceInfo,
    FleetDevice,
    Job,
    JobEvent,
    JobPoint,
    JobRequest,
    JobState,
    PointState,
    Progress,
    Pulse,
    Standing,
    Welcome,
)
from edgelut.types import Artifact, Entry, Run

from . import KEEP
from .leases import Watch
from .planning import check_environment, plan, with_baselines
from .signals import Signal

if TYPE_CHECKING:
    from .engine import Engine  # and with it DBOS, which who only asks need not load

HEARTBEAT_S = 5.0  # how often an agent says that it lives
POLL_S = 1.0  # how often a long poll looks by itself: another process's submit does not ring here
WATCH_S = 2.0  # between two ticks
FORGET_S = 3600.0  # between two looks for jobs that are old
_KNOWN_BATCHES = 10_000
_log = logging.getLogger("edgelut.jobs")


class Jobs:
    """The facade of jobs. Safe for threads; every method is synchronous and talks to the database: call it in a thread.

    Jobs close at the call that closes their last point; if the process dies between the two, the engine closes them, or the
    tick of any other process. Without an engine nothing else is missing. Marks and tokens need no facade: they are the store's.

    `work` rings when a batch may have become free to claim: long polls listen to it, look with `claim` at least every
    `POLL_S`. `changed` rings with a job's id as its topic whenever that job changed: event streams listen to it.
    A job, batch or agent that is not there raises LatencyNotFound; what the store refuses is Conflict, InvalidSpec or Forbidden;
    a database that is away is StorageError.
    """

    def __init__(
        self,
        store: SqlStore,
        engine: Engine | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        keep: timedelta = KEEP,
    ) -> None:
        self.store, self.engine = store, engine
        self.work, self.changed = Signal(), Signal()
        self._watch, self._clock, self._keep = Watch(LEASE_S, clock), clock, keep
        self._complete: set[str] = set()  # jobs that had nothing open at the last tick
        self._forgot_at: float | None = None
        self._job_of: OrderedDict[str, str] = OrderedDict()  # of batches that were claimed here
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if engine is not None:
            engine.on_end(self.changed.notify)

    def start(self) -> None:
        """Start the engine and the thread that ticks every WATCH_S; raise StorageError where the database is not ready."""
        if self._thread is not None:
            return
        if self.engine is not None:
            self.engine.start()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._tick_on, name="edgelut-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop both; jobs go on when a process starts again. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        thread.join(WATCH_S)
        if self.engine is not None:
            self.engine.stop()

    # Submitters

    def submit(self, request: JobRequest, *, key: str | None = None, submitter: str = "") -> Job:
        """Plan a job by what the fleet's devices can do, store it, and return it; the same key and request: the same job.

        Raises InvalidSpec for what cannot be planned (saying what there is), Conflict for a key of another request, and
        LatencyNotFound where there is nothing to compare with.
        """
        known = self.store.find_keyed(request, key) if key else None
        if known is not None:  # the fleet may have changed since
            return known
        fleet = self.store.fleet()
        batches = plan(request, fleet)
        if request.environment:
            check_environment(request, batches, fleet, self.agents())
        source = self._baseline(request) if request.baseline else ""
        if source:
            wanted = [(one.point.spec, one.point.target) for batch in batches for one in batch.points]
            batches = with_baselines(batches, self.store.baselines(source, wanted))
        baseline_job = "" if source.startswith(MARK) else source
        job, new = self.store.submit_job(
            request, batches, idempotency_key=key, submitter=submitter, baseline_job=baseline_job
        )
        if new:
            self._tell(job.id)
            self.work.notify()
        return job

    def find_job(self, id: str) -> Job | None:
        """Return a job, or None."""
        return self.store.find_job(id)

    def jobs(
        self, *, state: JobState | None = None, name: str | None = None, before: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Return jobs, newest first; those before the job of that id."""
        return self.store.jobs(state=state, name=name, before=before, limit=limit)

    def points(self, id: str, *, state: PointState | None = None, after: int = -1, limit: int = 1000) -> list[JobPoint]:
        """Return a job's points with numbers above `after`, in order."""
        return self.store.job_points(id, state=state, after=after, limit=limit)

    def runs(self, id: str, numbers: Sequence[int] | None = None, *, baseline: bool = False) -> list[Run]:
        """Return the runs of a job's points, of all where no numbers are given; of the baseline's side on demand."""
        return self.store.job_runs(id, numbers, baseline)

    def events(self, id: str, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        """Return the lines of a job's log with ids above `after`, oldest first."""
        return self.store.job_events(id, after, limit)

    def cancel(self, id: str) -> Job:
        """Cancel what is open of a job; one that has ended stays as it is."""
        job = self.store.cancel_job(id)
        self._tell(id)
        return job

    def retry(self, id: str) -> tuple[Job, int]:
        """Open again what failed or was cancelled; return the job and how many points that is.

        Raises Conflict for a job that has not ended, or of which nothing failed.
        """
        job, _ = self.store.retry_job(id)
        self._tell(id)
        self.work.notify()
        return job, job.points.open

    # Agents

    def announce(self, announcement: Announcement, token_devices: Sequence[str] = ()) -> Welcome:
        """Take up an agent's session and devices; a new session of its installation frees what the old one held.

        `token_devices` are the devices that its token is bound to; none: any. Raises Conflict where no protocol is spoken by both
        (`protocol`), or where its name or a device is another live agent's; Forbidden for a device that its token is not for.
        """
        if PROTOCOL not in announcement.protocols:
            newest = max(announcement.protocols, default=0)
            which = "the agent" if newest < PROTOCOL else "the service"
            raise Conflict(
                f"agent {announcement.name} {announcement.version} speaks protocol {_either(announcement.protocols)}, and this "
                f"service {__version__} speaks {PROTOCOL}; upgrade {which}: pip install -U edgelut-service",
                problem="protocol",
            )
        if self.store.announce(announcement, token_devices, LIVE_S):
            self.changed.notify()
        self.work.notify()
        return Welcome(PROTOCOL, __version__, LEASE_S, HEARTBEAT_S)

    def pulse(self, name: str, session: str, devices: Sequence[DeviceInfo] | None = None) -> Pulse:
        """Note that an agent lives, and renew its leases."""
        return self.store.pulse(name, session, devices)

    def has_work(self, devices: Sequence[str]) -> bool:
        """Say cheaply whether a `claim` for these devices may find something."""
        return self.store.has_work(devices)

    def claim(self, name: str, session: str, devices: Sequence[str]) -> Claim | None:
        """Lease the most urgent batch for one of an agent's free devices, or return None at once."""
        claim = self.store.claim(name, session, devices)
        if claim is not None:
            self._know(claim.batch, claim.job)
            self.changed.notify(claim.job)
        return claim

    def agents(self) -> list[Agent]:
        """Return all agents."""
        return self.store.agents(LIVE_S)

    def fleet(self) -> list[FleetDevice]:
        """Return all devices of agents and what they are doing."""
        return self.store.fleet()

    # Messages about a batch

    def put_runs(
        self,
        batch: str,
        lease: str,
        runs: Sequence[Run],
        baseline_runs: Sequence[Run] = (),
        progress: Progress | None = None,
    ) -> Standing:
        """Store a round's runs, each once."""
        return self._changed(batch, self.store.put_batch_runs(batch, lease, runs, baseline_runs, progress))

    def put_entries(self, batch: str, lease: str, entries: Sequence[Entry]) -> Standing:
        """Store rows and close their points as measured."""
        return self._closed(batch, self.store.put_batch_entries(batch, lease, entries))

    def close_points(self, batch: str, lease: str, closed: Sequence[Closed]) -> Standing:
        """Close points that got no row of their own."""
        return self._closed(batch, self.store.close_points(batch, lease, closed))

    def put_artifacts(self, batch: str, lease: str, artifacts: Sequence[Artifact]) -> Standing:
        """Store what is known of exported files."""
        return self.store.put_batch_artifacts(batch, lease, artifacts)

    def put_progress(self, batch: str, lease: str, progress: Progress) -> Standing:
        """Note how far a batch is."""
        return self._changed(batch, self.store.put_batch_progress(batch, lease, progress))

    def finish(self, batch: str, lease: str, *, interrupted: bool = False, reason: str = "") -> Standing:
        """Release a batch: its open points fail with the reason, or wait for the next claim where it was interrupted."""
        standing = self._closed(batch, self.store.finish_batch(batch, lease, interrupted=interrupted, reason=reason))
        self.work.notify()  # the device is free, and so is the batch if it was interrupted
        return standing

    def batch_runs(self, batch: str, *, baseline: bool = False) -> list[Run]:
        """Return the runs that a batch has stored, oldest first."""
        return self.store.batch_runs(batch, baseline)

    # Watching

    def tick(self) -> None:
        """Free dead leases; close jobs that have had nothing open since the last tick; now and then forget old ones."""
        self._free_dead()
        complete = set(self.store.complete_jobs())
        for job in complete & self._complete:  # in the meantime the call that closed the last point could have done it
            self.store.close_job(job)
            self._tell(job)
        self._complete = complete
        now = self._clock()
        if self._forgot_at is None or now - self._forgot_at >= FORGET_S:
            self._forgot_at = now
            self.store.forget_jobs(datetime.now(UTC) - self._keep)

    def _free_dead(self) -> None:
        dead = self._watch.dead(self.store.leases())
        if dead and self.store.free_leases(dead):
            self.work.notify()
            self.changed.notify()

    def _tick_on(self) -> None:
        while not self._stopping.wait(WATCH_S):
            try:
                self.tick()
            except EdgelutError as error:  # the database is away: it may be back at the next tick
                _log.warning("leases and jobs are looked at again in %g s: %s", WATCH_S, error)
            except Exception:  # a fault of ours must not keep leases of the dead for ever  # noqa: BLE001
                _log.exception("leases and jobs are looked at again in %g s", WATCH_S)

    def _changed(self, batch: str, standing: Standing) -> Standing:
        self.changed.notify(self._job(batch))
        return standing

    def _closed(self, batch: str, standing: Standing) -> Standing:
        """Close the batch's job where that was its last open point."""
        try:
            job = self._job(batch)
            if self.store.is_complete(job):
                self.store.close_job(job)
                if self.engine is not None:
                    self.engine.tell(job)
            self.changed.notify(job)
        except EdgelutError as error:  # what was sent is stored, and its sender must hear so; the tick closes the job
            _log.warning("a job is closed later: %s", error)
        return standing

    def _job(self, batch: str) -> str:
        """Return the job of a batch, which is asked for once: events are many."""
        with self._lock:
            known = self._job_of.get(batch)
        return known if known is not None else self._know(batch, self.store.batch_job(batch))

    def _know(self, batch: str, job: str) -> str:
        with self._lock:
            self._job_of[batch] = job
            while len(self._job_of) > _KNOWN_BATCHES:
                self._job_of.popitem(last=False)
        return job

    def _baseline(self, request: JobRequest) -> str:
        found = self.store.find_baseline(request)
        if found is None:
            kind, _, rest = request.baseline.partition(":")
            raise LatencyNotFound(
                f"no mark {rest!r} to compare with; `PUT /marks/{rest}` makes one"
                if kind == "mark"
                else f"no job {rest!r} to compare with"
                if kind == "job"
                else f"no job {request.name!r}{f' with branch={rest}' if kind == 'branch' else ''} has been done before; "
                "run one without a baseline first"
            )
        return found

    def _tell(self, job: str) -> None:
        if self.engine is not None:
            self.engine.tell(job)
        self.changed.notify(job)


def _either(protocols: Sequence[int]) -> str:
    return " or ".join(map(str, sorted(protocols))) or "none"
