"""The table in memory answers what SQL answers, whatever is stored and asked, and whoever writes meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import asked, bodies, image
from api.asked import AskedBefore
from api.image import Image, Images, following
from db.engine import open_store
from db.store import SqlStore
from edgelut import MB3D, wire
from edgelut.errors import InvalidSpec
from edgelut.placement import placed
from edgelut.query import Query
from edgelut.testing import TARGET as PHONE
from edgelut.testing import latencies
from edgelut.types import BlockSpec, Entry, Params, Target
from tests.api.support import OTHER, TARGET, entry, new_client, new_store

_widths = st.sampled_from((8, 16))
_provenances = st.sampled_from(({}, {"ran_on": "NE+CPU", "é\n": 1e-7}, {"ran_on": ""}, {"ran_on": 3, "n": 2**62}))
_params = st.sampled_from(({}, {"expansion": 3}, {"expansion": "3"}, {"expansion": 4.5, "K\u212a": '"ü'}))
_kinds = st.sampled_from(("MB3D", "mb3d", "Блок", "\u212aind", "kind"))
_specs = st.builds(BlockSpec, _kinds, _widths, _widths, _widths, st.sampled_from((1, 2)), _params.map(Params))
_targets = st.builds(
    Target,
    st.sampled_from(("host", "Host", "ПК")),
    st.just("null"),
    st.sampled_from(("fp32", "FP32")),
    st.sampled_from((1, 2)),
    st.sampled_from(("cpu", "all", "GPU")),
)
_rows = st.builds(
    Entry, _specs, _targets, latencies, st.sampled_from(("emulated", "predicted")), _provenances.map(Params)
)
_queries = st.builds(
    Query,
    block=st.sampled_from(("MB3D", "kind", "Блок", "блок", "\u212aind", None)),
    width=st.none() | _widths,
    width_out=st.none() | _widths,
    resolution=st.none() | _widths,
    batch=st.none() | st.sampled_from((1, 2, 2**31)),
    device=st.none() | st.sampled_from(("HOST", "пк", "none")),
    precision=st.none() | st.just("fp32"),
    threads=st.none() | st.just(2),
    unit=st.none() | st.sampled_from(("CPU", "gpu")),
    params=_params.map(Params),
    limit=st.sampled_from((1, 2, 100)),
    kind=st.none() | st.just("predicted"),
    measure=st.none() | st.sampled_from(("time", "instructions")),
    require_unit=st.none() | st.just("cpu"),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(puts=st.lists(st.lists(_rows, max_size=8), max_size=3), queries=st.lists(_queries, min_size=5, max_size=20))
def test_any_table_in_memory_answers_as_sql_does(
    tmp_path_factory: pytest.TempPathFactory, puts: list[list[Entry]], queries: list[Query]
) -> None:
    with new_store(tmp_path_factory.mktemp("any")) as store:
        held = Image(0)
        for put in puts:
            store.put_many(put)
            held = following(held, store.current_since(held.newest, 100, held.specs.keys(), held.targets.keys()))
        current = list(store.entries())
        assert len(held) == len(current)
        for query in [*queries, *(Query(row.spec.kind, row.spec.width_in, params=row.spec.params) for row in current)]:
            page, expected = held.page(query), store.search(query)
            if page is not None:
                assert json.loads(page) == json.loads(wire.encode(bodies.page_out(expected)))
                assert wire.decode(bodies.PageOut, page).entries == bodies.page_out(expected).entries
        for target in {row.target for row in current}:
            specs = [row.spec for row in current] + [BlockSpec("none", 8, 8, 8)]
            for unit in (None, "cpu", "ne+cpu"):
                found, left_out = held.entries([spec.key for spec in specs], target.key, unit)
                rows = store.find_many(specs, target)
                assert wire.decode(list[Entry | None], b"[%b]" % b",".join(found)) == placed(rows, unit)
                assert left_out == placed(rows, unit).count(None) - rows.count(None)


def test_the_common_question_is_answered_from_memory_and_others_from_sql(filled: SqlStore) -> None:
    held = following(Image(0), filled.current_since(0, 100))
    assert json.loads(held.page(Query("mb3d", 224)) or b"")["entries"][0]["latency_ms"] == 1.5
    assert held.page(Query("MB3D", 224, resolution=7, device="HOST", params=Params({"expansion": 4}))) is not None
    several = Query("MB3D", 224, limit=1)
    for query in (Query("MB3D"), Query(width=224), several, Query("MB3D", 225), Query("MB3D", 224, require_unit="cpu")):
        assert held.page(query) is None
    assert held.page(replace(several, limit=9, cursor="x")) is None


def test_a_lookup_that_goes_through_many_points_is_left_to_sql(
    filled: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = following(Image(0), filled.current_since(0, 100))
    monkeypatch.setattr(image, "MOST_POINTS", 3)
    assert held.page(Query("MB3D", 224)) is None
    assert held.page(Query("MB3D", 224, device="host")) is not None


def p10s(client: httpx.Client, rows: Sequence[Entry], target: Target = TARGET) -> list[float | None]:
    """The rows' latencies by a batch, after those by look-ups were found to be the same."""
    batch = client.post("/latency/batch", content=wire.encode({"specs": [row.spec for row in rows], "target": target}))
    found = [row and row["latency"]["p10_ns"] for row in batch.raise_for_status().json()["entries"]]
    for row, p10 in zip(rows, found, strict=True):
        single = client.get(f"/latency?block=MB3D&width={row.spec.width_in}&resolution=7&device={target.device}")
        assert [one["latency"]["p10_ns"] for one in single.json().get("entries", ())] == ([] if p10 is None else [p10])
    return found


