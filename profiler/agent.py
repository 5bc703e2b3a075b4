"""The agent: announces this host's devices to a service, claims batches of points, measures, and sends what it measured."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import httpx

from edgelut import __version__
from edgelut.errors import BackendMissing, Conflict, EdgelutError, ServiceError
from edgelut.jobs import PROTOCOL, Announcement, Claim, DeviceInfo, Progress, Pulse, Welcome
from edgelut.plan import Point
from edgelut.rest import Connection
from edgelut.types import Entry, Params

from . import fleet, observer
from .agent_report import Report
from .errors import WorkerDied
from .export_points import ExportPool
from .fleet import DeviceChoice
from .lock import find_holder
from .paired import run_pairs
from .remote import BatchEnded, BatchInterrupted, BatchStore
from .sweep import run_sweep
from .toolchains import Toolchains
from .uplink import Reach, ServiceAway, Uplink, post, read_spool, spool_folder
from .worker import Worker

POLL_S = 20.0  # of a claim
SOON_S = 1.0  # a claim that is answered sooner with nothing is not asked again at once
STOP_S = 8.0  # for the round in hand when the agent is told to stop
ENDING_S = 2.0  # for an agent of the same home that is just ending
GRACE_S = 3.0  # and then for the last messages
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0  # between tries to reach a service that is away
BUSY_S = 1.0  # between looks at a device that somebody else measures on
LONGEST_REST_S = 60.0  # after batches that a device could not begin
ONCE_PATIENCE_S = 10.0  # for a service, where the agent is to work once
MOST_FORGOTTEN = 3  # announcements within a minute: two agents have one installation

log = logging.getLogger("edgelut.agent")


@dataclass(frozen=True, slots=True)
class Options:
    """What an agent is told. `devices` are by their names here and in the fleet, `environments` interpreters by name."""

    url: str
    name: str
    devices: Sequence[DeviceChoice]
    home: Path
    environments: Mapping[str, Path] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)
    once: bool = False


class Processor:
    """Whose turn this host's processor is: two that time on it, or make files with it, would measure each other. Reentrant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    @contextmanager
    def turn(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait for the turn, calling `check` now and then, which raises to give up."""
        me = threading.get_ident()
        if self._owner == me:
            yield
            return
        while not self._lock.acquire(timeout=0.2):
            check()
        self._owner = me
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()


class Agent:
    """Serves one service with the devices of one host, until it is told to stop.

    Obligations: a device is never measured on by two at a time; what was measured is sent, or is kept on disk for the next
    agent of this home; a service that is away is waited for.
    """

    def __init__(self, options: Options, report: Report, *, transport: httpx.BaseTransport | None = None) -> None:
        self._options = options
        self._report = report
        self._session = uuid.uuid4().hex
        self._installation = ""
        self._path = f"/agents/{quote(options.name, safe='')}"
        self._reach = Reach()

        def uplink() -> Uplink:
            how: dict[str, Any] = {"retries": 1, "sleep": lambda _: None, "transport": transport}
            return Uplink(Connection(options.url, options.token, **how), self._reach)

        self._uplink, self._beats = uplink(), uplink()
        self._toolchains = Toolchains(options.home / "toolchains")
        self._exports = ExportPool(options.home / "artifacts")
        self._processor = Processor()
        self._heartbeat_s = 5.0
        self._held: dict[str, BatchStore] = {}
        self._busy: dict[str, str] = {}
        self._lock = threading.Lock()
        self._draining = threading.Lock()
        self._announcing = threading.Lock()
        self._announcements = 0
        self._forgotten: list[float] = []
        self._stop_s = STOP_S
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._changed = threading.Event()  # something about the devices
        self._hurry = threading.Event()
        self._known = threading.Event()  # what all runtimes are like
        self._error: EdgelutError | None = None

    def stop(self, within_s: float = STOP_S) -> None:
        """End after the rounds in hand, or in so many seconds; told twice, at once. May be called by a signal's handler."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stop_s = within_s
        self._stopping.set()

    def run(self) -> None:
        """Serve until `stop`, or where the agent is to work once, until nothing is to be had. Raises what makes that impossible."""
        with _only_one(self._options.home), self._report.live():
            self._installation = _installation(self._options.home)
            try:
                self._announce()
                if self._stopping.is_set():
                    return
                self._drain()
                self._serve()
            finally:
                self._stopping.set()
                self._ended.set()
                self._exports.abort()
                self._exports.close()
        if self._error is not None:
            raise self._error

    # Announcing

    def _announce(self) -> None:
        """Announce until the service has heard; raise what it refuses by."""
        started, attempt = time.monotonic(), 0
        while not self._stopping.is_set():
            try:
                self._announce_once()
            except ServiceAway as error:
                if not attempt:
                    self._report.warn(f"{error}; trying again")
                if self._options.once and time.monotonic() - started > ONCE_PATIENCE_S:
                    raise ServiceError(str(error)) from None
                self._stopping.wait(_pause_s(attempt))
                attempt += 1
            else:
                self._reach.heard()
                names = ", ".join(choice.name for choice in self._options.devices)
                self._report.say(f"agent {self._options.name} serves {self._uplink.url} with {names}")
                return

    def _announce_once(self) -> None:
        options = self._options
        self._changed.clear()
        said = Announcement(
            name=options.name,
            installation=self._installation,
            session=self._session,
            version=__version__,
            protocols=(PROTOCOL,),
            facts=Params(fleet.host_facts()),
            devices=self._devices(),
            environments=tuple(options.environments),
        )
        try:
            welcome = self._beats.call(Welcome, "POST", "/agents", body=said)
        except Conflict as error:
            raise ServiceError(f"{self._uplink.url}: {error}", problem=error.problem) from None
        except ServiceError as error:
            if error.problem in ("no-such-path", "method"):
                raise ServiceError(
                    f"{self._uplink.url} knows no agents: it is older than this agent (version {__version__}); upgrade it",
                    problem="protocol",
                ) from None
            raise
        if welcome.protocol != PROTOCOL:
            raise ServiceError(
                f"{self._uplink.url} (version {welcome.version}) speaks protocol {welcome.protocol} and this agent "
                f"(version {__version__}) protocol {PROTOCOL}: upgrade the older one",
                problem="protocol",
            )
        self._heartbeat_s = welcome.heartbeat_s
        self._announcements += 1

    def _announce_again(self, known: int) -> None:
        """Announce after the service did not know the session any more: it lost its memory, or somebody took our place.

        The session stays the same, and so do the batches that it still holds. `known` is the number of the announcement that
        the service did not know, for several threads may find out at once.
        """
        with self._announcing:
            if known != self._announcements:
                return
            now = time.monotonic()
            self._forgotten = [at for at in self._forgotten if now - at < 60] + [now]
            if len(self._forgotten) > MOST_FORGOTTEN:
                raise ServiceError(
                    f"agent {self._options.name} is announced by another process again and again: was "
                    f"{self._options.home} copied? delete agent.json in one of the copies"
                )
            self._announce_once()

    def _devices(self) -> tuple[DeviceInfo, ...]:
        return tuple(
            fleet.device_info(choice, self._toolchains, self._busy.get(choice.name, ""))
            for choice in self._options.devices
        )

    def _learn(self) -> None:
        """Load the runtimes that nothing is known of, one by one in another process, and tell the service what they are like."""
        worker: Worker | None = None
        for name in fleet.unknown_runtimes(self._toolchains):
            try:
                worker = worker or Worker("profiler.toolchains")
                worker.call("probe", folder=self._toolchains.folder, name=name)
            except WorkerDied as error:
                self._toolchains.missing("runtimes", name, f"runtime {name!r} ends its process: {error}")
                if worker is not None:
                    worker.close()
                worker = None
            except EdgelutError as error:
                self._toolchains.missing("runtimes", name, str(error))
        if worker is not None:
            worker.close()
        self._known.set()
        self._say_devices()

    # Living

    def _serve(self) -> None:
        """Run a thread for heartbeats and one for each device; see them end."""
        _thread(self._learn, "learn")
        _thread(self._beat_on, "beat")
        loops = [_thread(self._work_on, choice.name, choice) for choice in self._options.devices]
        while any(loop.is_alive() for loop in loops) and not self._stopping.wait(0.2):
            pass
        self._stopping.set()
        deadline = time.monotonic() + self._stop_s + GRACE_S
        for store in self._in_hand():
            store.interrupt(self._stop_s)
        while self._in_hand() and time.monotonic() < deadline and not self._hurry.wait(0.05):
            pass
        for store in self._in_hand():  # a thread that is deep in a library: its workers end with this process
            self._give_back(store)
        # Whoever waits for a claim is not waited for: the service sees that the connection ends with this process.

    def _say_devices(self) -> None:
        """Let the next heartbeat, which comes at once, tell of the devices."""
        self._changed.set()
        self._reach.poke()

    def _in_hand(self) -> list[BatchStore]:
        with self._lock:
            return list(self._held.values())

    def _give_back(self, store: BatchStore) -> None:
        body = {"lease": store.claim.lease, "interrupted": True, "reason": "the agent was stopped"}
        with suppress(ServiceAway, EdgelutError):
            self._beats.call(dict, "POST", f"{store.path}/finish", body=body, timeout=GRACE_S)

    def _beat_on(self) -> None:
        """Send heartbeats; while the service is away, see when it is back."""
        attempt = 0
        said = False
        while not self._ended.is_set():
            if self._reach.away:
                self._ended.wait(_pause_s(attempt))
                attempt += 1
            else:
                attempt = 0
                self._reach.wait_for_news(self._heartbeat_s)
            was_away = self._reach.away
            try:
                self._beat()
            except ServiceAway as error:
                if not said:
                    self._report.warn(f"{error}; trying again, and what is measured is kept")
                said = True
                continue
            except EdgelutError as error:
                self._fail(error)
                return
            if was_away:
                self._reach.heard()
                if said:
                    self._report.warn("the service answers again")
                said = False
                _thread(self._drain, "drain")

    def _beat(self) -> None:
        """Say that this agent lives, and what changed about its devices; hear which batches are to stop."""
        known = self._announcements
        told = self._devices() if self._changed.is_set() else None
        self._changed.clear()
        body = {"session": self._session, "devices": told}
        try:
            pulse = self._beats.call(Pulse, "POST", f"{self._path}/pulse", body=body, timeout=self._heartbeat_s)
        except Conflict as error:
            if error.problem != "session":
                raise ServiceError(f"{self._uplink.url}: {error}", problem=error.problem) from None
            self._announce_again(known)
            return
        except ServiceAway:
            if told is not None:
                self._changed.set()
            raise
        for store in self._in_hand():
            if store.claim.batch in pulse.stop:
                store.unwanted()

    def _fail(self, error: EdgelutError) -> None:
        """End the agent by an error."""
        if not self._stopping.is_set():
            self._error = error
            self._stopping.set()

    def _drain(self) -> None:
        """Send what an agent of this home measured and could not send, before any of it is claimed again."""
        with self._draining:
            folder = spool_folder(self._options.home, self._uplink.url)
            held = {store.claim.batch for store in self._in_hand()}
            for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
                if file.stem not in held:
                    self._send_all(file)

    def _send_all(self, file: Path) -> None:
        sent = 0
        for message in read_spool(file):
            while not self._stopping.is_set():
                try:
                    post(self._uplink, message)
                    sent += 1
                except ServiceAway:
                    self._stopping.wait(_pause_s(3))
                    continue
                except EdgelutError as error:
                    self._report.warn(f"the service does not take what was measured before: {error}")
                break
            else:
                return
        file.unlink(missing_ok=True)
        if sent:
            self._report.say(f"sent {sent} messages that were left from before")

    # Working

    def _work_on(self, choice: DeviceChoice) -> None:
        """Claim and measure batches for one device."""
        rests = 0
        while not self._known.wait(0.2):
            if self._stopping.is_set():
                return
        while not self._stopping.is_set():
            if not self._is_free(choice):
                self._stopping.wait(BUSY_S)
                continue
            asked_at = time.monotonic()
            try:
                claim = self._claim(choice)
                if claim is not None:
                    rests = 0 if self._measure(choice, claim) else rests + 1
                    if rests:
                        self._stopping.wait(min(2.0**rests, LONGEST_REST_S))
                elif self._options.once:
                    return
                elif time.monotonic() - asked_at < SOON_S:
                    self._stopping.wait(random.uniform(0.5, 1.0) * SOON_S)
            except ServiceAway:
                self._reach.wait(1.0)
            except EdgelutError as error:
                self._fail(error)

    def _is_free(self, choice: DeviceChoice) -> bool:
        """Say whether nobody else measures on the device; the service is told."""
        holder = find_holder(self._options.home / "locks", choice.backend)
        before = self._busy.get(choice.name, "")
        now = f"measured on by {holder}" if holder else ""
        if now != before:
            self._busy[choice.name] = now
            self._say_devices()
            self._report.say(f"{choice.name}: {now or 'free again'}")
        return not now

    def _claim(self, choice: DeviceChoice) -> Claim | None:
        known = self._announcements
        wait_s = 0.0 if self._options.once else POLL_S
        body = {"session": self._session, "devices": [choice.name], "wait_s": wait_s}
        claimed: Any = Claim | None
        try:
            claim: Claim | None = self._uplink.call(
                claimed, "POST", f"{self._path}/claim", body=body, timeout=wait_s + 10.0
            )
        except Conflict as error:
            if error.problem != "session":
                raise ServiceError(f"{self._uplink.url}: {error}", problem=error.problem) from None
            self._announce_again(known)
            return None
        return claim

    def _measure(self, choice: DeviceChoice, claim: Claim) -> bool:
        """Measure a batch and give it back; return whether the device could do what was asked of it."""
        store = BatchStore(claim, choice.backend, self._uplink, self._options.home)
        watcher = _Watcher(store, self._report)
        with self._lock:
            self._held[claim.batch] = store
        if self._stopping.is_set():
            store.interrupt(0.0)
        self._report.claimed(claim)
        started = time.monotonic()
        why, interrupted, well = "", True, False
        try:
            self._sweep(store, watcher)
            interrupted, well = False, True
        except BatchInterrupted as error:
            why, well = str(error), True
        except BatchEnded as error:
            why, well = str(error), store.ended
        except BackendMissing as error:
            why, interrupted = str(error), False
        except EdgelutError as error:
            why = f"{type(error).__name__}: {error}"
        except Exception as error:  # a fault of ours becomes a stored reason, and the next batch may go well
            log.exception("batch %s", claim.batch)
            why = f"{type(error).__name__}: {error}"
        sent = store.finish(interrupted, why)
        with self._lock:
            del self._held[claim.batch]
        if not sent and not self._reach.away:
            self._drain()
        self._report.ended(
            claim.device, watcher.rows, watcher.known_rows, watcher.failures, time.monotonic() - started, why
        )
        return well

    def _sweep(self, store: BatchStore, watcher: _Watcher) -> None:
        claim, home = store.claim, self._options.home
        points = store.points()
        hosted = any(self._is_hosted(one.point) for one in points)

        def turn() -> Any:
            return self._processor.turn(store.check)

        with turn() if hosted else nullcontext():
            if claim.baseline_sweep:
                python = self._environment(claim)
                sweeps = claim.sweep, claim.baseline_sweep
                closed = run_pairs(
                    points, store, store, *sweeps, home, claim.policy, observer=watcher, environment=python
                )
                store.close_points(closed)
            else:
                plain = [one.point for one in points]
                how: dict[str, Any] = {"observer": watcher, "exports": self._exports, "turn": turn}
                run_sweep(plain, store, home, claim.policy, again=claim.again, **how)

    def _environment(self, claim: Claim) -> Path | None:
        if not claim.environment:
            return None
        if claim.environment not in self._options.environments:
            there = ", ".join(self._options.environments) or "none"
            raise BackendMissing(
                f"agent {self._options.name} has no environment {claim.environment!r}; it has {there}: "
                f"start it with --environment {claim.environment}=PYTHON"
            )
        return self._options.environments[claim.environment]

    def _is_hosted(self, point: Point) -> bool:
        try:
            return self._toolchains.runtime(point.target.runtime).hosted
        except BackendMissing:
            return False


class _Watcher(observer.Observer):
    """Tells the service and the terminal how a batch is getting on, and ends it where it is not to go on."""

    def __init__(self, store: BatchStore, report: Report) -> None:
        self.rows = self.known_rows = self.failures = 0
        self._store, self._report, self._device = store, report, store.claim.device

    def exported(self, done: int, total: int, point: Point, made: bool) -> None:
        self._store.check()
        self._store.progress(Progress(done, total, 0, 0.0, "export"))
        self._report.progress(self._device, done, total, "export")

    def step(self, in_round: bool = False) -> None:
        self._store.check(in_round=in_round)

    def known(self, point: Point, entry: Entry) -> None:
        self.known_rows += 1
        self._store.known(point.spec, point.target)

    def resumed(self, rounds: int) -> None:
        self._report.say(f"{self._device}: going on with {rounds} rounds that were measured before")

    def progress(self, progress: observer.Progress) -> None:
        left = max(0.0, progress.seconds_left)
        self._store.progress(Progress(progress.done, progress.total, progress.round, left))
        self._report.progress(self._device, progress.done, progress.total, f"round {progress.round}")

    def row(self, point: Point, entry: Entry, current: bool) -> None:
        self.rows += 1
        self._report.row(self._device, point, entry, current)

    def failed(self, point: Point, reason: str) -> None:
        self.failures += 1
        self._report.failed(self._device, point, reason)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold a home for one agent; raise Conflict, which names the process of the other, where that does not end at once."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "agent.lock").open("a+") as file:
        deadline = time.monotonic() + ENDING_S
        while not _locks(file):
            if time.monotonic() > deadline:
                file.seek(0)
                other = file.read().strip() or "another process"
                raise Conflict(
                    f"an agent already runs on {home} ({other}): stop it, add the device to it, "
                    "or give this one another --home"
                )
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _installation(home: Path) -> str:
    """Return the name of this installation, made at its first start."""
    file = home / "agent.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(file.read_text())["installation"])
    made = uuid.uuid4().hex
    staged = home / f"agent.{made}.tmp"
    staged.touch(mode=0o600)
    staged.write_text(json.dumps({"installation": made}))
    staged.replace(file)
    return made


def _pause_s(attempt: int) -> float:
    """Return how long to wait before trying again, spread out so that a fleet does not come all at once."""
    return min(SHORTEST_WAIT_S * 2.0**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _thread(target: Callable[..., None], name: str, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=f"edgelut-{name}", daemon=True)
    thread.start()
    return thread
