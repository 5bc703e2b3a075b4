"""Each baseline keeps to the target, looks at no more networks than it may, and finds the same by the same seed."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
import torch
from torch import Tensor

from search import baselines
from search.baselines import Candidate, evolutionary, random_search, uniform
from search.latency import LatencyModel
from search.slimming import TargetOutOfReach, path_importance
from supernet.slim import channel_importance, extract
from supernet.supernet import Supernet
from tests.search.test_slimming import CONFIG, SPACE, TARGET, by_parameters, full_ms, table
from tests.search.test_slimming import supernet as fresh

Search = Callable[..., Candidate]
SEARCHES = pytest.mark.parametrize("search", [random_search, evolutionary])


@pytest.fixture(scope="module")
def latency() -> LatencyModel:
    return LatencyModel(table(), TARGET, SPACE)


@pytest.fixture(scope="module")
def net() -> Supernet:
    return fresh()


@pytest.fixture(scope="module")
def channels(net: Supernet) -> list[Tensor]:
    return channel_importance(extract(net, net.full()), "l1")


def test_uniform_scaling_takes_the_largest_factor_that_meets_the_target(net: Supernet, latency: LatencyModel) -> None:
    full = net.full()
    wanted = full_ms(net, latency) * 0.7
    found = uniform(net, latency, wanted)
    assert found.latency_ms <= wanted and found.accuracy is None
    assert (found.state.kept, found.state.mb3d) == (full.kept, full.mb3d)
    assert found.state.channels == tuple(tuple(range(width)) for width in found.state.widths)
    wider = uniform(net, latency, full_ms(net, latency) * 0.999).state.widths
    assert wider == (32, 32, 32, 32)  # at 5/6 of 48 the wide stages are half-way between 32 and 48
    assert uniform(net, latency, full_ms(net, latency)).state == full


def test_uniform_scaling_never_leaves_out_a_block(net: Supernet, latency: LatencyModel) -> None:
    least = uniform(net, latency, full_ms(net, latency) * 0.4)
    assert least.state.widths == (16, 16, 16, 16)
    with pytest.raises(
        TargetOutOfReach, match=r"however narrow: with all blocks of depths \(2, 2, 2, 2\) the least is"
    ):
        uniform(net, latency, least.latency_ms * 0.99)


@SEARCHES
def test_a_search_returns_the_best_of_as_many_networks_as_it_may_look_at(
    net: Supernet, latency: LatencyModel, channels: list[Tensor], search: Search
) -> None:
    wanted, seen = full_ms(net, latency) * 0.6, list[Candidate]()
    found = search(net, latency, wanted, by_parameters, 25, 0, channels=channels, watch=seen.append)
    assert len(seen) == 25 == len({one.state for one in seen})
    assert found.accuracy == max(by_parameters(extract(net, one.state)) for one in seen)
    for one in seen:
        assert one.latency_ms == latency.latency_ms(one.state.config(CONFIG)) <= wanted
        assert one.latency_ms >= wanted * 0.9


@SEARCHES
def test_the_seed_alone_decides(net: Supernet, latency: LatencyModel, channels: list[Tensor], search: Search) -> None:
    def states(seed: int) -> list[Candidate]:
        seen: list[Candidate] = []
        wanted = full_ms(net, latency) * 0.6
        search(net, latency, wanted, by_parameters, 12, seed, channels=channels, watch=seen.append)
        return seen

    torch.manual_seed(1)
    one = states(0)
    torch.manual_seed(2)
    assert states(0) == one and states(1) != one


@SEARCHES
def test_the_most_important_positions_and_channels_are_kept(
    net: Supernet, latency: LatencyModel, channels: list[Tensor], search: Search
) -> None:
    seen: list[Candidate] = []
    search(net, latency, full_ms(net, latency) * 0.5, by_parameters, 12, 3, channels=channels, watch=seen.append)
    one_block = {(stage, one.state.kept[stage]) for one in seen for stage in range(4) if one.state.depths[stage] == 1}
    for stage, kept in one_block:
        worth = [path_importance(path, "published") for path in net.paths(stage)]
        assert kept == (worth.index(max(worth)),)
    narrow = {(stage, one.state.channels[stage]) for one in seen for stage in range(4) if one.state.widths[stage] == 16}
    for stage, kept in narrow:
        assert set(kept) == set(channels[stage].sort(descending=True, stable=True).indices[:16].tolist())
    assert one_block and narrow


@SEARCHES
def test_a_target_that_nothing_meets_is_said(
    net: Supernet, latency: LatencyModel, channels: list[Tensor], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "PROPOSALS", 10)
    with pytest.raises(TargetOutOfReach, match=r"none of \d+ networks that were tried is as fast as 0.001 ms"):
        search(net, latency, 0.001, by_parameters, 3, 0, channels=channels)


@SEARCHES
def test_faster_networks_follow_where_few_are_near_the_target(
    net: Supernet, latency: LatencyModel, channels: list[Tensor], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "PROPOSALS", 5)
    wanted, seen = full_ms(net, latency) * 0.4, list[Candidate]()
    search(net, latency, wanted, by_parameters, 12, 0, channels=channels, watch=seen.append)
    away = [one.latency_ms for one in seen if one.latency_ms <= 0.9 * wanted]
    assert len(seen) == 12 and away and away == sorted(away, reverse=True)


def test_evolution_comes_closer_to_the_best_there_is_than_its_first_generation(
    net: Supernet, latency: LatencyModel, channels: list[Tensor]
) -> None:
    wanted, seen = full_ms(net, latency) * 0.6, list[Candidate]()
    found = evolutionary(net, latency, wanted, by_parameters, 30, 0, channels=channels, watch=seen.append)
    assert found.accuracy is not None
    first, last = ([one.accuracy or 0.0 for one in part] for part in (seen[:10], seen[-10:]))
    assert found.accuracy > max(first) and sum(last) / len(last) > sum(first) / len(first)


def test_evolution_leaves_the_logging_of_its_library_as_it_was(
    net: Supernet, latency: LatencyModel, channels: list[Tensor], capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    evolutionary(net, latency, full_ms(net, latency), by_parameters, 2, 0, channels=channels)
    assert optuna.logging.get_verbosity() == before and capfd.readouterr() == ("", "")
