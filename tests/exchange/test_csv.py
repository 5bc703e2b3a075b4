"""Our own rows as a spreadsheet, and back."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelut.errors import InvalidSpec
from edgelut.exchange import Asked
from edgelut.exchange.formats.csv import COLUMNS, NO_INTERVAL, Csv
from edgelut.testing import entries, make_entry, widths
from edgelut.types import BlockSpec, Entry, Params

FORM = Csv()
HEAD = "block,width_in,width_out,resolution,device,runtime,p10_ns"


def readable(entry: Entry) -> Entry:
    """Return an entry whose latency is one: above zero, and its interval the right way round."""
    latency = entry.latency
    low, high = sorted((latency.low_ns, latency.high_ns))
    return replace(entry, latency=replace(latency, p10_ns=latency.p10_ns + 1, low_ns=low, high_ns=high))


@settings(deadline=None)
@given(st.lists(entries.map(readable), min_size=1, max_size=5, unique_by=lambda one: (one.spec.key, one.target.key)))
def test_any_rows_come_back_exactly(rows: list[Entry]) -> None:
    back = FORM.read(FORM.write(rows), Asked())
    assert back == rows
    assert [row.spec.key for row in back] == [row.spec.key for row in rows]


def test_texts_that_a_spreadsheet_would_take_for_more_are_quoted() -> None:
    odd = {"a": "=1+1", "b": "@x", "c": "-1", "d": "4", "e": "", "f": '"', "g": " x", "h": "1e5", "i": "a\nb", "j": "+"}
    row = make_entry(spec=BlockSpec("=cmd", 8, 8, 8, params=Params(odd)))
    content = FORM.write([row])
    (_, cells) = csv.reader(io.StringIO(content.decode()))
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    assert FORM.read(content, Asked()) == [row]


def test_a_number_and_its_text_stay_two_parameters() -> None:
    rows = [make_entry(spec=BlockSpec("x", 8, 8, 8, params=Params({"a": value}))) for value in (4, "4", 4.5, "4.5")]
    assert FORM.read(FORM.write(rows), Asked()) == rows


def test_a_sheet_typed_by_hand_needs_few_columns() -> None:
    (row,) = FORM.read(f"{HEAD}\nMB4D,96,96,28,phone,tflite-cpu,1520000\n".encode(), Asked())
    assert (row.spec, str(row.target)) == (BlockSpec("MB4D", 96, 96, 28), "phone/tflite-cpu/fp32/1/cpu")
    assert (row.latency.ms, row.latency.low_ns, row.latency.doubts) == (1.52, 1.52e6, (NO_INTERVAL,))


def test_what_is_asked_takes_the_place_of_the_columns() -> None:
    (row,) = FORM.read(FORM.write([make_entry()]), Asked(device="theirs", threads=4))
    assert (row.target.device, row.target.threads, row.target.runtime) == ("theirs", 4, make_entry().target.runtime)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD + "\n", "line 2: the file has column names and no row"),
        (HEAD.replace(",", ";") + "\n", "separated by commas"),
        (HEAD + ",ms\nx,8,8,8,d,r,1,2\n", "line 1: no column 'ms'; there are block"),
        (HEAD + ",p10_ns\n", "line 1: column 'p10_ns' is there twice"),
        (HEAD.removesuffix(",p10_ns") + "\n", "the columns p10_ns are missing"),
        (HEAD + "\nx,8,8,8,d,r\n", "line 2: 6 cells under 7 columns"),
        (HEAD + "\nx,8,8,8,d,r,1\n\nx,8,8,8,d,r,2\n", "line 4: .* is here twice, first in line 2"),
        (HEAD + "\nx,8.5,8,8,d,r,1\n", "line 2, width_in: '8.5' is no whole number"),
        (HEAD + "\nx,0,8,8,d,r,1\n", "line 2: x: width_in must be a positive whole number"),
        (HEAD + "\nx,8,8,8,d,r,\n", "line 2, p10_ns: the latency is missing"),
        (HEAD + "\nx,8,8,8,,r,1\n", "line 2: there is no device: give a column of that name, or --device"),
        (HEAD + '\n"x,8,8,8,d,r,1\n', "line 2: this is no CSV: .*cut off"),
        (HEAD + ",kind\nx,8,8,8,d,r,1,guessed\n", "line 2: no entry kind 'guessed'"),
        (HEAD + ",clock\nx,8,8,8,d,r,1,sun\n", "line 2, clock: there are cpu, wall"),
        (HEAD + ",clock\nx,8,8,8,d,r,1,instructions\n", "line 2: .*counts instructions"),
        (HEAD + ',doubts\nx,8,8,8,d,r,1,hot\n', "line 2, doubts: 'hot' is not a JSON list"),
        (HEAD + ',doubts\nx,8,8,8,d,r,1,[1]\n', "line 2, doubts: give a JSON list of texts"),
        (HEAD + ",low_ns,high_ns\nx,8,8,8,d,r,1,2,1\n", "line 2: low_ns is above high_ns"),
        (HEAD + ",cold_ns\nx,8,8,8,d,r,1,-2\n", "line 2, cold_ns: '-2' is no latency"),
        (HEAD + ",param.a\nx,8,8,8,d,r,1," + "9" * 5000 + "\n", "line 2, param.a: .* is no number"),
    ],
)  # fmt: skip
def test_a_sheet_that_is_wrong_is_refused_with_line_and_column(content: str, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        FORM.read(content.encode(), Asked())


def test_another_unit_than_the_columns_say_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="in ns by their names"):
        FORM.read(FORM.example, Asked("phone", "x", values_in="ms"))


def test_the_columns_are_those_of_every_row() -> None:
    header = FORM.write([make_entry(spec=spec) for spec in widths(2)]).decode().splitlines()[0].split(",")
    assert [name for name in header if not name.startswith("param.")] == list(COLUMNS)
    assert [name for name in header if name.startswith("param.")] == ["param.activation", "param.expansion"]
