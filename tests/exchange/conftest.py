"""Places to import into: memory, an SQLite file, a service over a socket; and the command line with a data folder of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from db.store import SqlStore
from edgelut import cli
from edgelut.http import HttpTable
from edgelut.table import LatencyTable, MemoryTable
from tests.api.support import new_store, served

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """An empty SQLite database."""
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def service(store: SqlStore) -> Iterator[str]:
    """The address of a service over that database."""
    with served(create_app(store)) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "service"])
def table(request: pytest.FixtureRequest) -> Iterator[LatencyTable]:
    """An empty table of each kind."""
    with ExitStack() as stack:
        if request.param == "memory":
            yield MemoryTable()
        elif request.param == "sqlite":
            yield request.getfixturevalue("store")
        else:
            yield stack.enter_context(HttpTable(request.getfixturevalue("service")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    """The data folder's own database, empty."""
    for name in ("EDGELUT_DATABASE_URL", "EDGELUT_URL", "EDGELUT_TOKEN", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGELUT_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def edgelut(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run a command in this process."""

    def run(*argv: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["edgelut", *argv])
        monkeypatch.setattr(cli.app, "registered_groups", [])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run
