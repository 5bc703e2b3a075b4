"""A target's rows as arrays give the dictionary's answers, whatever the table and whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.testing import InProcess
from edgelut import EMBEDDING, MB3D, MB4D, InvalidSpec, LatencyNotFound, MemoryTable, Params, index
from edgelut.arrays import PADDING, TableArrays
from edgelut.compose import compose
from edgelut.errors import OtherUnit, UnknownKind, UnlikeMeasures
from edgelut.http import HttpTable
from edgelut.snapshot import Snapshot, write
from edgelut.table import LatencySource
from edgelut.testing import SPEC, TARGET, latencies, make_entry
from edgelut.types import BlockSpec, Entry, NetworkSpec
from tests.api.support import new_store

ANY = replace(TARGET, unit="all")
OTHER = replace(TARGET, device="Phone")  # another target than `phone`, which a query cannot tell from it

# Few values, so that what is asked is often there, and numbers too large for a list or for a grid among them.
_sizes = st.sampled_from((1, 2, 3, 7, 2**16, 2**16 + 1, 2**31 - 1))
_kinds = st.sampled_from(("MB4D", "MB3D", "own"))
_params = st.sampled_from(({}, {"expansion": 3}, {"expansion": 4, "pool": 3, "activation": "gelu"}))
_specs = st.builds(BlockSpec, _kinds, _sizes, _sizes, _sizes, _sizes, _params.map(Params))
_rows = st.builds(
    Entry, _specs, st.sampled_from((TARGET, OTHER, ANY)), latencies, st.sampled_from(("emulated", "predicted"))
)


@pytest.fixture(params=["grid", "sorted", "hashed"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The forms that an index takes, whatever the rows are."""
    monkeypatch.setattr(index, "CELLS", 2**22 if request.param == "grid" else 0)
    monkeypatch.setattr(index, "KEYS", 0 if request.param == "hashed" else 2**62)
    return str(request.param)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(put=st.lists(_rows, max_size=12), others=st.lists(_specs, max_size=6))
def test_any_table_answers_any_specs_as_its_dictionary_does(
    form: str, put: list[Entry], others: list[BlockSpec]
) -> None:
    table = MemoryTable(put)
    asked = [*others, *(entry.spec for entry in put), *others]
    for target in (TARGET, OTHER, ANY):
        same_answers(table, table.arrays(target), asked)


def same_answers(
    table: LatencySource, arrays: TableArrays, asked: Sequence[BlockSpec], unit: str | None = None
) -> None:
    found = table.find_many(asked, arrays.target, require_unit=unit)
    codes = arrays.codes_of(asked)
    assert [code == -1 for code in codes] == [entry is None for entry in found]
    for code, entry in zip(codes, found, strict=True):
        if entry is None:
            assert np.isnan(arrays.ns([code])).all() and arrays.kinds([code]) == [""] and not arrays.estimated([code])
            continue
        latency = entry.latency
        counts = latency.measure == "instructions"
        of = arrays.instructions if counts else arrays.ns
        assert of([code]) == [latency.p10_ns] and of([code], "low") == [latency.low_ns]
        assert of([code], "high") == [latency.high_ns]
        assert arrays.kinds([code]) == [entry.kind] and arrays.estimated([code]) == [entry.kind != "measured"]
        assert arrays.spec(int(code)) == entry.spec
        with pytest.raises(UnlikeMeasures):
            (arrays.ns if counts else arrays.instructions)([code])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), number=st.integers(0, 30))
def test_arrays_of_numbers_are_answered_as_specs_are(form: str, data: st.DataObject, number: int) -> None:
    some = st.lists(_sizes, min_size=number, max_size=number)
    kinds = st.sampled_from((MB3D, MB4D))
    rows = [
        make_entry(float(n), data.draw(kinds).spec(width, resolution, batch=batch))
        for n, (width, resolution, batch) in enumerate(zip(*(data.draw(some) for _ in range(3)), strict=True), 1)
    ]
    table = MemoryTable(rows)
    arrays = table.arrays(TARGET)
    asked = {name: data.draw(some) for name in ("width_in", "resolution", "batch")}
    names = data.draw(st.lists(st.sampled_from(("MB3D", "MB4D")), min_size=number, max_size=number))
    specs = [
        {"MB3D": MB3D, "MB4D": MB4D}[name].spec(*numbers[:2], batch=numbers[2])
        for name, *numbers in zip(names, *asked.values(), strict=True)
    ]
    expected = [None if entry is None else entry.latency.p10_ns for entry in table.find_many(specs, TARGET)]
    got = arrays.ns(arrays.codes(names, **asked))
    assert [None if np.isnan(ns) else ns for ns in got] == expected
    one = [index for index, name in enumerate(names) if name == "MB3D"]
    of_one = arrays.codes("MB3D", **{name: np.array(values, int)[one] for name, values in asked.items()})
    assert of_one.tolist() == arrays.codes_of([specs[index] for index in one]).tolist()


