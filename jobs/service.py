"""Jobs as the service sees them: what submitters and agents ask for, told to the database, the engine and who waits."""

from __future__ import annotations

from collections.abc import Sequence

from db.store import SqlStore
from edgelut.jobs import (
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

from .engine import Engine
from .signals import Signal

LEASE_S = 30.0  # a lease whose beat stood still for so long is dead
HEARTBEAT_S = 5.0  # how often an agent says that it lives
POLL_S = 1.0  # how often a long poll looks by itself: another process's submit does not ring here
WATCH_S = 2.0  # between two ticks


class Jobs:
    """The facade of jobs. Safe for threads; every method is synchronous and talks to the database: call it in a thread.

    Without an engine jobs close at the call that closes their last point, and in `tick`. Marks and tokens need no facade: they
    are the store's.

    `work` rings when a batch may have become free to claim: long polls listen to it, look with `claim` at least every
    `POLL_S`. `changed` rings with a job's id as its topic whenever that job changed: event streams listen to it.
    """

    work: Signal
    changed: Signal

    def __init__(self, store: SqlStore, engine: Engine | None = None) -> None:
        self.store, self.engine = store, engine
        self.work, self.changed = Signal(), Signal()

    def start(self) -> None:
        """Start the engine and the thread that ticks every WATCH_S; raise StorageError where the database is not ready."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop both; jobs go on when a process starts again. Idempotent."""
        raise NotImplementedError

    # Submitters

    def submit(self, request: JobRequest, *, key: str | None = None, submitter: str = "") -> Job:
        """Plan a job by what the fleet's devices can do, store it, and return it; the same key and request: the same job.

        Raises InvalidSpec for what cannot be planned (saying what there is), Conflict for a key of another request, and
        NoBaseline where there is nothing to compare with.
        """
        raise NotImplementedError

    def find_job(self, id: str) -> Job | None:
        """Return a job, or None."""
        raise NotImplementedError

    def jobs(
        self, *, state: JobState | None = None, name: str | None = None, before: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Return jobs, newest first; those before the job of that id."""
        raise NotImplementedError

    def points(self, id: str, *, state: PointState | None = None, after: int = -1, limit: int = 1000) -> list[JobPoint]:
        """Return a job's points with numbers above `after`, in order."""
        raise NotImplementedError

    def runs(self, id: str, numbers: Sequence[int] | None = None, *, baseline: bool = False) -> list[Run]:
        """Return the runs of a job's points, of all where no numbers are given; of the baseline's side on demand."""
        raise NotImplementedError

    def events(self, id: str, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        """Return the lines of a job's log with ids above `after`, oldest first."""
        raise NotImplementedError

    def cancel(self, id: str) -> Job:
        """Cancel what is open of a job; one that has ended stays as it is."""
        raise NotImplementedError

    def retry(self, id: str) -> tuple[Job, int]:
        """Open again what failed or was cancelled; return the job and how many points that is (0: nothing was done)."""
        raise NotImplementedError

    # Agents

    def announce(self, announcement: Announcement, token_devices: Sequence[str] = ()) -> Welcome:
        """Take up an agent's session and devices; a new session of its installation frees what the old one held.

        `token_devices` are the devices that its token is bound to; none: any. Raises what `SqlFleet.announce` raises.
        """
        raise NotImplementedError

    def pulse(self, name: str, session: str, devices: Sequence[DeviceInfo] | None = None) -> Pulse:
        """Note that an agent lives, and renew its leases."""
        raise NotImplementedError

    def has_work(self, devices: Sequence[str]) -> bool:
        """Say cheaply whether a `claim` for these devices may find something."""
        raise NotImplementedError

    def claim(self, name: str, session: str, devices: Sequence[str]) -> Claim | None:
        """Lease the most urgent batch for one of an agent's free devices, or return None at once."""
        raise NotImplementedError

    def agents(self) -> list[Agent]:
        """Return all agents."""
        raise NotImplementedError

    def fleet(self) -> list[FleetDevice]:
        """Return all devices of agents and what they are doing."""
        raise NotImplementedError

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
        raise NotImplementedError

    def put_entries(self, batch: str, lease: str, entries: Sequence[Entry]) -> Standing:
        """Store rows and close their points as measured."""
        raise NotImplementedError

    def close_points(self, batch: str, lease: str, closed: Sequence[Closed]) -> Standing:
        """Close points that got no row of their own."""
        raise NotImplementedError

    def put_artifacts(self, batch: str, lease: str, artifacts: Sequence[Artifact]) -> Standing:
        """Store what is known of exported files."""
        raise NotImplementedError

    def put_progress(self, batch: str, lease: str, progress: Progress) -> Standing:
        """Note how far a batch is."""
        raise NotImplementedError

    def finish(self, batch: str, lease: str, *, interrupted: bool = False, reason: str = "") -> Standing:
        """Release a batch: its open points fail with the reason, or wait for the next claim where it was interrupted."""
        raise NotImplementedError

    def batch_runs(self, batch: str, *, baseline: bool = False) -> list[Run]:
        """Return the runs that a batch has stored, oldest first."""
        raise NotImplementedError

    # Watching

    def tick(self) -> None:
        """Free dead leases, and close jobs that have nothing open: what the engine has not done by the second look."""
        raise NotImplementedError
