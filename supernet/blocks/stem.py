"""Stem: two 3x3 convolutions turn an image into the first map (EfficientFormer, figure 3)."""

from __future__ import annotations

from torch import Tensor, nn

from edgelut import blocks
from edgelut.types import BlockSpec

from .base import Block, activation, param

KIND = blocks.STEM


class Stem(Block):
    """Conv 3x3 to C/2, BN, activation, conv 3x3 to C, BN, activation. Stride 4 is 2 * 2, stride 2 is 2 * 1."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        hidden, (first, second) = _hidden(spec), _strides(spec)
        self.conv1 = nn.Conv2d(spec.width_in, hidden, 3, first, 1)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.act1 = activation(spec)
        self.conv2 = nn.Conv2d(hidden, spec.width_out, 3, second, 1)
        self.norm2 = nn.BatchNorm2d(spec.width_out)
        self.act2 = activation(spec)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, R, R)
        x = self.act1(self.norm1(self.conv1(x)))  # (B, C/2, R/s1, R/s1)
        out: Tensor = self.act2(self.norm2(self.conv2(x)))  # (B, C, R/s, R/s)
        return out

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return two convolutions with bias and two norms."""
        hidden = _hidden(spec)
        return (9 * spec.width_in + 3) * hidden + (9 * hidden + 3) * spec.width_out

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return 9 C C' for every pixel that each convolution writes."""
        hidden, (first, second) = _hidden(spec), _strides(spec)
        middle, last = (spec.resolution // first) ** 2, (spec.resolution // (first * second)) ** 2
        return spec.batch * 9 * hidden * (spec.width_in * middle + spec.width_out * last)


def _hidden(spec: BlockSpec) -> int:
    return max(1, spec.width_out // 2)


def _strides(spec: BlockSpec) -> tuple[int, int]:
    stride = param(spec, "stride")
    return (2 if stride > 1 else 1), (2 if stride > 2 else 1)
