"""Embedding: one strided convolution takes a map from one stage to the next (EfficientFormer, section 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from edgelut import blocks
from edgelut.types import BlockSpec

from .base import Block, param, to_map, to_tokens

KIND = blocks.EMBEDDING


class Embedding(Block):
    """Conv and BN without activation; tokens (layout 3d) become a map before it and tokens again after it."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        kernel = param(spec, "kernel")
        self.tokens = spec.params["layout"] == "3d"
        self.resolution_out = KIND.resolution_out(spec)
        self.conv = nn.Conv2d(spec.width_in, spec.width_out, kernel, param(spec, "stride"), kernel // 2)
        self.norm = nn.BatchNorm2d(spec.width_out)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, R, R) or (B, R*R, C)
        if self.tokens:
            x = to_map(x, self.spec.width_in, self.spec.resolution)  # (B, C, R, R)
        x = self.norm(self.conv(x))  # (B, C', R', R')
        return to_tokens(x, self.spec.width_out, self.resolution_out) if self.tokens else x

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return a convolution with bias and a norm."""
        return (param(spec, "kernel") ** 2 * spec.width_in + 3) * spec.width_out

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return k^2 C C' for every pixel written."""
        pixels = KIND.resolution_out(spec) ** 2
        return spec.batch * pixels * param(spec, "kernel") ** 2 * spec.width_in * spec.width_out
