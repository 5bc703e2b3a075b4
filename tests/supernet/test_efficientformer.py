"""The assembled network: its published numbers, its shapes in every form of it, and what it does in training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgelut.blocks import MB3D, MB4D
from edgelut.efficientformer import CONFIGS, Config, get_config, network
from edgelut.errors import InvalidSpec
from edgelut.types import NetworkSpec
from supernet import blocks
from supernet.efficientformer import EfficientFormer, build_network

# parameters, without the distillation head, giga-MACs, with attention's products
PUBLISHED = {
    "L1": (12_289_928, 11_840_928, 1.28821, 1.29128),
    "L3": (31_406_000, 30_893_000, 3.89428, 3.90657),
    "L7": (82_229_328, 81_460_328, 10.09474, 10.11933),
}
SMALL = Config((16, 24, 32, 48), (1, 2, 3, 2), 1, resolution=64, classes=10)
FORMS = {
    "attention in stage 4": SMALL,
    "all of stage 4": replace(SMALL, mb3d=2),
    "attention back into stage 3": replace(SMALL, mb3d=4),
    "all of stages 3 and 4": replace(SMALL, mb3d=5),
    "no attention": replace(SMALL, mb3d=0),
    "no distillation": replace(SMALL, distillation=False),
    "stem of stride 2": replace(SMALL, stem_stride=2, resolution=32),
    "stem of stride 1": replace(SMALL, stem_stride=1, resolution=16),
    "batch of 3": replace(SMALL, batch=3),
}
every_form = pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)


def images(config: Config, seed: int = 0) -> Tensor:
    return blocks.example_inputs(network(config).blocks[0], seed)["x"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_have_their_published_size_and_work(name: str) -> None:
    config = get_config(name)
    params, without, macs, with_attention = PUBLISHED[name]
    for spec, expected in (
        (network(config), params),
        (network(replace(config, distillation=False)), without),
    ):
        assert sum(map(blocks.parameters, spec.blocks)) == expected
        with torch.device("meta"):
            assert sum(value.numel() for value in EfficientFormer(spec).parameters()) == expected
    assert round(sum(map(blocks.macs, network(config).blocks)) / 1e9, 5) == macs
    counted = sum(blocks.macs(block, attention=True) for block in network(config).blocks)
    assert round(counted / 1e9, 5) == with_attention


@every_form
def test_every_form_of_the_network_gives_logits_that_depend_on_the_image(config: Config) -> None:
    model = build_network(config)
    assert model.spec == network(config) and not model.training
    with torch.no_grad():
        one, two = model(images(config)), model(images(config, seed=1))
    assert one.shape == (config.batch, 10)
    assert float((one - two).abs().max()) > 1e-3


@every_form
def test_a_network_is_its_blocks_in_sequence(config: Config) -> None:
    spec = network(config)
    x, seen = images(config), []
    with torch.no_grad():
        for block in spec.blocks:
            x = blocks.build(block, seed=3, copy=seen.count(block))(x)
            seen.append(block)
        assert torch.equal(build_network(spec, seed=3)(images(config)), x)


def test_equal_blocks_of_a_network_have_distinct_weights() -> None:
    model = build_network(SMALL)
    same = [block for block in model.blocks if isinstance(block, blocks.Block) and block.spec == MB4D.spec(24, 8)]
    assert len(same) == 2
    assert not torch.equal(same[0].get_parameter("fc1.weight"), same[1].get_parameter("fc1.weight"))


def test_training_returns_both_heads_and_reaches_every_parameter() -> None:
    model = EfficientFormer(network(replace(SMALL, mb3d=4, batch=4)))
    assert model.training
    logits, distilled = model(images(replace(SMALL, batch=4)))
    (logits.square().mean() + distilled.square().mean()).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_a_network_without_distillation_returns_its_logits_in_training() -> None:
    config = replace(SMALL, distillation=False, batch=2)
    assert EfficientFormer(network(config))(images(config)).shape == (2, 10)


def test_drop_path_rises_linearly_over_the_residual_blocks() -> None:
    model = build_network(replace(SMALL, mb3d=3), init="paper", drop_path=0.7)
    found = [(block.residual, block.drop_rate) for block in model.blocks if isinstance(block, blocks.Block)]
    assert [rate for residual, rate in found if residual] == pytest.approx([0.1 * index for index in range(8)])
    assert {rate for residual, rate in found if not residual} == {0.0}


def test_drop_path_changes_training_and_not_evaluation() -> None:
    config = replace(SMALL, batch=8)
    plain, dropping = build_network(config), build_network(config, drop_path=0.5)
    with torch.no_grad():
        assert torch.equal(plain(images(config)), dropping(images(config)))
        torch.manual_seed(0)
        assert not torch.equal(plain.train()(images(config))[0], dropping.train()(images(config))[0])


def test_networks_are_named_as_published_and_paper_weights_are_repeatable() -> None:
    assert {get_config(name).name for name in PUBLISHED} == set(CONFIGS)
    one, two, other = (build_network(SMALL, seed, init="paper").state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not torch.equal(one["blocks.0.conv1.weight"], other["blocks.0.conv1.weight"])


def test_blocks_that_do_not_fit_each_other_are_refused() -> None:
    spec = NetworkSpec((MB4D.spec(16, 4), MB3D.spec(16, 4)))
    with pytest.raises(
        InvalidSpec, match=r"block 0 \(MB4D 16 @4\) gives \(1, 16, 4, 4\), but block 1 .* reads \(1, 16, 16\)"
    ):
        build_network(spec)


def test_a_whole_network_exports_as_one_program() -> None:
    model, x = build_network(replace(SMALL, mb3d=4)), images(SMALL)
    program = torch.export.export(model, (x,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x))
