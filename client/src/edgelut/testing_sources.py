"""The suite that whatever is read and searched passes: units, placement and filters; needs pytest and hypothesis.

class TestMine(SourceContract):
    @pytest.fixture
    def hold(self): return lambda entries: MySource(entries)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .errors import InvalidSpec, LatencyNotFound, OtherUnit, UnlikeMeasures
from .query import Page, Query
from .table import MemoryTable
from .testing import TARGET, entries, make_entry, same, widths
from .types import Entry, Target

Hold: TypeAlias = Callable[[Sequence[Entry]], Any]  # a LatencySource that is Searchable

FIRST, SECOND, THIRD, FOURTH = widths(4)
ANY, GPU = replace(TARGET, unit="all"), replace(TARGET, unit="gpu")
PLACED = [
    make_entry(1.0, FIRST, ANY, ran_on="ne"),
    make_entry(2.0, SECOND, ANY, ran_on="ne+cpu"),
    make_entry(3.0, THIRD, ANY),  # nobody knows where
    make_entry(4.0, FIRST, GPU, ran_on="cpu"),  # the runtime fell back
    make_entry(5.0, SECOND, GPU),
]
COUNTED = [
    make_entry(12_345_678.0, FIRST, clock="instructions"),
    make_entry(2.0, SECOND),
    make_entry(3.0, THIRD, kind="predicted"),
    make_entry(4.0, FOURTH, kind="emulated", clock="wall"),
]


def searched(source: Any, query: Query) -> list[Entry]:
    """Return what a query finds; nothing where a source says so by an error, as a service does."""
    try:
        page: Page = source.search(query)
    except LatencyNotFound:
        return []
    return [row.entry for row in page.rows]


class SourceContract:
    """What every source does that can be searched. A subclass gives the fixture `hold`, which returns one with those rows."""

    @pytest.fixture
    def hold(self) -> Hold:
        """Return what makes a source that holds entries, and perhaps those of calls before."""
        raise NotImplementedError("a subclass of SourceContract gives the fixture hold")

    def test_a_count_comes_back_as_a_count_by_whatever_way_it_is_read(self, hold: Hold) -> None:
        source, (count, *_) = hold(COUNTED), COUNTED
        by_search = [found for found in searched(source, Query()) if found.spec == count.spec]
        for found in (source.get(count.spec, TARGET), *source.find_many([count.spec], TARGET), *by_search):
            assert same(found, count) and found.latency.measure == "instructions"
            assert found.latency.value == 12_345_678
            with pytest.raises(UnlikeMeasures, match="12,345,678 instructions"):
                _ = found.latency.ms
        assert source.get(SECOND, TARGET).latency.ms == source.get(SECOND, TARGET).latency.value == 2e-6

    @pytest.mark.parametrize(
        ("asked", "places"),
        [
            ({"measure": "instructions"}, [0]),
            ({"measure": "Time"}, [1, 2, 3]),
            ({"kind": "emulated"}, [0, 3]),
            ({"kind": "EMULATED", "measure": "time"}, [3]),
            ({"kind": "measured"}, [1]),
            ({"kind": "measured", "measure": "instructions"}, []),
            ({"kind": "transferred"}, []),
        ],
    )
    def test_rows_are_searched_by_kind_and_measure(self, hold: Hold, asked: dict[str, str], places: list[int]) -> None:
        assert searched(hold(COUNTED), Query(**asked)) == [COUNTED[place] for place in places]  # type: ignore[arg-type]

    @pytest.mark.parametrize("asked", [{"kind": "guessed"}, {"measure": "joules"}, {"require_unit": ""}])
    def test_a_kind_measure_or_unit_that_cannot_be_is_refused(self, hold: Hold, asked: dict[str, str]) -> None:
        with pytest.raises(InvalidSpec):
            hold(COUNTED).search(Query(**asked))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("unit", "on_any", "on_gpu"),
        [
            ("ne", [0], []),
            ("NE+CPU", [1], []),
            ("cpu", [], [3]),  # asked of the GPU, and run elsewhere
            ("gpu", [], [4]),
            ("cpu+ne", [], []),  # the largest share comes first
            ("all", [], []),  # not known is not everywhere
        ],
    )
    def test_a_row_that_ran_elsewhere_is_as_none_where_a_unit_is_required(
        self, hold: Hold, unit: str, on_any: list[int], on_gpu: list[int]
    ) -> None:
        source, specs = hold(PLACED), [FIRST, SECOND, THIRD, FOURTH]
        for target, places in ((ANY, on_any), (GPU, on_gpu)):
            served = {PLACED[place].spec: PLACED[place] for place in places}
            assert source.find_many(specs, target, require_unit=unit) == [served.get(spec) for spec in specs]
            assert [source.find(spec, target, require_unit=unit) for spec in specs] == [
                served.get(spec) for spec in specs
            ]
        assert searched(source, Query(require_unit=unit)) == [PLACED[place] for place in (*on_any, *on_gpu)]
        assert len([entry for entry in source.find_many(specs, ANY) if entry is not None]) == 3

    def test_who_must_have_a_row_is_told_what_it_ran_on_and_what_to_ask(self, hold: Hold) -> None:
        source = hold(PLACED)
        assert source.get(FIRST, ANY, require_unit="ne") == PLACED[0]
        with pytest.raises(OtherUnit, match=r"ran on ne\+cpu, not on ne alone: require ne\+cpu") as caught:
            source.get(SECOND, ANY, require_unit="ne")
        assert caught.value.ran_on == ("ne+cpu",)
        with pytest.raises(
            OtherUnit, match=r"MB4D 16 @14 .* and 1 more rows ran on .*a unit that is not known"
        ) as several:
            source.get_many([FIRST, SECOND, THIRD], ANY, require_unit="ne")
        assert several.value.ran_on == ("ne+cpu",)
        with pytest.raises(LatencyNotFound, match="MB4D 32 @14") as missing:
            source.get(FOURTH, ANY, require_unit="ne")
        assert not isinstance(missing.value, OtherUnit)

    def test_a_search_says_on_its_first_page_how_many_rows_it_leaves_out(self, hold: Hold) -> None:
        extra = [make_entry(9.0, spec, Target("another", "coreml", unit="ne")) for spec in widths(3)]
        source = hold([*PLACED, *extra])
        first = source.search(Query(require_unit="ne", limit=2))
        assert (len(first.rows), first.left_out) == (2, 4)
        rest = source.search(Query(require_unit="ne", limit=2, cursor=first.next_cursor))
        assert (len(rest.rows), rest.left_out, rest.next_cursor) == (2, 0, None)
        assert source.search(Query(require_unit="ne", device="another")).left_out == 0
        assert source.search(Query(width=8, require_unit="ne")).left_out == 1
        assert source.search(Query()).left_out == 0

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(put=st.lists(entries, min_size=1, max_size=4), unit=st.sampled_from(("cpu", "ne", "NE+cpu")))
    def test_any_row_is_served_where_it_ran_and_nowhere_else(self, hold: Hold, put: list[Entry], unit: str) -> None:
        for entry in MemoryTable(put).entries():
            source = hold([entry])
            current = source.get(entry.spec, entry.target)
            here = current if current.ran_on == unit.lower() else None
            assert source.find(entry.spec, entry.target, require_unit=unit) == here
            assert (current in searched(source, Query(width=entry.spec.width_in, require_unit=unit, limit=1000))) == (
                here is not None
            )
