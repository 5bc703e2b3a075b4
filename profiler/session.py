"""An agent's standing with its service: announced under a session, and kept alive by heartbeats."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgelut import __version__
from edgelut.errors import Conflict, EdgelutError, ServiceError
from edgelut.jobs import PROTOCOL, Announcement, Claim, DeviceInfo, Pulse, Welcome
from edgelut.types import Params

from . import fleet
from .agent_report import Report
from .fleet import DeviceChoice
from .uplink import ServiceAway, Uplink

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0  # between tries to reach a service that is away
HASTE = 40  # tries that are made in haste: a service that is only restarted is back in seconds, and devices wait for it
HASTY_WAIT_S = 0.3
ONCE_PATIENCE_S = 10.0  # for a service, where the agent is to work once
MOST_FORGOTTEN = 3  # announcements within a minute: two agents have one installation


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


class Session:
    """One life of an agent, as the service knows it. Safe for threads.

    It raises ServiceAway where the service does not answer, and ServiceError with the problem's name where it does not want
    this agent: a name or device that is another's, another protocol.
    """

    def __init__(self, options: Options, installation: str, beats: Uplink, report: Report) -> None:
        """`beats` is an uplink of its own, so that no long message holds up a heartbeat."""
        self.heartbeat_s = 5.0
        self._options, self._installation, self._beats, self._report = options, installation, beats, report
        self._id = uuid.uuid4().hex
        self._path = f"/agents/{quote(options.name, safe='')}"
        self._announcing = threading.Lock()
        self._announcements = 0
        self._forgotten: list[float] = []

    def begin(self, devices: Callable[[], tuple[DeviceInfo, ...]], stopping: threading.Event) -> None:
        """Announce until the service has heard or `stopping` is set."""
        self._devices = devices
        started, attempt = time.monotonic(), 0
        while not stopping.is_set():
            try:
                self._announce()
            except ServiceAway as error:
                if not attempt:
                    self._report.warn(f"{error}; trying again")
                if self._options.once and time.monotonic() - started > ONCE_PATIENCE_S:
                    raise ServiceError(str(error)) from None
                stopping.wait(pause_s(attempt))
                attempt += 1
            else:
                self._beats.reach.heard()
                names = ", ".join(choice.name for choice in self._options.devices)
                self._report.say(f"agent {self._options.name} serves {self._beats.url} with {names}")
                return

    def beat(self, devices: Sequence[DeviceInfo] | None) -> tuple[str, ...]:
        """Say that this agent lives, and what changed about its devices; return the batches that are to stop."""
        known = self._announcements
        body = {"session": self._id, "devices": devices}
        try:
            timeout_s = self.heartbeat_s
            return self._beats.call(Pulse, "POST", f"{self._path}/pulse", body=body, timeout=timeout_s).stop
        except Conflict as error:
            self._again(error, known)
            return ()

    def claim(self, uplink: Uplink, device: str, wait_s: float) -> Claim | None:
        """Ask for a batch for a device, which is free, for up to `wait_s`; return None where there is none yet."""
        known = self._announcements
        body = {"session": self._id, "devices": [device], "wait_s": wait_s}
        answer: Any = Claim | None
        try:
            found: Claim | None = uplink.call(answer, "POST", f"{self._path}/claim", body=body, timeout=wait_s + 10.0)
        except Conflict as error:
            self._again(error, known)
            return None
        return found

    def give_back(self, path: str, lease: str, timeout_s: float) -> None:
        """Give a batch back for a thread that cannot do so any more."""
        body = {"lease": lease, "interrupted": True, "reason": "the agent was stopped"}
        self._beats.call(dict, "POST", f"{path}/finish", body=body, timeout=timeout_s)

    def _announce(self) -> None:
        options, url = self._options, self._beats.url
        said = Announcement(
            name=options.name,
            installation=self._installation,
            session=self._id,
            version=__version__,
            protocols=(PROTOCOL,),
            facts=Params(fleet.host_facts()),
            devices=self._devices(),
            environments=tuple(options.environments),
        )
        try:
            welcome = self._beats.call(Welcome, "POST", "/agents", body=said)
        except Conflict as error:
            raise ServiceError(f"{url}: {error}", problem=error.problem) from None
        except ServiceError as error:
            if error.problem not in ("no-such-path", "method"):
                raise
            raise ServiceError(
                f"{url} knows no agents: it is older than this agent (version {__version__}); upgrade it",
                problem="protocol",
            ) from None
        if welcome.protocol != PROTOCOL:
            raise ServiceError(
                f"{url} (version {welcome.version}) speaks protocol {welcome.protocol} and this agent (version "
                f"{__version__}) protocol {PROTOCOL}: upgrade the older one",
                problem="protocol",
            )
        self.heartbeat_s = welcome.heartbeat_s
        self._announcements += 1

    def _again(self, error: Conflict, known: int) -> None:
        """Announce after the service did not know the session any more: it lost its memory, or somebody took our place.

        The session stays the same, and so do the batches that it still holds. `known` is the number of the announcement that
        the service did not know, for several threads may find out at once.
        """
        if error.problem != "session":
            raise ServiceError(f"{self._beats.url}: {error}", problem=error.problem) from None
        with self._announcing:
            if known != self._announcements:
                return
            now = time.monotonic()
            self._forgotten = [at for at in self._forgotten if now - at < 60] + [now]
            if len(self._forgotten) > MOST_FORGOTTEN:
                raise ServiceError(
                    f"agent {self._options.name} is announced by another process again and again: was "
                    f"{self._options.home} copied? delete agent.json in one of the copies",
                    problem="session",
                )
            self._announce()


class Beating:
    """The thread that keeps a session alive, and while the service is away, sees when it is back."""

    def __init__(self, session: Session, beats: Uplink, report: Report) -> None:
        self._session, self._beats, self._report = session, beats, report
        self._reach = beats.reach
        self._changed = threading.Event()  # something about the devices
        self._ended = threading.Event()

    def changed(self) -> None:
        """Let the next heartbeat, which comes at once, tell of the devices."""
        self._changed.set()
        self._reach.poke()

    def end(self) -> None:
        """End at the next heartbeat."""
        self._ended.set()

    def run(
        self,
        devices: Callable[[], tuple[DeviceInfo, ...]],
        stop: Callable[[tuple[str, ...]], None],
        back: Callable[[], object],
    ) -> None:
        """Send heartbeats; call `stop` with the batches that are to end, and `back` when the service has been away.

        Raises the EdgelutError by which the service does not want this agent any more.
        """
        attempt, said = 0, False
        while not self._ended.is_set():
            was_away = self._reach.away
            if was_away:
                self._ended.wait(pause_s(attempt))
                attempt += 1
            else:
                attempt = 0
                self._reach.wait_for_news(self._session.heartbeat_s)
                was_away = self._reach.away
            try:
                stop(self._beat(devices))
            except ServiceAway as error:
                if not said:
                    self._report.warn(f"{error}; trying again, and what is measured is kept")
                said = True
                continue
            if was_away:
                self._reach.heard()
                if said:
                    self._report.warn("the service answers again")
                said = False
                back()

    def _beat(self, devices: Callable[[], tuple[DeviceInfo, ...]]) -> tuple[str, ...]:
        told = devices() if self._changed.is_set() else None
        self._changed.clear()
        try:
            return self._session.beat(told)
        except (ServiceAway, EdgelutError):
            if told is not None:
                self._changed.set()
            raise


def pause_s(attempt: int) -> float:
    """Return how long to wait before trying again, spread out so that a fleet does not come all at once."""
    longest = HASTY_WAIT_S if attempt < HASTE else LONGEST_WAIT_S
    return min(SHORTEST_WAIT_S * 2.0 ** min(attempt, 10), longest) * random.uniform(0.5, 1.0)
