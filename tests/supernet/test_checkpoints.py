"""Checkpoints as timm and the authors name them, written down here a second time and run without our modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgelut.blocks import MB4D, STEM
from edgelut.efficientformer import Config, get_config
from edgelut.types import NetworkSpec
from supernet import blocks, checkpoints
from supernet.checkpoints import CheckpointMismatch
from supernet.efficientformer import EfficientFormer, build_network

ENTRIES = {"L1": 281, "L3": 457, "L7": 649}
SMALL = Config((16, 24, 32, 48), (2, 1, 1, 3), 2, resolution=64, classes=10)
Shapes = Iterator[tuple[str, tuple[int, ...]]]
WORDS = {
    "timm": {
        "stem": ("stem.conv1", "stem.norm1", "stem.conv2", "stem.norm2"),
        "down": "stages.{0}.downsample.{1}",
        "conv": "conv",
        "block": "stages.{0}.blocks.{1}",
        "scales": ("ls1.gamma", "ls2.gamma"),
        "dist": "head_dist",
    },
    "official": {
        "stem": ("patch_embed.0", "patch_embed.1", "patch_embed.3", "patch_embed.4"),
        "down": "network.{2}.{1}",
        "conv": "proj",
        "block": "network.{2}.{1}",
        "scales": ("layer_scale_1", "layer_scale_2"),
        "dist": "dist_head",
    },
}


def affine(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def batch_norm(name: str, width: int) -> Shapes:
    yield from affine(name, width)
    yield f"{name}.running_mean", (width,)
    yield f"{name}.running_var", (width,)
    yield f"{name}.num_batches_tracked", ()


def block_4d(name: str, c: int) -> Shapes:
    yield from affine(f"{name}.mlp.fc1", 4 * c, c, 1, 1)
    yield from batch_norm(f"{name}.mlp.norm1", 4 * c)
    yield from affine(f"{name}.mlp.fc2", c, 4 * c, 1, 1)
    yield from batch_norm(f"{name}.mlp.norm2", c)


def block_3d(name: str, c: int, side: int) -> Shapes:
    yield from affine(f"{name}.norm1", c)
    yield from affine(f"{name}.token_mixer.qkv", 1536, c)
    yield from affine(f"{name}.token_mixer.proj", c, 1024)
    yield f"{name}.token_mixer.attention_biases", (8, side * side)
    yield f"{name}.token_mixer.attention_bias_idxs", (side * side, side * side)
    yield from affine(f"{name}.norm2", c)
    yield from affine(f"{name}.mlp.fc1", 4 * c, c)
    yield from affine(f"{name}.mlp.fc2", c, 4 * c)


def shapes(config: Config, naming: str) -> Shapes:
    """Write down every name and shape of a network whose MB3D lie in stage 4."""
    words: dict[str, Any] = WORDS[naming]
    c = config.widths
    conv1, norm1, conv2, norm2 = words["stem"]
    yield from affine(conv1, c[0] // 2, 3, 3, 3)
    yield from batch_norm(norm1, c[0] // 2)
    yield from affine(conv2, c[0], c[0] // 2, 3, 3)
    yield from batch_norm(norm2, c[0])
    for stage in range(4):
        if stage:
            yield from affine(words["down"].format(stage, words["conv"], 2 * stage - 1), c[stage], c[stage - 1], 3, 3)
            yield from batch_norm(words["down"].format(stage, "norm", 2 * stage - 1), c[stage])
        mb4d = config.depths[stage] - (config.mb3d if stage == 3 else 0)
        for index in range(config.depths[stage]):
            place = index + (index >= mb4d)  # the reshape before the first MB3D takes a place of its own
            name = words["block"].format(stage, place, 2 * stage)
            yield from ((f"{name}.{scale}", (c[stage],)) for scale in words["scales"])
            yield from block_4d(name, c[stage]) if index < mb4d else block_3d(name, c[3], config.resolution // 32)
    yield from affine("norm", c[3])
    yield from affine("head", config.classes, c[3])
    yield from affine(words["dist"], config.classes, c[3])


def checkpoint(config: Config, naming: str, seed: int = 0) -> dict[str, Tensor]:
    """Fill the names with values; the same in either naming, for `shapes` lists both in one order."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes(config, naming):
        value = torch.rand(shape, generator=generator)
        if name.endswith("attention_bias_idxs"):
            side = config.resolution // 32
            pixels = [(row, column) for row in range(side) for column in range(side)]
            value = torch.tensor([[abs(y - v) * side + abs(x - u) for v, u in pixels] for y, x in pixels])
        elif name.endswith("num_batches_tracked"):
            value = torch.tensor(len(state))
        elif len(shape) > 1 and not name.endswith("biases"):
            value = (value - 0.5) * (12 / value[0].numel()) ** 0.5
        elif name.endswith(("gamma", "running_var", "weight")) or "scale" in name:
            value = value * 0.5 + 0.5
        state[name] = value
    return state


