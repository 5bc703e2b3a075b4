"""Stores on both databases, engines that are ended, and processes that are killed when a test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.engine import SqlStore, create, open_store, upgrade


def new_file(folder: Path) -> str:
    """Return the URL of a fresh SQLite file that has the schema."""
    file = f"sqlite:///{folder / 'edgelut.db'}"
    engine = create(file)
    upgrade(engine)
    engine.dispose()
    return file


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGELUT_EXECUTOR", "DBOS__CLOUD", "DBOS__VMID", "DBOS__APPVERSION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database that has the schema."""
    if request.param == "postgresql":
        server: str = request.getfixturevalue("postgres_url")
        return server
    return new_file(tmp_path)


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
