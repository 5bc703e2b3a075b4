"""MB3D: self-attention with a learned bias mixes the tokens, an MLP the channels (EfficientFormer, section 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgelut import blocks
from edgelut.types import BlockSpec
from supernet.weights import uniform

from .base import Block, LayerScale, activation, init_small, param

KIND = blocks.MB3D


class Attention(nn.Module):
    """Multi-head self-attention whose logits get a bias that depends on head and distance; widths independent of C."""

    index: Tensor

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.heads, self.key_dim = param(spec, "heads"), param(spec, "key_dim")
        self.value_dim = param(spec, "attn_ratio") * self.key_dim
        self.tokens = spec.resolution**2
        self.scale = self.key_dim**-0.5
        self.qkv = nn.Linear(spec.width_in, self.heads * (2 * self.key_dim + self.value_dim))
        self.proj = nn.Linear(self.heads * self.value_dim, spec.width_in)
        self.biases = nn.Parameter(torch.zeros(self.heads, self.tokens))
        self.register_buffer("index", bias_index(spec.resolution))
        init_small(self.qkv, self.proj)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        head_dim = 2 * self.key_dim + self.value_dim
        qkv = self.qkv(x).reshape(-1, self.tokens, self.heads, head_dim).transpose(1, 2)  # (B, h, N, 2k + v)
        q, k, v = qkv.split((self.key_dim, self.key_dim, self.value_dim), dim=3)
        logits = q @ k.transpose(2, 3) * self.scale + self.biases[:, self.index]  # (B, h, N, N)
        mixed = (logits.softmax(dim=3) @ v).transpose(1, 2)  # (B, N, h, v)
        out: Tensor = self.proj(mixed.reshape(-1, self.tokens, self.heads * self.value_dim))  # (B, N, C)
        return out

    def randomize(self, generator: torch.Generator) -> None:
        """Spread the biases as wide as the logits, so that one in the wrong place shows."""
        self.biases.copy_(uniform(self.biases.shape, -1.5, 1.5, generator))


class MB3D(Block):
    """A meta block on tokens: x + ls1 * attention(LN(x)), then x + ls2 * mlp(LN(x))."""

    residual = True

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        width, hidden = spec.width_in, spec.width_in * param(spec, "expansion")
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attention = Attention(spec)
        self.scale1 = LayerScale(width, "3d")
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.fc1 = nn.Linear(width, hidden)
        self.act = activation(spec)
        self.fc2 = nn.Linear(hidden, width)
        self.scale2 = LayerScale(width, "3d")
        init_small(self.fc1, self.fc2)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        x = x + self.drop_path(self.scale1(self.attention(self.norm1(x))))  # (B, N, C)
        hidden = self.act(self.fc1(self.norm2(x)))  # (B, N, eC)
        return x + self.drop_path(self.scale2(self.fc2(hidden)))  # (B, N, C)

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return norms, layer scales, qkv, proj, biases and MLP: 8C^2 + 2572C + 1536 + 8N by default."""
        width, expansion, qkv, value = spec.width_in, param(spec, "expansion"), *_attention_widths(spec)
        attention = (width + 1) * qkv + (value + 1) * width + param(spec, "heads") * spec.resolution**2
        return 6 * width + attention + 2 * expansion * width**2 + (expansion + 1) * width

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return N(8C^2 + 2560C) by default, and 1280N^2 more with the products of attention."""
        width, tokens, (qkv, value) = spec.width_in, spec.resolution**2, _attention_widths(spec)
        linear = tokens * (2 * param(spec, "expansion") * width**2 + (qkv + value) * width)
        products = tokens**2 * (param(spec, "heads") * param(spec, "key_dim") + value)
        return spec.batch * (linear + products * attention)


def bias_index(resolution: int) -> Tensor:
    """Return (N, N): the column |dy| * R + |dx| of the bias table for each pair of tokens of an R x R map."""
    side = torch.arange(resolution)
    distance = (side[:, None] - side[None, :]).abs()  # (R, R)
    index = distance[:, None, :, None] * resolution + distance[None, :, None, :]  # (y, x, y', x')
    return index.reshape(resolution**2, resolution**2)


def _attention_widths(spec: BlockSpec) -> tuple[int, int]:
    """Return the output widths of qkv and of the attention: 1536 and 1024 by default."""
    heads, key = param(spec, "heads"), param(spec, "key_dim")
    value = param(spec, "attn_ratio") * key
    return heads * (2 * key + value), heads * value
