"""How a database is reached: the engine with its settings, and transactions whose failures are StorageError."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc

from edgelut.errors import EdgelutError, InvalidSpec, StorageError

BUSY_TIMEOUT_S = 30  # how long a writer waits for another
CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 60
UPGRADE = "run `edgelut db upgrade`"
_WRITER_LOCK = 0x6564676C7574  # any number of our own ("edglut") for PostgreSQL's advisory lock


class Database:
    """What the table and the runs are kept in. Safe for threads; `close` it, or use it in a `with` block."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @property
    def url(self) -> str:
        """The URL, without its password."""
        return shown(self.engine.url)

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create(url: str) -> sa.Engine:
    """Return an engine for SQLite (`sqlite:////path/file.db`) or PostgreSQL (`postgresql://user:password@host/name`).

    Connects to nothing yet. Raises StorageError for any other URL.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    options = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={BUSY_TIMEOUT_S}s -c timezone=UTC"
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": options,
        "application_name": "edgelut",
    }
    for named in parsed.query:  # the URL's own settings win
        arguments.pop(named, None)
    return sa.create_engine(
        parsed, pool_pre_ping=True, pool_size=5, max_overflow=15, hide_parameters=True, connect_args=arguments
    )


def shown(url: str | sa.URL) -> str:
    """Return a URL that may be printed: without its password, and without its query, which may hold one too."""
    return _parse(url).set(query={}).render_as_string(hide_password=True)


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection in a transaction that sees one state of the database; failures are StorageError."""
    with _translated(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # SQLite's transactions see one state as they are
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection in a transaction that is the only writing one, and commit it; failures are StorageError.

    Writers take turns on both databases (BEGIN IMMEDIATE; an advisory lock), so what a writer has read stays true until it
    commits, and no two can deadlock. A turn is milliseconds; who waits longer than BUSY_TIMEOUT_S gets a StorageError.
    """
    with _translated(engine), engine.execution_options(edgelut_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER_LOCK)))
        yield connection


def _parse(url: str | sa.URL) -> sa.URL:
    """Return a URL with its driver; raise StorageError, which does not repeat the URL (it may hold a password)."""
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError):
        raise StorageError(_expected("cannot be read")) from None
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StorageError(_expected(f"names {backend!r}"))
    if parsed.database in (None, "", ":memory:"):
        raise StorageError(_expected("names no file"))
    return parsed.set(drivername="sqlite")


def _expected(what: str) -> str:
    return f"the database URL {what}; expected sqlite:////path/file.db or postgresql://user:password@host:5432/name"


def file_of(url: sa.URL) -> Path | None:
    """Return the SQLite file of a URL, or None."""
    return Path(url.database).absolute() if url.get_backend_name() == "sqlite" and url.database else None


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=5, max_overflow=15, hide_parameters=True
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin late, and never for a read or for DDL
        try:
            _switch_to_wal(connection)
            # In WAL, NORMAL keeps every commit through the death of the process (kill -9): the pages are the kernel's by
            # then. Only a power cut can take the last commits, and it cannot damage the file; FULL would add a disk flush
            # to every round, beside what is being timed.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A deferred transaction that turns writer cannot wait for another's commit: SQLite fails it at once.
        writes = connection.get_execution_options().get("edgelut_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode, in which it stays.

    While another process does the same to a new file, SQLite says at once that it is locked, and does not wait as it does
    everywhere else.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def _translated(engine: sa.Engine) -> Iterator[None]:
    """Turn what the drivers raise into StorageError that says what to do, or InvalidSpec for a value that no column holds."""
    try:
        yield
    except exc.StatementError as error:
        if isinstance(error.orig, EdgelutError):  # a column type's own refusal
            raise error.orig from None
        if isinstance(error, exc.DataError):
            raise InvalidSpec(f"the database cannot hold that value: {_first_line(error)}") from error
        raise StorageError(_explain(engine.url, error)) from error
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidSpec(f"the database cannot hold that value: {_first_line(error)}") from error
    except (exc.SQLAlchemyError, sqlite3.Error, psycopg.Error) as error:
        raise StorageError(_explain(engine.url, error)) from error


def _first_line(error: BaseException) -> str:
    origin = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    return (str(origin).strip() or type(origin).__name__).splitlines()[0]


_SQLITE_HINTS = {
    "not a database": "it is not an SQLite database: name another file in EDGELUT_DATABASE_URL",
    "malformed": "the file is damaged: restore it from a backup, or save what is left with `sqlite3 FILE .recover`",
    "unable to open": "the folder is missing or cannot be written",
    "readonly": "the file or its folder cannot be written by this user",
    "read-only": "the file or its folder cannot be written by this user",
    "is full": "no space is left on the disk; what was stored before is kept: free some space and run again",
    "disk i/o error": "the disk failed or is full; what was stored before is kept",
    "is locked": f"another process has been writing for more than {BUSY_TIMEOUT_S} s: end it, or try again",
    "no such": UPGRADE,
}
_POSTGRES_HINTS = {
    "lock timeout": f"another process has been writing for more than {BUSY_TIMEOUT_S} s: end it, or try again",
    "statement timeout": f"the statement took more than {STATEMENT_TIMEOUT_S} s",
    "no space left": "the server's disk is full; what was stored before is kept: free some space and run again",
    "could not extend": "the server's disk is full; what was stored before is kept: free some space and run again",
    "does not exist": f"create the database, or {UPGRADE}",
    "password authentication": "check the user and the password in EDGELUT_DATABASE_URL",
    "connection": "is the server running, and reachable from here?",
    "connect": "is the server running, and reachable from here?",
}


def _explain(url: sa.URL, error: BaseException) -> str:
    """Return what failed, where, and what to do."""
    said = _first_line(error)
    path = file_of(url)
    hints = _POSTGRES_HINTS if path is None else _SQLITE_HINTS
    if path is not None and path.exists() and not os.access(path, os.R_OK | os.W_OK):
        hints = {"": "the file cannot be read and written by this user"}
    hint = next((hint for part, hint in hints.items() if part in said.lower()), "")
    message = f"the database {shown(url) if path is None else path}: {said}" + (f"; {hint}" if hint else "")
    return message.replace(url.password, "***") if url.password else message
