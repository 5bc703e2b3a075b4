"""Coverage counts current rows and no others, on both databases."""

from __future__ import annotations

import pytest

from db.engine import SqlStore
from edgelut.blocks import MB3D, MB4D
from edgelut.coverage import COLUMNS
from edgelut.errors import InvalidSpec
from edgelut.testing import make_entry
from edgelut.types import Params, Target

HOST, PHONE = Target("host", "onnxruntime-cpu"), Target("phone", "coreml", "fp16", 1, "ne")


def test_current_rows_are_counted_by_target_and_kinds(store: SqlStore) -> None:
    assert store.coverage() == []
    twice = [make_entry(1e6, MB3D.spec(width, 7), HOST) for width in (208, 224)]
    store.put_many(
        [*twice, make_entry(2e6, MB4D.spec(48, 56), HOST, doubts=("noisy",)), make_entry(1e6, MB3D.spec(208, 7), PHONE)]
    )
    store.put_many([make_entry(3e6, MB3D.spec(208, 7), HOST)])
    found = [(str(one.target), one.block, one.kind, one.rows, one.doubtful) for one in store.coverage()]
    assert found == [
        (str(HOST), "MB3D", "measured", 2, 0),
        (str(HOST), "MB4D", "measured", 1, 1),
        (str(PHONE), "MB3D", "measured", 1, 0),
    ]
    assert store.coverage()[0].newest == max(one.newest for one in store.coverage())


def test_the_columns_of_a_target_are_its_current_rows_page_by_page(store: SqlStore) -> None:
    said = Params({"measured_at": "2026-01-02T03:04:05Z", "sweep": "s-1", "note": 'a "quoted" one'})
    rows = [make_entry(1e6 * n, MB3D.spec(208, n), HOST, provenance=said) for n in range(1, 6)]
    store.put_many([*rows, make_entry(9.0, MB3D.spec(208, 1), PHONE)])
    store.put_many([make_entry(7e6, MB3D.spec(208, 1), HOST, doubts=())])
    found: list[dict[str, object]] = []
    cursor = None
    while True:
        page = store.columns(HOST, 2, cursor)
        assert page.names == COLUMNS and page.target == HOST
        found += [dict(zip(page.names, values, strict=True)) for values in zip(*page.columns, strict=True)]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [(row["resolution"], row["p10_ns"]) for row in found] == [(1, 7e6), (2, 2e6), (3, 3e6), (4, 4e6), (5, 5e6)]
    for row in found:
        current = store.get_row(int(str(row["id"]))).entry
        assert row["params"] == current.spec.params.as_dict() and row["doubts"] == "; ".join(current.latency.doubts)
        for name in ("measured_at", "sweep"):
            assert row[name] == current.provenance.get(name, "")
        assert (row["block"], row["width_in"], row["low_ns"]) == ("MB3D", 208, current.latency.low_ns)


def test_a_target_without_rows_has_empty_columns_and_a_bad_cursor_is_refused(store: SqlStore) -> None:
    assert all(column == () for column in store.columns(HOST, 10).columns)
    with pytest.raises(InvalidSpec, match="no cursor"):
        store.columns(HOST, 10, "next")
