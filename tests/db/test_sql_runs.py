"""The runs in SQL pass the suite of every store of runs, on SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.engine import SqlStore
from db.samples import pack, unpack
from edgelut.errors import InvalidSpec, LatencyNotFound, StorageError
from edgelut.query import Query
from edgelut.runs import RunStore
from edgelut.testing import SPEC, TARGET, RunStoreContract, make_entry, make_run
from edgelut.types import Params


class TestSqlRuns(RunStoreContract):
    @pytest.fixture
    def make_store(self, make_store: Callable[[], SqlStore]) -> Callable[[], RunStore]:
        return make_store


def test_a_run_is_found_by_its_id_and_by_the_entry_made_of_it(store: SqlStore) -> None:
    sweep, other = store.start_sweep("plan", {}).id, store.start_sweep("another", {}).id
    store.put_runs([make_run(sweep, 0), make_run(sweep, 1), make_run(other, 2)])
    store.put(make_entry(provenance=Params({"sweep": sweep})))
    (row,) = store.search(Query()).rows
    found = store.runs_of(row.id)
    assert [run for _, run in found] == [make_run(sweep, 0), make_run(sweep, 1)]
    assert [store.get_run(id_) for id_, _ in found] == [run for _, run in found]


def test_an_entry_that_no_sweep_made_has_no_runs(store: SqlStore) -> None:
    store.put(make_entry(kind="predicted"))
    assert store.runs_of(store.search(Query()).rows[0].id) == []


@pytest.mark.parametrize("missing", [0, -1, 7, 2**63, 2**80])
def test_a_missing_id_is_not_found(store: SqlStore, missing: int) -> None:
    with pytest.raises(LatencyNotFound, match="no run"):
        store.get_run(missing)
    with pytest.raises(LatencyNotFound, match="no entry"):
        store.runs_of(missing)


def test_a_sweep_is_found_as_it_ended(store: SqlStore) -> None:
    sweep = store.start_sweep("plan", {"a": 1}).id
    store.finish_sweep(sweep, "done")
    found = store.find_sweep(sweep)
    assert found is not None and found.state == "done" and found.finished_at is not None
    assert found.finished_at >= found.started_at
    assert store.find_sweep("no") is None


def test_conditions_are_stored_once(store: SqlStore) -> None:
    sweep = store.start_sweep("plan", {}).id
    store.put_runs([make_run(sweep, number) for number in range(5)])
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM conditions").scalar() == 1


def test_a_time_without_a_zone_is_refused(store: SqlStore) -> None:
    sweep = store.start_sweep("plan", {}).id
    with pytest.raises(InvalidSpec, match="time zone"):
        store.put_runs([replace(make_run(sweep), started_at=datetime(2026, 1, 1))])
    assert store.sweep_runs(sweep) == []


KILLED = """
import os, signal, sys
from db.engine import open_store
from edgelut.testing import make_entry, make_run
store = open_store(sys.argv[1])
sweep = store.start_sweep("plan", {}).id
for round in range(3):
    store.put_runs([make_run(sweep, round)])
store.put(make_entry())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_put_survives_the_death_of_the_process(url: str, store: SqlStore) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, url], check=False, timeout=60).returncode == -9
    again = store.start_sweep("plan", {})
    assert store.sweep_runs(again.id) == [make_run(again.id, round) for round in range(3)]
    assert store.find(SPEC, TARGET) == make_entry()


@given(st.lists(st.integers()))
def test_samples_come_back_whatever_they_are(samples: list[int]) -> None:
    assert unpack(pack(samples)) == tuple(samples)


def test_samples_near_each_other_take_two_to_three_bytes() -> None:
    quiet = [5_000_000 + 7 * (number * 7919 % 1000) for number in range(300)]
    jittery = [5_000_000 + 211 * (number * 7919 % 1000) for number in range(300)]
    assert len(pack(quiet)) / 300 < 2.1
    assert len(pack(jittery)) / 300 < 3.1


@pytest.mark.parametrize("blob", [b"", b"\x02\x01", b"\x01\x80"])
def test_damaged_samples_are_a_storage_error(blob: bytes) -> None:
    with pytest.raises(StorageError):
        unpack(blob)
