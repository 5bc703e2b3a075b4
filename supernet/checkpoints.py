"""Checkpoints: other people's names for the same weights, read strictly and written back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from edgelut.errors import EdgelutError
from edgelut.types import BlockSpec, NetworkSpec

from .efficientformer import EfficientFormer

Naming = Literal["edgelut", "timm", "official"]
SIGNS: dict[Naming, tuple[str, ...]] = {
    "edgelut": ("blocks.",),
    "timm": ("stem.", "stages."),
    "official": ("patch_embed.", "network."),
}

_STAGE: dict[Naming, str] = {"timm": "stages.{stage}.blocks.{index}.", "official": "network.{even}.{index}."}
_PREFIXES: dict[Naming, dict[str, str]] = {
    "timm": {"stem": "stem.", "embedding": "stages.{stage}.downsample.", "head": ""},
    "official": {"stem": "patch_embed.", "embedding": "network.{odd}.", "head": ""},
}

_SCALES: dict[Naming, dict[str, str]] = {
    "timm": {"scale1.gamma": "ls1.gamma", "scale2.gamma": "ls2.gamma"},
    "official": {"scale1.gamma": "layer_scale_1", "scale2.gamma": "layer_scale_2"},
}
_MB4D = {"fc1": "mlp.fc1", "norm1": "mlp.norm1", "fc2": "mlp.fc2", "norm2": "mlp.norm2"}
_MB3D = {
    "norm1": "norm1",
    "attention.qkv": "token_mixer.qkv",
    "attention.proj": "token_mixer.proj",
    "attention.biases": "token_mixer.attention_biases",
    "attention.index": "token_mixer.attention_bias_idxs",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
_HEAD = {"norm": "norm", "head": "head"}
_PARTS: dict[Naming, dict[str, dict[str, str]]] = {
    "timm": {
        "stem": {"conv1": "conv1", "norm1": "norm1", "conv2": "conv2", "norm2": "norm2"},
        "embedding": {"conv": "conv", "norm": "norm"},
        "MB4D": {**_SCALES["timm"], **_MB4D},
        "MB3D": {**_SCALES["timm"], **_MB3D},
        "head": {**_HEAD, "head_dist": "head_dist"},
    },
    "official": {
        "stem": {"conv1": "0", "norm1": "1", "conv2": "3", "norm2": "4"},
        "embedding": {"conv": "proj", "norm": "norm"},
        "MB4D": {**_SCALES["official"], **_MB4D},
        "MB3D": {**_SCALES["official"], **_MB3D},
        "head": {**_HEAD, "head_dist": "dist_head"},
    },
}


class CheckpointMismatch(EdgelutError, ValueError):
    """A checkpoint's weights are not those of the network: says which are missing, unexpected or of a wrong shape."""


def load(model: EfficientFormer, state_dict: Mapping[str, Any]) -> Naming:
    """Load a checkpoint strictly, in whichever naming it is, and return that naming.

    Takes timm's names, the authors' (as released, under the key `model`, or bare) and our own. Raises CheckpointMismatch and
    leaves the model as it was unless every entry has its place, its shape and, for attention's index, its values.
    """
    weights = state_dict["model"] if isinstance(state_dict.get("model"), Mapping) else state_dict
    naming = recognise(weights)
    names, own = _names(model, naming), model.state_dict()
    problems = _problems({names[name]: value for name, value in own.items()}, weights)
    if problems:
        label = model.spec.name or "the network"
        raise CheckpointMismatch(f"a checkpoint with {naming} names does not fit {label}: {'; '.join(problems)}")
    model.load_state_dict({name: weights[names[name]] for name in own})
    return naming


def recognise(state_dict: Mapping[str, Any]) -> Naming:
    """Return whose names a state dict has; raise CheckpointMismatch where they are nobody's that we know."""
    for naming, signs in SIGNS.items():
        if any(name.startswith(signs) for name in state_dict):
            return naming
    known = "; ".join(f"{naming}: {', '.join(f'{sign}*' for sign in signs)}" for naming, signs in SIGNS.items())
    raise CheckpointMismatch(f"a checkpoint with unknown names ({_some(list(state_dict))}); known are {known}")


def to_timm(model: EfficientFormer) -> dict[str, Tensor]:
    """Return the model's state dict with timm's names."""
    return _renamed(model, "timm")


def to_official(model: EfficientFormer) -> dict[str, dict[str, Tensor]]:
    """Return the model's state dict as the authors release theirs: with their names, under the key `model`."""
    return {"model": _renamed(model, "official")}


def _renamed(model: EfficientFormer, naming: Naming) -> dict[str, Tensor]:
    names = _names(model, naming)
    return {names[name]: value for name, value in model.state_dict().items()}


def _names(model: EfficientFormer, naming: Naming) -> dict[str, str]:
    """Map our names of a model's entries to those of a naming."""
    if naming == "edgelut":
        return {name: name for name in model.state_dict()}
    prefixes = _block_prefixes(model.spec, naming)
    names = {}
    for name in model.state_dict():
        _, position, own = name.split(".", 2)
        block = model.spec.blocks[int(position)]
        names[name] = prefixes[int(position)] + _part(block, own, naming)
    return names


def _block_prefixes(spec: NetworkSpec, naming: Naming) -> list[str]:
    """Return how the names of each block start: an embedding opens a stage, and flat takes an index in its own."""
    prefixes, stage, index = [], 0, 0
    for block in spec.blocks:
        if block.kind == "embedding":
            stage, index = stage + 1, 0
        template = _PREFIXES[naming].get(block.kind, _STAGE[naming])
        prefixes.append(template.format(stage=stage, index=index, even=2 * stage, odd=2 * stage - 1))
        index += block.kind not in _PREFIXES[naming]
    return prefixes


def _part(block: BlockSpec, own: str, naming: Naming) -> str:
    """Return a naming's word for one entry of a block."""
    for part, theirs in _PARTS[naming].get(block.kind, {}).items():
        if own == part or own.startswith(f"{part}."):
            return theirs + own.removeprefix(part)
    raise CheckpointMismatch(f"{naming} has no name for {own!r} of {block}")


def _problems(expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the found entries, under the names of their own naming; empty if nothing is."""
    both = [name for name in expected if name in found]
    odd = [name for name in both if not isinstance(found[name], Tensor)]
    tensors = [name for name in both if name not in odd]
    wrong = [name for name in tensors if found[name].shape != expected[name].shape]
    fixed = [
        name for name in tensors if name.endswith(("attention_bias_idxs", "attention.index")) and name not in wrong
    ]
    groups = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "not a tensor": odd,
        "of wrong shape": [f"{name} {tuple(found[name].shape)}, not {tuple(expected[name].shape)}" for name in wrong],
        "not |dy| * R + |dx|": [
            name for name in fixed if not torch.equal(found[name].to(expected[name]), expected[name])
        ],
    }
    return [f"{len(names)} {what}: {_some(names)}" for what, names in groups.items() if names]


def _some(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most]) or "none"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
