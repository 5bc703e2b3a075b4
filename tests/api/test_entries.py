from __future__ import annotations

from dataclasses import fields
from typing import Any

import httpx
import pytest

from api.bodies import EntryIn, LatencyIn, SpecIn, TargetIn
from db.store import SqlStore
from edgelut import wire
from edgelut.types import BlockSpec, Entry, Latency, Run, Target
from tests.api.support import OTHER, TARGET, entry, new_client, run
from tests.api.test_latency import problem


def test_entries_are_stored_and_each_told_whether_it_is_current(empty_client: httpx.Client) -> None:
    rows = [entry(224), entry(224, ms=2.0, doubts=("noisy",)), entry(224, target=OTHER)]
    response = empty_client.put("/entries", content=wire.encode(rows))
    assert response.json() == {"current": [True, False, True]}
    assert empty_client.put("/entries", content=wire.encode(rows)).json() == {"current": [True, False, True]}
    assert len(empty_client.get("/latency").json()["entries"]) == 2


def test_no_entries_are_stored_without_complaint(empty_client: httpx.Client) -> None:
    assert empty_client.put("/entries", content=b"[]").json() == {"current": []}


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("latency", {"p10_ns": -1}),
        ("latency", {"p10_ns": "fast"}),
        ("latency", {"load_ns": 2**63}),
        ("latency", {"clock": "sun"}),
        ("latency", {"doubts": ["x" * 2001]}),
        ("target", {"device": "a/b"}),
        ("target", {"threads": 0}),
        ("provenance", {"sweep": [1]}),
        ("provenance", {"x\u0000": 1}),
    ],
)
def test_a_bad_entry_is_refused_and_nothing_of_its_request_is_stored(
    client: httpx.Client, part: str, change: dict[str, Any]
) -> None:
    good, bad = wire.dump(entry(16)), wire.dump(entry(24))
    bad[part] = bad[part] | change
    problem(client.put("/entries", json=[good, bad]), 422, "invalid")
    problem(client.get("/latency?width=16"), 404, "no-match")


def test_an_unknown_entry_kind_is_refused(client: httpx.Client) -> None:
    problem(client.put("/entries", json=[wire.dump(entry(16)) | {"kind": "guessed"}]), 422, "invalid")


def test_an_entry_is_read_by_its_id(client: httpx.Client) -> None:
    row = client.get("/entries/2").json()
    assert row["id"] == 2
    assert wire.load(Entry, row) == entry(224, ms=1.5)


def test_a_history_is_oldest_first_by_id_and_by_spec(client: httpx.Client, filled: SqlStore) -> None:
    filled.put(entry(208, ms=3.0))
    by_id = client.get("/entries/1/history").json()["entries"]
    assert [row["latency"]["p10_ns"] for row in by_id] == [1e6, 3e6]
    asked = wire.encode({"spec": entry(208).spec, "target": TARGET})
    assert client.post("/history", content=asked).json()["entries"] == by_id


def test_a_history_of_what_was_never_stored_is_empty(client: httpx.Client) -> None:
    asked = wire.encode({"spec": entry(999).spec, "target": TARGET})
    assert client.post("/history", content=asked).json() == {"entries": []}


def test_the_runs_behind_an_entry_are_listed_and_read_with_every_sample(store: SqlStore) -> None:
    sweep = store.start_sweep("plan", {}).id
    row = entry(224, sweep=sweep)
    raw = [run(row, sweep, 0), run(row, sweep, 1)]
    store.put_runs(raw)
    store.put(row)
    with new_client(store) as client:
        listed = client.get("/entries/1/runs").json()["runs"]
        assert [one["round"] for one in listed] == [0, 1]
        assert listed[0]["samples"] == 2
        found = client.get(f"/runs/{listed[1]['id']}").json()
    assert found["id"] == listed[1]["id"]
    assert wire.load(Run, found["run"]) == raw[1]


@pytest.mark.parametrize("path", ["/entries/77", "/entries/77/history", "/entries/77/runs"])
def test_an_entry_that_is_not_there_is_a_404(client: httpx.Client, path: str) -> None:
    assert "77" in problem(client.get(path), 404, "no-such-entry")["detail"]


def test_a_run_that_is_not_there_is_a_404(client: httpx.Client) -> None:
    assert "/entries/{id}/runs" in problem(client.get("/runs/77"), 404, "no-such-run")["detail"]


@pytest.mark.parametrize("id_", ["0", "-1", "x", "99999999999999999999"])
def test_an_id_that_cannot_be_is_refused(client: httpx.Client, id_: str) -> None:
    problem(client.get(f"/entries/{id_}"), 422, "invalid")
    problem(client.get(f"/runs/{id_}"), 422, "invalid")


def test_a_request_takes_every_field_that_a_value_has() -> None:
    for taken, value in ((SpecIn, BlockSpec), (TargetIn, Target), (LatencyIn, Latency), (EntryIn, Entry)):
        assert set(taken.__struct_fields__) == {field.name for field in fields(value)}
