from __future__ import annotations

from dataclasses import replace

import pytest

from edgelut import InvalidSpec, NetworkSpec, presets
from edgelut.efficientformer import CONFIGS, network
from edgelut.sequences import NETWORK, network_spec
from edgelut.slopes import with_needs


def test_random_networks_depend_on_the_seed_alone_and_are_distinct() -> None:
    drawn = presets.random_networks(30, seed=3)
    assert drawn == presets.random_networks(30, seed=3) and drawn[:7] == presets.random_networks(7, seed=3)
    assert len({one.key for one in drawn}) == 30
    assert drawn != presets.random_networks(30, seed=4)
    assert presets.random_networks(0, seed=3) == []


@pytest.mark.parametrize("seed", range(4))
def test_every_random_network_can_be_built_and_named_in_a_row(seed: int) -> None:
    supernet = pytest.importorskip("supernet.efficientformer", reason="needs torch")
    for drawn in presets.random_networks(25, seed):
        assert supernet.check(drawn) is drawn
        assert NETWORK.check(network_spec(drawn))
        kinds = [block.kind for block in drawn.blocks]
        assert (kinds[0], kinds[-1]) == ("stem", "head") and kinds.count("flat") <= 1


def test_one_of_them_is_built_and_gives_logits() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    from supernet.efficientformer import EfficientFormer

    smallest = min(presets.random_networks(20, seed=0), key=lambda one: len(one.blocks))
    with torch.device("meta"):
        module = EfficientFormer(smallest).eval()
        assert module(torch.empty(1, 3, 224, 224)).shape == (1, 1000)


def test_random_networks_share_blocks_so_that_their_table_stays_small() -> None:
    drawn = presets.random_networks(30, seed=0)
    distinct = {block for one in drawn for block in one.blocks}
    assert len(distinct) < sum(len(set(one.blocks)) for one in drawn) / 3
    assert {"MB3D", "MB4D"} <= {block.kind for block in distinct}
    assert any(block.params.get("layout") == "3d" for block in distinct if block.kind == "embedding")


def test_a_whole_network_is_a_published_one_by_name() -> None:
    assert presets.whole("L1") == network(CONFIGS["efficientformer-l1"])
    with pytest.raises(InvalidSpec, match="there are efficientformer-l1"):
        presets.whole("demo")


def test_networks_bring_their_blocks_and_themselves_each_once() -> None:
    one = presets.whole("L1")
    other = NetworkSpec(one.blocks, name="the same")
    found = presets.with_networks(one.blocks[:1], [one, replace(other)])
    assert found == [*dict.fromkeys(one.blocks), network_spec(one)]
    assert network_spec(one) in with_needs(found)
