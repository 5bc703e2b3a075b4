"""Searching gives the rows that a filter in memory gives, page by page, and reads no more than it must."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from db import search
from db.engine import SqlStore
from edgelut.blocks import EMBEDDING, MB3D, MB4D
from edgelut.errors import InvalidSpec
from edgelut.query import Query, Row, matches, search_entries
from edgelut.testing import make_entry, make_run
from edgelut.types import BlockSpec, Entry, Params, Target

PHONES = [Target(f"phone-{n}", runtime) for n in range(4) for runtime in ("onnxruntime-cpu", "coreml")]
LONELY = Target("Watch", "null", "int8", 2, "npu")
EMULATED, MAC = Target("emulated", "onnxruntime-native"), Target("mac", "coreml", unit="all")


def space() -> list[Entry]:
    """Rows of three kinds on eleven targets, with holes; some specs and one target have few."""
    specs = [MB3D.spec(w, 7, params={"expansion": e}) for w in range(208, 240, 8) for e in (3, 4)]
    specs += [MB4D.spec(w, r, params={"activation": a}) for w in (48, 96) for r in (14, 28) for a in ("gelu", "relu")]
    specs += [EMBEDDING.spec(w, 28, width_out=2 * w) for w in (48, 96)]
    points = [(spec, target) for spec in specs for target in PHONES]
    random.Random(0).shuffle(points)
    rows = [make_entry(1e6 + n, spec, target) for n, (spec, target) in enumerate(points[:-20])]
    counts = [make_entry(1e7, spec, EMULATED, clock="instructions") for spec in specs[:6]]
    split = [make_entry(1e6, spec, MAC, ran_on="ne+cpu" if n % 3 else "ne") for n, spec in enumerate(specs)]
    return [*rows, *counts, *split, make_entry(5.0, specs[0], LONELY), make_entry(6.0, specs[-1], LONELY)]


@pytest.fixture
def filled(store: SqlStore) -> SqlStore:
    store.put_many(space())
    return store


@pytest.fixture(params=["from rows", "from specs"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways through the tables, and steps small enough to take several."""
    monkeypatch.setattr(search, "FEW", -1 if request.param == "from specs" else 2000)
    monkeypatch.setattr(search, "PATIENCE", 4)
    monkeypatch.setattr(search, "FIRST", 2)
    monkeypatch.setattr(search, "MOST", 3)


def pages(store: SqlStore, query: Query) -> list[Row]:
    rows: list[Row] = []
    while True:
        page = store.search(query)
        assert len(page.rows) <= query.limit
        rows += page.rows
        if page.next_cursor is None:
            return rows
        assert len(page.rows) == query.limit
        query = replace(query, cursor=page.next_cursor)


