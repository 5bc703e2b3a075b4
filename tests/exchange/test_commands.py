"""`edgelut exchange` on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from db.store import SqlStore
from edgelut import Target
from edgelut.http import HttpTable
from edgelut.query import Query
from edgelut.testing import make_entry
from tests.exchange.conftest import DATA, Done

Run = Callable[..., Done]
NN_METER = str(DATA / "nn_meter_pixel4_v3.json")
PIXEL = ("--format", "nn-meter", "--device", "pixel4", "--runtime", "tflite-cpu", "--values-in", "ms")


def test_a_published_table_is_imported_and_shown(edgelut: Run, home: SqlStore) -> None:
    done = edgelut("exchange", "import", NN_METER, *PIXEL, "--origin", "github, dev/hybrid-transformer")
    assert done.code == 0, done.err
    assert "40 rows published by microsoft/nn-Meter (12 nn-meter.conv, 3 nn-meter.firstconv" in done.out
    assert "40 rows written, 40 of them current; 0 were there already" in done.out
    assert {entry.target for entry in home.entries()} == {Target("pixel4", "tflite-cpu")}
    assert {entry.provenance["source"] for entry in home.entries()} == {"github, dev/hybrid-transformer"}
    shown = edgelut("get", "nn-meter.conv", "16", "--resolution", "64")
    assert shown.code == 0 and "measured ?" in shown.out
    assert "published by microsoft/nn-Meter: one value" in " ".join(shown.out.split())


def test_a_dry_run_checks_all_and_writes_nothing(edgelut: Run, home: SqlStore) -> None:
    done = edgelut("exchange", "import", NN_METER, *PIXEL, "--dry-run")
    assert done.code == 0 and "dry run: 40 rows would be written, 0 are there already" in done.out
    rows = edgelut("exchange", "import", NN_METER, *PIXEL, "--dry-run", "--json").json
    assert len(rows["entries"]) == rows["rows"] == 40 and "written" not in rows
    assert list(home.entries()) == []
    home.put(make_entry(target=Target("pixel4", "other")))
    assert edgelut("exchange", "import", NN_METER, *PIXEL, "--dry-run").code == 2


def test_json_says_what_was_written(edgelut: Run, home: SqlStore) -> None:
    said = edgelut("exchange", "import", NN_METER, *PIXEL, "--json").json
    assert (said["written"], said["rows"], said["unchanged"], said["publisher"]) == (40, 40, 0, "microsoft/nn-Meter")
    assert len(said["sha256"]) == 64 and "entries" not in said


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (
            (NN_METER, "--format", "nn-meter", "--device", "x", "--runtime", "y"),
            2,
            "say it with --values-in ns|us|ms|s",
        ),
        ((NN_METER, "--format", "nn-meter", "--values-in", "ms"), 2, "give --device and --runtime"),
        ((NN_METER, *PIXEL, "--values-in", "s"), 2, "in ms they would be possible"),
        ((NN_METER, *PIXEL, "--kind", "guessed"), 2, "there is no kind 'guessed'"),
        ((NN_METER, *PIXEL, "--to", "table.json"), 3, "table.json"),
        ((NN_METER, "--format", "onnx"), 6, "no format 'onnx'; there are csv, nn-meter"),
        (("none.json", *PIXEL), 3, "none.json cannot be read"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_an_exit_code(
    edgelut: Run, home: SqlStore, argv: tuple[str, ...], code: int, said: str
) -> None:
    done = edgelut("exchange", "import", *argv)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert said in done.err and list(home.entries()) == []


def test_without_pyyaml_the_command_says_what_to_install(
    edgelut: Run, home: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    file = str(DATA / "ofa_note10_224.yaml")
    done = edgelut(
        "exchange", "import", file, "--format", "ofa", "--device", "x", "--runtime", "y", "--values-in", "ms"
    )
    assert done.code == 6 and "pip install 'edgelut[exchange]'" in done.err


def test_rows_go_out_as_a_sheet_and_into_a_service(edgelut: Run, home: SqlStore, tmp_path: Path, service: str) -> None:
    home.put_many([make_entry(), make_entry(2e6, target=Target("other", "x"))])
    sheet = str(tmp_path / "rows.csv")
    done = edgelut("exchange", "export", sheet, "--device", "phone")
    assert done.code == 0 and "1 rows in" in done.out and "lost: raw runs and history" in done.out
    said = ("--format", "csv", "--publisher", "the lab next door", "--to", service)
    refused = edgelut("exchange", "import", sheet, *said)
    assert refused.code == 2 and "the device 'phone' that the lab next door did not publish" in refused.err
    done = edgelut("exchange", "import", sheet, *said, "--device", "phone-next-door")
    assert done.code == 0, done.err
    with HttpTable(service) as table:
        row = table.get(make_entry().spec, Target("phone-next-door", "onnxruntime-cpu"))
    assert row.latency.p10_ns == 1e6 and row.provenance["publisher"] == "the lab next door"


def test_a_published_block_is_found_through_a_service(
    edgelut: Run, home: SqlStore, service: str, tmp_path: Path
) -> None:
    file = str(DATA / "ofa_note10_224.yaml")
    said = ("--format", "ofa", "--device", "note10", "--runtime", "tflite-cpu", "--values-in", "ms", "--to", service)
    assert edgelut("exchange", "import", file, *said).code == 0
    with HttpTable(service) as table:
        ((row,), (other,)) = (
            table.search(Query(block=block, device="NOTE10")).rows for block in ("ofa.Conv", "ofa.logits")
        )
    latency, spec = row.entry.latency, row.entry.spec
    assert (latency.ms, dict(spec.params), row.entry.kind) == (0.994418, {"side_out": 112}, "measured")
    assert (latency.low_ns, latency.high_ns) == pytest.approx((992900.742, 995935.258), rel=1e-6)
    assert other.entry.spec.kind == "ofa.Logits"
    sheet = tmp_path / "rows.csv"
    assert edgelut("exchange", "export", str(sheet), "--from", service).code == 0
    assert len(sheet.read_text().splitlines()) == 25


def test_an_export_without_rows_or_of_a_format_that_is_only_read_leaves_no_file(
    edgelut: Run, home: SqlStore, tmp_path: Path
) -> None:
    sheet = tmp_path / "rows.csv"
    assert edgelut("exchange", "export", str(sheet)).code == 5
    home.put(make_entry())
    assert edgelut("exchange", "export", str(sheet), "--format", "ofa").code == 6
    assert edgelut("exchange", "export", str(tmp_path / "none" / "rows.csv")).code == 3
    (tmp_path / "folder.csv").mkdir()
    assert edgelut("exchange", "export", str(tmp_path / "folder.csv")).code == 3
    assert not sheet.exists() and not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_the_formats_are_listed_with_what_they_hold(edgelut: Run) -> None:
    done = edgelut("exchange", "formats")
    assert done.code == 0 and "nn-meter" in done.out and "both ways" in done.out
    listed = {one["name"]: one for one in edgelut("exchange", "formats", "--json").json}
    assert listed["csv"]["writes"] and not listed["ofa"]["writes"] and listed["ofa"]["lost"]
    assert all(one["error"] is None for one in listed.values())
