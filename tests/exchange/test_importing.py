"""A file into a table of each kind: checked first, put all or none, and never mixed with rows of somebody else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.settings import Settings
from db.store import SqlStore
from edgelut.check import check
from edgelut.errors import EdgelutError, InvalidSpec, ServiceError, StorageError
from edgelut.exchange import Asked, Import, load, open_table, plan, plausible, store
from edgelut.exchange.importing import PART
from edgelut.http import PUT_LIMIT, HttpTable
from edgelut.snapshot import write
from edgelut.table import LatencyTable, MemoryTable
from edgelut.testing import make_entry, widths
from edgelut.types import Entry, Params, Target
from tests.api.support import served
from tests.exchange.conftest import DATA

PIXEL = Target("pixel4", "tflite-cpu")
MS = Asked("pixel4", "tflite-cpu", values_in="ms")
FILE = DATA / "nn_meter_pixel4_v3.json"


def planned(table: LatencyTable, path: Path = FILE, name: str = "nn-meter", asked: Asked = MS, **more: Any) -> Import:
    return plan(path, name, load(name), asked, table, **more)


def rewritten(folder: Path, change: Any) -> Path:
    """A copy of the file with other content."""
    rows = json.loads(FILE.read_text())
    changed = folder / "changed.json"
    changed.write_text(json.dumps(change(rows)))
    return changed


def test_a_file_is_put_whole_and_says_who_measured(table: LatencyTable) -> None:
    found = planned(table, source="https://example.org/lut@9c31e190")
    assert (found.rows, len(found.entries), found.unchanged, found.replaced, found.doubtful) == (40, 40, 0, 0, 0)
    assert list(table.entries()) == []  # nothing is written by looking
    assert store(table, found) == 40
    row = table.get(found.entries[0].spec, PIXEL)
    assert row == found.entries[0] and len(list(table.entries())) == 40
    said = dict(row.provenance)
    assert said.pop("imported_at").startswith("20")
    assert said == {
        "publisher": "microsoft/nn-Meter",
        "source": "https://example.org/lut@9c31e190",
        "format": "nn-meter",
        "file": FILE.name,
        "file_sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
        "statistic": "one value",
        "values_in": "ms",
    }
    assert row.latency.doubts[0].startswith("published by microsoft/nn-Meter: one value, no interval is known")


def test_importing_again_writes_nothing(table: LatencyTable) -> None:
    store(table, planned(table))
    again = planned(table)
    assert (again.entries, again.unchanged, again.replaced) == ((), 40, 0)
    assert store(table, again) == 0
    spec = next(table.entries()).spec
    assert len(table.history(spec, PIXEL)) == 1


def test_a_newer_file_of_the_same_publisher_takes_the_place_of_the_older(table: LatencyTable, tmp_path: Path) -> None:
    store(table, planned(table))
    key = "firstconv_128_3_16_2_3"
    newer = planned(table, rewritten(tmp_path, lambda rows: {key: rows[key] * 1.1}))
    assert (newer.rows, newer.replaced) == (1, 1)
    assert store(table, newer) == 1
    assert table.get(newer.entries[0].spec, PIXEL) == newer.entries[0]


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_unit_in_which_no_device_computes_so_is_refused_and_nothing_is_written(
    table: LatencyTable, unit: str
) -> None:
    with pytest.raises(
        InvalidSpec, match=f"{FILE.name}: read in {unit}, the median row .* in ms they would be possible"
    ):
        planned(table, asked=replace(MS, values_in=unit))
    assert list(table.entries()) == []


def test_an_impossible_unit_is_taken_where_the_user_insists() -> None:
    found = planned(MemoryTable(), asked=replace(MS, values_in="s"), implausible=True)
    assert found.macs_per_s is not None and found.macs_per_s < plausible.SLOWEST


@pytest.mark.parametrize("file", ["nn_meter_pixel4_v3.json", "ofa_note10_224.yaml", "proxylessnas_mobile_trim.yaml"])
def test_every_published_table_is_possible_in_milliseconds_alone(file: str) -> None:
    name = {"n": "nn-meter", "o": "ofa", "p": "proxylessnas"}[file[0]]
    possible = []
    for unit in ("ns", "us", "ms", "s"):
        try:
            planned(MemoryTable(), DATA / file, name, replace(MS, values_in=unit))
        except InvalidSpec:
            continue
        possible.append(unit)
    assert possible == ["ms"]


def test_the_bound_grows_with_threads_and_with_other_units() -> None:
    asked = replace(MS, values_in="us")
    assert planned(MemoryTable(), asked=replace(asked, threads=64)).rows == 40
    assert planned(MemoryTable(), asked=replace(asked, unit="npu")).rows == 40


def test_a_row_in_another_unit_than_its_file_says_so_among_its_doubts(tmp_path: Path) -> None:
    key = "conv_64_16_16_1_1_hard_swish_5_nose"
    path = rewritten(tmp_path, lambda rows: {**rows, key: rows[key] / 1000})  # seconds among milliseconds
    found = planned(MemoryTable(), path)
    assert found.doubtful == 1
    (row,) = [row for row in found.entries if len(row.latency.doubts) > 1]
    assert "times the median of its file: is it in another unit?" in row.latency.doubts[-1]
    assert load("nn-meter").key(row.spec) == key  # type: ignore[attr-defined]


def test_a_device_that_has_rows_of_our_own_is_refused_unless_told(table: LatencyTable) -> None:
    ours = make_entry(target=replace(PIXEL, runtime="onnxruntime-native"))
    table.put(ours)
    with pytest.raises(
        InvalidSpec, match=r"the device 'pixel4' that microsoft/nn-Meter did not publish.*--beside-others"
    ):
        planned(table)
    with pytest.raises(InvalidSpec, match="rows of the device 'pixel4'"):
        planned(table, asked=replace(MS, device="Pixel4"))  # names match whatever their case
    assert list(table.entries()) == [ours]
    assert planned(table, asked=replace(MS, device="pixel4-microsoft")).rows == 40
    assert store(table, planned(table, beside_others=True)) == 40
    assert table.get(ours.spec, ours.target) == ours


def test_a_device_of_another_publisher_is_refused_too(table: LatencyTable) -> None:
    store(table, planned(table))
    with pytest.raises(InvalidSpec, match=r"that han-cai/files \(once-for-all\) did not publish"):
        planned(table, DATA / "ofa_note10_224.yaml", "ofa")


def test_a_published_row_never_takes_the_place_of_a_stable_one_of_ours(store: SqlStore) -> None:
    ours = make_entry()
    sheet = load("csv").write([replace(ours, latency=replace(ours.latency, p10_ns=1.0, low_ns=1.0, high_ns=1.0))])
    path = Path(store.engine.url.database or "").with_name("theirs.csv")
    path.write_bytes(sheet)
    store.put(ours)
    found = planned(store, path, "csv", Asked(publisher="a colleague"), beside_others=True)
    assert sum(store.put_many(found.entries)) == 0
    assert store.get(ours.spec, ours.target) == ours


def test_what_a_row_said_of_its_origin_is_kept_as_theirs(tmp_path: Path) -> None:
    first = planned(MemoryTable())
    told = [replace(row, provenance=Params({**row.provenance, "sweep": "their-sweep"})) for row in first.entries]
    path = tmp_path / "sheet.csv"
    path.write_bytes(load("csv").write(told))
    (row, *_) = planned(MemoryTable(), path, "csv", Asked(publisher="a colleague")).entries
    assert row.provenance["publisher"] == "a colleague"
    assert row.provenance["their_publisher"] == "microsoft/nn-Meter"
    assert row.provenance["their_sweep"] == "their-sweep" and "sweep" not in row.provenance
    assert row.latency.doubts[0] == "published by a colleague: nobody measured it here"
    assert row.latency.doubts[1].startswith("published by microsoft/nn-Meter")


def test_a_sheet_needs_a_publisher(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(load("csv").example)
    with pytest.raises(InvalidSpec, match="csv files do not say who measured: give --publisher"):
        planned(MemoryTable(), path, "csv", Asked())


@pytest.mark.parametrize("damage", [b"", b'{"conv": 1', b"\xff\xfe{\x00}\x00", b'{"a": 1}', b"{}"])
def test_a_file_that_is_wrong_writes_nothing_and_is_named(table: LatencyTable, tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(damage)
    with pytest.raises(InvalidSpec, match=r"^broken.json: (line \d|key )"):
        planned(table, path)
    assert list(table.entries()) == []


def test_a_row_that_is_wrong_keeps_all_others_out(table: LatencyTable, tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda rows: {**rows, "transds_8_96_128_2_6": -1})
    with pytest.raises(InvalidSpec, match="key 'transds_8_96_128_2_6': a latency is above zero, not -1"):
        planned(table, path)
    assert list(table.entries()) == []


@pytest.mark.parametrize("name", ["nn-meter", "ofa", "csv"])
def test_a_file_of_two_gigabytes_is_refused_unread(tmp_path: Path, name: str) -> None:
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 2 * 2**30)  # sparse: it takes no space
    with pytest.raises(InvalidSpec, match=r"has 2,147,483,648 bytes; a table of this format has at most"):
        planned(MemoryTable(), path, name, replace(MS, publisher="x"))


def test_a_file_that_cannot_be_read_is_an_error_of_storage(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(StorageError, match="cannot be read"):
            planned(MemoryTable(), path)


def test_a_snapshot_takes_no_rows(tmp_path: Path) -> None:
    write(tmp_path / "table.json", [make_entry()])
    with pytest.raises(InvalidSpec, match="a snapshot is frozen"):
        open_table(str(tmp_path / "table.json"))


def many(folder: Path, rows: int) -> Path:
    """A file of made-up rows: expanded convolutions of ever more outputs, all at 1e10 MACs/s."""
    form = load("nn-meter")
    keys = [f"conv_8_16_{width}_4_1_relu_3_nose" for width in range(1, rows + 1)]
    path = folder / "many.json"
    path.write_text(json.dumps({key: form.macs(form.spec(key)) / 1e7 for key in keys}))  # type: ignore[attr-defined]
    return path


class Failing(HttpTable):
    """A table whose service goes away after the first request that puts rows."""

    puts = 0

    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        self.puts += 1
        if self.puts > 1:
            raise ServiceError("the service is gone")
        return super().put_many(entries)


def test_more_rows_than_a_service_takes_at_once_are_put_in_parts_when_told(service: str, tmp_path: Path) -> None:
    rows = PUT_LIMIT + 1
    path = many(tmp_path, rows)
    with Failing(service) as table:
        found = planned(table, path)
        with pytest.raises(InvalidSpec, match=r"10,001 rows are more than a service takes in one request.*--in-parts"):
            store(table, found)
        assert table.puts == 0
        with pytest.raises(ServiceError, match=r"5,000 of 10,001 rows were put; the same command goes on there"):
            store(table, found, in_parts=True)
    with HttpTable(service) as table:
        again = planned(table, path)
        assert (again.unchanged, len(again.entries)) == (PART, rows - PART)
        assert store(table, again, in_parts=True) == rows - PART
        assert planned(table, path).unchanged == rows


def test_ten_thousand_rows_are_one_request_where_they_fit_it(service: str, tmp_path: Path) -> None:
    with HttpTable(service) as table:
        assert store(table, planned(table, many(tmp_path, 8000))) == 8000


def test_parts_are_smaller_where_rows_are_large(service: str, tmp_path: Path) -> None:
    rows = [
        replace(make_entry(spec=spec), provenance=Params({"note": "x" * 1900, "more": "y" * 1900}))
        for spec in widths(4500)
    ]
    path = tmp_path / "large.csv"
    path.write_bytes(load("csv").write(rows))
    with HttpTable(service) as table:
        found = planned(table, path, "csv", Asked(publisher="a colleague"))
        with pytest.raises(InvalidSpec, match="4,500 rows are more than a service takes in one request"):
            store(table, found)
        assert store(table, found, in_parts=True) == 4500


def test_a_service_is_written_only_with_a_token_that_allows_it(store: SqlStore) -> None:
    reader, _ = store.create_token("reader", ["read"])
    writer, _ = store.create_token("writer", ["submit"])
    with served(create_app(store, Settings(token="operators"))) as url:
        for token in (None, "wrong", reader):
            with HttpTable(url, token) as table, pytest.raises(EdgelutError):
                table.put_many(planned(table).entries)
            assert list(store.entries()) == []
        with HttpTable(url, writer) as table:
            assert all(table.put_many(planned(table).entries))
    assert len(list(store.entries())) == 40


def test_a_check_tells_published_rows_from_ours_and_finds_them_all_in_doubt(store: SqlStore) -> None:
    store.put_many(planned(store).entries)
    store.put(make_entry())
    (ours, theirs) = check(store.entries())
    assert (ours.target.device, theirs.target.device) == ("phone", "pixel4")
    assert len(theirs.doubtful) == theirs.rows == 40 and theirs.incomplete == ()