QUERIES = {
    "everything": Query(),
    "a block and width": Query(block="MB3D", width=224),
    "a block in lower case": Query(block="mb4d"),
    "a width of any block": Query(width=96),
    "an output width": Query(width_out=192),
    "a resolution": Query(resolution=28),
    "a device in upper case": Query(device="PHONE-2"),
    "a device that has few rows": Query(device="watch"),
    "a whole target": Query(runtime="CoreML", precision="FP32", threads=1, unit="CPU", device="phone-0"),
    "a runtime and width": Query(runtime="coreml", width=216, batch=1),
    "a parameter": Query(params=Params({"expansion": 3})),
    "parameters and a block": Query(block="MB4D", params=Params({"activation": "relu", "pool": 3})),
    "few rows of a parameter": Query(device="watch", params=Params({"expansion": 3})),
    "a beginning of a number": Query(params=Params({"expansion": 30})),
    "rows that are emulated": Query(kind="emulated"),
    "times alone": Query(measure="time", block="MB3D"),
    "counts of a device that has none": Query(measure="instructions", device="phone-1"),
    "rows that ran on one unit": Query(require_unit="ne"),
    "rows that ran on two units": Query(require_unit="ne+cpu", width=96),
    "rows that ran on the target's own unit": Query(require_unit="cpu", runtime="coreml"),
    "rows that ran nowhere": Query(require_unit="dsp"),
    "a name of no block": Query(block="MB5D"),
    "a name of no device": Query(device="toaster"),
    "numbers that no column holds": Query(width=2**80),
    "a number below any": Query(threads=-1),
    "a NUL": Query(device="a\0b"),
    "half a surrogate pair": Query(block="\ud800"),
    "another's wildcard": Query(device="phone%", params=Params({"%": "_"})),
    "a quote": Query(block="MB3D'; DROP TABLE specs; --"),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_all_pages_together_are_what_a_filter_in_memory_gives(filled: SqlStore, limit: int) -> None:
    everything = list(filled.entries())
    for name, query in QUERIES.items():
        if limit == 1 and name in {"everything", "a block in lower case"}:
            continue  # hundreds of pages that show nothing new
        found = pages(filled, replace(query, limit=limit))
        assert len({row.id for row in found}) == len(found), name
        assert {row.entry for row in found} == {entry for entry in everything if matches(query, entry)}, name
        assert [place(row.entry.spec) for row in found] == sorted(place(row.entry.spec) for row in found), name


def test_a_first_page_counts_what_it_leaves_out_as_a_filter_in_memory_does(
    filled: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for query in (Query(require_unit="ne", limit=2), Query(require_unit="cpu", width=96), Query(require_unit="dsp")):
        expected = search_entries(filled.entries(), query).left_out
        assert filled.search(query).left_out == expected > 0
    monkeypatch.setattr(search, "MOST_LEFT_OUT", 3)
    assert filled.search(Query(require_unit="ne")).left_out == 3


def place(spec: BlockSpec) -> tuple[str, int, int, int, int]:
    return spec.kind, spec.width_in, spec.width_out, spec.resolution, spec.batch


def test_a_page_goes_on_after_rows_were_replaced_and_added(filled: SqlStore) -> None:
    first = filled.search(Query(limit=5))
    filled.put_many([make_entry(1.0, row.entry.spec, row.entry.target) for row in first.rows])
    filled.put(make_entry(1.0, MB3D.spec(8, 7)))
    rest = pages(filled, Query(limit=500, cursor=None))
    following = filled.search(Query(limit=5, cursor=first.next_cursor))
    assert following.rows == tuple(rest[6:11])


@pytest.mark.parametrize(
    "cursor", ["", "x", "ü", "e30", "bnVsbA", "WzFd", "WyJhIl0", "AAAA" * 1000, "W10\n", "\0", "\ud800", "[[" * 9000]
)
def test_a_bad_cursor_is_an_invalid_spec(filled: SqlStore, cursor: str) -> None:
    with pytest.raises(InvalidSpec, match="cursor"):
        filled.search(Query(cursor=cursor))


def test_a_cursor_of_another_query_is_an_invalid_spec(filled: SqlStore) -> None:
    cursor = filled.search(Query(block="MB3D", limit=1)).next_cursor
    assert cursor is not None and set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert filled.search(Query(block="MB3D", limit=2, cursor=cursor)).rows
    with pytest.raises(InvalidSpec, match="cursor of this query"):
        filled.search(Query(block="MB4D", limit=1, cursor=cursor))


def test_a_page_has_at_least_one_row(filled: SqlStore) -> None:
    with pytest.raises(InvalidSpec, match="at least one row"):
        filled.search(Query(limit=0))


@pytest.mark.usefixtures("way")
def test_the_nearest_widths_have_rows_for_the_rest_of_the_filter(filled: SqlStore) -> None:
    assert filled.nearest_widths(Query(block="mb3d", width=223)) == [224, 216, 232, 208]
    assert filled.nearest_widths(Query(block="MB3D", width=1)) == [208, 216, 224, 232]
    assert filled.nearest_widths(Query(block="MB3D", width=2**70)) == [232, 224, 216, 208]
    assert filled.nearest_widths(Query(block="MB3D", width=224)) == [216, 232, 208]
    assert filled.nearest_widths(Query(width=97)) == [96, 208, 48, 216, 224, 232]
    assert filled.nearest_widths(Query(width=97, device="watch")) == [96, 208]
    assert filled.nearest_widths(Query(width=97, measure="instructions")) == [208, 216, 224]
    assert filled.nearest_widths(Query(width=97, require_unit="dsp")) == []
    assert filled.nearest_widths(Query(width=97, resolution=14)) == [96, 48]
    assert filled.nearest_widths(Query(block="MB4D", width=97, params=Params({"expansion": 3}))) == []
    assert filled.nearest_widths(Query(width=97, device="toaster")) == []
    with pytest.raises(InvalidSpec, match="width"):
        filled.nearest_widths(Query())


def test_at_most_eight_widths_are_near(store: SqlStore) -> None:
    store.put_many([make_entry(spec=MB3D.spec(width, 7)) for width in range(8, 400, 8)])
    assert store.nearest_widths(Query(width=101)) == [104, 96, 112, 88, 120, 80, 128, 72]
    assert store.nearest_widths(Query(width=8)) == [16, 24, 32, 40, 48, 56, 64, 72]


def test_blocks_and_targets_are_those_that_have_rows(filled: SqlStore) -> None:
    sweep = filled.start_sweep("plan", {}).id
    filled.put_runs([make_run(sweep, spec=BlockSpec("unfinished", 1, 1, 1))])
    mb3d, mb4d, embedding = filled.blocks()
    assert (mb3d.kind, mb4d.kind, embedding.kind) == ("MB3D", "MB4D", "embedding")
    assert (mb3d.widths, mb3d.widths_out) == ((208, 216, 224, 232),) * 2
    assert (mb4d.resolutions, mb4d.batches) == ((14, 28), (1,))
    assert mb3d.params["expansion"] == (3, 4) and mb4d.params["activation"] == ("gelu", "relu")
    assert embedding.widths_out == (96, 192)
    assert set(filled.targets()) == {*PHONES, LONELY, EMULATED, MAC}
    assert filled.devices() == ["Watch", "emulated", "mac", "phone-0", "phone-1", "phone-2", "phone-3"]


USES: dict[str, Callable[[SqlStore], Any]] = {
    "latency?block=MB3D&width=224": lambda store: store.search(Query(block="MB3D", width=224)),
    "the page after": lambda store: store.search(
        Query(block="MB3D", cursor=store.search(Query(block="MB3D", limit=3)).next_cursor)
    ),
    "latency?device=": lambda store: store.search(Query(device="phone-1", limit=3)),
    "get_many": lambda store: store.get_many([MB3D.spec(224, 7, params={"expansion": 4})], PHONES[0]),
    "put": lambda store: store.put(make_entry(1.0, MB3D.spec(224, 7), PHONES[0])),
    "history": lambda store: store.history(MB3D.spec(224, 7), PHONES[0]),
    "row": lambda store: store.get_row(1),
    "nearest_widths": lambda store: store.nearest_widths(Query(block="MB3D", width=223, device="phone-1")),
    "blocks": lambda store: store.blocks(),
    "targets": lambda store: store.targets(),
    "versions": lambda store: store.versions(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_no_use_of_the_table_reads_all_rows(
    filled: SqlStore, statements: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, use: Callable[[SqlStore], Any]
) -> None:
    for few in (2000, -1):
        monkeypatch.setattr(search, "FEW", few)
        monkeypatch.setattr(search, "PATIENCE", 0)
        use(filled)
    sent = [one for one in dict.fromkeys((s, repr(p)) for s, p in statements) if one[0].startswith(("SELECT", "WITH"))]
    parameters = {(s, repr(p)): p for s, p in statements}
    with filled.engine.connect() as connection:
        if connection.dialect.name == "postgresql":  # at this size a scan is the cheapest: is there any other way?
            connection.execute(sa.text("SET enable_seqscan = off"))
        for one in sent:
            if "pg_advisory" in one[0]:
                continue
            plan = explained(connection, one[0], parameters[one])
            assert "SCAN entries" not in plan and "Seq Scan on entries" not in plan, f"{one[0]}\n{plan}"
            assert not ("SCAN specs" in plan and "INDEX" not in plan), f"{one[0]}\n{plan}"


def explained(connection: sa.Connection, statement: str, parameters: Any) -> str:
    sqlite = connection.dialect.name == "sqlite"
    rows = connection.exec_driver_sql(("EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN ") + statement, parameters).all()
    return "\n".join(str(row[-1]) for row in rows)
