"""An agent's line to its service: whether it answers, what it refuses, and messages that wait on disk until they are sent."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from edgelut import wire
from edgelut.errors import EdgelutError, Forbidden, ServiceError
from edgelut.jobs import Standing
from edgelut.rest import Connection
from edgelut.types import digest

T = TypeVar("T")
PASSING = ("", "storage", "internal")  # problems of a service that may be well again in a moment
CLOSED = ("unauthorized", "forbidden")  # problems of the token: what was refused by them is kept for one that opens
MOST_BYTES = 64 << 20  # of messages that wait; then measuring waits too
PATIENCE_S = 10.0  # for one answer


class ServiceAway(Exception):
    """The service does not answer, or cannot at this moment: what was sent may be sent again."""


class Reach:
    """Whether the service is reached, as the threads of an agent know it.

    It is `away` from the first message that gets no answer until somebody has `heard` it again: the thread that sends
    heartbeats. All others wait for that instead of trying by themselves.
    """

    def __init__(self) -> None:
        self.why = ""
        self._changed = threading.Condition()
        self._away = False
        self._poked = False

    @property
    def away(self) -> bool:
        """Whether the service did not answer last time."""
        return self._away

    def lost(self, why: str) -> None:
        """Note that the service does not answer."""
        with self._changed:
            self._away, self.why = True, why
            self._changed.notify_all()

    def heard(self) -> bool:
        """Note that the service answers; return whether it was away."""
        with self._changed:
            before, self._away = self._away, False
            self._changed.notify_all()
        return before

    def wait(self, timeout_s: float) -> bool:
        """Wait until the service answers again; return whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._away, timeout_s)

    def poke(self) -> None:
        """Wake who waits for news: there is something to tell the service."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def wait_for_news(self, timeout_s: float) -> None:
        """Wait until the service goes away, or somebody pokes."""
        with self._changed:
            before = self._away
            self._changed.wait_for(lambda: self._poked or (self._away and not before), timeout_s)
            self._poked = False


class Uplink:
    """Connections to the service that share what is known of it. Safe for threads."""

    def __init__(self, connection: Connection, reach: Reach) -> None:
        self.url = connection.url
        self.reach = reach
        self._connection = connection

    def call(self, type_: type[T], method: str, path: str, *, body: Any = None, **how: Any) -> T:
        """Ask, within PATIENCE_S unless a `timeout` is given; raise ServiceAway, or what the refusal means as Connection does.

        A token that does not open is a ServiceError, whether it is not known or not meant for this.
        """
        how.setdefault("timeout", PATIENCE_S)
        try:
            return self._connection.call(type_, method, path, body=body, **how)
        except ServiceError as error:
            if error.problem not in PASSING:
                raise
            self.reach.lost(str(error))
            raise ServiceAway(str(error)) from None
        except Forbidden as error:
            raise ServiceError(f"{self.url}: {error}", problem="forbidden") from None
        except EdgelutError:
            raise
        except RuntimeError as error:  # httpx's word for a client that another thread closed: this process is ending
            raise ServiceAway(str(error)) from None

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be posted."""

    path: str
    body: bytes  # JSON

    def line(self) -> bytes:
        """Return the message as a line of a file."""
        return json.dumps({"path": self.path}).encode() + b"\t" + self.body + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Message:
        """Return the message of a line; raise ValueError for one that was not written to its end."""
        head, tab, body = line.partition(b"\t")
        if not tab or not body.endswith(b"\n"):
            raise ValueError("half a line")
        json.loads(body)
        return cls(str(json.loads(head)["path"]), body[:-1])


class Spool:
    """A file of messages that were not acknowledged yet.

    It is written without waiting for the disk: it is there for a process that is killed, not for a machine that is switched
    off. A full disk is no error: then messages wait in memory alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._size = 0

    def append(self, message: Message) -> None:
        """Keep a message."""
        line = message.line()
        try:
            if self._descriptor is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)  # leases are secrets
            if os.write(self._descriptor, line) == len(line):
                self._size += len(line)
            else:
                os.ftruncate(self._descriptor, self._size)
        except OSError:
            return

    def clear(self) -> None:
        """Forget the messages: they were sent."""
        if self._descriptor is not None and self._size:
            os.ftruncate(self._descriptor, 0)
            self._size = 0

    def close(self) -> None:
        """Close the file, and delete it where nothing is left in it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            if not self._size:
                self._path.unlink(missing_ok=True)


def read_spool(path: Path) -> Iterator[Message]:
    """Yield the messages of a spool that a process left behind; a last line that was cut off is left out."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield Message.of_line(line)
            except (ValueError, KeyError, TypeError):
                return


def spool_folder(home: Path, url: str) -> Path:
    """Return where messages to a service wait."""
    return home / "spool" / digest(url)[:12]


class Outbox:
    """Messages of one batch on their way: sent in order, each until it is answered.

    Obligations: what was put is on disk when `put` returns; it is sent at once while the service answers, and kept while it
    does not, up to `MOST_BYTES`. `state` is how the sender stands, by the answers so far: once it is not `held` it stays so.
    One thread puts.
    """

    def __init__(self, uplink: Uplink, spool: Spool, check: Callable[[], None]) -> None:
        """`check` is called while waiting, and raises to end it."""
        self.state: Literal["held", "lost", "cancelled"] = "held"
        self._uplink, self._spool, self._check = uplink, spool, check
        self._waiting: deque[Message] = deque()
        self._bytes = 0

    def put(self, path: str, body: Any) -> Standing | None:
        """Send a message after all that wait; return the answer to it, or None while the service is away."""
        message = Message(path, wire.encode(body))
        self._spool.append(message)
        self._waiting.append(message)
        self._bytes += len(message.body)
        full = self._bytes > MOST_BYTES
        return None if self._uplink.reach.away and not full else self.flush(wait=full)

    def flush(self, *, wait: bool) -> Standing | None:
        """Send what waits; return the last answer, or None if the service is away. `wait` for it as long as `check` allows.

        Raises what a refusal means; the message that was refused is given up unless that is the token's fault.
        """
        standing: Standing | None = None
        while self._waiting:
            try:
                standing = post(self._uplink, self._waiting[0])
            except ServiceAway:
                if not wait:
                    return None
                while not self._uplink.reach.wait(0.2):
                    self._check()
                continue
            except EdgelutError as error:
                if not is_closed(error):
                    self._done()
                raise
            self._done()
            self.note(standing)
        return standing

    def note(self, standing: Standing) -> None:
        """Take in how the sender stands."""
        if standing.state != "held":
            self.state = standing.state

    def __len__(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Close the spool; what waits stays in its file."""
        self._spool.close()

    def _done(self) -> None:
        self._bytes -= len(self._waiting.popleft().body)
        if not self._waiting:
            self._spool.clear()


def is_closed(error: EdgelutError) -> bool:
    """Say whether it was the token that was refused, and not what was sent."""
    return isinstance(error, ServiceError) and error.problem in CLOSED


def post(uplink: Uplink, message: Message) -> Standing:
    """Send one message; raise ServiceAway or what the refusal means."""
    return uplink.call(Standing, "POST", message.path, body=msgspec.Raw(message.body))
