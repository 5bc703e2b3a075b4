"""docs/exchange.md names every format and every column."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelut.exchange import load, names
from edgelut.exchange.formats.csv import COLUMNS
from edgelut.exchange.plausible import FASTEST, FASTEST_THREAD, SLOWEST

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "exchange.md").read_text()


@pytest.mark.parametrize("name", names())
def test_every_format_has_a_line_that_says_which_way_it_goes(name: str) -> None:
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |")]
    assert row.split("|")[3].strip() == ("both" if load(name).writes else "read")


def test_every_column_of_a_sheet_is_described() -> None:
    missing = [name for name in COLUMNS if f"`{name}`" not in TEXT]
    assert not missing


def test_the_bounds_are_those_of_the_code() -> None:
    for bound in (SLOWEST, FASTEST_THREAD, FASTEST):
        assert f"**1e{len(str(int(bound))) - 1}" in TEXT
