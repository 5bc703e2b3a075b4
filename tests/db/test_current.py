"""What became current since is all that a reader needs to have the table as it is, on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.engine import SqlStore
from edgelut import wire
from edgelut.testing import TARGET, make_entry, widths
from edgelut.types import Entry
from tests.api.support import new_client

SPECS = widths(4)
_puts = st.lists(
    st.lists(
        st.builds(
            make_entry, st.integers(1, 9).map(float), st.sampled_from(SPECS), doubts=st.sampled_from(((), ("noisy",)))
        ),
        max_size=4,
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(puts=_puts)
def test_what_is_new_put_in_its_place_gives_the_current_rows(store: SqlStore, puts: list[list[Entry]]) -> None:
    held: dict[str, float] = {}
    specs: dict[int, str] = {}
    newest = 0
    for put in [[], *puts]:
        store.put_many(put)
        new = store.current_since(newest, 100, specs.keys())
        assert new.rows is not None and not specs.keys() & {spec.id for spec in new.specs}
        specs.update((spec.id, spec.key) for spec in new.specs)
        for _, spec_id, _, kind, provenance, p10, *_ in new.rows:
            assert (kind, json.loads(provenance)) == ("measured", {})
            held[specs[spec_id]] = p10
        newest = new.newest
        assert held == {entry.spec.key: entry.latency.p10_ns for entry in store.entries()}
        assert newest == store.versions()["table"]


def test_more_than_was_asked_for_is_said_and_not_read(store: SqlStore) -> None:
    assert store.current_since(0, 3) == (0, (), (), ())
    store.put_many([make_entry(spec=spec) for spec in SPECS])
    assert store.current_since(0, 3).rows is None
    found = store.current_since(0, 4)
    assert found.rows is not None and len(found.rows) == len(found.specs) == 4
    assert [target[2:] for target in found.targets] == [tuple(TARGET.as_json().values())]
    assert store.current_since(found.newest, 0).rows == ()


def test_a_tick_is_another_one_after_anybodys_commit_where_there_is_one(make_store: Callable[[], SqlStore]) -> None:
    store, another = make_store(), make_store()
    before = store.tick()
    if store.engine.dialect.name == "postgresql":
        assert before is None
        return
    assert before is not None and store.tick() == before
    another.put(make_entry())
    between = store.tick()
    assert between not in (None, before) and store.tick() == between
    store.put_mark("own")
    assert store.tick() not in (None, between)
    store.close()
    assert store.tick() is not None  # it opens again, as the store does


def test_a_database_that_is_gone_has_no_tick(tmp_path: Path, make_store: Callable[[], SqlStore]) -> None:
    store = make_store()
    if store.engine.dialect.name == "postgresql":
        pytest.skip("a tick is SQLite's")
    (tmp_path / "edgelut.db").rename(tmp_path / "elsewhere.db")
    assert store.tick() is None
    assert not (tmp_path / "edgelut.db").exists()


def test_a_service_over_either_database_answers_what_another_process_put(make_store: Callable[[], SqlStore]) -> None:
    store, another = make_store(), make_store()
    row = make_entry(7.0)
    asked = wire.encode({"specs": [row.spec], "target": row.target})
    with new_client(store) as client:
        for p10 in (7.0, 8.0, 9.0):
            another.put(make_entry(p10))
            single = client.get("/latency?block=MB4D&width=96").json()["entries"]
            batch = client.post("/latency/batch", content=asked).json()["entries"]
            assert [one["latency"]["p10_ns"] for one in (*single, *batch)] == [p10, p10]
