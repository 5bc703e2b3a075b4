from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgelut import snapshot
from edgelut.errors import InvalidSpec, LatencyNotFound, SnapshotCorrupted, StorageError
from edgelut.query import Query
from edgelut.snapshot import Snapshot
from edgelut.table import MemoryTable
from edgelut.testing import SPEC, TARGET, entries, make_entry, same, widths
from edgelut.testing_sources import Hold, SourceContract
from edgelut.types import Entry, Params

ROWS = [make_entry(float(number + 1), spec) for number, spec in enumerate(widths(5))]


@pytest.fixture(params=["table.json", "table.json.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file to write, plain and compressed."""
    return tmp_path / str(request.param)


class TestSnapshot(SourceContract):
    @pytest.fixture
    def hold(self, path: Path) -> Hold:
        def frozen(rows: Sequence[Entry]) -> Snapshot:
            snapshot.write(path, rows)
            return Snapshot(path)

        return frozen


def test_a_snapshot_gives_back_every_row(path: Path) -> None:
    odd = make_entry(0.1, replace(SPEC, kind="Блок", params=Params({"large": 1e300, "tiny": 5e-324, "null": "\0"})))
    sha256 = snapshot.write(path, [*ROWS, odd], source="test")
    frozen = Snapshot(path)
    assert (len(frozen), frozen.source, frozen.sha256) == (6, "test", sha256)
    assert frozen.get_many([row.spec for row in ROWS], TARGET) == ROWS
    assert same(frozen.find(odd.spec, TARGET), odd)
    assert frozen.find(replace(SPEC, batch=9), TARGET) is None
    with pytest.raises(LatencyNotFound):
        frozen.get(SPEC, replace(TARGET, threads=2))
    assert len(list(frozen.entries())) == 6
    assert len(frozen.search(Query(block="mb4d", limit=2)).rows) == 2


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(put=st.lists(entries, max_size=4))
def test_any_rows_come_back_exactly(tmp_path: Path, put: list[Entry]) -> None:
    kept = list(MemoryTable(put).entries())
    snapshot.write(tmp_path / "any.json", kept)
    frozen = Snapshot(tmp_path / "any.json")
    assert all(same(frozen.find(entry.spec, entry.target), entry) for entry in kept)


def test_the_same_rows_are_the_same_bytes_but_for_the_time(path: Path) -> None:
    def written(rows: list[Entry]) -> str:
        snapshot.write(path, rows)
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        return re.sub(r'"created_at":"[^"]*"', "", text.decode())

    whole = replace(ROWS[0], latency=replace(ROWS[0].latency, p10_ns=1))  # an int, equal to the float
    assert written(ROWS) == written(ROWS[::-1]) == written([whole, *ROWS[1:]])
    assert written(ROWS) != written(ROWS[1:])


def test_an_empty_table_can_be_frozen(path: Path) -> None:
    snapshot.write(path, [])
    assert len(Snapshot(path)) == 0


def test_two_rows_for_one_spec_are_refused(path: Path) -> None:
    with pytest.raises(InvalidSpec, match="two rows"):
        snapshot.write(path, [ROWS[0], replace(ROWS[0], kind="predicted")])
    assert not path.exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot.write(path, ROWS)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        snapshot.write(path, ROWS[1:])
    assert len(Snapshot(path)) == 5
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_read_or_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        Snapshot(tmp_path / "none.json")
    with pytest.raises(StorageError, match="No such file"):
        snapshot.write(tmp_path / "none" / "x.json", ROWS)


def test_every_truncation_is_corruption(path: Path) -> None:
    snapshot.write(path, ROWS)
    content = path.read_bytes()
    for length in [*range(0, len(content), max(1, len(content) // 40)), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(SnapshotCorrupted):
            Snapshot(path)


def test_every_flipped_bit_of_the_rows_is_corruption(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    snapshot.write(path, ROWS[:2])
    content = path.read_bytes()
    start = content.index(b'"rows":') + 7
    for place in range(start, len(content) - 1, 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SnapshotCorrupted):
            Snapshot(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": "1"},
        {"sha256": "0" * 64},
        {"count": 9},
        {"rows": []},
        {"rows": {}},
        {"rows": [1]},
        {"source": 1},
    ],
)
def test_another_format_hash_count_or_content_is_corruption(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "table.json"
    snapshot.write(path, ROWS)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SnapshotCorrupted, match=r"table\.json"):
        Snapshot(path)


def test_a_row_whose_key_is_not_its_specs_is_corruption(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    snapshot.write(path, ROWS[:1])
    document = json.loads(path.read_text())
    document["rows"][0]["spec"]["key"] = "0" * 32
    rows = json.dumps(document["rows"], sort_keys=True, separators=(",", ":"))
    document["sha256"] = hashlib.sha256(rows.encode()).hexdigest()
    path.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))
    with pytest.raises(SnapshotCorrupted, match="keys"):
        Snapshot(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x1f\x8b", b"\xff", b"null", b'{"format":1}'])
def test_what_is_no_snapshot_is_corruption(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(SnapshotCorrupted):
        Snapshot(tmp_path / "x.json")
