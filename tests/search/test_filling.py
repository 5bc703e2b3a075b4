"""A search fills its table's gaps: by measuring all, by estimates, or by measuring as much as estimates need."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.engine import SqlStore, open_store
from edgelut.compose import IncompleteNetwork, compose
from edgelut.efficientformer import Config, network
from edgelut.errors import InvalidSpec
from edgelut.features import fields
from edgelut.sequences import repeats
from edgelut.table import LatencyTable, MemoryTable
from edgelut.types import BlockSpec, Entry, Latency, Target
from search import presets
from search.filling import LEAST, Estimating, chosen, fill, spread
from search.latency import LatencyModel, Space, missing_blocks

TARGET = Target("phone", "onnxruntime-native")
SPACE = Space(Config((48, 64, 96, 128), (2, 2, 2, 2), 0, resolution=64, classes=10, distillation=False))
BLOCKS = SPACE.blocks()


def cost_ns(spec: BlockSpec, target: Target = TARGET) -> float:
    """A device on which time goes by multiply-adds."""
    each = {"MB4D": 8.0, "MB3D": 12.0, "flat": 0.1}.get(spec.kind, 1.0)
    slower = 3.0 if target != TARGET else 1.0
    return slower * (1e3 + each * spec.width_in * spec.width_out * spec.resolution)


def entry(spec: BlockSpec, target: Target = TARGET) -> Entry:
    ns = cost_ns(spec, target)
    latency = Latency(ns, ns, ns, ns, ns, 16, 100)
    own = {"slope_ns": 1.1 * ns} if repeats(spec) else {"context_ns": 0.9 * ns}
    return Entry(spec, target, replace(latency, **own))


@dataclass
class Device:
    """Measures what it is asked to, but for what it cannot."""

    table: LatencyTable = field(default_factory=MemoryTable)
    asked: list[list[BlockSpec]] = field(default_factory=list)
    fails: Callable[[BlockSpec], bool] = lambda _: False
    told: list[str] = field(default_factory=list)

    def measure(self, specs: Sequence[BlockSpec]) -> None:
        self.asked.append(list(specs))
        self.table.put_many([entry(spec) for spec in specs if not self.fails(spec)])

    def fill(self, estimating: Estimating | None, *, measures: bool = True) -> LatencyModel:
        measure = self.measure if measures else None
        model, source = fill(self.table, TARGET, SPACE, measure=measure, estimating=estimating, tell=self.told.append)
        self.source = source
        return model


def test_without_estimates_everything_that_is_missing_is_measured() -> None:
    device = Device(MemoryTable([entry(spec) for spec in BLOCKS[:10]]))
    model = device.fill(None)
    assert device.asked == [BLOCKS[10:]] and model.estimated == 0 and device.source is device.table
    assert device.told == [f"measuring {len(BLOCKS) - 10} rows that the table lacks"]


def test_with_both_as_much_is_measured_as_estimates_need_and_sums_come_near() -> None:
    device = Device()
    model = device.fill(Estimating(0.35))
    measured = {spec for part in device.asked for spec in part}
    assert len(chosen(BLOCKS, 0.35)) <= len(measured) < 0.6 * len(BLOCKS)
    assert device.told[0] == (
        f"measuring {len(device.asked[0])} rows that the table lacks, and estimating the other "
        f"{len(BLOCKS) - len(device.asked[0])}"
    )
    assert model.estimated == len(BLOCKS) - len(measured) == sum(one.kind != "measured" for one in model.rows.values())
    assert missing_blocks(device.source, TARGET, SPACE) == []
    truth = LatencyModel(MemoryTable(map(entry, BLOCKS)), TARGET, SPACE)
    draw = random.Random(0)
    for _ in range(50):
        widths = tuple(draw.choice(SPACE.widths(stage)) for stage in range(4))
        config = replace(SPACE.config, widths=widths, mb3d=draw.randint(0, 4))  # type: ignore[arg-type]
        assert model.latency_ms(config) == pytest.approx(truth.latency_ms(config), rel=0.03)
        found = compose(network(config), TARGET, device.source)
        assert found.guessed_ns > 0 or all(part.entry.kind == "measured" for part in found.parts)


def test_a_larger_share_measures_more_and_all_of_it_estimates_nothing() -> None:
    device = Device()
    assert device.fill(Estimating(1.0)).estimated == 0
    assert len(device.asked) == 1 and set(device.asked[0]) == set(BLOCKS)


def test_a_search_that_was_cut_off_while_measuring_goes_on_with_the_same_blocks() -> None:
    whole, cut = Device(), Device()
    expected = whole.fill(Estimating())
    cut.table.put_many([entry(spec) for spec in whole.asked[0][::3]])
    found = cut.fill(Estimating())
    assert set(cut.asked[0]) == set(whole.asked[0]) - set(whole.asked[0][::3])
    assert {spec: one.latency for spec, one in found.rows.items()} == {
        spec: one.latency for spec, one in expected.rows.items()
    }
    assert cut.fill(Estimating()).estimated == found.estimated and len(cut.asked) == len(whole.asked)


def test_without_measuring_what_can_be_estimated_is_and_the_rest_is_told_with_why_not() -> None:
    device = Device(MemoryTable([entry(spec) for spec in chosen(BLOCKS, 0.35) if spec.kind != "flat"]))
    flats = [spec for spec in BLOCKS if spec.kind == "flat"]
    with pytest.raises(IncompleteNetwork, match="0 rows of flat were measured there, and 5 are needed") as caught:
        device.fill(Estimating(), measures=False)
    assert set(flats) <= set(caught.value.missing) and not device.asked and not device.told
    assert "'edgelut search slim --measure-missing --estimate-missing' what is needed" in str(caught.value)
    with pytest.raises(IncompleteNetwork, match="'edgelut search slim --measure-missing' all") as plain:
        device.fill(None, measures=False)
    assert len(plain.value.missing) > len(caught.value.missing)


def test_a_row_that_cannot_be_measured_either_is_told_and_not_asked_for_for_ever() -> None:
    device = Device(fails=lambda spec: spec.kind == "stem")
    with pytest.raises(IncompleteNetwork, match="0 rows of stem were measured there") as caught:
        device.fill(Estimating())
    assert {spec.kind for spec in caught.value.missing} == {"stem"} and len(device.asked) == 2


def test_another_target_s_table_helps_where_it_is_named() -> None:
    other = Target("other", "onnxruntime-native")
    rows = [entry(spec) for kind in ("MB4D", "MB3D") for spec in BLOCKS if spec.kind == kind][::2]
    device = Device(MemoryTable([*rows, *(entry(spec, other) for spec in BLOCKS)]))
    with pytest.raises(IncompleteNetwork):
        device.fill(Estimating(), measures=False)
    device.table.put_many([entry(spec) for kind in {one.kind for one in BLOCKS} for spec in _of(kind)[:2]])
    model = device.fill(Estimating(like=other), measures=False)
    assert {one.kind for one in model.rows.values()} >= {"measured", "transferred"}


def _of(kind: str) -> list[BlockSpec]:
    return [spec for spec in BLOCKS if spec.kind == kind]


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest) -> SqlStore:
    found = open_store(f"sqlite:///{tmp_path / 'edgelut.db'}", migrate=True)
    request.addfinalizer(found.close)
    return found


def test_a_database_is_filled_like_a_table_in_memory(store: SqlStore) -> None:
    device, memory = Device(store), Device()
    found, expected = device.fill(Estimating()), memory.fill(Estimating())
    assert found.estimated == expected.estimated and device.asked == memory.asked
    full = SPACE.config
    assert found.latency_ms(full) == pytest.approx(expected.latency_ms(full))


@settings(deadline=None)
@given(share=st.floats(0.01, 1.0), more=st.floats(0.0, 0.5), order=st.randoms(use_true_random=False))
def test_what_is_chosen_holds_what_repeats_and_every_kind_and_grows_with_the_share(
    share: float, more: float, order: random.Random
) -> None:
    shuffled = order.sample(BLOCKS, len(BLOCKS))
    found = chosen(shuffled, share)
    assert found == chosen(BLOCKS, share) and len(set(found)) == len(found)
    assert set(found) <= set(chosen(BLOCKS, min(share + more, 1.0)))
    assert {spec for spec in BLOCKS if repeats(spec)} <= set(found)
    for kind in {spec.kind for spec in BLOCKS}:
        assert sum(spec.kind == kind for spec in found) >= min(LEAST, len(_of(kind)))
    assert len(found) >= round(share * len(BLOCKS))


@pytest.mark.parametrize("kind", ["embedding", "head", "flat"])
def test_the_first_blocks_of_a_kind_are_at_the_ends_of_all_its_fields(kind: str) -> None:
    ordered = spread(_of(kind))
    assert set(ordered) == set(_of(kind)) and len(ordered) == len(_of(kind))
    first = [fields(spec) for spec in ordered[:LEAST]]
    for name in first[0]:
        values = {fields(spec)[name] for spec in ordered}
        ends = values if any(isinstance(value, str) for value in values) else {min(values), max(values)}  # type: ignore[type-var]
        assert ends <= {row[name] for row in first}, name


def test_nothing_of_a_space_is_estimated_beyond_what_was_measured() -> None:
    model = Device().fill(Estimating())
    assert {one.kind for one in model.rows.values()} == {"measured", "interpolated"}


def test_the_space_of_the_largest_network_needs_a_fifth_of_its_rows() -> None:
    blocks = presets.get("imagenet-l7").space.blocks()
    assert (len(blocks), len(chosen(blocks, 0.2))) == (3000, 600)


def test_a_share_is_between_nothing_and_all() -> None:
    for share in (0.0, -0.1, 1.1):
        with pytest.raises(InvalidSpec, match="above 0 and at most 1"):
            Estimating(share)
