"""Stores on both databases, closed when a test ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from db.engine import SqlStore, create, open_store, upgrade


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has the schema, and that no connection is open to."""
    file = tmp_path_factory.mktemp("template") / "edgelut.db"
    engine = create(f"sqlite:///{file}")
    upgrade(engine)
    engine.dispose()
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database that has the schema."""
    if request.param == "postgresql":
        server: str = request.getfixturevalue("postgres_url")
        return server
    template: Path = request.getfixturevalue("sqlite_template")
    return f"sqlite:///{shutil.copy(template, tmp_path / 'edgelut.db')}"


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


@pytest.fixture
def statements(store: SqlStore) -> Iterator[list[tuple[str, object]]]:
    """The statements that the store sends, with their parameters."""
    sent: list[tuple[str, object]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, _x: object, _many: bool) -> None:
        sent.append((statement, parameters))

    sa.event.listen(store.engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(store.engine, "before_cursor_execute", note)
