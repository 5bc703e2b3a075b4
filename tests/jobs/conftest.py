"""Stores on both databases, engines that are ended, and processes that are killed when a test ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db.engine import SqlStore, open_store
from jobs.engine import Engine
from jobs.service import Jobs
from tests.jobs.nursery import Nursery
from tests.jobs.support import TinyAgent


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that has the schema and DBOS's tables: making them takes DBOS a second."""
    path = tmp_path_factory.mktemp("prepared") / "edgelut.db"
    store = open_store(f"sqlite:///{path}", migrate=True)
    engine = Engine(store)
    engine.start()
    engine.stop()
    store.close()
    return path


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.engine.MESSAGE_POLL_S", 0.05)
    monkeypatch.setattr("jobs.engine.POLL_S", 0.05)
    for name in ("EDGELUT_EXECUTOR", "DBOS__CLOUD", "DBOS__VMID", "DBOS__APPVERSION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, prepared: Path) -> str:
    """The URL of a fresh database that has the schema: SQLite, or what `tests.jobs.support.BOTH` asks for."""
    if getattr(request, "param", "sqlite") == "postgresql":
        server: str = request.getfixturevalue("postgres_url")
        return server
    shutil.copy(prepared, tmp_path / "edgelut.db")
    return f"sqlite:///{tmp_path / 'edgelut.db'}"


@pytest.fixture
def make_store(url: str) -> Iterator[Callable[[], SqlStore]]:
    """What opens the database as another process would: with connections of its own."""
    opened: list[SqlStore] = []

    def open_one() -> SqlStore:
        opened.append(open_store(url))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(make_store: Callable[[], SqlStore]) -> SqlStore:
    """An empty store."""
    return make_store()


MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(store: SqlStore) -> Iterator[MakeEngine]:
    """What makes an engine that looks often; DBOS is one in a process, so the last one is stopped when the test ends."""
    made: list[Engine] = []

    def one(**options: Any) -> Engine:
        made.append(Engine(options.pop("store", store), **{"check_s": 0.2, **options}))
        return made[-1]

    yield one
    for engine in made:
        engine.stop()


@pytest.fixture
def jobs(store: SqlStore) -> Jobs:
    """A facade that tells no engine: what is closed is closed by the engine alone."""
    return Jobs(store)


@pytest.fixture
def agent(jobs: Jobs) -> TinyAgent:
    agent = TinyAgent(jobs)
    agent.announce()
    return agent


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """What starts processes that can be killed; none of them outlives the test."""
    with Nursery() as nursery:
        yield nursery
