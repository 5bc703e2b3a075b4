"""A database is reached, brought up to date and found wanting, each in words that say what to do."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from dbos import run_dbos_database_migrations

import db.table
from db import connect, revisions
from db.engine import SqlStore, create, head_revision, open_store, require_current, shown, upgrade
from db.rows import entry_row
from db.schema import metadata
from edgelut.errors import StorageError
from edgelut.query import Query
from edgelut.testing import SPEC, TARGET, make_entry, make_run, widths
from edgelut.types import Entry, Params

FRESH = True  # tables are dropped here
SECRET = "geheim!"
CLOSED = "127.0.0.1:1"  # no server has port 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edgelut.db"


@pytest.fixture
def filled(file: Path) -> Iterator[SqlStore]:
    with open_store(f"sqlite:///{file}", migrate=True) as store:
        store.put(make_entry())
        yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, file: Path) -> str:
    """The URL of a database that has no tables."""
    server: str = (
        request.getfixturevalue("empty_postgres_url") if request.param == "postgresql" else f"sqlite:///{file}"
    )
    return server


def test_the_schema_of_the_migrations_is_the_schema_of_the_tables(empty_url: str) -> None:
    engine = create(empty_url)
    upgrade(engine)
    upgrade(engine)  # changes nothing
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        # Without the hook that leaves others' tables alone: what a migration has and the schema lacks is found too.
        found = compare_metadata(context, metadata)
        connection.execute(sa.text("CREATE TABLE somebody_elses (id INTEGER)"))
    assert found == []
    with connect.writing(engine) as connection:
        config = revisions.alembic_config()
        config.attributes["connection"] = connection
        command.check(config)
        command.downgrade(config, "base")
        command.upgrade(config, "head")
    require_current(engine)
    engine.dispose()


def test_the_job_engines_tables_share_the_database_and_are_left_alone(url: str) -> None:
    run_dbos_database_migrations(url.replace("postgresql://", "postgresql+psycopg://"))
    engine = create(url)
    schema = None if engine.dialect.name == "sqlite" else "dbos"
    theirs = set(sa.inspect(engine).get_table_names(schema)) - set(metadata.tables)
    assert "workflow_status" in theirs
    assert schema is None or not set(sa.inspect(engine).get_table_names()) - set(metadata.tables) - {"alembic_version"}
    with connect.writing(engine) as connection:
        config = revisions.alembic_config()
        config.attributes["connection"] = connection
        command.check(config)
        command.downgrade(config, "base")
        command.upgrade(config, "head")
        command.check(config)
    assert theirs <= set(sa.inspect(engine).get_table_names(schema)) and not theirs & set(metadata.tables)
    require_current(engine)
    engine.dispose()


def migrated_to(revision: str, url: str) -> sa.Engine:
    """The database as an older version left it."""
    engine = create(url)
    with connect.writing(engine) as connection:
        config = revisions.alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine


@pytest.fixture
def without_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are put as before revision 0003."""

    def row_before(entry: Entry) -> dict[str, object]:
        return {name: value for name, value in entry_row(entry).items() if name != "ran_on"}

    monkeypatch.setattr(db.table, "entry_row", row_before)


@pytest.mark.usefixtures("without_placement")
def test_what_an_older_version_stored_is_kept_by_the_upgrade(empty_url: str) -> None:
    old = SqlStore(migrated_to("0001", empty_url))  # its tables of rows and runs are as they were
    sweep = old.start_sweep("plan", {}).id
    old.put_runs([make_run(sweep)])
    old.put_many([make_entry(1.0), make_entry(2.0)])
    with pytest.raises(StorageError, match="is at revision 0001, this version needs 0004"):
        open_store(empty_url)
    old.close()
    with open_store(empty_url, migrate=True) as store:
        assert store.get(SPEC, TARGET) == make_entry(2.0) and len(store.history(SPEC, TARGET)) == 2
        assert store.sweep_runs(sweep) == [make_run(sweep)]
        assert store.jobs() == store.agents() == store.tokens() == store.marks() == []


