"""Slimming takes what costs least accuracy a millisecond, keeps to its guards, and goes on after a kill to the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgelut.compose import IncompleteNetwork
from edgelut.efficientformer import Config, get_config, network
from edgelut.errors import UnlikeMeasures
from edgelut.table import MemoryTable
from edgelut.types import BlockSpec, Entry, Latency, Target
from search.latency import LatencyModel, Space, missing_blocks
from search.slimming import (
    ROUNDS,
    Round,
    SearchUnlike,
    SlimSettings,
    TargetOutOfReach,
    path_importance,
    read_rounds,
    slim,
    stage_importance,
)
from supernet.slim import channel_importance, extract
from supernet.supernet import Supernet

TARGET = Target("phone", "onnxruntime-native")
CONFIG = Config((32, 32, 48, 48), (2, 2, 2, 2), 0, resolution=64, classes=10, distillation=False)
SPACE = Space(CONFIG)


def cost_ns(spec: BlockSpec) -> float:
    """A device on which MB3D is dear and width costs."""
    each = {"MB4D": 1.0, "MB3D": 4.0}.get(spec.kind, 0.5)
    return 1e4 * each * (spec.width_in + spec.width_out) if spec.kind != "flat" else 1e3


def table(space: Space = SPACE, without: Callable[[BlockSpec], bool] = lambda _: False) -> MemoryTable:
    rows = []
    for spec in space.blocks():
        ns = cost_ns(spec)
        latency = Latency(ns, ns, ns, ns, ns, 16, 100, slope_ns=ns if spec.kind in ("MB4D", "MB3D") else None)
        latency = replace(latency, context_ns=None if latency.slope_ns else ns)
        if not without(spec):
            rows.append(Entry(spec, TARGET, latency))
    return MemoryTable(rows)


def supernet(seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    net = Supernet(CONFIG)
    with torch.no_grad():
        for alpha in net.alphas():
            alpha.copy_(torch.randn(len(alpha)))
    return net.eval()


def by_parameters(model: nn.Module) -> float:
    """An accuracy that falls with what is taken away."""
    return sum(value.numel() for value in model.parameters()) / 1e6


def channels(model: nn.Module) -> list[Tensor]:
    return channel_importance(model, "l1")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def latency() -> LatencyModel:
    return LatencyModel(table(), TARGET, SPACE)


def full_ms(net: Supernet, latency: LatencyModel) -> float:
    return latency.latency_ms(net.full().config(CONFIG))


def test_the_paper_s_space_needs_the_rows_that_were_counted() -> None:
    blocks = Space(replace(get_config("L7"), mb3d=0, name="")).blocks()
    counted = {kind: sum(one.kind == kind for one in blocks) for kind in ("MB4D", "MB3D", "stem")}
    assert counted == {"MB4D": 90, "MB3D": 72, "stem": 6}
    pairs = {(one.width_in, one.width_out, one.resolution) for one in blocks if one.kind == "embedding"}
    assert len(pairs) == 6 * 12 + 12 * 24 + 24 * 48 == 1512
    assert len({one.width_in for one in blocks if one.kind == "head"}) == 48


def test_a_network_s_latency_is_the_sum_of_its_rows(latency: LatencyModel) -> None:
    config = Config((16, 32, 32, 48), (1, 2, 1, 2), 2, resolution=64, classes=10, distillation=False)
    expected = sum(cost_ns(one) for one in network(config).blocks) / 1e6
    assert latency.latency_ms(config) == pytest.approx(expected)
    before = latency.lookups
    assert latency.latency_ms(config) == pytest.approx(expected) and latency.lookups == before  # remembered


def test_what_the_table_lacks_is_told_before_the_search_and_counts_as_nothing_less() -> None:
    def is_wide(spec: BlockSpec) -> bool:
        return spec.kind == "MB3D" and spec.width_in == 48

    with pytest.raises(IncompleteNetwork, match=r"lacks 2 of them \(MB3D\): MB3D 48 .*'edgelut profile") as caught:
        LatencyModel(table(without=is_wide), TARGET, SPACE)
    assert {one.width_in for one in caught.value.missing} == {48}
    assert missing_blocks(table(without=is_wide), TARGET, SPACE) == list(caught.value.missing)
    assert missing_blocks(table(), TARGET, SPACE) == []


def test_counts_of_instructions_are_no_latency_to_search_by() -> None:
    rows = []
    for spec in SPACE.blocks():
        counted = Latency(1e6, 1e6, 1e6, 1e6, 1e6, 3, 3, "instructions", slope_ns=1e6)
        rows.append(Entry(spec, TARGET, counted, "emulated"))
    with pytest.raises(UnlikeMeasures):
        LatencyModel(MemoryTable(rows), TARGET, SPACE)


def test_importance_is_as_published_and_as_normalised() -> None:
    net = Supernet(CONFIG)  # all alphas equal
    assert [path_importance(net.paths(stage)[0], "published") for stage in range(4)] == pytest.approx([1, 1, 2, 2])
    assert [path_importance(net.paths(stage)[0], "normalised") for stage in range(4)] == pytest.approx([1, 1, 1, 1])
    state = net.full()
    assert [stage_importance(net, state, stage, "published") for stage in range(4)] == pytest.approx([2, 2, 4, 4])
    assert [stage_importance(net, state, stage, "normalised") for stage in range(4)] == pytest.approx([1, 1, 1, 1])
    with torch.no_grad():
        net.paths(2)[1].alpha.copy_(torch.tensor([1.0, 0.5, -1.0]))
    p4, p3, none = net.paths(2)[1].probabilities().tolist()
    assert path_importance(net.paths(2)[1], "published") == pytest.approx((p4 + p3) / none)


def test_each_round_takes_the_action_that_loses_least_a_millisecond(latency: LatencyModel, tmp_path: Path) -> None:
    net = supernet()
    target = full_ms(net, latency) / 2
    rounds = slim(net, latency, target, by_parameters, channels, tmp_path)
    assert rounds[-1].latency_ms <= target < rounds[-2].latency_ms
    assert len(rounds) > 5 and rounds[-1].chosen is None
    for before, after in pairwise(rounds):
        assert before.chosen is not None
        taken = before.actions[before.chosen]
        assert taken.score == min(one.score for one in before.actions)
        assert (after.state, after.latency_ms) == (taken.state, pytest.approx(taken.latency_ms))
        assert after.latency_ms < before.latency_ms
        for one in before.actions:
            assert one.drop == pytest.approx(before.accuracy - by_parameters(extract(net, one.state)))
            assert latency.latency_ms(one.state.config(CONFIG)) == pytest.approx(one.latency_ms)
    assert {one.kind for one in rounds[0].actions} == {"depth", "mb3d", "width"}


def test_the_depth_action_leaves_out_the_least_important_block(latency: LatencyModel, tmp_path: Path) -> None:
    net = supernet()
    first = slim(net, latency, full_ms(net, latency) * 0.99, by_parameters, channels, tmp_path)[0]
    depth = next(one for one in first.actions if one.kind == "depth")
    ranked = sorted((path_importance(path, "published"), stage, position) for stage, position, path in net.places())
    _, stage, position = ranked[0]
    assert position not in depth.state.kept[stage] and sum(depth.state.depths) == 7
    mb3d = next(one for one in first.actions if one.kind == "mb3d")
    assert mb3d.state.kinds()[2, 0] == "MB4D" and mb3d.state.mb3d == 3


def test_guards_hold_to_the_end(latency: LatencyModel, tmp_path: Path) -> None:
    net = supernet(1)
    with pytest.raises(TargetOutOfReach, match=r"no network of the space is as fast as 0.01 ms .* ended at"):
        slim(net, latency, 0.01, by_parameters, channels, tmp_path)
    last = read_rounds(tmp_path)[-1]
    assert last.state.depths == (1, 1, 1, 1) and last.state.mb3d == 0 and last.state.widths == (16, 16, 16, 16)
    assert all(action.saving_ms > 0 for one in read_rounds(tmp_path) for action in one.actions)


def test_an_action_that_saves_nothing_is_none(tmp_path: Path) -> None:
    rows = []
    for entry in table().find_many(SPACE.blocks(), TARGET):
        assert entry is not None
        if entry.spec.kind == "MB3D":  # free here: to make it an MB4D would cost
            entry = replace(entry, latency=replace(entry.latency, slope_ns=1.0))
        rows.append(entry)
    net, cheap = supernet(), LatencyModel(MemoryTable(rows), TARGET, SPACE)
    rounds = slim(net, cheap, full_ms(net, cheap) * 0.6, by_parameters, channels, tmp_path)
    assert not any(action.kind == "mb3d" for one in rounds for action in one.actions)


def test_a_search_that_is_cut_off_goes_on_to_the_same_network(latency: LatencyModel, tmp_path: Path) -> None:
    net = supernet()
    target = full_ms(net, latency) * 0.6
    whole = slim(net, latency, target, by_parameters, channels, tmp_path / "whole")
    seen: list[int] = []

    def stop(one: Round) -> None:
        if one.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slim(net, latency, target, by_parameters, channels, tmp_path / "cut", watch=stop)
    with (tmp_path / "cut" / ROUNDS).open("a") as file:
        file.write('{"round": 4, "latency')

    def count(model: nn.Module) -> float:
        seen.append(1)
        return by_parameters(model)

    again = slim(net, latency, target, count, channels, tmp_path / "cut")
    assert again == whole and len(seen) == sum(len(one.actions) for one in whole[4:])
    assert read_rounds(tmp_path / "cut") == whole
    with pytest.raises(SearchUnlike, match="another target_ms: give another folder"):
        slim(net, latency, target / 2, by_parameters, channels, tmp_path / "cut")


def test_it_is_the_same_for_the_same_supernet(latency: LatencyModel, tmp_path: Path) -> None:
    target = full_ms(supernet(), latency) * 0.6
    one, other = (
        slim(supernet(), latency, target, by_parameters, channels, tmp_path / name) for name in ("one", "other")
    )
    assert one == other
    settings = SlimSettings(importance="normalised")
    third = slim(supernet(), latency, target, by_parameters, channels, tmp_path / "third", settings)
    assert third[-1].latency_ms <= target


def test_what_lies_beyond_the_target_counts_only_where_it_is_asked_for(latency: LatencyModel, tmp_path: Path) -> None:
    net = supernet()
    target_ms = 0.9 * full_ms(net, latency)
    published, capped = (
        slim(net, latency, target_ms, by_parameters, channels, tmp_path / str(one), SlimSettings(overshoot=one))[-2]
        for one in (True, False)
    )
    assert all(action.counted_ms == action.saving_ms for action in published.actions)
    assert all(
        action.counted_ms == pytest.approx(min(action.saving_ms, capped.latency_ms - target_ms))
        for action in capped.actions
    )
    assert any(action.counted_ms < action.saving_ms for action in capped.actions)
