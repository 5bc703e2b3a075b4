"""Flat: the one reshape from a map to tokens, before the first MB3D."""

from __future__ import annotations

from torch import Tensor

from edgelut import blocks
from edgelut.types import BlockSpec

from .base import Block, to_tokens

KIND = blocks.FLAT


class Flat(Block):
    """A map as tokens: token y * R + x is pixel (y, x)."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, R, R)
        return to_tokens(x, self.spec.width_in, self.spec.resolution)  # (B, R*R, C)

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return 0."""
        return 0

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return 0."""
        return 0
