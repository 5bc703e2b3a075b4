"""EfficientFormer assembled from its list of block specs (Li et al. 2022), for training and for checks of whole networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from edgelut.efficientformer import Config, get_config, network
from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec, NetworkSpec

from .blocks import Block, Init, build, create, kind


class EfficientFormer(nn.Module):
    """The blocks of a network in order, named `blocks.<position>`; `supernet.checkpoints` maps other people's names.

    Any list of blocks that fit each other will do: without MB3D, or with MB3D reaching back to stage 3. `make` turns a spec
    into a block; by default it has the paper's initial weights. `drop_path` is the rate of the last block, and that of the
    others rises to it linearly.
    """

    def __init__(self, spec: NetworkSpec, drop_path: float = 0.0, make: Callable[[BlockSpec], Block] = create) -> None:
        super().__init__()
        check(spec)
        self.spec = spec
        blocks = [make(block) for block in spec.blocks]
        dropped = [block for block in blocks if block.residual]
        for index, block in enumerate(dropped):
            block.drop_rate = drop_path * index / max(1, len(dropped) - 1)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # (B, 3, R, R)
        logits: Tensor | tuple[Tensor, Tensor] = self.blocks(images)  # (B, classes); two in training with distillation
        return logits


def build_network(
    wanted: str | Config | NetworkSpec, seed: int | None = None, *, init: Init = "random", drop_path: float = 0.0
) -> EfficientFormer:
    """Return a network in evaluation mode: a published one by name (`L1`), that of a configuration, or any list of blocks.

    Block k is what `blocks.build(spec, seed, copy=n, init=init)` returns, n counting the equal specs before it.
    """
    copies: Counter[str] = Counter()

    def make(spec: BlockSpec) -> Block:
        copies[spec.key] += 1
        return build(spec, seed, copy=copies[spec.key] - 1, init=init)

    model = EfficientFormer(_spec(wanted), drop_path, make)
    return model.eval()


def check(spec: NetworkSpec) -> NetworkSpec:
    """Return a network each of whose blocks reads what the one before it writes; raise InvalidSpec otherwise."""
    for block in spec.blocks:
        kind(block.kind).check(block)
    for index, (before, after) in enumerate(pairwise(spec.blocks)):
        gives, reads = kind(before.kind).output_shape(before), kind(after.kind).input_shape(after)
        if gives != reads:
            raise InvalidSpec(f"block {index} ({before}) gives {gives}, but block {index + 1} ({after}) reads {reads}")
    return spec


def _spec(wanted: str | Config | NetworkSpec) -> NetworkSpec:
    if isinstance(wanted, NetworkSpec):
        return wanted
    return network(get_config(wanted) if isinstance(wanted, str) else wanted)
