"""The table in memory passes the suite of every table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgelut.table import LatencyTable, MemoryTable
from edgelut.testing import TableContract, make_entry
from edgelut.testing_sources import Hold, SourceContract


class TestMemoryTable(TableContract):
    @pytest.fixture
    def make_table(self) -> Callable[[], LatencyTable]:
        return MemoryTable


class TestSearchedMemoryTable(SourceContract):
    @pytest.fixture
    def hold(self) -> Hold:
        return MemoryTable


def test_a_memory_table_is_made_of_entries_and_counts_its_current_rows() -> None:
    assert len(MemoryTable([make_entry(1.0), make_entry(2.0)])) == 1
