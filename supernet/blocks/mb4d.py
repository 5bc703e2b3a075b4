"""MB4D: average pooling mixes the pixels, 1x1 convolutions mix the channels (EfficientFormer, section 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from edgelut import blocks
from edgelut.types import BlockSpec

from .base import Block, LayerScale, activation, init_small, param

KIND = blocks.MB4D


class MB4D(Block):
    """A meta block on a map: x + ls1 * (pool(x) - x), then x + ls2 * mlp(x)."""

    residual = True

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        width, hidden, pool = spec.width_in, spec.width_in * param(spec, "expansion"), param(spec, "pool")
        self.pool = nn.AvgPool2d(pool, stride=1, padding=pool // 2, count_include_pad=False)
        self.scale1 = LayerScale(width, "4d")
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.act = activation(spec)
        self.fc2 = nn.Conv2d(hidden, width, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.scale2 = LayerScale(width, "4d")
        init_small(self.fc1, self.fc2)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, R, R)
        x = x + self.drop_path(self.scale1(self.pool(x) - x))  # (B, C, R, R)
        hidden = self.act(self.norm1(self.fc1(x)))  # (B, eC, R, R)
        return x + self.drop_path(self.scale2(self.norm2(self.fc2(hidden))))  # (B, C, R, R)

    @staticmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return 2eC^2 + (3e + 5)C: 8C^2 + 17C at e = 4."""
        width, expansion = spec.width_in, param(spec, "expansion")
        return 2 * expansion * width**2 + (3 * expansion + 5) * width

    @staticmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return 2eC^2 for every pixel."""
        return spec.batch * spec.resolution**2 * 2 * param(spec, "expansion") * spec.width_in**2
