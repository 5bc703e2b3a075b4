"""Who runs workflows: each process of the service has a name of its own, keeps it through a restart, and is seen to be alive.

A name is held by a lock that dies with its process: on SQLite a lock on a file beside the database, which the kernel frees; on
PostgreSQL an advisory lock of a connection, which the server frees. So no clock takes part, and no row has to be tidied up.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from db.connect import file_of
from edgelut.errors import InvalidSpec, StorageError

VARIABLE = "EDGELUT_EXECUTOR"
MOST = 64  # processes of one base name
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_log = logging.getLogger("edgelut.jobs")


class Executors(ABC):
    """Names of processes. `take` one at start, `keep` it now and then, `release` it at the end."""

    name: str = ""

    def take(self) -> str:
        """Take the first free name of base, base-2, base-3, ...: a restarted process finds its own. Raises StorageError."""
        base = self._base()
        for number in range(1, MOST + 1):
            name = base if number == 1 else f"{base}-{number}"
            if self._lock(name):
                self.name = name
                return name
        raise StorageError(f"{MOST} processes named {base} run on this database: give this one another {VARIABLE}")

    @abstractmethod
    def keep(self) -> None:
        """Take the name again where its lock was lost, as with a server that was restarted. Raises StorageError."""

    @abstractmethod
    def alive(self, names: Iterable[str]) -> set[str]:
        """Return those of the names that some process holds; raise StorageError."""

    @abstractmethod
    def release(self) -> None:
        """Give the name up. Idempotent."""

    @abstractmethod
    def _lock(self, name: str) -> bool:
        """Take a name's lock; say whether it was free."""

    def _base(self) -> str:
        named = os.environ.get(VARIABLE, "")
        if not named:
            return self._default()
        if not _NAME.fullmatch(named):
            raise InvalidSpec(
                f"{VARIABLE} must be up to 100 letters, digits, dots, dashes and underscores, not {named!r}"
            )
        return named

    @abstractmethod
    def _default(self) -> str:
        """Return the base name where none is given."""


class FileExecutors(Executors):
    """Names on a SQLite file: all processes are on this machine."""

    def __init__(self, database: Path) -> None:
        self._folder = database.parent / "locks"
        self._prefix = f"{database.name}.executor-"
        self._file: IO[bytes] | None = None

    def keep(self) -> None:
        """Do nothing: a file's lock lasts as long as its process."""

    def alive(self, names: Iterable[str]) -> set[str]:
        """Return the names whose files are locked."""
        return {name for name in names if name == self.name or self._is_locked(name)}

    def release(self) -> None:
        """Close the file, which frees it."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _lock(self, name: str) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / f"{self._prefix}{name}").open("ab")
        except OSError as error:
            raise StorageError(f"cannot write {self._folder}: {error.strerror}") from error
        for pause_s in (0.02, 0.1, 0.0):  # another process may be looking, which holds it for microseconds
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(pause_s)
            else:
                self._file = file
                return True
        file.close()
        return False

    def _is_locked(self, name: str) -> bool:
        try:
            with (self._folder / f"{self._prefix}{name}").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            raise StorageError(f"cannot read {self._folder}: {error.strerror}") from error
        return False

    def _default(self) -> str:
        return "embedded"


class ServerExecutors(Executors):
    """Names on a PostgreSQL database, each an advisory lock of a connection that is kept open."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    def keep(self) -> None:
        """Ask the server for a sign of life; where the connection is gone, connect and take the name again."""
        try:
            if self._connection is not None:
                self._connection.execute(sa.select(1))
                return
        except sa.exc.SQLAlchemyError:
            self.release()
        if self.name and not self._lock(self.name):
            _log.warning("another process runs as %s now: give each its own %s", self.name, VARIABLE)

    def alive(self, names: Iterable[str]) -> set[str]:
        """Return the names whose locks are held by any connection."""
        keys = {_key(name): name for name in names}
        locks = sa.text(
            "SELECT classid::bigint << 32 | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        try:
            with self._engine.connect() as connection:
                held = set(connection.execute(locks).scalars())
        except sa.exc.SQLAlchemyError as error:
            raise StorageError("the database did not say which executors live") from error
        return {name for key, name in keys.items() if key in held or name == self.name}

    def release(self) -> None:
        """Close the connection, which frees the name."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sa.exc.SQLAlchemyError):
                connection.close()

    def _lock(self, name: str) -> bool:
        try:
            connection = self._connection or self._connect()
            self._connection = connection
            taken = connection.execute(sa.select(sa.func.pg_try_advisory_lock(_key(name)))).scalar_one()
        except sa.exc.SQLAlchemyError as error:
            self.release()
            raise StorageError("the database did not say whether an executor's name is free") from error
        return bool(taken)

    def _connect(self) -> sa.Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # it is not the pool's any more
        # A host that loses its power says nothing: the server asks for itself, and frees the name within half a minute.
        for setting, value in (("idle", 10), ("interval", 5), ("count", 3)):
            connection.execute(sa.text(f"SET tcp_keepalives_{setting} = {value}"))
        return connection

    def _default(self) -> str:
        return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100] or "host"


def executors_on(engine: sa.Engine) -> Executors:
    """Return the names of the processes that share a database."""
    path = file_of(engine.url)
    return ServerExecutors(engine) if path is None else FileExecutors(path)


def _key(name: str) -> int:
    """Return an advisory lock's number for a name: 63 bits, of which ours are the only ones of this prefix."""
    return int.from_bytes(hashlib.sha256(f"edgelut executor {name}".encode()).digest()[:8], "big") >> 1