@pytest.mark.parametrize("form", ["in memory", "read behind", "too many new", "too large"])
def test_what_another_process_puts_is_in_the_very_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(image, "AT_ONCE", 2_000 if form == "in memory" else 1)
    monkeypatch.setattr(image, "MOST_NEW", 1 if form == "too many new" else 20_000)
    monkeypatch.setattr(image, "MOST_ROWS", 3 if form == "too large" else 200_000)
    rows = [entry(width) for width in range(8, 88, 8)]
    with (
        new_store(tmp_path) as store,
        open_store(store.engine.url.render_as_string()) as another,
        new_client(store) as client,
    ):
        assert p10s(client, rows[:2]) == [None, None]
        for turn in range(1, 6):
            another.put_many([replace_p10(row, turn * 10.0) for row in rows[: 2 * turn]])
            assert p10s(client, rows) == [turn * 10.0] * 2 * turn + [None] * (10 - 2 * turn)
            another.put_mark(f"m{turn}")  # a write that changes no row
            assert p10s(client, rows[:1]) == [turn * 10.0]
        another.put(entry(8, target=OTHER))
        assert p10s(client, rows[:2], OTHER) == [1e6, None]


def replace_p10(row: Entry, p10: float, **changes: Any) -> Entry:
    return replace(row, latency=replace(row.latency, p10_ns=p10, **changes))


def test_a_doubtful_row_replaces_no_stable_one_in_memory_either(client: httpx.Client, filled: SqlStore) -> None:
    row = entry(208)
    filled.put(replace_p10(row, 7.0, doubts=("noisy",)))
    assert p10s(client, [row]) == [1e6]
    filled.put(replace_p10(row, 8.0))
    assert p10s(client, [row]) == [8.0]


def test_answers_while_others_write_are_never_older_than_what_was_stored_before(tmp_path: Path) -> None:
    row = entry(208)
    with new_store(tmp_path) as store, open_store(store.engine.url.render_as_string()) as another:
        stored = 0.0

        def write() -> None:
            nonlocal stored
            for turn in range(1, 60):
                another.put(replace_p10(row, float(turn)))
                stored = float(turn)

        with new_client(store) as client, ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not writing.done():
                least = stored
                (found,) = p10_of_batch(client, row)
                assert (found or 0.0) >= least
            writing.result()
            assert p10_of_batch(client, row) == [59.0] == p10s(client, [row])


def p10_of_batch(client: httpx.Client, row: Entry) -> list[float | None]:
    batch = client.post("/latency/batch", content=wire.encode({"specs": [row.spec], "target": row.target}))
    return [found and found["latency"]["p10_ns"] for found in batch.raise_for_status().json()["entries"]]


def test_a_wrong_key_is_refused_however_often_the_spec_was_asked(client: httpx.Client) -> None:
    spec, other = wire.dump(entry(208).spec), wire.dump(entry(224).spec)
    right = {"specs": [spec], "target": wire.dump(TARGET)}
    wrong = {"specs": [spec | {"key": other["key"]}], "target": wire.dump(TARGET)}
    strange = {"specs": [spec], "target": wire.dump(TARGET) | {"key": "0" * 32}}
    for _ in range(3):
        assert client.post("/latency/batch", json=right).json()["entries"][0]["spec"] == spec
        assert client.post("/latency/batch", json=wrong).status_code == 422
        assert client.post("/latency/batch", json=strange).status_code == 422


def test_the_same_bytes_are_read_once_and_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MOST_BYTES", 1000)
    before = AskedBefore()
    for width in range(8, 400, 8):
        body = wire.encode({"specs": [MB3D.spec(width, 7)] * 2, "target": PHONE})
        found = before.read(body, {})
        assert found is not None and found.keys == [MB3D.spec(width, 7).key] * 2 and found.target_key == PHONE.key
        assert before._bytes <= 2000 and len(before._keys) < 10
    monkeypatch.setattr("api.asked.SpecIn", None)
    assert before.read(body, {}) == found
    for changed in ({"at": "2026-01-01T00:00:00Z"}, {"mark": "m"}, {"other": 1}, {"specs": None}, {"target": {}}):
        assert before.read(wire.encode({"specs": [], "target": PHONE, **changed}), {}) is None


def test_specs_of_the_table_in_our_clients_words_are_not_read_at_all(
    filled: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = following(Image(0), filled.current_since(0, 100))
    monkeypatch.setattr("api.asked.SpecIn", None)
    specs = [entry(208).spec, entry(240).spec, entry(208).spec]
    found = AskedBefore().read(wire.encode({"specs": specs, "target": TARGET}), held.keys)
    assert found is not None and found.keys == [spec.key for spec in specs]


def test_a_table_that_outgrows_memory_is_answered_by_sql(filled: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "MOST_ROWS", 6)

    async def call(function: Any, *given: Any) -> Any:
        return function(*given)

    async def play() -> None:
        images = Images(filled, call)
        assert await images.read() == 5 and images.image is not None and len(images.image) == 5
        filled.put(entry(400))
        assert await images.read() == 6 and len(images.image) == 6
        filled.put(entry(408))
        assert await images.read() == 7 and images.image is None
        for _ in range(5):
            await asyncio.sleep(0)
        assert await images.read() == 7 and images.image is None and not images.waiting

    asyncio.run(play())


def test_a_unit_that_is_no_name_is_refused(client: httpx.Client) -> None:
    body = {"specs": [wire.dump(entry(208).spec)], "target": wire.dump(TARGET), "require_unit": "\x01"}
    assert client.post("/latency/batch", json=body).status_code == 422
    with pytest.raises(InvalidSpec):
        placed([], "\x01")
