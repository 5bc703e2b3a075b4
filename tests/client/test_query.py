"""Filters and pages over rows in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelut import MB3D, MB4D, Entry, InvalidSpec, MemoryTable, Params, Query, Target
from edgelut.blocks import EMBEDDING
from edgelut.query import search_entries
from edgelut.testing import entries, make_entry

PHONE, HOST = Target("Pixel", "coreml-mil", "fp16", 2, "gpu"), Target("host", "onnxruntime-cpu")
ROWS = [
    make_entry(spec=spec, target=target)
    for spec in (
        MB4D.spec(96, 28),
        MB4D.spec(96, 28, batch=2),
        MB4D.spec(112, 28, params={"expansion": 3}),
        MB3D.spec(448, 7),
        EMBEDDING.spec(48, 56, width_out=96),
    )
    for target in (PHONE, HOST)
]


def found(query: Query, rows: list[Entry] = ROWS) -> list[Entry]:
    return [row.entry for row in search_entries(rows, query).rows]


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        ({}, 10),
        ({"block": "MB4D"}, 6),
        ({"block": "mb4d"}, 6),
        ({"block": "MB"}, 0),
        ({"width": 96}, 4),
        ({"width_out": 96}, 6),
        ({"resolution": 7}, 2),
        ({"batch": 2}, 2),
        ({"batch": 1, "width": 96}, 2),
        ({"device": "pixel"}, 5),
        ({"runtime": "COREML-MIL"}, 5),
        ({"precision": "fp16"}, 5),
        ({"threads": 2}, 5),
        ({"threads": 1}, 5),
        ({"unit": "GPU"}, 5),
        ({"params": Params({"expansion": 3})}, 2),
        ({"params": Params({"expansion": 4.0})}, 6),
        ({"params": Params({"expansion": 4, "heads": 8})}, 2),
        ({"params": Params({"nothing": 1})}, 0),
    ],
)
def test_a_filter_gives_what_matches_all_of_it(asked: dict[str, Any], number: int) -> None:
    assert len(found(Query(**asked))) == number


def test_rows_come_ordered_whatever_order_they_are_held_in() -> None:
    order = [(e.spec.kind, e.spec.width_in, e.spec.batch) for e in found(Query(device="host"))]
    assert order == [("MB3D", 448, 1), ("MB4D", 96, 1), ("MB4D", 96, 2), ("MB4D", 112, 1), ("embedding", 48, 1)]
    assert found(Query()) == found(Query(), ROWS[::-1])


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
def test_pages_give_every_row_once_and_the_last_has_no_cursor(limit: int) -> None:
    query, got, pages = Query(limit=limit), [], 0
    while True:
        page = search_entries(ROWS, query)
        assert 0 < len(page.rows) <= limit
        got += [row.entry for row in page.rows]
        pages += 1
        if page.next_cursor is None:
            break
        query = replace(query, cursor=page.next_cursor)
    assert got == found(Query()) and pages == -(-len(ROWS) // limit)


def test_ids_are_the_same_under_every_filter() -> None:
    all_ids = {row.entry: row.id for row in search_entries(ROWS, Query()).rows}
    assert len(set(all_ids.values())) == len(ROWS)
    for row in search_entries(ROWS, Query(block="MB4D", limit=2)).rows:
        assert all_ids[row.entry] == row.id


def test_nothing_matching_is_an_empty_page() -> None:
    page = search_entries([], Query())
    assert page.rows == () and page.next_cursor is None
    assert search_entries(ROWS, Query(cursor="99")).rows == ()


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "", " 1", "٣"])
def test_a_cursor_of_another_table_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidSpec, match="is no cursor"):
        search_entries(ROWS, Query(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_has_at_least_one_row(limit: int) -> None:
    with pytest.raises(InvalidSpec, match="at least one row"):
        search_entries(ROWS, Query(limit=limit))


def test_a_table_in_memory_searches_its_current_rows() -> None:
    table = MemoryTable([make_entry(1.0), make_entry(2.0)])
    assert [row.entry.latency.p10_ns for row in table.search(Query()).rows] == [2.0]


@given(st.lists(entries, max_size=5), st.integers(1, 6))
def test_any_row_is_found_by_its_own_values(rows: list[Entry], limit: int) -> None:
    for entry in rows:
        spec, target = entry.spec, entry.target
        query = Query(spec.kind, spec.width_in, spec.width_out, spec.resolution, spec.batch, params=spec.params)
        query = replace(query, device=target.device, runtime=target.runtime, threads=target.threads, limit=limit)
        assert entry in found(replace(query, limit=99), rows)
        assert len(found(query, rows)) <= limit
