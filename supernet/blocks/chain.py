"""chain: blocks in one graph, each copy of a block with weights of its own."""

from __future__ import annotations

from torch import Tensor, nn

from edgelut.sequences import CHAIN, blocks_of
from edgelut.types import BlockSpec

from .base import Block

KIND = CHAIN


class Chain(Block):
    """Blocks one after another; weights are drawn in order, so that no two copies share any."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        from . import create  # the registry imports this file

        self.blocks = nn.Sequential(*(create(block) for block in blocks_of(spec)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return the blocks' sum."""
        from . import parameters

        return sum(parameters(block) for block in blocks_of(spec))

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return the blocks' sum."""
        from . import macs

        return sum(macs(block, attention=attention) for block in blocks_of(spec))
