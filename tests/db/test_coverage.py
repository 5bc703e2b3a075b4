"""Coverage counts current rows and no others, on both databases."""

from __future__ import annotations

from db.engine import SqlStore
from edgelut.blocks import MB3D, MB4D
from edgelut.testing import make_entry
from edgelut.types import Target

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
