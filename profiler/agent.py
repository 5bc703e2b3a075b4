"""The agent: announces this host's devices to a service, claims batches of points, measures, and sends what it measured."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from edgelut.errors import EdgelutError
from edgelut.jobs import Claim, DeviceInfo
from edgelut.rest import Connection

from . import fleet
from .agent_home import installation, only_one
from .agent_report import Report
from .errors import WorkerDied
from .fleet import DeviceChoice
from .hosting import is_remote
from .lock import find_holder
from .remote import BatchStore
from .session import Beating, Options, Session, pause_s
from .toolchains import Toolchains
from .uplink import Reach, ServiceAway, Uplink, is_closed, post, read_spool, spool_folder
from .worker import Worker
from .workshop import Workshop

POLL_S = 20.0  # of a claim
SOON_S = 1.0  # a claim that is answered sooner with nothing is not asked again at once
STOP_S = 8.0  # for the round in hand when the agent is told to stop
GRACE_S = 3.0  # and then for the last messages
BUSY_S = 1.0  # between looks at a device that somebody else measures on, or that is not there
LOOK_S = 10.0  # between questions to a device that is not this machine, whether it is there
RARELY = 6  # times as long between looks for new ones while anything is measured, which looking would disturb
LONGEST_REST_S = 60.0  # after batches that a device could not do


class Agent:
    """Serves one service with the devices of one host, until it is told to stop.

    Obligations: a device is never measured on by two at a time; what was measured is sent, or is kept on disk for the next
    agent of this home; a service that is away is waited for.
    """

    def __init__(
        self,
        options: Options,
        report: Report,
        *,
        transport: httpx.BaseTransport | None = None,
        look: Callable[[], Mapping[DeviceChoice, str]] = dict,
    ) -> None:
        """`look` is asked now and then for devices beside those of the options, and why each cannot be used just now."""
        self._options, self._report, self._look = options, report, look
        self._choices = list(options.devices)
        self._whys: dict[str, str] = {}  # of devices that were looked for, by name
        self._reach = Reach()

        def uplink() -> Uplink:
            how: dict[str, Any] = {"retries": 1, "sleep": lambda _: None, "transport": transport}
            return Uplink(Connection(options.url, options.token, **how), self._reach)

        self._uplink, self._beats = uplink(), uplink()
        self._toolchains = Toolchains(options.home / "toolchains")
        self._held: dict[str, BatchStore] = {}
        self._busy: dict[str, str] = {}  # why a device is not to be had, by its name
        self._looked: dict[str, tuple[float, str]] = {}  # when a device was last looked at, and what was wrong with it
        self._lock = threading.Lock()
        self._draining = threading.Lock()
        self._stop_s = STOP_S
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._known = threading.Event()  # what all runtimes are like
        self._error: EdgelutError | None = None
        self._loops: list[threading.Thread] = []

    def stop(self, within_s: float = STOP_S) -> None:
        """End after the rounds in hand, or in so many seconds; told twice, at once. May be called by a signal's handler."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stop_s = within_s
        self._stopping.set()

    def run(self) -> None:
        """Serve until `stop`, or where the agent is to work once, until nothing is to be had.

        Raises Conflict where an agent of this home runs already, and ServiceError where the service does not want this one.
        """
        options = self._options
        with only_one(options.home), self._report.live():
            self._session = Session(options, installation(options.home), self._beats, self._report)
            self._beating = Beating(self._session, self._beats, self._report)
            self._workshop = Workshop(options.home, self._toolchains, options.environments, self._report)
            _thread("learn", self._learn)
            self._see()
            try:
                self._session.begin(self._devices, self._stopping)
                self._drain()
                if not self._stopping.is_set():
                    self._serve()
            finally:
                self._stopping.set()
                self._beating.end()
                self._workshop.close()
        if self._error is not None:
            raise self._error

    def _serve(self) -> None:
        """Run a thread for heartbeats and one for each device; see them end."""
        _thread("beat", self._beat_on)
        loops = self._loops = [_thread(f"work-{one.name}", self._work_on, one) for one in self._choices]
        if not self._options.once and self._look is not dict:
            _thread("look", self._look_on)
        while any(loop.is_alive() for loop in loops) and not self._stopping.wait(0.2):
            pass
        self._stopping.set()
        deadline = time.monotonic() + self._stop_s + GRACE_S
        for store in self._in_hand():
            store.interrupt(self._stop_s)
        while self._in_hand() and time.monotonic() < deadline and not self._hurry.wait(0.05):
            pass
        for store in self._in_hand():  # a thread that is deep in a library: its workers end with this process
            with suppress(ServiceAway, EdgelutError):
                self._session.give_back(store.path, store.claim.lease, GRACE_S)
        # Who waits for a claim is not waited for: the service sees that the connection ends with this process.

    # What there is

    def _devices(self) -> tuple[DeviceInfo, ...]:
        known, busy = self._toolchains, self._busy
        return tuple(fleet.device_info(choice, known, busy.get(choice.name, "")) for choice in self._choices)

    def _see(self) -> list[DeviceChoice]:
        """Look for devices; return those that are new."""
        found = self._look()
        self._whys = {choice.name: why for choice, why in found.items()}
        known = {choice.name for choice in self._choices}
        new = [choice for choice in found if choice.name not in known]
        for choice in new:
            self._busy[choice.name] = found[choice]
            self._report.say(f"{choice.name}: {found[choice] or 'attached'}")
        self._choices += new
        return new

    def _look_on(self) -> None:
        while not self._stopping.wait(LOOK_S * (RARELY if self._in_hand() else 1)):
            new = self._see()
            self._loops += [_thread(f"work-{one.name}", self._work_on, one) for one in new]
            if new:
                self._beating.changed()

    def _learn(self) -> None:
        """Load the runtimes that nothing is known of, one by one in another process, and tell the service what they are like."""
        worker: Worker | None = None
        unknown = fleet.unknown_runtimes(self._toolchains)
        for name in unknown:
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
        if unknown:
            self._beating.changed()

    def _is_free(self, choice: DeviceChoice) -> bool:
        """Say whether the device is there and nobody else measures on it; the service is told."""
        holder = find_holder(self._options.home / "locks", choice.backend)
        before = self._busy.get(choice.name, "")
        now = f"measured on by {holder}" if holder else self._trouble(choice)
        if now != before:
            self._busy[choice.name] = now
            self._beating.changed()
            self._report.say(f"{choice.name}: {now or 'free again'}")
        return not now

    def _trouble(self, choice: DeviceChoice) -> str:
        """Return why a device that is not this machine cannot be used, as was seen LOOK_S ago at most; empty where it can."""
        if choice.name in self._whys:
            return self._whys[choice.name]
        at, why = self._looked.get(choice.name, (0.0, ""))
        if is_remote(choice.backend) and (choice.name not in self._looked or time.monotonic() - at >= LOOK_S):
            why = fleet.trouble(choice)
            self._looked[choice.name] = time.monotonic(), why
        return why

    # Living

    def _beat_on(self) -> None:
        try:
            self._beating.run(self._devices, self._stop_batches, lambda: _thread("drain", self._drain))
        except EdgelutError as error:
            self._fail(error)

    def _stop_batches(self, batches: tuple[str, ...]) -> None:
        for store in self._in_hand():
            if store.claim.batch in batches:
                store.unwanted()

    def _in_hand(self) -> list[BatchStore]:
        with self._lock:
            return list(self._held.values())

    def _fail(self, error: EdgelutError) -> None:
        """End the agent by an error."""
        if not self._stopping.is_set():
            self._error = error
            self._stopping.set()

    # Working

    def _work_on(self, choice: DeviceChoice) -> None:
        """Claim and measure batches for one device."""
        rests = 0
        while not self._known.wait(0.2):
            if self._stopping.is_set():
                return
        while not self._stopping.is_set():
            if not self._is_free(choice):
                if self._options.once and self._trouble(choice):
                    return
                self._stopping.wait(BUSY_S)
                continue
            asked_at = time.monotonic()
            try:
                claim = self._session.claim(self._uplink, choice.name, 0.0 if self._options.once else POLL_S)
            except ServiceAway:
                self._reach.wait(1.0)
                continue
            except EdgelutError as error:
                self._fail(error)
                return
            if claim is not None:
                rests = 0 if self._measure(choice, claim) else rests + 1
                if rests:
                    self._looked.pop(choice.name, None)  # it may have gone
                    self._is_free(choice)
                    self._stopping.wait(min(2.0**rests, LONGEST_REST_S))
            elif self._options.once:
                return
            elif time.monotonic() - asked_at < SOON_S:
                self._stopping.wait(random.uniform(0.5, 1.0) * SOON_S)

    def _measure(self, choice: DeviceChoice, claim: Claim) -> bool:
        store = BatchStore(claim, choice.backend, self._uplink, self._options.home)
        with self._lock:
            self._held[claim.batch] = store
        if self._stopping.is_set():
            store.interrupt(0.0)
        try:
            return self._workshop.measure(store)
        finally:
            with self._lock:
                del self._held[claim.batch]
            if not self._reach.away:
                self._drain()

    def _drain(self) -> None:
        """Send what was measured and could not be sent: by this agent, or by one of this home before it."""
        with self._draining:
            folder = spool_folder(self._options.home, self._uplink.url)
            held = {store.claim.batch for store in self._in_hand()}
            for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
                if file.stem not in held and not self._stopping.is_set():
                    self._send(file)

    def _send(self, file: Path) -> None:
        """Send what a file holds, and delete it."""
        sent = 0
        for message in read_spool(file):
            while not self._stopping.is_set():
                try:
                    post(self._uplink, message)
                    sent += 1
                except ServiceAway:
                    self._stopping.wait(pause_s(3))
                    continue
                except EdgelutError as error:
                    if is_closed(error):
                        self._fail(error)
                        return
                    self._report.warn(f"the service does not take what was measured before: {error}")
                break
            else:
                return
        file.unlink(missing_ok=True)
        if sent:
            self._report.say(f"sent {sent} messages that were left from before")


def _thread(name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=f"edgelut-{name}", daemon=True)
    thread.start()
    return thread
