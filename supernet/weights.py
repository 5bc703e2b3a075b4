"""Weights for profiling: deterministic, distinct for every copy, and far from every degenerate value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from edgelut.types import digest

WEIGHTS_VERSION = 1  # part of every artifact's key: raise it when the same spec is to get other weights


@runtime_checkable
class Randomizable(Protocol):
    """A module that owns parameters of a special meaning and sets them by itself."""

    def randomize(self, generator: torch.Generator) -> None:
        """Give its own parameters, not its children's, non-degenerate values."""


def generator(*parts: str | int) -> torch.Generator:
    """Return a generator seeded by a hash of the parts: the same in every process, on every machine, on any day."""
    return torch.Generator().manual_seed(int(digest(list(parts))[:15], 16))


def uniform(shape: Sequence[int], low: float, high: float, source: torch.Generator) -> Tensor:
    """Return uniform values in [low, high).

    `normal_` and `uniform_(low, high)` may round differently on another CPU's vector unit; `rand` is exact, and so is
    one product or sum at a time: an artifact's hash must not depend on the machine that wrote it.
    """
    return torch.rand(tuple(shape), generator=source) * (high - low) + low


@torch.no_grad()
def randomize(module: nn.Module, seed: int | torch.Generator) -> nn.Module:
    """Set every parameter and running statistic of a module, in place, and return it.

    With the paper's layer scale of 1e-5 a block is the identity, and comparing an export with its module says nothing.
    Here layer scales lie in 0.1..0.5, norms and biases are non-trivial, and weights have the variance 1/fan-in, which
    keeps activations O(1). A parameter that no rule knows gets 0.1..0.5.
    """
    source = seed if isinstance(seed, torch.Generator) else generator(seed)
    for part in module.modules():
        _randomize_own(part, source)
    return module


def _randomize_own(part: nn.Module, source: torch.Generator) -> None:
    if isinstance(part, Randomizable):
        part.randomize(source)
    elif isinstance(part, nn.Conv2d | nn.Linear):
        bound = (3 / part.weight[0].numel()) ** 0.5
        part.weight.copy_(uniform(part.weight.shape, -bound, bound, source))
        if part.bias is not None:
            part.bias.copy_(uniform(part.bias.shape, -0.3, 0.3, source))
    elif isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
        part.weight.copy_(uniform(part.weight.shape, 0.5, 1.5, source))
        part.bias.copy_(uniform(part.bias.shape, -0.3, 0.3, source))
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.copy_(uniform(part.running_mean.shape, -0.3, 0.3, source))
            part.running_var.copy_(uniform(part.running_var.shape, 0.5, 1.5, source))
    else:
        for value in part.parameters(recurse=False):
            value.copy_(uniform(value.shape, 0.1, 0.5, source))