@pytest.fixture(params=["memory", "snapshot", "sql", "http", "search alone"])
def hold(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Makes a source of each kind that holds rows."""
    form = request.param
    with new_store(tmp_path) as store, HttpTable("http://service", transport=InProcess(create_app(store))) as over_rest:

        def held(rows: list[Entry]) -> Any:
            if form == "snapshot":
                write(tmp_path / "t.json", rows)
                return Snapshot(tmp_path / "t.json")
            store.put_many(rows if form in ("sql", "http") else [])
            return {"sql": store, "http": over_rest, "memory": MemoryTable(rows)}.get(form) or OnlySearch(rows)

        yield held


class OnlySearch(LatencySource):
    def __init__(self, rows: list[Entry]) -> None:
        self._table = MemoryTable(rows)
        self.search = self._table.search

    def find_many(self, *given: Any, **named: Any) -> list[Entry | None]:
        return self._table.find_many(*given, **named)


def placed_rows() -> list[Entry]:
    rows = [
        make_entry(float(w), MB3D.spec(w, 7), TARGET, kind="predicted" if w % 16 else "measured")
        for w in range(8, 200, 8)
    ]
    rows += [make_entry(9.0, MB3D.spec(8, 7), OTHER), make_entry(5.0, MB4D.spec(8, 7), TARGET, clock="instructions")]
    rows += [
        make_entry(1.0, MB3D.spec(8, 7), ANY, ran_on="ne"),
        make_entry(2.0, MB3D.spec(16, 7), ANY, ran_on="ne+cpu"),
    ]
    embedding = make_entry(3.0, EMBEDDING.spec(48, 56, width_out=96), TARGET)
    return [
        *rows,
        replace(embedding, latency=replace(embedding.latency, context_ns=2.5)),
        make_entry(4.0, MB3D.spec(24, 7), ANY),
    ]


def test_every_source_gives_the_same_arrays(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelut.arrays.COLUMNS_PAGE", 7)
    monkeypatch.setattr("edgelut.arrays.ENTRIES_PAGE", 7)
    rows = placed_rows()
    source = hold(rows)
    asked = [*(entry.spec for entry in rows), SPEC, EMBEDDING.spec(48, 56, width_out=80)]
    for target in (TARGET, OTHER, ANY):
        same_answers(source, source.arrays(target), asked)
        for unit in ("ne", "cpu", "NE+CPU"):
            same_answers(source, source.arrays(target, require_unit=unit), asked, unit)
    assert len(source.arrays(replace(TARGET, device="nobody's"))) == 0
    assert len(source.arrays(TARGET)) == 26
    assert (len(source.arrays(ANY, require_unit="ne")), source.arrays(ANY, require_unit="ne").left_out) == (1, 2)
    assert source.arrays(TARGET).ns(source.arrays(TARGET).codes("embedding", 48, 56, width_out=96), "each") == 2.5


def test_what_is_missing_is_named_the_first_eight_of_it() -> None:
    arrays = MemoryTable(placed_rows()).arrays(TARGET)
    assert arrays.get_codes("MB3D", [8, 16], 7).tolist() == arrays.codes("MB3D", [8, 16], 7).tolist()
    with pytest.raises(LatencyNotFound, match=r"MB3D 201 @7, .*MB3D 208 @7 and 2 more on phone/.*edgelut profile"):
        arrays.get_codes("MB3D", [8, *range(201, 211), 201], 7)
    with pytest.raises(LatencyNotFound, match="embedding 48->80 @56 x2"):
        arrays.get_codes("embedding", 48, 56, width_out=[80], batch=2)
    with pytest.raises(LatencyNotFound, match="MB3D -8->-8 @7"):
        arrays.get_codes("MB3D", -8, 7)
    with pytest.raises(LatencyNotFound, match="MB4D 96 @7"):
        arrays.get_codes(["MB3D", "MB4D"], [8, 96], 7)


def test_a_row_that_ran_elsewhere_is_missing_or_named_with_what_it_ran_on() -> None:
    arrays = MemoryTable(placed_rows()).arrays(ANY, require_unit="ne")
    assert arrays.codes("MB3D", [8, 16, 24], 7).tolist()[1:] == [-1, -1]
    with pytest.raises(
        OtherUnit, match=r"MB3D 16 @7, MB3D 24 @7 on .* ran on ne\+cpu, a unit that is not known"
    ) as caught:
        arrays.get_codes("MB3D", [8, 16, 24], 7)
    assert caught.value.ran_on == ("ne+cpu",)


def test_a_kind_or_parameter_that_nobody_knows_is_refused_and_defaults_are_filled_in() -> None:
    own = BlockSpec("own", 8, 8, 7, params=Params({"k": 3}))
    small = make_entry(7.0, MB3D.spec(8, 7, params={"expansion": 2}))
    arrays = MemoryTable([make_entry(1.0, own), small, make_entry(3.0, MB3D.spec(8, 7))]).arrays(TARGET)
    assert arrays.ns(arrays.codes("MB3D", [8], 7, params={"expansion": 2.0})) == [7.0]
    assert arrays.ns(arrays.codes("own", [8], 7, params={"k": 3})) == [1.0]
    assert arrays.codes("own", 8, 7).tolist() == arrays.codes("MB4D", 8, 7).tolist() == -1
    with pytest.raises(UnknownKind, match=r"'mb3d'.*MB3D.*own"):
        arrays.codes("mb3d", 8, 7)
    with pytest.raises(InvalidSpec, match="has no parameter 'pool'"):
        arrays.codes("MB3D", 8, 7, params={"pool": 3})
    with pytest.raises(InvalidSpec, match="width_in must be whole numbers, not float64"):
        arrays.codes("MB3D", 8.0, 7)  # type: ignore[arg-type]


def test_numbers_and_arrays_are_broadcast() -> None:
    arrays = MemoryTable([make_entry(float(w * r), MB3D.spec(w, r)) for w in (8, 16) for r in (7, 14)]).arrays(TARGET)
    grid = arrays.ns(arrays.codes("MB3D", [[8], [16]], [7, 14, 28]))
    assert grid.shape == (2, 3) and grid[:, :2].tolist() == [[56, 112], [112, 224]] and np.isnan(grid[:, 2]).all()
    assert arrays.codes(["MB3D", "MB4D"], 8, [7, 7]).tolist()[1] == -1
    assert arrays.codes("MB3D", [], 7).shape == (0,)


def chained(
    p10_ns: float, slope_ns: float | None, width: int, context_ns: float | None = None, **changes: Any
) -> Entry:
    entry = make_entry(p10_ns, changes.pop("spec", MB3D.spec(width, 7)), **changes)
    return replace(entry, latency=replace(entry.latency, slope_ns=slope_ns, context_ns=context_ns))


def test_a_sum_takes_what_compose_takes_and_a_missing_row_makes_it_nan() -> None:
    specs = [MB3D.spec(8, 7, params={"expansion": expansion}) for expansion in (1, 2, 3, 4, 5)]
    given = [(10.0, 11.0, 99.0), (20.0, None, 22.0), (40.0, None, None), (1.0, -0.5, None)]
    rows = [
        chained(p10, slope, 8, context, spec=spec) for spec, (p10, slope, context) in zip(specs, given, strict=False)
    ]
    table = MemoryTable(rows)
    arrays = table.arrays(TARGET)
    lines = [[0, 1, 2], [0, 0, 3], [0, 0, 4]]
    networks = [NetworkSpec(tuple(specs[one] for one in line)) for line in lines]
    codes = np.array([arrays.codes_of(network.blocks) for network in networks])
    composed = [compose(one, TARGET, table).total_ns for one in networks[:2]]
    assert arrays.sums_ns(codes)[:2] == pytest.approx(composed)
    assert np.isnan(arrays.sums_ns(codes)[2])
    assert arrays.sums_ns(codes, "p10")[0] == 70.0
    assert arrays.sums_ns(codes[0]) == 73.0


def test_padding_counts_nothing_and_only_where_it_is_said_to_be_padding() -> None:
    arrays = MemoryTable([chained(10.0, 11.0, 8)]).arrays(TARGET)
    assert arrays.sums_ns([[0, 0, PADDING], [0, -1, PADDING]], padding=PADDING)[0] == 22.0
    assert np.isnan(arrays.sums_ns([[0, 0, PADDING], [0, -1, PADDING]], padding=PADDING)[1])
    assert arrays.sums_ns([[0, -1]], padding=-1) == [11.0]
    assert np.isnan(arrays.sums_ns([[0, -1]])).all()
    with pytest.raises(InvalidSpec, match="padding that was not named"):
        arrays.sums_ns([[0, PADDING]])
    with pytest.raises(InvalidSpec, match="padding is a code that no row has"):
        arrays.sums_ns([[0, 0]], padding=0)
    with pytest.raises(InvalidSpec, match="list of codes"):
        arrays.sums_ns(0)


@pytest.mark.parametrize("codes", [[1], [-2], [0, 5], [[0], [-7]]])
def test_a_code_that_is_no_rows_is_refused(codes: Any) -> None:
    arrays = MemoryTable([chained(10.0, 11.0, 8)]).arrays(TARGET)
    for ask in (arrays.ns, arrays.kinds, arrays.estimated, arrays.instructions):
        with pytest.raises(InvalidSpec, match="another table's"):
            ask(codes)
    with pytest.raises(InvalidSpec, match="whole numbers"):
        arrays.ns([0.0])
    with pytest.raises(InvalidSpec, match="there is no figure 'p50'; there are p10, each"):
        arrays.ns([0], "p50")  # type: ignore[arg-type]
    with pytest.raises(LatencyNotFound, match="missing row"):
        arrays.spec(-1)


def test_counts_are_never_times_and_emulated_times_are_never_added() -> None:
    rows = [
        chained(10.0, 11.0, 8),
        chained(5.0, None, 16, clock="instructions"),
        chained(7.0, None, 24, kind="emulated"),
    ]
    arrays = MemoryTable(rows).arrays(TARGET)
    time, count, emulated, missing = arrays.codes("MB3D", [8, 16, 24, 32], 7).tolist()
    assert arrays.ns([time, emulated]).tolist() == [10.0, 7.0]
    with pytest.raises(UnlikeMeasures, match=r"take `instructions` \(MB3D 16 @7\)"):
        arrays.ns([time, count])
    with pytest.raises(UnlikeMeasures, match="no times of any device"):
        arrays.sums_ns([[time, count]])
    with pytest.raises(InvalidSpec, match="never added up"):
        arrays.sums_ns([[time, emulated]])
    assert arrays.sums_instructions([[count, count, PADDING]], padding=PADDING) == [10.0]
    assert np.isnan(arrays.sums_instructions([[count, missing]])).all()
    with pytest.raises(UnlikeMeasures, match="are times"):
        arrays.sums_instructions([[count, time]])
    assert arrays.sums_ns([[time, time]]) == [22.0]


def test_arrays_stay_as_they_were_when_they_were_read() -> None:
    table = MemoryTable([make_entry(1.0, MB3D.spec(8, 7))])
    arrays = table.arrays(TARGET)
    table.put_many([make_entry(2.0, MB3D.spec(8, 7)), make_entry(3.0, MB3D.spec(16, 7))])
    assert arrays.ns(arrays.codes("MB3D", [8], 7)) == [1.0] and arrays.codes("MB3D", 16, 7) == -1
    arrays.ns([0])[0] = 9.0  # an array of the caller's own
    assert arrays.ns([0]) == [1.0]
    assert repr(arrays) == f"TableArrays('{TARGET}', rows=1)"


def test_a_source_that_can_only_look_up_says_what_to_do() -> None:
    class Only(LatencySource):
        def find_many(self, specs: Any, target: Any, *, require_unit: Any = None) -> list[Entry | None]:
            return [None for _ in specs]

    with pytest.raises(InvalidSpec, match=r"a Only cannot list its rows.*snapshot"):
        Only().arrays(TARGET)
