"""Over REST: counts of instructions are no milliseconds, and no row is served as if it ran elsewhere than it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from db.store import SqlStore
from edgelut import Entry, Params, Target, wire
from edgelut.blocks import MB3D
from edgelut.testing import make_entry, make_run
from tests.api.support import new_client
from tests.api.test_latency import problem
from tests.client.test_compose import ABC, A, B, C, row

MAC, PHONE = Target("mac", "coreml", "fp16", unit="all"), Target("android:emulated-1", "onnxruntime-native")
SPEC, OTHER = MB3D.spec(224, 7), MB3D.spec(208, 7)
ON_NE, SPLIT = make_entry(1e6, SPEC, MAC, ran_on="ne"), make_entry(2e6, OTHER, MAC, ran_on="ne+cpu")
COUNT = make_entry(12_345_678.0, SPEC, PHONE, clock="instructions")


@pytest.fixture
def client(store: SqlStore) -> Iterator[httpx.Client]:
    """A client of a service with rows of a Mac and of an emulated phone."""
    store.put_many([ON_NE, SPLIT, COUNT])
    with new_client(store) as opened:
        yield opened


def found(client: httpx.Client, **asked: str | int) -> Any:
    return client.get("/latency", params=asked).raise_for_status().json()


def test_a_count_is_answered_as_instructions_and_has_no_milliseconds(client: httpx.Client) -> None:
    (count,) = found(client, measure="instructions")["entries"]
    assert (count["measure"], count["instructions"], count["latency_ms"]) == ("instructions", 12_345_678, None)
    assert count["interval"] == [COUNT.latency.low_ns, COUNT.latency.high_ns]
    assert (count["kind"], count["latency"]["clock"], count["ran_on"]) == ("emulated", "instructions", "cpu")
    assert wire.load(Entry, count) == client_of(client, count["id"]) == COUNT
    times = found(client, measure="time")["entries"]
    assert [(row["latency_ms"], row["instructions"], row["measure"]) for row in times] == [
        (2.0, None, "time"),
        (1.0, None, "time"),
    ]
    assert times[1]["interval"] == [0.99, 1.01]


def client_of(client: httpx.Client, id_: int) -> Entry:
    return wire.load(Entry, client.get(f"/entries/{id_}").raise_for_status().json())


def test_rows_are_filtered_by_kind_and_a_kind_that_is_none_is_refused(client: httpx.Client) -> None:
    assert [row["kind"] for row in found(client, kind="emulated")["entries"]] == ["emulated"]
    assert "measured, interpolated" in problem(client.get("/latency?kind=guessed"), 422, "invalid")["detail"]
    assert "time, instructions" in problem(client.get("/latency?measure=joules"), 422, "invalid")["detail"]
    near = problem(client.get("/latency?device=mac&kind=emulated"), 404, "no-match")["nearest"]
    assert near == {"device": ["android:emulated-1"]}
    near = problem(client.get("/latency?runtime=coreml&device=mac&measure=instructions"), 404, "no-match")["nearest"]
    assert near == {"measure": ["time"]}


def test_a_row_that_ran_elsewhere_is_refused_with_what_it_ran_on(client: httpx.Client) -> None:
    asked = "/latency?block=MB3D&width=208&device=mac&require_unit=ne"
    told = problem(client.get(asked), 404, "other-unit")
    assert told["known"] == ["ne+cpu"] and "ran on ne+cpu, not on ne alone: require ne+cpu" in told["detail"]
    for unit in ("ne+cpu", "ne%2Bcpu", "NE%20cpu"):  # a bare + in a query string is a space
        assert client.get(asked.replace("=ne", f"={unit}")).json()["entries"][0]["ran_on"] == "ne+cpu"
    problem(client.get("/latency?width=209&require_unit=ne"), 404, "no-match")  # nothing there, wherever it ran
    problem(client.get("/latency?require_unit="), 422, "invalid")


def test_a_search_leaves_rows_out_and_says_how_many(client: httpx.Client) -> None:
    page = found(client, require_unit="ne")
    assert [row["spec"]["width_in"] for row in page["entries"]] == [224] and page["left_out"] == 2
    assert found(client, require_unit="cpu", device="android:emulated-1")["left_out"] == 0
    assert found(client)["left_out"] == 0


def test_a_batch_answers_null_for_rows_that_ran_elsewhere_and_counts_them(client: httpx.Client) -> None:
    specs = [wire.dump(spec) for spec in (SPEC, OTHER, MB3D.spec(8, 7))]
    asked = {"specs": specs, "target": wire.dump(MAC)}
    answer = client.post("/latency/batch", json={**asked, "require_unit": "ne"}).raise_for_status().json()
    assert [row and row["spec"]["width_in"] for row in answer["entries"]] == [224, None, None]
    assert answer["left_out"] == 1
    assert client.post("/latency/batch", json=asked).json()["left_out"] == 0
    problem(client.post("/latency/batch", json={**asked, "require_unit": ""}), 422, "invalid")


def test_a_network_is_summed_of_rows_that_ran_where_they_must(store: SqlStore) -> None:
    def on(unit: str, one: Entry) -> Entry:
        return replace(one, provenance=Params({**one.provenance, "ran_on": unit}))

    target = replace(MAC, precision="fp32")
    store.put_many([on(unit, row(spec, target=target)) for unit, spec in (("ne", A), ("ne", B), ("cpu", C))])
    with new_client(store) as client:
        asked = {"blocks": [wire.dump(block) for block in ABC.blocks], "target": wire.dump(target)}
        assert "1 on cpu" in client.post("/networks/latency", json=asked).raise_for_status().json()["doubts"][-1]
        for align in (False, True):
            refused = client.post("/networks/latency", json={**asked, "require_unit": "ne", "align": align})
            assert problem(refused, 404, "other-unit")["known"] == ["cpu"]
        asked["blocks"] = asked["blocks"][:2]
        assert client.post("/networks/latency", json={**asked, "require_unit": "ne"}).json()["latency_ms"] > 0


def test_a_count_is_in_no_sum_and_never_stored_as_measured(client: httpx.Client) -> None:
    asked = {"blocks": [wire.dump(SPEC)], "target": wire.dump(PHONE)}
    said = problem(client.post("/networks/latency", json=asked), 422, "invalid")["detail"]
    assert "never added to milliseconds" in said
    wrong = {**wire.dump(COUNT), "kind": "measured"}
    assert "emulated, not measured" in problem(client.put("/entries", json=[wrong]), 422, "invalid")["detail"]


def test_a_run_says_what_its_samples_are(store: SqlStore) -> None:
    sweep = store.start_sweep("plan", {}).id
    counted = Params({"clock": "instructions"})
    store.put_runs(
        [make_run(sweep, 0, facts=counted, target=PHONE, spec=SPEC), make_run(sweep, 0, target=MAC, spec=SPEC)]
    )
    of_sweep = Params({"sweep": sweep})
    store.put_many([replace(COUNT, provenance=of_sweep), replace(ON_NE, provenance=of_sweep)])
    with new_client(store) as client:
        measures = [client.get(f"/entries/{id_}/runs").json()["runs"][0]["measure"] for id_ in (1, 2)]
    assert measures == ["instructions", "time"]
