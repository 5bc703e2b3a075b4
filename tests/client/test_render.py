"""Tables for a terminal: what they say, and that they fit into 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from edgelut import MB3D, MB4D, BlockSpec, Entry, Target
from edgelut.blocks import EMBEDDING
from edgelut.figures import told
from edgelut.render import entries_table, headline, pivot_table, short
from edgelut.sequences import chain, cold
from edgelut.testing import make_entry

HOST = Target("host", "onnxruntime-cpu")


def shown(table: Table, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def text(table: Table, width: int = 80) -> str:
    return "\n".join(shown(table, width))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (HOST, "host onnxruntime-cpu fp32"),
        (replace(HOST, threads=2), "host onnxruntime-cpu fp32 2 threads"),
        (replace(HOST, unit="gpu", precision="fp16"), "host onnxruntime-cpu fp16 gpu"),
    ],
)
def test_a_target_is_shown_without_its_defaults(target: Target, words: str) -> None:
    assert short(target) == words


def test_a_latency_is_shown_with_its_half_width_its_kind_and_its_doubt() -> None:
    assert headline(make_entry(1.5e6)) == "1.500 ±1.0%"
    assert headline(make_entry(1.5e6, kind="predicted")) == "1.500 ±1.0% predicted"
    assert headline(make_entry(1.5e6, doubts=("hot",))) == "1.500 ±1.0% ?"


def test_one_line_an_entry() -> None:
    rows = [
        make_entry(2e6, MB4D.spec(96, 28, batch=2), HOST),
        make_entry(1e6, EMBEDDING.spec(48, 56, width_out=96), HOST),
    ]
    lines = shown(entries_table(rows))
    assert "MB4D 96 28 x2 host onnxruntime-cpu fp32 2.000 ±1.0% measured" in lines
    assert "embedding 48>96 56 host onnxruntime-cpu fp32 1.000 ±1.0% measured" in lines


def test_doubts_are_told_below_and_more_than_six_are_counted() -> None:
    rows = [make_entry(1e6, MB4D.spec(8 * n, 28), HOST, doubts=("hot",)) for n in range(1, 10)]
    said = text(entries_table(rows), 120)
    assert "? MB4D 8 @28 on host onnxruntime-cpu fp32: hot" in said and "and 3 more" in said
    assert said.count(": hot") == 6
    assert "?" not in text(entries_table([make_entry()]))


def test_counts_of_instructions_are_labelled_and_have_columns_of_their_own() -> None:
    count = make_entry(12.3456e6, MB4D.spec(96, 28), HOST, clock="instructions")
    time = make_entry(2e6, MB3D.spec(448, 7), Target("host", "torchscript-cpu"))
    assert headline(count) == "12.346 M instr. ±1.0% emulated"
    assert told(count.latency) == "12.346 M instr. ±1.0%" and told(time.latency) == "2.000 ms ±1.0%"
    both, alone = shown(entries_table([count, time]), 120), shown(entries_table([count]), 120)
    assert both[1].endswith("target ms instructions kind") and alone[1].endswith("target instructions kind")
    assert "MB4D 96 28 host onnxruntime-cpu fp32 12.346 M instr. ±1.0% emulated" in both
    pivot = pivot_table([count, time, replace(count, kind="emulated", latency=time.latency)])
    assert [str(column.header).partition("\n")[2] for column in pivot.columns[3:]] == ["instructions", "ms", "ms"]
    lines = shown(pivot, 120)
    assert "MB4D 96 28 12.346 M instr. ±1.0% emulated 2.000 ±1.0% emulated -" in lines


def test_a_row_that_ran_elsewhere_than_its_target_says_tells_where() -> None:
    fell_back = make_entry(1e6, MB4D.spec(96, 28), replace(HOST, unit="gpu"), ran_on="cpu")
    chosen = make_entry(1e6, MB4D.spec(96, 28), replace(HOST, unit="all"), ran_on="ne+cpu")
    assert headline(fell_back) == "1.000 ±1.0% on cpu" and headline(chosen) == "1.000 ±1.0% on ne+cpu"
    assert "host onnxruntime-cpu fp32 gpu, ran on cpu 1.000" in text(entries_table([fell_back]), 120)
    assert "ran on" not in text(entries_table([make_entry(1e6, MB4D.spec(96, 28), HOST)]), 120)


def test_one_line_a_block_and_one_column_a_target() -> None:
    other = Target("host", "torchscript-cpu")
    rows: list[Entry] = [
        make_entry(3e6, MB3D.spec(448, 7), HOST),
        make_entry(1e6, MB3D.spec(448, 7), other),
        make_entry(2e6, MB4D.spec(96, 28), other),
    ]
    lines = shown(pivot_table(rows))
    assert "MB3D 448 7 3.000 ±1.0% 1.000 ±1.0%" in lines and "MB4D 96 28 - 2.000 ±1.0%" in lines


def test_blocks_of_other_parameters_have_lines_of_their_own() -> None:
    rows = [make_entry(n * 1e6, MB4D.spec(96, 28, params={"expansion": n}), HOST) for n in (3, 4)]
    assert sum(line.startswith("MB4D 96 28") for line in shown(pivot_table(rows))) == 2


@pytest.mark.parametrize("make", [entries_table, pivot_table])
def test_a_table_fits_into_80_columns(make: object) -> None:
    rows = [
        make_entry(12345e6, EMBEDDING.spec(1024, 112, width_out=2048, batch=8), target, doubts=("noisy",))
        for target in (HOST, Target("host", "torchscript-cpu"))
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(make(rows))  # type: ignore[operator]
    assert isinstance(console.file, io.StringIO)
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
    assert "12345.000" in console.file.getvalue()


def test_a_pivot_shows_blocks_and_no_column_for_what_is_folded_into_them() -> None:
    block, target = MB4D.spec(16, 7), Target("host", "onnxruntime-cpu")
    hidden = [chain(block), cold(block), BlockSpec("reference", 1, 1, 1)]
    other = Target("host", "reference")
    table = pivot_table([make_entry(1e6, block, target), *(make_entry(2e6, spec, other) for spec in hidden)])
    assert table.row_count == 1 and len(table.columns) == 4


def test_a_lone_value_has_no_half_width() -> None:
    lone = make_entry(1.5e6)
    lone = replace(lone, latency=replace(lone.latency, samples=1, runs=1, low_ns=1.5e6, high_ns=1.5e6))
    assert headline(lone) == "1.500 ±?"
    assert told(lone.latency) == "1.500 ms ±?"
