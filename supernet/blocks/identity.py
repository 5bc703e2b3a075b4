"""Identity: the choice of no block, in a search."""

from __future__ import annotations

from torch import Tensor

from edgelut import blocks
from edgelut.types import BlockSpec

from .base import Block

KIND = blocks.IDENTITY


class Identity(Block):
    """Returns its input."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, R, R) or (B, R*R, C)
        return x

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return 0."""
        return 0

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return 0."""
        return 0