def plain_forward(config: Config, w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Run a timm-named checkpoint by the formulas alone."""

    def conv(name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def bn(name: str, x: Tensor) -> Tensor:
        return F.batch_norm(x, *(w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def ln(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def mb4d(name: str, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = x + w[f"{name}.ls1.gamma"][:, None, None] * (pooled - x)
        hidden = F.gelu(bn(f"{name}.mlp.norm1", conv(f"{name}.mlp.fc1", x)))
        return x + w[f"{name}.ls2.gamma"][:, None, None] * bn(f"{name}.mlp.norm2", conv(f"{name}.mlp.fc2", hidden))

    def mb3d(name: str, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = linear(f"{name}.token_mixer.qkv", ln(f"{name}.norm1", x)).view(batch, tokens, 8, 192)
        q, k, v = qkv[..., :32], qkv[..., 32:64], qkv[..., 64:]
        bias = w[f"{name}.token_mixer.attention_biases"][:, w[f"{name}.token_mixer.attention_bias_idxs"]]
        shares = (torch.einsum("bihd,bjhd->bhij", q, k) * 32**-0.5 + bias).softmax(-1)
        mixed = torch.einsum("bhij,bjhd->bihd", shares, v).flatten(2)
        x = x + w[f"{name}.ls1.gamma"] * linear(f"{name}.token_mixer.proj", mixed)
        hidden = F.gelu(linear(f"{name}.mlp.fc1", ln(f"{name}.norm2", x)))
        return x + w[f"{name}.ls2.gamma"] * linear(f"{name}.mlp.fc2", hidden)

    for part in "12":
        x = F.relu(bn(f"stem.norm{part}", conv(f"stem.conv{part}", x, stride=2, padding=1)))
    for stage in range(4):
        if stage:
            name = f"stages.{stage}.downsample"
            x = bn(f"{name}.norm", conv(f"{name}.conv", x, stride=2, padding=1))
        for place in range(config.depths[stage] + (stage == 3 and config.mb3d > 0)):
            name = f"stages.{stage}.blocks.{place}"
            if f"{name}.ls1.gamma" not in w:
                x = x.flatten(2).transpose(1, 2)
            else:
                x = (mb3d if f"{name}.norm1.weight" in w else mb4d)(name, x)
    x = ln("norm", x).mean(1)
    return (linear("head", x) + linear("head_dist", x)) / 2


def images(config: Config) -> Tensor:
    return blocks.example_inputs(STEM.spec(config.widths[0], config.resolution))["x"]


@pytest.fixture(scope="module", params=ENTRIES)
def published(request: pytest.FixtureRequest) -> tuple[str, Config, EfficientFormer]:
    name: str = request.param
    return name, get_config(name), build_network(name)


def test_a_published_network_loads_timms_names_and_computes_what_they_mean(published: Any) -> None:
    name, config, model = published
    state = checkpoint(config, "timm")
    assert len(state) == ENTRIES[name]
    assert checkpoints.load(model, state) == "timm"
    with torch.no_grad():
        ours, plain = model(images(config)), plain_forward(config, state, images(config))
    assert float(plain.std()) > 0.01
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_a_published_network_loads_the_authors_file_with_the_same_meaning(published: Any) -> None:
    name, config, model = published
    state = checkpoint(config, "official", seed=1)
    assert len(state) == ENTRIES[name]
    assert checkpoints.load(model, {"model": state, "epoch": 300}) == "official"
    back = checkpoints.to_official(model)["model"]
    assert set(back) == set(state)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    named = zip(checkpoint(config, "timm", seed=1).items(), state.items(), strict=True)
    timm = checkpoints.to_timm(model)
    assert all(torch.equal(timm[name], value) and torch.equal(value, same) for (name, value), (_, same) in named)


@pytest.mark.parametrize("form", [0, 1, 3, 4], ids="{} MB3D".format)
def test_any_network_of_the_family_returns_through_every_naming(form: int) -> None:
    config = Config((16, 24, 32, 48), (1, 1, 2, 2), form, resolution=64, classes=10)
    source, x = build_network(config, seed=1), images(config)
    written = [checkpoints.to_timm(source), checkpoints.to_official(source), source.state_dict()]
    for state, naming in zip(written, ("timm", "official", "edgelut"), strict=True):
        target = build_network(config, seed=2)
        with torch.no_grad():
            assert not torch.equal(target(x), source(x))
            assert checkpoints.load(target, state) == naming
            assert torch.equal(target(x), source(x))


@pytest.mark.parametrize("naming", ["timm", "official"])
def test_a_small_network_has_exactly_the_names_and_shapes_written_down(naming: str) -> None:
    model = build_network(SMALL)
    found = checkpoints.to_timm(model) if naming == "timm" else checkpoints.to_official(model)["model"]
    assert {name: tuple(value.shape) for name, value in found.items()} == dict(shapes(SMALL, naming))


def refused(state: dict[str, Any], config: Config = SMALL) -> str:
    """Return why a checkpoint is refused, having checked that the model kept its weights."""
    model = build_network(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointMismatch) as caught:
        checkpoints.load(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(caught.value)


def test_a_refusal_says_what_is_missing_unexpected_and_of_the_wrong_shape_in_the_names_it_came_in() -> None:
    state = checkpoint(SMALL, "official")
    del state["network.6.3.layer_scale_1"]
    state["network.6.9.layer_scale_1"] = torch.zeros(48)
    state["norm.weight"] = torch.zeros(47)
    reason = refused({"model": state})
    assert "with official names" in reason
    assert "1 missing: network.6.3.layer_scale_1" in reason
    assert "1 unexpected: network.6.9.layer_scale_1" in reason
    assert "1 of wrong shape: norm.weight (47,), not (48,)" in reason


def test_a_checkpoint_without_distillation_is_missing_its_second_head() -> None:
    state = {name: value for name, value in checkpoint(SMALL, "timm").items() if not name.startswith("head_dist")}
    assert "with timm names" in refused(state) and "2 missing: head_dist.weight, head_dist.bias" in refused(state)


def test_a_checkpoint_whose_bias_index_is_in_another_order_is_refused() -> None:
    name = "stages.3.blocks.2.token_mixer.attention_bias_idxs"
    state = checkpoint(SMALL, "timm")
    state[name] = state[name].flip(0)
    assert f"1 not |dy| * R + |dx|: {name}" in refused(state)
    ours = build_network(SMALL).state_dict()
    index = next(name for name in ours if name.endswith("attention.index"))
    assert f"1 not |dy| * R + |dx|: {index}" in refused({**ours, index: ours[index] + 1})


def test_an_entry_that_is_no_tensor_is_refused() -> None:
    assert "1 not a tensor: norm.bias" in refused({**checkpoint(SMALL, "timm"), "norm.bias": [0.0]})


def test_names_of_nobody_that_we_know_are_refused_with_those_we_know() -> None:
    reason = refused({"features.0.weight": torch.zeros(1)})
    assert "features.0.weight" in reason and "timm: stem.*, stages.*" in reason
    assert "with unknown names (none)" in refused({})


def test_a_long_list_of_names_is_cut() -> None:
    reason = refused({"stem.conv1.weight": torch.zeros(8, 3, 3, 3)})
    assert "and " in reason and len(reason) < 700


def test_a_kind_that_a_naming_has_no_word_for_is_refused() -> None:
    class Unnamed(blocks.load("MB4D")):  # type: ignore[misc]
        pass

    model = EfficientFormer(NetworkSpec((MB4D.spec(16, 4),)), make=Unnamed)
    model.blocks[0].register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(CheckpointMismatch, match="timm has no name for 'extra' of MB4D 16 @4"):
        checkpoints.to_timm(model)
