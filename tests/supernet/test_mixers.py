"""MB4D and MB3D against a plain computation of the formulas, entry by entry where they are easiest to get wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgelut.blocks import MB3D, MB4D
from edgelut.types import BlockSpec
from supernet import blocks
from supernet.blocks.mb3d import bias_index

ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "relu": lambda x: x.clamp(min=0),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
}


def weights(block: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in block.state_dict().items()}


def mean_of_neighbours(x: Tensor, pool: int) -> Tensor:
    """Average what lies inside the map, pixel by pixel."""
    out, side, reach = torch.empty_like(x), x.shape[-1], pool // 2
    for row in range(side):
        for column in range(side):
            rows = slice(max(0, row - reach), row + reach + 1)
            columns = slice(max(0, column - reach), column + reach + 1)
            out[:, :, row, column] = x[:, :, rows, columns].mean((2, 3))
    return out


def batch_norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, gain, bias = (
        w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + bias


def layer_norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def plain_mb4d(spec: BlockSpec, w: dict[str, Tensor], x: Tensor) -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        return torch.einsum("oi,bihw->bohw", w[f"{name}.weight"][:, :, 0, 0], x) + w[f"{name}.bias"][:, None, None]

    x = x + w["scale1.gamma"][:, None, None] * (mean_of_neighbours(x, int(spec.params["pool"])) - x)
    hidden = ACTIVATIONS[str(spec.params["activation"])](batch_norm(w, "norm1", conv("fc1", x)))
    return x + w["scale2.gamma"][:, None, None] * batch_norm(w, "norm2", conv("fc2", hidden))


def plain_attention(spec: BlockSpec, w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Attention head by head; the bias of a pair of pixels from their distance."""
    heads, key, side = int(spec.params["heads"]), int(spec.params["key_dim"]), spec.resolution
    value = int(spec.params["attn_ratio"]) * key
    qkv = x @ w["attention.qkv.weight"].T + w["attention.qkv.bias"]
    outputs = []
    for head in range(heads):
        q, k, v = qkv[..., head * (2 * key + value) :][..., : 2 * key + value].split([key, key, value], -1)
        logits = torch.einsum("bid,bjd->bij", q, k) / math.sqrt(key)
        for i in range(side**2):
            for j in range(side**2):
                down, right = abs(i // side - j // side), abs(i % side - j % side)
                logits[:, i, j] += w["attention.biases"][head, down * side + right]
        shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
        outputs.append(torch.einsum("bij,bjd->bid", shares, v))
    return torch.cat(outputs, -1) @ w["attention.proj.weight"].T + w["attention.proj.bias"]


def plain_mb3d(spec: BlockSpec, w: dict[str, Tensor], x: Tensor) -> Tensor:
    x = x + w["scale1.gamma"] * plain_attention(spec, w, layer_norm(w, "norm1", x))
    hidden = layer_norm(w, "norm2", x) @ w["fc1.weight"].T + w["fc1.bias"]
    hidden = ACTIVATIONS[str(spec.params["activation"])](hidden)
    return x + w["scale2.gamma"] * (hidden @ w["fc2.weight"].T + w["fc2.bias"])


@pytest.mark.parametrize(
    "spec",
    [
        MB4D.spec(16, 5, batch=2),
        MB4D.spec(24, 6, params={"pool": 5, "expansion": 2, "activation": "hardswish"}),
        MB4D.spec(16, 3, params={"pool": 7, "activation": "relu"}),
    ],
    ids=str,
)
def test_mb4d_is_its_formula(spec: BlockSpec) -> None:
    block, x = blocks.build(spec).double(), blocks.example_inputs(spec)["x"].double()
    with torch.no_grad():
        torch.testing.assert_close(block(x), plain_mb4d(spec, weights(block), x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "spec",
    [
        MB3D.spec(32, 4, batch=2),
        MB3D.spec(24, 3, params={"heads": 3, "key_dim": 4, "attn_ratio": 2, "expansion": 2, "activation": "hardswish"}),
    ],
    ids=str,
)
def test_mb3d_is_its_formula(spec: BlockSpec) -> None:
    block, x = blocks.build(spec).double(), blocks.example_inputs(spec)["x"].double()
    with torch.no_grad():
        torch.testing.assert_close(block(x), plain_mb3d(spec, weights(block), x), rtol=1e-10, atol=1e-10)


def test_the_bias_index_is_the_distance_in_rows_then_columns() -> None:
    index = bias_index(7)
    assert index.shape == (49, 49) and index.dtype == torch.int64
    for i in range(49):
        for j in range(49):
            assert int(index[i, j]) == abs(i // 7 - j // 7) * 7 + abs(i % 7 - j % 7)


def test_every_part_of_a_block_shows_in_its_output() -> None:
    for spec in (MB4D.spec(16, 4), MB3D.spec(16, 3)):
        block, x = blocks.build(spec), blocks.example_inputs(spec)["x"]
        with torch.no_grad():
            before = block(x)
            for name, value in block.named_parameters():
                kept = value.clone()
                value.copy_(value.flip(0) if value.ndim == 1 else value.flip(1))
                change = float((block(x) - before).abs().max())
                assert change > 1e-3, f"{name} of {spec}: {change}"
                value.copy_(kept)