@pytest.mark.usefixtures("without_placement")
def test_where_older_rows_ran_is_filled_in_and_a_downgrade_takes_it_back(empty_url: str) -> None:
    put = [
        make_entry(spec=widths(4)[0], target=replace(TARGET, unit="CPU")),
        make_entry(spec=widths(4)[1], target=replace(TARGET, unit="gpu"), ran_on="NE+cpu"),
        make_entry(spec=widths(4)[2], target=replace(TARGET, unit="all")),
        make_entry(spec=widths(4)[3], target=replace(TARGET, unit="cpu-little"), provenance=Params({"said": "ran_on"})),
    ]
    old = SqlStore(migrated_to("0002", empty_url))
    old.put_many(put)
    old.close()
    with open_store(empty_url, migrate=True) as store:
        with store.engine.connect() as connection:
            listed = connection.execute(sa.text("SELECT ran_on, ms, instructions FROM latency_table ORDER BY id")).all()
        assert listed == [("cpu", 1.0, None), ("ne+cpu", 1.0, None), (None, 1.0, None), ("cpu", 1.0, None)]
        found = [row.entry for row in store.search(Query(require_unit="cpu")).rows]
        assert found == [put[0], put[3]] == [entry for entry in put if entry.ran_on == "cpu"]
        with connect.writing(store.engine) as connection:
            config = revisions.alembic_config()
            config.attributes["connection"] = connection
            command.downgrade(config, "0002")
            names = {column["name"] for column in sa.inspect(connection).get_columns("entries")}
            assert "ran_on" not in names
            assert connection.execute(sa.text("SELECT count(ms) FROM latency_table")).scalar() == 4
        assert {entry.spec for entry in store.entries()} == {entry.spec for entry in put}


def test_a_database_without_tables_is_refused_and_nothing_is_created(empty_url: str, file: Path) -> None:
    with pytest.raises(StorageError, match="run `edgelut db upgrade`"):
        open_store(empty_url)
    assert not file.exists()
    with open_store(empty_url, migrate=True) as store:
        assert list(store.entries()) == []


def test_a_file_without_tables_is_refused(file: Path) -> None:
    sqlite3.connect(file).close()
    with pytest.raises(StorageError, match="no EdgeLUT tables yet: run `edgelut db upgrade`"):
        open_store(f"sqlite:///{file}")


@pytest.mark.parametrize("migrate", [False, True])
def test_a_revision_that_is_not_known_is_of_a_newer_version(url: str, migrate: bool) -> None:
    engine = create(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StorageError, match=r"newer one.*run `edgelut db upgrade`"):
        open_store(url, migrate=migrate)


