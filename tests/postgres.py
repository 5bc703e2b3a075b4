"""A private PostgreSQL for the tests: one server a test run, one fresh database a test, nothing left behind."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

# The server lives as long as this pipe: where the test run is killed, the shell reads its end and clears up.
KEEPER = """
"$0/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c fsync=off -c full_page_writes=off -c shared_buffers=16MB >"$1/log" 2>&1 &
read _
kill -INT $!
wait $!
cd /
rm -rf "$1"
"""
START_S = 60


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs: on PATH, as pg_config says, or where Debian keeps it."""
    named = [
        shutil.which("postgres"),
        *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), reverse=True),
    ]
    if shutil.which("pg_config"):
        said = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        named.insert(1, f"{said}/postgres")
    folders = [Path(name).resolve().parent for name in named if name]
    return next((folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a server on a unix socket and yield that socket's folder; skip where there is none to start, fail in CI."""
    found = binaries()
    if found is None:
        reason = (
            "no PostgreSQL programs (postgres, initdb) on PATH or in /usr/lib/postgresql; apt-get install postgresql"
        )
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    account = _account()
    folder = Path(
        tempfile.mkdtemp(prefix="edgelut-pg-", dir="/tmp")
    )  # short: a socket's path has at most 107 characters
    if account:
        os.chown(folder, account["user"], account["group"])
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", f"{_initdb()}\n{KEEPER}", str(found), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        **account,
    )
    try:
        _wait(keeper, folder)
        yield str(folder)
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait(START_S)
        shutil.rmtree(folder, ignore_errors=True)


def _initdb() -> str:
    return '"$0/initdb" -D "$1/data" -U edgelut -A trust -E UTF8 --locale=C --no-sync >"$1/log" 2>&1 || exit 1'


def _account() -> dict[str, Any]:
    """Return the user to run as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _wait(keeper: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(_url(str(folder), "postgres"), connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if keeper.poll() is not None or time.monotonic() > deadline:
                log = folder / "log"
                pytest.fail(f"PostgreSQL did not start: {log.read_text() if log.exists() else 'no log'}")
            time.sleep(0.05)


def _url(server: str, database: str) -> str:
    return f"postgresql://edgelut@/{database}?host={server}"


def _admin(server: str, statement: str) -> None:
    with psycopg.connect(_url(server, "postgres"), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]  # names of our own making


def new_database(server: str, template: str) -> str:
    """Make a database as a template is; return its name."""
    name = f"test_{uuid.uuid4().hex}"
    try:  # twice as fast as by the log, which is the default from 15 on
        _admin(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    except psycopg.errors.SyntaxError:  # before 15: there is no other way
        _admin(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Return the name of a database that has the schema."""
    from db.engine import create, upgrade

    try:  # order words as people do, which most servers do: ours must not depend on it
        name = new_database(postgres_server, "template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    except psycopg.Error:  # before 15, or built without ICU
        name = new_database(postgres_server, "template0")
    engine = create(_url(postgres_server, name))
    upgrade(engine)
    engine.dispose()
    return name


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """Yield the URL of a fresh database that has the schema."""
    name = new_database(postgres_server, postgres_template)
    yield _url(postgres_server, name)
    _admin(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """Yield the URL of a fresh database that has nothing."""
    name = new_database(postgres_server, "template0")
    yield _url(postgres_server, name)
    _admin(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
