"""A PostgreSQL as the compose file's `db` is: on TCP, with a password."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.composed import SECRET, Server, free_port
from tests.postgres import _account, binaries


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Start a server with user, password and database of the compose file, as its image does."""
    request.getfixturevalue("postgres_server")  # skips or fails with a reason where there are no binaries
    programs = binaries()
    assert programs is not None
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="edgelut-compose-", dir="/tmp"))
    (folder / "secret").write_text(SECRET)
    if account:
        for path in (folder, folder / "secret"):
            shutil.chown(path, account["user"], account["group"])
    data, port = folder / "data", free_port()

    def run(name: str, *words: str) -> None:
        subprocess.run([programs / name, *words], check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60, **account)

    run("initdb", "-D", str(data), "-U", "edgelut", "-A", "scram-sha-256", f"--pwfile={folder / 'secret'}", "--no-sync")
    settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"
    run("pg_ctl", "-D", str(data), "-o", settings, "-l", str(folder / "log"), "-w", "start")
    try:
        environment = {"PGPASSWORD": SECRET, "PATH": "/usr/bin:/bin"}
        create = [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "edgelut", "edgelut"]
        subprocess.run(create, check=True, env=environment, timeout=60)
        yield Server(port, programs)
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)