def test_two_processes_may_upgrade_at_once(empty_url: str) -> None:
    script = "import sys; from db.engine import open_store; open_store(sys.argv[1], migrate=True).close()"
    both = [subprocess.Popen([sys.executable, "-c", script, empty_url]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    open_store(empty_url).close()


def test_a_new_file_that_another_process_is_writing_is_waited_for(file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE somebody_elses (id INTEGER)")
    done = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    done.start()
    open_store(f"sqlite:///{file}", migrate=True).close()
    done.join()
    other.close()


def test_a_folder_is_created_for_the_file(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'a' / '100% ü' / 'edgelut.db'}", migrate=True).close()
    assert (tmp_path / "a" / "100% ü" / "edgelut.db").exists()


def test_the_command_line_works_from_any_directory(tmp_path: Path) -> None:
    environment = {**os.environ, "EDGELUT_HOME": str(tmp_path / "home"), "EDGELUT_DATABASE_URL": ""}

    def edgelut_db(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", "from db.cli import app; app()", *arguments]
        return subprocess.run(
            argv, env={**environment, **more}, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    failed = edgelut_db("check")
    assert failed.returncode == 1 and "run `edgelut db upgrade`" in failed.stderr and "Traceback" not in failed.stderr
    assert edgelut_db("upgrade").stdout.endswith(f"edgelut.db is at revision {head_revision()}\n")
    assert edgelut_db("check").returncode == 0
    assert edgelut_db("path").stdout == f"sqlite:///{tmp_path}/home/edgelut.db\n"
    url = f"postgresql://me:{SECRET}@{CLOSED}/edgelut"
    assert edgelut_db("path", EDGELUT_DATABASE_URL=url).stdout == f"postgresql+psycopg://me:***@{CLOSED}/edgelut\n"
    refused = edgelut_db("upgrade", "--url", url)
    assert refused.returncode == 1 and SECRET not in refused.stdout + refused.stderr


def test_alembic_itself_works_with_the_configured_database(file: Path, tmp_path: Path) -> None:
    ini = revisions.MIGRATIONS.parent / "alembic.ini"
    environment = {**os.environ, "EDGELUT_DATABASE_URL": f"sqlite:///{file}"}
    for arguments in (["upgrade", "head"], ["check"]):
        argv = [sys.executable, "-m", "alembic", "-c", str(ini), *arguments]
        done = subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    open_store(f"sqlite:///{file}").close()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@{CLOSED}/edgelut",
        f"postgresql://{CLOSED}/edgelut?user=me&password={SECRET}",
        f"postgresql://me:{SECRET}@host:{SECRET}/edgelut",
        f"postgresql://me:{SECRET}@{CLOSED}/edgelut?no_such_option=1",
        f"mysql://me:{SECRET}@host/edgelut",
        f"me:{SECRET}@host",
    ],
)
def test_the_password_shows_in_no_error_and_no_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StorageError) as caught:
        open_store(url, migrate=True)
    said = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert SECRET not in said
    assert "database" in str(caught.value)


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert shown("postgres://me:a%40b@host/name?password=c") == "postgresql+psycopg://me:***@host/name"


def test_a_server_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1/edgelut.*is the server running"):
        open_store(f"postgresql://me@{CLOSED}/edgelut")


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT_S", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(StorageError, match="timeout"):
            open_store(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/edgelut")


def test_a_database_that_the_server_lacks_is_named(postgres_server: str) -> None:
    with pytest.raises(StorageError, match="does not exist; create the database"):
        open_store(f"postgresql://edgelut@/nothing?host={postgres_server}")


def test_a_lost_connection_is_replaced(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        store.put(make_entry())
        with open_store(postgres_url) as other, other.engine.begin() as connection:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            connection.execute(sa.text(end))
        assert store.get(SPEC, TARGET) == make_entry()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "", "nonsense", "mysql://host/name", "sqlite:"])
def test_a_url_of_nothing_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(StorageError, match=r"expected sqlite:////path/file\.db or postgresql://"):
        create(url)


def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.write_text("my notes, " * 200)
    for migrate in (False, True):
        with pytest.raises(StorageError, match="not an SQLite database"):
            open_store(f"sqlite:///{file}", migrate=migrate)
    assert file.read_text() == "my notes, " * 200


def test_a_damaged_file_is_named(filled: SqlStore, file: Path) -> None:
    filled.put_many([make_entry(spec=spec) for spec in widths(500)])
    filled.close()
    whole = file.read_bytes()
    page = 4096
    file.write_bytes(whole[: 2 * page] + b"\xff" * (len(whole) - 2 * page))
    with (
        pytest.raises(StorageError, match=r"edgelut\.db.*(damaged|malformed)"),
        open_store(f"sqlite:///{file}") as store,
    ):
        list(store.entries())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create the folder"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'edgelut.db'}", migrate=True)
    (tmp_path / "edgelut.db").mkdir()
    with pytest.raises(StorageError, match="unable to open"):
        open_store(f"sqlite:///{tmp_path / 'edgelut.db'}", migrate=True)


def test_a_file_that_cannot_be_written_is_named_and_can_be_read(filled: SqlStore, file: Path) -> None:
    with connect.writing(filled.engine) as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")  # as root may write to any file, whatever its mode
    with pytest.raises(StorageError, match=r"edgelut\.db.*cannot be written"):
        filled.put_many([make_entry(2.0), make_entry(3.0)])
    assert list(filled.entries()) == [make_entry()]


def test_a_full_disk_is_named_and_nothing_stored_is_lost(filled: SqlStore, file: Path) -> None:
    sweep = filled.start_sweep("plan", {}).id
    filled.put_runs([make_run(sweep)])
    with connect.writing(filled.engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")  # SQLite's own way to a full disk
    with pytest.raises(StorageError, match=r"no space is left.*kept"):
        filled.put_many([make_entry(spec=spec) for spec in widths(2000)])
    with pytest.raises(StorageError, match=r"no space is left.*kept"):
        filled.put_runs([make_run(sweep, round) for round in range(500)])
    with open_store(f"sqlite:///{file}") as again:
        assert list(again.entries()) == [make_entry()]
        assert again.sweep_runs(sweep) == [make_run(sweep)]
        assert again.put(make_entry(2.0))


def test_a_writer_that_never_ends_is_not_waited_for_for_ever(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_S", 1)
    with open_store(url) as store, open_store(url) as other:
        store.put(make_entry())
        with connect.writing(other.engine):
            assert store.get(SPEC, TARGET) == make_entry()  # readers do not wait
            with pytest.raises(StorageError, match="another process has been writing"):
                store.put(make_entry(2.0))
        assert store.put(make_entry(3.0))


def test_tables_that_went_missing_are_a_storage_error(url: str) -> None:
    with open_store(url) as store:
        with connect.writing(store.engine) as connection:
            connection.execute(sa.text("DROP VIEW latency_table"))
            connection.execute(sa.text("DROP TABLE points"))
            connection.execute(sa.text("DROP TABLE entries"))
        with pytest.raises(StorageError, match="run `edgelut db upgrade`"):
            store.put(make_entry())


def test_each_sqlite_connection_keeps_what_it_promises(filled: SqlStore) -> None:
    with connect.reading(filled.engine) as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys")
        }
        assert said == {"journal_mode": "wal", "foreign_keys": 1}
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


def test_an_old_revision_is_upgraded_from_the_command_line_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions, "head_revision", lambda: "0005")
    with pytest.raises(StorageError, match="is at revision 0004, this version needs 0005: run `edgelut db upgrade`"):
        open_store(url)
