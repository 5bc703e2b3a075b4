from __future__ import annotations

from collections.abc import Sequence

import pytest

from dashboard.ratios import column_of, columns, compare, group_of, percent
from dashboard.rows import Found
from edgelut.blocks import EMBEDDING, MB3D, MB4D, STEM
from edgelut.sequences import chain
from edgelut.types import BlockSpec, Clock, Entry, EntryKind, Latency, Params, Target

HERE, THERE = Target("one", "fast"), Target("other", "fast")


def row(
    spec: BlockSpec,
    ms: float,
    target: Target = HERE,
    *,
    half: float = 0.01,
    sweep: str = "s",
    doubts: Sequence[str] = (),
    clock: Clock = "cpu",
) -> Found:
    ns = ms * 1e6
    latency = Latency(
        ns, ns, ns, ns * (1 - half), ns * (1 + half), runs=8, samples=96, clock=clock, doubts=tuple(doubts)
    )
    kind: EntryKind = "emulated" if clock == "instructions" else "measured"
    return Found.of(Entry(spec, target, latency, kind, Params({"sweep": sweep})))


def blocks(count: int) -> list[BlockSpec]:
    return [MB4D.spec(16 * (one + 1), 28) for one in range(count)]


def test_a_difference_is_beyond_its_interval_or_not() -> None:
    specs = blocks(3)
    ones = [row(spec, 1.0) for spec in specs]
    others = [row(spec, ms, THERE) for spec, ms in zip(specs, (1.005, 1.10, 0.90), strict=True)]
    found = compare(ones, others)
    assert [round(pair.ratio, 3) for pair in found.pairs] == [1.005, 1.1, 0.9]
    assert [pair.beyond for pair in found.pairs] == [False, True, True]
    assert [pair.ratio < 1 for pair in found.movers] == [True, False, False]  # 10 % less is more than 10 % more
    assert found.movers[0].low < 0.9 < found.movers[0].high < 1


def test_rows_of_two_sessions_must_differ_by_more() -> None:
    (spec,) = blocks(1)
    same = compare([row(spec, 1.0)], [row(spec, 1.04, THERE)])
    apart = compare([row(spec, 1.0)], [row(spec, 1.04, THERE, sweep="t")])
    assert same.pairs[0].beyond and not apart.pairs[0].beyond


def test_the_common_factor_is_told_and_divided_out() -> None:
    specs = blocks(9)
    ones = [row(spec, 1.0) for spec in specs]
    others = [row(spec, 1.2 if number else 1.8, THERE) for number, spec in enumerate(specs)]
    found = compare(ones, others, without_common=True)
    assert found.common is not None and found.common.believed
    assert found.common.factor == pytest.approx(1.2) and found.common.spread == pytest.approx(0)
    assert [str(pair.spec) for pair in found.movers if pair.beyond] == [str(specs[0])]
    assert found.movers[0].ratio == pytest.approx(1.5)


def test_few_rows_have_no_common_factor_that_is_believed() -> None:
    specs = blocks(2)
    found = compare([row(spec, 1.0) for spec in specs], [row(spec, 2.0) for spec in specs], without_common=True)
    assert found.common is not None and not found.common.believed
    assert all(pair.ratio == pytest.approx(2) for pair in found.pairs)
    assert compare([], []).common is None


def test_what_one_side_lacks_is_listed() -> None:
    first, second, third = blocks(3)
    found = compare([row(first, 1.0), row(second, 1.0)], [row(second, 1.0), row(third, 1.0)])
    assert [*map(str, found.only_one), *map(str, found.only_other)] == [str(first), str(third)]
    assert [str(pair.spec) for pair in found.pairs] == [str(second)]


def test_counts_of_instructions_are_compared_with_counts_alone() -> None:
    (spec,) = blocks(1)
    counted = row(spec, 3.0, half=0.0, clock="instructions")
    found = compare([row(spec, 1.0)], [counted])
    assert not found.pairs and [str(one) for one in found.unlike] == [str(spec)]
    both = compare([counted], [row(spec, 3.001, half=0.0, clock="instructions", sweep="t")])
    assert both.pairs[0].beyond


def test_sequences_are_no_blocks_and_doubts_are_told() -> None:
    (spec,) = blocks(1)
    found = compare([row(spec, 1.0), row(chain(spec), 4.0)], [row(spec, 1.0, doubts=["hot"]), row(chain(spec), 4.0)])
    assert [pair.doubtful for pair in found.pairs] == [True]


def test_maps_are_by_kind_and_parameters_and_their_columns_by_width() -> None:
    assert group_of(MB4D.spec(48, 56)) == "MB4D"
    assert group_of(MB4D.spec(48, 56, batch=4, params={"expansion": 3})) == "MB4D expansion=3 batch=4"
    assert group_of(MB3D.spec(48, 7)) == "MB3D"
    specs = [EMBEDDING.spec(96, 28, width_out=224), EMBEDDING.spec(48, 56, width_out=96), STEM.spec(48, 224)]
    assert [column_of(spec) for spec in specs] == ["96>224", "48>96", "48"]
    assert columns(specs) == ["48", "48>96", "96>224"]
    assert percent(1.041) == "+4.1 %"
