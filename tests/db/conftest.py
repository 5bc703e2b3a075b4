"""Stores on both databases, closed when a test ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from db.engine import SqlStore, create, open_store, upgrade
from db.schema import metadata
from tests.postgres import new_database


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has the schema, and that no connection is open to."""
    file = tmp_path_factory.mktemp("template") / "edgelut.db"
    engine = create(f"sqlite:///{file}")
    upgrade(engine)
    engine.dispose()
    return file


EMPTY = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
RESTART = "SELECT setval(seqrelid::regclass, 1, false) FROM pg_sequence"


@pytest.fixture(scope="session")
def spare_databases() -> list[str]:
    """URLs of PostgreSQL databases that are as good as new: to make one takes longer than most tests."""
    return []


@pytest.fixture
def emptied_postgres_url(postgres_server: str, postgres_template: str, spare_databases: list[str]) -> Iterator[str]:
    """Yield the URL of a database that has the schema and nothing in it, and empty it after the test."""
    if not spare_databases:
        name = new_database(postgres_server, postgres_template)
        spare_databases.append(f"postgresql://edgelut@/{name}?host={postgres_server}")
    url = spare_databases.pop()
    yield url
    with psycopg.connect(url, options="-c lock_timeout=5s") as connection:
        connection.execute(EMPTY)  # type: ignore[arg-type]  # our own tables' names
        connection.execute(RESTART)
    spare_databases.append(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that has the schema and nothing in it; of a new one where the module says FRESH."""
    if request.param == "postgresql":
        fresh = getattr(request.module, "FRESH", False)
        server: str = request.getfixturevalue("postgres_url" if fresh else "emptied_postgres_url")
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
