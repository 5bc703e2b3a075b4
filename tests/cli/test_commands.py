"""Every command: what it prints where, and the code it ends with."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from db.engine import SqlStore
from edgelut import MB3D, cli, wire
from edgelut.snapshot import Snapshot
from edgelut.types import Entry
from profiler import sweep

from .conftest import EDGELUT, HOST, NULL, Command

TINY = ("--block", "identity", "--width", "8,16", "--resolution", "4")
COMMANDS = ("", "get", "table", "snapshot", "profile", "export", "backends", "serve", "db", "db upgrade", "db check")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("profile", "--block", "MB4D", "--width", "-16", "--resolution", "7"), "width must be positive, not -16"),
        (("profile", "--block", "MB4D", "--width", "0", "--resolution", "7"), "width must be positive, not 0"),
        (("profile", "--block", "MB4D", "--width", "x", "--resolution", "7"), "write 224, or 208,224,240"),
        (
            ("profile", "--block", "stem", "--width", "48", "--resolution", "225"),
            "not divisible by its stride 4; try 224",
        ),
        (("profile", "--block", "MB5D", "--width", "8", "--resolution", "7"), "no block kind 'mb5d'; there are"),
        (("profile", "--block", "MB4D"), "MB4D: give --width and --resolution"),
        (("profile", "l9"), "no preset 'l9'; there are efficientformer-l1"),
        (("profile",), "name a preset (efficientformer-l1"),
        (("profile", *TINY, "--param", "layout"), "write NAME=VALUE"),
        (("profile", *TINY, "--param", "layout=5d"), "layout must be one of 4d, 3d"),
        (("profile", *TINY, "--param", "layout=nan"), "finite number"),
        (("profile", *TINY, "--threads", "0"), "threads must be positive, not 0"),
        (("profile", *TINY, "--half-width", "0"), "half-width"),
        (("profile", *TINY, "--max-rounds", "1"), "max-rounds"),
        (("export", "--block", "MB5D", "--width", "8", "--resolution", "7"), "no block kind 'mb5d'"),
        (("get",), "Missing argument 'block'"),
        (("get", "MB3D", "0"), "Invalid value for 'width'"),
        (("get", "MB3D", "224", "--from", "nowhere"), "'nowhere' is not a place to read latencies from"),
        (("get", "MB3D", "--nought"), "--nought"),
        (("nought",), "nought"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_asked_is_one_line_and_code_2(edgelut: Command, argv: tuple[str, ...], said: str) -> None:
    done = edgelut(*argv)
    assert done.code == 2 and said in done.error


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("profile", *TINY, "--runtime", "nought"), "no runtime 'nought'; there are"),
        (("profile", *TINY, "--device", "nought"), "no device 'nought'; there are host, null"),
        (("profile", *TINY, "--runtime", "null", "--precision", "int8"), "null runs fp32, not int8"),
        (("profile", *TINY, "--runtime", "coreml-mil"), "never gives a latency"),
        (("export", *TINY, "--format", "onx", "--precision", "fp32"), "no exporter 'onx'; there are coreml"),
    ],
)
def test_a_backend_that_is_missing_or_cannot_is_code_6(edgelut: Command, argv: tuple[str, ...], said: str) -> None:
    done = edgelut(*argv)
    assert done.code == 6 and said in done.error


def test_profiling_prints_rows_on_stdout_and_progress_on_stderr(edgelut: Command, home: Path) -> None:
    done = edgelut("profile", *TINY, *NULL)
    assert done.code == 0
    assert "identity" in done.out and "2 rows" in done.out and "0 failed" in done.out
    assert "export" in done.err and "measure" in done.err and "2/2" in done.err and "rows" not in done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert sorted(entry.name for entry in home.iterdir() if "db" not in entry.name) == ["artifacts", "locks"]


def test_profiling_as_json_prints_json_alone(edgelut: Command) -> None:
    done = edgelut("profile", *TINY, *NULL, "--json")
    assert done.code == 0 and done.err == ""
    rows = wire.load(list[Entry], done.json["measured"])
    assert [row.latency.p10_ns for row in sorted(rows, key=lambda row: row.spec.width_in)] == [1128, 1256]
    assert done.json["failures"] == [] and done.json["sweep"]


def test_a_point_that_fails_is_told_and_is_code_1(edgelut: Command) -> None:
    asked = ("profile", "--block", "identity", "--width", "8,13", "--resolution", "4", *NULL)
    done = edgelut(*asked)
    assert done.code == 1 and "13 is not exported" in done.out and "1 rows" in done.out and "Traceback" not in done.err
    told = edgelut(*asked, "--json")
    assert told.code == 1 and "13 is not exported" in told.json["failures"][0]["reason"]


def test_exporting_tells_what_lies_where(edgelut: Command, home: Path) -> None:
    done = edgelut("export", *TINY, "--format", "null", "--precision", "fp32")
    assert done.code == 0 and f"2 artifacts, 2 made now, in {home / 'artifacts'}" in done.out
    told = edgelut("export", *TINY, "--format", "null", "--precision", "fp32", "--json")
    assert told.err == "" and [row["made"] for row in told.json["artifacts"]] == [False, False]
    assert all(Path(row["path"]).is_file() for row in told.json["artifacts"])
    failed = edgelut(
        "export", "--block", "identity", "--width", "13", "--resolution", "4", "--format", "null", "--precision", "fp32"
    )
    assert failed.code == 1 and "13 is not exported" in failed.out


def test_getting_shows_the_rows_of_a_block(edgelut: Command, filled: SqlStore) -> None:
    done = edgelut("get", "mb3d", "224")
    assert done.code == 0 and done.err == ""
    assert "2.240" in done.out and "0.500" in done.out and "noisy" in done.out and "2.080" not in done.out
    told = edgelut("get", "MB3D", "224", "--resolution", "14", "--json")
    (row,) = wire.load(list[Entry], told.json)
    assert row == filled.get(MB3D.spec(224, 14), HOST)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("MB3D", "223"),
            "no latency of MB3D 223; the nearest widths are 224, 208, 240; 'edgelut estimate MB3D 223 --resolution",
        ),
        (("MB3D", "224", "--precision", "int8"), "with those filters; 'edgelut table --block MB3D'"),
        (("MB9D",), "no latency of MB9D; the table has MB3D, MB4D"),
    ],
)
def test_nothing_that_matches_is_code_5_and_says_what_there_is(
    edgelut: Command, filled: SqlStore, argv: tuple[str, ...], said: str
) -> None:
    done = edgelut("get", *argv)
    assert done.code == 5 and said in done.error


def test_an_empty_table_says_how_to_fill_it(edgelut: Command, filled: SqlStore, home: Path) -> None:
    done = edgelut("table", "--block", "stem")
    assert done.code == 5 and "edgelut profile efficientformer-l1" in done.error


def test_the_table_has_a_line_a_block_and_a_column_a_target(edgelut: Command, filled: SqlStore) -> None:
    done = edgelut("table")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert done.code == 0 and "MB3D 224 14 2.240 ±1.0% -" in lines and "MB4D 224 14 - 0.300 ±1.0%" in lines
    assert len(edgelut("table", "--runtime", "torchscript-cpu", "--json").json) == 1


@pytest.mark.parametrize("name", ["table.json", "table.json.gz"])
def test_a_snapshot_answers_as_the_database_does(edgelut: Command, filled: SqlStore, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    done = edgelut("snapshot", str(file))
    assert done.code == 0 and f"5 rows in {file}" in done.out
    assert list(Snapshot(file).entries()) and file.read_bytes().startswith(b"\x1f\x8b") == name.endswith("gz")
    for argv in (("get", "MB3D", "224"), ("table",), ("get", "MB3D", "--json")):
        assert edgelut(*argv, "--from", str(file)) == edgelut(*argv)
    missing = edgelut("get", "MB3D", "223", "--from", str(file))
    assert missing.code == 5 and "nearest widths are 224" in missing.error


def damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)


@pytest.mark.parametrize(
    "argv", [("get", "MB3D", "224"), ("table",), ("profile", *TINY, *NULL), ("snapshot", "x.json")]
)
@pytest.mark.parametrize("spoil", [damaged, lambda path: path.write_text("no database" * 100)])
def test_a_damaged_database_is_code_3(
    edgelut: Command, home: Path, argv: tuple[str, ...], spoil: Callable[[Path], None]
) -> None:
    home.mkdir()
    spoil(home / "edgelut.db")
    done = edgelut(*argv)
    assert done.code == 3 and str(home / "edgelut.db") in done.error


def test_a_missing_database_is_code_3_and_is_not_made_by_reading(edgelut: Command, home: Path) -> None:
    for argv in (("get", "MB3D"), ("table",)):
        done = edgelut(*argv)
        assert done.code == 3 and "there is no database" in done.error
    assert not home.exists()


def test_a_database_of_another_schema_is_code_3(edgelut: Command, home: Path) -> None:
    home.mkdir()
    sqlite3.connect(home / "edgelut.db").execute("CREATE TABLE other (id)").connection.close()
    done = edgelut("get", "MB3D")
    assert done.code == 3 and "edgelut db upgrade" in done.error


def test_a_damaged_snapshot_and_a_missing_one_are_code_3(edgelut: Command, filled: SqlStore, tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    edgelut("snapshot", str(file))
    row = json.loads(file.read_text())
    row["rows"][0]["latency"]["p10_ns"] = 1
    file.write_text(json.dumps(row))
    assert "is not what was written" in (done := edgelut("get", "MB3D", "--from", str(file))).error and done.code == 3
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"{}")[:-9])
    for name in ("cut.json.gz", "none.json"):
        done = edgelut("get", "MB3D", "--from", str(tmp_path / name))
        assert done.code == 3 and name in done.error


def test_a_snapshot_that_cannot_be_written_is_code_3(edgelut: Command, filled: SqlStore, tmp_path: Path) -> None:
    done = edgelut("snapshot", str(tmp_path / "no" / "table.json"))
    assert done.code == 3 and "cannot write the snapshot" in done.error


def test_a_service_that_cannot_be_reached_is_code_4(edgelut: Command) -> None:
    done = edgelut("get", "MB3D", "--from", "http://127.0.0.1:9")
    assert done.code == 4 and "127.0.0.1:9" in done.error


def test_ctrl_c_is_code_130_and_a_message(edgelut: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run_sweep", interrupted)
    done = edgelut("profile", *TINY, *NULL, "--json")
    assert done.code == 130 and "interrupted" in done.error


def test_a_device_that_is_being_measured_is_code_6(edgelut: Command, home: Path) -> None:
    from profiler.lock import device_lock

    with device_lock(home / "locks", "null"):
        done = edgelut("profile", *TINY, *NULL, "--json")
    assert done.code == 6 and f"being measured by process {os.getpid()}" in done.error


def test_backends_are_listed_with_what_they_can(edgelut: Command) -> None:
    done = edgelut("backends", "--json")
    rows = {(row["axis"], row["name"]): row for row in done.json}
    assert {("exporter", "null"), ("runtime", "null"), ("device", "null"), ("runtime", "onnxruntime-cpu")} <= set(rows)
    assert rows["runtime", "null"]["usable"] and rows["runtime", "null"]["about"] == "null: fp32"
    assert "numerics only" in rows["runtime", "coreml-mil"]["about"]
    shown = edgelut("backends")
    assert shown.code == 0 and "onnxruntime-cpu" in shown.out and max(map(len, shown.out.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_80_columns(edgelut: Command, command: str) -> None:
    done = edgelut(*command.split(), "--help")
    assert done.code == 0 and done.err == "" and "Usage: " in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_help_lists_every_command(edgelut: Command) -> None:
    out = edgelut("--help").out
    assert all(f"  {command} " in out for command in COMMANDS if command and " " not in command)


def test_no_command_at_all_shows_help(edgelut: Command) -> None:
    done = edgelut()
    assert "Usage: " in done.out + done.err and "Traceback" not in done.err


def test_the_completion_script_can_be_shown() -> None:
    # The shell is found from the process that asks; bash does not replace itself by a command that another one follows.
    done = subprocess.run(
        ["bash", "-c", f"{EDGELUT} --show-completion; exit $?"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "_edgelut_completion" in done.stdout


def test_a_reader_that_goes_away_is_no_error(filled: SqlStore) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {EDGELUT} table --json | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == ""


def test_a_bug_is_not_hidden(edgelut: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_search", broken)
    monkeypatch.setattr(sys, "argv", ["edgelut", "table"])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(ZeroDivisionError):
        cli.main()
