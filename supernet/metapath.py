"""MetaPath: one position of the supernet, where several kinds of block run side by side (EfficientFormer, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from edgelut import blocks
from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec

from .blocks import Block, create
from .blocks.base import to_map, to_tokens

IDENTITY = "I"
Noise: TypeAlias = Literal["uniform", "gumbel", "none"]


class MetaPath(nn.Module):
    """Choices of one position, each weighted: x -> sum_n w_n * block_n(x), the identity being one of them.

    `alpha` holds one value a choice, 0 at the start. `specs` are the blocks of the choices, None for the identity; a block that
    works on tokens gets the map as tokens and gives back a map.
    """

    def __init__(self, width: int, resolution: int, choices: Sequence[str]) -> None:
        super().__init__()
        if len(set(choices)) != len(choices) or IDENTITY not in choices:
            raise InvalidSpec(
                f"the choices of a MetaPath are kinds and {IDENTITY!r}, each once, not {', '.join(choices)}"
            )
        kinds = {"MB4D": blocks.MB4D, "MB3D": blocks.MB3D}
        unknown = [name for name in choices if name not in kinds and name != IDENTITY]
        if unknown:
            raise InvalidSpec(f"a MetaPath chooses from {', '.join(kinds)} and {IDENTITY}, not {unknown[0]!r}")
        self.choices = tuple(choices)
        self.specs: dict[str, BlockSpec | None] = {
            name: kinds[name].spec(width, resolution) if name in kinds else None for name in choices
        }
        self.branches = nn.ModuleDict({name: create(spec) for name, spec in self.specs.items() if spec is not None})
        self.alpha = nn.Parameter(torch.zeros(len(choices)))

    def branch(self, choice: str) -> Block:
        """Return the block of a choice that is not the identity."""
        found = self.branches[choice]
        assert isinstance(found, Block)
        return found

    def probabilities(self) -> Tensor:
        """Return softmax(alpha), in the order of `choices`: (choices,)."""
        return self.alpha.softmax(0)

    def weights(self, noise: Noise, tau: float) -> Tensor:
        """Return softmax((alpha + eps) / tau) with eps drawn anew: (choices,).

        Uniform noise on (0, 1) is what the paper says; the noise of the true Gumbel-softmax is -log(-log(u)).
        """
        return ((self.alpha + _noise(noise, self.alpha)) / tau).softmax(0)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:  # (B, C, R, R), (choices,)
        parts = [weight * self._run(name, x) for name, weight in zip(self.choices, weights, strict=True)]
        return torch.stack(parts).sum(0)

    def only(self, x: Tensor, choice: str) -> Tensor:  # (B, C, R, R)
        """Run one choice alone."""
        return self._run(choice, x)

    def _run(self, choice: str, x: Tensor) -> Tensor:
        spec = self.specs[choice]
        if spec is None:
            return x
        if spec.kind != blocks.MB3D.name:
            return _tensor(self.branches[choice](x))
        tokens = self.branches[choice](to_tokens(x, spec.width_in, spec.resolution))
        return to_map(tokens, spec.width_in, spec.resolution)


def _noise(noise: Noise, like: Tensor) -> Tensor:
    if noise == "none":
        return torch.zeros_like(like)
    uniform = torch.rand_like(like)
    return uniform if noise == "uniform" else -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value
