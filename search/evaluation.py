"""How networks are judged while a search goes on: accuracy with inherited weights, and the importance of channels.

Both see the same images each time, so that two looks at one network agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from supernet.efficientformer import EfficientFormer
from supernet.slim import Criterion, channel_importance

from .data import Data, Split
from .data import batches as batches_of
from .slimming import Channels, Evaluate
from .training import accuracy, recalibrate


@dataclass(frozen=True, slots=True)
class First:
    """The first images of a split, `count` of them or all where it has fewer."""

    split: Split
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.split))

    def batch(self, indices: Sequence[int], draw: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the images and labels that the split has there."""
        return self.split.batch(indices, draw)


def inherited_accuracy(
    data: Data, *, images: int, calibration: int, batch: int = 250, device: Any = "cpu", seed: int = 0
) -> Evaluate:
    """Return what gives the share of the first `images` of `data.valid` that an extracted network classifies rightly.

    The network's BN statistics are estimated anew before, over `calibration` batches of `data.train` drawn by the seed. The
    network that it is given is changed: it moves to the device and keeps the new statistics.
    """
    valid = First(data.valid, images)

    def evaluate(model: nn.Module) -> float:
        model.to(device)
        recalibrate(model, data.train, batch=batch, count=calibration, seed=seed, device=device)
        return accuracy(model, valid, batch=batch, device=device)

    return evaluate


def stage_channels(
    data: Data,
    criterion: Criterion = "taylor",
    batches: int = 8,
    *,
    batch: int = 250,
    device: Any = "cpu",
    seed: int = 0,
) -> Channels:
    """Return what gives the importance of each stage's channels of an extracted network: four of (channels,), on the CPU.

    `taylor` looks at the cross entropy on `batches` batches of `data.train` drawn by the seed, with BN statistics estimated
    anew on the same ones; the others look at the weights alone. The network that it is given is changed as by
    `inherited_accuracy`.
    """

    def channels(model: nn.Module) -> list[Tensor]:
        assert isinstance(model, EfficientFormer)
        if criterion != "taylor":
            return channel_importance(model.cpu(), criterion)
        model.to(device)
        recalibrate(model, data.train, batch=batch, count=batches, seed=seed, device=device)
        drawn = islice(batches_of(data.train, batch, seed=seed), batches)
        seen = ((images.to(device), labels.to(device)) for images, labels in drawn)
        return channel_importance(model, criterion, seen)

    return channels
