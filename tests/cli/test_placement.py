"""On the command line: counts of instructions are labelled, and rows that ran elsewhere are left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from db.engine import SqlStore
from edgelut import MB3D, Entry, Params, Target, wire
from edgelut.snapshot import write
from edgelut.testing import make_entry
from tests.client.test_compose import ABC, TARGET, rows_of

from .conftest import Command
from .test_network import LINE, Fill, fill

__all__ = ["fill"]

MAC, PHONE = Target("mac", "coreml", "fp16", unit="all"), Target("android:emulated-1", "onnxruntime-native")
ROWS = [
    make_entry(1e6, MB3D.spec(224, 7), MAC, ran_on="ne"),
    make_entry(2e6, MB3D.spec(208, 7), MAC, ran_on="ne+cpu"),
    make_entry(12_345_678.0, MB3D.spec(224, 7), PHONE, clock="instructions"),
]


@pytest.fixture
def rows(filled: SqlStore) -> SqlStore:
    filled.put_many(ROWS)
    return filled


@pytest.mark.usefixtures("rows")
def test_counts_are_shown_with_their_label_and_filtered(edgelut: Command) -> None:
    for argv in (("get", "MB3D", "224"), ("table", "--block", "MB3D")):
        assert "12.346 M instr." in " ".join(edgelut(*argv, "--measure", "instructions").out.split())
        assert "instr" not in edgelut(*argv, "--measure", "time").out
        assert "instr" not in edgelut(*argv, "--kind", "measured").out
    (count,) = edgelut("get", "MB3D", "--kind", "emulated", "--json").json
    assert (count["latency_ms"], count["instructions"], count["measure"]) == (None, 12_345_678, "instructions")
    assert wire.load(Entry, count) == ROWS[2]
    done = edgelut("get", "MB3D", "--kind", "guessed")
    assert done.code == 2 and "there is no kind 'guessed'; there are measured" in done.error


def test_rows_that_ran_elsewhere_are_left_out_and_counted(edgelut: Command, rows: SqlStore, tmp_path: Path) -> None:
    done = edgelut("get", "MB3D", "--device", "mac", "--require-unit", "ne")
    assert done.code == 0 and "1.000" in done.out and "2.000" not in done.out
    assert done.err == "left out: 1 rows that did not run on ne alone\n"
    (row,) = edgelut("table", "--block", "MB3D", "--require-unit", "NE+cpu", "--json").json
    assert row["ran_on"] == "ne+cpu" and row["latency_ms"] == 2.0
    frozen = str(tmp_path / "table.json")
    write(frozen, rows.entries())
    assert edgelut("get", "MB3D", "--device", "mac", "--require-unit", "ne", "--from", frozen).out == done.out


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("argv", [("get", "MB3D", "208"), ("table", "--block", "MB3D")])
def test_rows_that_all_ran_elsewhere_are_code_5_and_say_where(edgelut: Command, argv: tuple[str, ...]) -> None:
    done = edgelut(*argv, "--device", "mac", "--require-unit", "gpu")
    assert done.code == 5 and "not on gpu alone: require ne" in done.error


def test_a_sum_of_rows_that_ran_elsewhere_is_code_5(edgelut: Command, fill: Fill) -> None:
    fell_back = [
        replace(one, provenance=Params({**one.provenance, "ran_on": "gpu"})) for one in rows_of(ABC, target=TARGET)
    ]
    fill(fell_back)
    done = edgelut("network", LINE, "--require-unit", "cpu")
    assert done.code == 5 and "and 2 more rows ran on gpu, not on cpu alone: require gpu, or no unit" in done.error
    assert edgelut("network", LINE, "--require-unit", "gpu").code == 0
