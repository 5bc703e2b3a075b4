"""Head: norm, mean over the tokens, and one or two classifiers (EfficientFormer, section 5)."""

from __future__ import annotations

from torch import Tensor, nn

from edgelut import blocks
from edgelut.types import BlockSpec

from .base import Block, init_small, param, to_tokens

KIND = blocks.HEAD


class Head(Block):
    """Logits. With distillation (DeiT), evaluation averages both classifiers and training returns the two.

    A map (layout 4d) is read as its tokens: a network that loses its last MB3D keeps the meaning of its head's weights.
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.norm = nn.LayerNorm(spec.width_in, eps=1e-5)
        self.head = nn.Linear(spec.width_in, spec.width_out)
        self.head_dist = nn.Linear(spec.width_in, spec.width_out) if param(spec, "distillation") else None
        init_small(*(layer for layer in (self.head, self.head_dist) if layer is not None))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # (B, N, C) or (B, C, R, R)
        if self.spec.params["layout"] == "4d":
            x = to_tokens(x, self.spec.width_in, self.spec.resolution)  # (B, N, C)
        x = self.norm(x).mean(dim=1)  # (B, C)
        logits: Tensor = self.head(x)  # (B, classes)
        if self.head_dist is None:
            return logits
        distilled: Tensor = self.head_dist(x)  # (B, classes)
        return (logits, distilled) if self.training else (logits + distilled) / 2

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return a norm and one or two linears."""
        return 2 * spec.width_in + (spec.width_in + 1) * spec.width_out * (1 + param(spec, "distillation"))

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return one or two linears, once for an image."""
        return spec.batch * spec.width_in * spec.width_out * (1 + param(spec, "distillation"))
