"""chain: blocks in one graph, each copy of a block with weights of its own."""

from __future__ import annotations

from collections import Counter

from torch import Tensor, nn

from edgelut.sequences import CHAIN, blocks_of
from edgelut.types import BlockSpec

from .base import Block

KIND = CHAIN


class Chain(Block):
    """Blocks one after another; in training mode too each has the paper's initial weights."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        from . import build  # the registry imports this file

        copies: Counter[str] = Counter()
        built = []
        for block in blocks_of(spec):
            built.append(build(block, copy=copies[block.key]))
            copies[block.key] += 1
        self.blocks = nn.Sequential(*built)

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
