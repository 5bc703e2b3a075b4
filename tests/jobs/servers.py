"""A PostgreSQL of a test's own, which it may stop and start as it likes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgres import KEEPER, _account, _initdb, _url, _wait, binaries


class Server:
    """A server on a unix socket; it ends with the test run, however that ends (`tests.postgres.KEEPER`)."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self._programs = folder, programs
        self.url = _url(str(folder), "postgres")
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it has what it had."""
        keeper = KEEPER.replace('cd /\nrm -rf "$1"\n', "")  # what it holds outlives a stop
        first = "" if (self.folder / "data").exists() else _initdb()
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", f"{first}\n{keeper}", str(self._programs), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **_account(),
        )
        _wait(self._keeper, self.folder)

    def stop(self) -> None:
        """Stop it as its operator would: connections are cut."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(60)
            self._keeper = None


@contextmanager
def running_server() -> Iterator[Server]:
    """Yield a server that runs; skip where there is none to start, fail in CI."""
    programs = binaries()
    if programs is None:
        reason = (
            "no PostgreSQL programs (postgres, initdb) on PATH or in /usr/lib/postgresql; apt-get install postgresql"
        )
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="edgelut-pg-", dir="/tmp"))
    account = _account()
    if account:
        os.chown(folder, account["user"], account["group"])
    server = Server(folder, programs)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
