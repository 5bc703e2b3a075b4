"""The table in SQL passes the suite of every table, on SQLite and PostgreSQL, and keeps its promises to many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context

import pytest
import sqlalchemy as sa

from db.engine import SqlStore, open_store
from edgelut.errors import InvalidSpec, LatencyNotFound
from edgelut.query import Query
from edgelut.table import LatencyTable
from edgelut.testing import SPEC, TARGET, TableContract, make_entry, widths
from edgelut.testing_sources import Hold, SourceContract
from edgelut.types import BlockSpec, Entry, Latency, Target


class TestSqlTable(TableContract):
    @pytest.fixture
    def make_table(self, make_store: Callable[[], SqlStore]) -> Callable[[], LatencyTable]:
        return make_store


class TestSearchedSqlTable(SourceContract):
    @pytest.fixture
    def hold(self, store: SqlStore) -> Hold:
        def filled(rows: Sequence[Entry]) -> SqlStore:
            store.put_many(rows)
            return store

        return filled


def put_in_a_process(url: str, who: int) -> None:
    """Put the same points as every other process, each with its own times."""
    with open_store(url) as store:
        for turn in range(5):
            store.put_many([make_entry(1e6 + 100 * who + turn, spec) for spec in widths(20)])


def test_two_processes_that_put_at_once_leave_one_current_row_a_point(url: str, store: SqlStore) -> None:
    context = get_context("spawn")
    workers = [context.Process(target=put_in_a_process, args=(url, who)) for who in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
        worker.close()
    one_each_with_all_history(store, puts=10)


def test_threads_of_one_store_may_put_at_once(store: SqlStore) -> None:
    def put(who: int) -> None:
        for turn in range(5):
            store.put_many([make_entry(1e6 + 100 * who + turn, spec) for spec in widths(20)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
    one_each_with_all_history(store, puts=20)


def one_each_with_all_history(store: SqlStore, puts: int) -> None:
    assert len(list(store.entries())) == 20
    for spec in widths(20):
        history = store.history(spec, TARGET)
        assert len(history) == puts
        assert store.get(spec, TARGET) == history[-1]


def test_the_database_refuses_a_second_current_row(store: SqlStore) -> None:
    store.put_many([make_entry(1.0), make_entry(2.0)])
    with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE entries SET current = (1 = 1)"))


def test_a_failed_put_leaves_not_even_a_spec(store: SqlStore) -> None:
    with pytest.raises(InvalidSpec, match="finite"):
        store.put_many([make_entry(1.0), Entry(SPEC, TARGET, Latency(1.0, float("nan"), 1.0, 1.0, 1.0, 1, 1))])
    with store.engine.connect() as connection:
        for table in ("specs", "targets", "entries", "block_values"):
            assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar() == 0
    assert store.blocks() == store.targets() == store.devices() == []


@pytest.mark.parametrize(
    "entry",
    [
        make_entry(spec=BlockSpec("MB4D", 2**31, 8, 7)),
        make_entry(spec=BlockSpec("a\0b", 8, 8, 7)),
        make_entry(target=Target("\ud800", "null")),
        make_entry(target=Target("null", "null", threads=2**70)),
    ],
    ids=["a width above 32 bits", "a NUL", "half a surrogate pair", "too many threads"],
)
def test_what_no_column_holds_is_an_invalid_spec(store: SqlStore, entry: Entry) -> None:
    with pytest.raises(InvalidSpec):
        store.put(entry)
    assert store.find(entry.spec, entry.target) is None


def test_an_iteration_that_is_left_gives_its_connection_back(store: SqlStore) -> None:
    store.put_many([make_entry(spec=spec) for spec in widths(3)])
    for _ in range(50):  # more than the pool has
        rows = store.entries()
        next(rows)
        rows.close()  # type: ignore[attr-defined]


def test_a_row_is_found_by_its_id_even_when_it_was_replaced(store: SqlStore) -> None:
    store.put(make_entry(1.0))
    (row,) = store.search(Query()).rows
    store.put(make_entry(2.0))
    assert store.get_row(row.id) == row
    for missing in (row.id + 99, 0, -1, 2**63, 2**80):
        with pytest.raises(LatencyNotFound, match="no entry"):
            store.get_row(missing)


def test_the_view_has_the_current_rows(store: SqlStore) -> None:
    store.put_many([make_entry(1e6), make_entry(2e6)])
    with store.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT block, width_in, device, ms FROM latency_table")).all()
    assert rows == [("MB4D", 96, "phone", 2.0)]


def test_the_view_has_no_milliseconds_for_what_counts_instructions(store: SqlStore) -> None:
    store.put_many(
        [make_entry(7.0, clock="instructions"), make_entry(1e6, target=replace(TARGET, unit="gpu"), ran_on="cpu")]
    )
    with store.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT ms, instructions, ran_on FROM latency_table ORDER BY id")).all()
    assert rows == [(None, 7.0, "cpu"), (1.0, None, "cpu")]


def test_times_of_creation_are_aware(store: SqlStore) -> None:
    from db.schema import entries

    store.put(make_entry())
    with store.engine.connect() as connection:
        assert connection.execute(sa.select(entries.c.created_at)).scalar_one().utcoffset() == timedelta(0)


def test_the_version_grows_with_what_is_stored_and_with_nothing_else(store: SqlStore) -> None:
    assert store.versions()["table"] == 0
    store.put(make_entry(1.0))
    before = store.versions()
    store.put(make_entry(1.0))
    assert store.versions() == before
    store.put(make_entry(2.0))
    assert int(store.versions()["table"]) > int(before["table"])
