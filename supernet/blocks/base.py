"""What every block is, and the small parts that blocks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec

_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "hardswish": nn.Hardswish}


class Block(nn.Module, ABC):
    """One block of a network, built from its spec. Its file also holds `KIND`, the `BlockKind` of the specs it takes.

    Obligations: the constructor takes the spec alone and sets the paper's initial weights; `forward` maps a tensor of
    `KIND.input_shape(spec)` to one of `KIND.output_shape(spec)`; every size in it comes from the spec, never from a
    tensor, so that a trace holds constants; the batch alone is free (-1), so that training may use any.
    """

    residual: ClassVar[bool] = False  # True: output - input is the branch that an export is compared on
    drop_rate: float = 0.0  # stochastic depth, in training only

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec

    @staticmethod
    @abstractmethod
    def count_parameters(spec: BlockSpec) -> int:
        """Return the number of trainable values."""

    @staticmethod
    @abstractmethod
    def count_macs(spec: BlockSpec, attention: bool = False) -> int:
        """Return the multiply-accumulates of one call: convolutions, linears and, if asked, attention's products."""

    def drop_path(self, branch: Tensor) -> Tensor:
        """Return the branch; in training, zero it for a share `drop_rate` of the images and scale up the others."""
        if not self.training or not self.drop_rate:
            return branch
        keep = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.drop_rate
        return branch * keep.to(branch.dtype) / (1 - self.drop_rate)


class LayerScale(nn.Module):
    """A learned factor for each channel: of a map (B, C, H, W), or of tokens (B, N, C)."""

    def __init__(self, width: int, layout: str) -> None:
        super().__init__()
        self.shape = (width, 1, 1) if layout == "4d" else (width,)
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(self.shape)


def activation(spec: BlockSpec) -> nn.Module:
    """Return the activation that the spec names; gelu is the exact one (erf)."""
    name = str(spec.params["activation"])
    if name not in _ACTIVATIONS:
        raise InvalidSpec(f"no activation {name!r}; there are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


def param(spec: BlockSpec, name: str) -> int:
    """Return a parameter that is a whole number."""
    return int(spec.params[name])


def init_small(*layers: nn.Conv2d | nn.Linear) -> None:
    """Set the paper's initial weights of the layers inside blocks: truncated normal with std 0.02, bias 0."""
    for layer in layers:
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def to_tokens(x: Tensor, width: int, resolution: int) -> Tensor:
    """Return a map (B, C, R, R) as tokens (B, R*R, C)."""
    return x.reshape(-1, width, resolution * resolution).transpose(1, 2)


def to_map(x: Tensor, width: int, resolution: int) -> Tensor:
    """Return tokens (B, R*R, C) as a map (B, C, R, R)."""
    return x.transpose(1, 2).reshape(-1, width, resolution, resolution)
