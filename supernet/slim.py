"""From the supernet to a network of its own: blocks are left out, channels narrowed, weights inherited (section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from edgelut.blocks import MB3D
from edgelut.efficientformer import network
from edgelut.errors import InvalidSpec

from .blocks import Block
from .efficientformer import EfficientFormer
from .supernet import STAGES, State, Supernet

Criterion: TypeAlias = Literal["taylor", "l1", "bn"]
CRITERIA: tuple[Criterion, ...] = ("taylor", "l1", "bn")
Batches: TypeAlias = Iterable[tuple[Tensor, Tensor]]  # (B, 3, R, R), (B,)


@torch.no_grad()
def extract(supernet: Supernet, state: State) -> EfficientFormer:
    """Return the network of a state with the weights that it inherits, in evaluation mode.

    With all channels kept it computes what the supernet computes with one-hot choices. A narrowed stage keeps the same
    channels in every block, and each MLP the hidden channels that weigh most. BN statistics are inherited too, and want
    re-estimating (`search.training.recalibrate`). Raises InvalidSpec.
    """
    _check(supernet, state)
    with torch.random.fork_rng(devices=[]):
        model = EfficientFormer(network(state.config(supernet.config)))
    kinds = state.kinds()
    places = iter(kinds)
    stage = 0
    for block in model.blocks:
        assert isinstance(block, Block)
        kind = block.spec.kind
        if kind == "stem":
            _copy_stem(supernet.stem, block, state.channels[0])
        elif kind == "embedding":
            stage += 1
            _copy_embedding(supernet.embeddings[stage - 1], block, state.channels[stage - 1], state.channels[stage])
        elif kind == "head":
            _copy_head(supernet.head, block, state.channels[-1])
        elif kind != "flat":
            where = next(places)
            source = supernet.paths(where[0])[where[1]].branch(kinds[where])
            _copy_block(source, block, state.channels[where[0]])
    return model.eval()


def narrower(state: State, stage: int, width: int, importance: Tensor) -> State:
    """Return the state with a stage at that width: the least important of its channels go; ties keep the first.

    `importance` is of the stage's kept channels: (channels,).
    """
    have = state.channels[stage]
    if not 0 < width < len(have):
        raise InvalidSpec(f"stage {stage + 1} has {len(have)} channels and cannot be narrowed to {width}")
    order = torch.sort(importance, descending=True, stable=True).indices[:width]
    kept = tuple(have[int(index)] for index in sorted(order.tolist()))
    channels = list(state.channels)
    channels[stage] = kept
    return State(state.kept, tuple(channels), state.mb3d)  # type: ignore[arg-type]


def channel_importance(
    model: EfficientFormer,
    criterion: Criterion,
    batches: Batches = (),
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[Tensor]:
    """Return for each stage how much each of its channels matters: four of (channels,).

    `taylor`: the squared first-order effect on the loss of removing the channel from the stage's stream, summed over the
    stage's blocks and over `batches` (Molchanov et al. 2019). `l1`: the absolute weights that write or read it. `bn`: the
    scales by which it is written. Raises InvalidSpec where taylor has nothing to look at.
    """
    if criterion == "taylor":
        return _taylor(model, batches, loss or nn.functional.cross_entropy)
    widths = model_widths(model)
    found = [torch.zeros(width) for width in widths]
    stage = 0
    for block in model.blocks:
        assert isinstance(block, Block)
        if block.spec.kind == "embedding":
            if criterion == "l1":
                found[stage] += _weight(block, "conv").abs().sum((0, 2, 3))
            stage += 1
        found[stage] += _written(block, criterion)
    return found


def model_widths(model: EfficientFormer) -> tuple[int, ...]:
    """Return the widths of a network's stages."""
    first = model.spec.blocks[0].width_out
    return (first, *(block.width_out for block in model.spec.blocks if block.kind == "embedding"))


def _taylor(model: EfficientFormer, batches: Batches, loss: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    stage_of = _stage_of(model)
    found = [torch.zeros(width) for width in model_widths(model)]
    outputs: list[tuple[int, int, Tensor]] = []

    def keep(index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            output.retain_grad()
            outputs.append((stage_of[index], output.ndim, output))

        return hook

    hooks = [block.register_forward_hook(keep(index)) for index, block in enumerate(list(model.blocks)[:-1])]
    seen = 0
    try:
        for images, labels in batches:
            outputs.clear()
            model.zero_grad(set_to_none=True)
            torch.autograd.backward(loss(model.eval()(images), labels))
            for stage, ndim, output in outputs:
                assert output.grad is not None
                effect = (output.detach() * output.grad).sum((2, 3) if ndim == 4 else 1)  # (B, C)
                found[stage] += effect.pow(2).sum(0).cpu()
            seen += len(images)
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
        outputs.clear()
    if not seen:
        raise InvalidSpec("the taylor criterion needs batches of images to look at")
    return found


def _stage_of(model: EfficientFormer) -> list[int]:
    return list(accumulate(int(block.kind == "embedding") for block in model.spec.blocks))


@torch.no_grad()
def _written(block: Block, criterion: Criterion) -> Tensor | float:
    """Return how strongly a block writes (and for l1 reads) each channel of its stage."""
    kind = block.spec.kind
    if kind in ("stem", "embedding"):
        scale = _weight(block, "norm2" if kind == "stem" else "norm").abs()
        conv = _weight(block, "conv2" if kind == "stem" else "conv")
        return scale if criterion == "bn" else conv.abs().sum((1, 2, 3))
    if kind in ("flat", "head"):
        return 0.0 if criterion == "bn" or kind == "flat" else _weight(block, "head").abs().sum(0)
    out, into = _weight(block, "fc2").flatten(1), _weight(block, "fc1").flatten(1)
    scale = block.get_parameter("scale2.gamma").abs()
    if kind == MB3D.name:
        if criterion == "bn":
            return scale + block.get_parameter("scale1.gamma").abs()
        reads = _weight(block, "attention.qkv").abs().sum(0)
        return scale * out.abs().sum(1) + into.abs().sum(0) + _weight(block, "attention.proj").abs().sum(1) + reads
    written = scale * _weight(block, "norm2").abs()
    return written if criterion == "bn" else scale * out.abs().sum(1) + into.abs().sum(0)


def _weight(block: Block, layer: str) -> Tensor:
    return block.get_parameter(f"{layer}.weight").detach()


def _check(supernet: Supernet, state: State) -> None:
    for stage in range(STAGES):
        kept, channels = state.kept[stage], state.channels[stage]
        for name, values, most in (
            ("positions", kept, supernet.config.depths[stage]),
            ("channels", channels, supernet.config.widths[stage]),
        ):
            if not values or list(values) != sorted(set(values)) or values[0] < 0 or values[-1] >= most:
                raise InvalidSpec(f"stage {stage + 1} must keep {name} of 0..{most - 1}, ascending, at least one")
    for (stage, position), kind in state.kinds().items():
        path = supernet.paths(stage)[position]
        if kind not in path.branches:
            raise InvalidSpec(f"stage {stage + 1} has no {kind} to choose: {state.mb3d} trailing MB3D are too many")


# Copying weights, layer by layer: `rows` are the outputs kept, `columns` the inputs.


def _index(kept: Sequence[int]) -> Tensor:
    return torch.tensor(list(kept), dtype=torch.long)


def _most(importance: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` largest, ascending; ties keep the first."""
    return torch.sort(importance, descending=True, stable=True).indices[:count].sort().values


def _copy(source: nn.Module, to: nn.Module, rows: Tensor | None, columns: Tensor | None = None) -> None:
    """Copy a layer's parameters and statistics: rows of all of them, columns of its weight."""
    values = dict(source.named_parameters()) | dict(source.named_buffers())
    for name, own in [*to.named_parameters(), *to.named_buffers()]:
        value = values[name]
        if rows is not None and value.ndim:
            value = value.index_select(0, rows.to(value.device))
        if columns is not None and name == "weight":
            value = value.index_select(1, columns.to(value.device))
        own.copy_(value)


def _copy_stem(source: nn.Module, to: Block, channels: Sequence[int]) -> None:
    out = _index(channels)
    gamma = source.get_submodule("norm1").get_parameter("weight").abs()
    reads = source.get_submodule("conv2").get_parameter("weight").abs().sum((0, 2, 3))
    hidden = _most(gamma * reads, to.get_submodule("conv1").get_parameter("weight").shape[0])
    _copy(source.get_submodule("conv1"), to.get_submodule("conv1"), hidden)
    _copy(source.get_submodule("norm1"), to.get_submodule("norm1"), hidden)
    _copy(source.get_submodule("conv2"), to.get_submodule("conv2"), out, hidden)
    _copy(source.get_submodule("norm2"), to.get_submodule("norm2"), out)


def _copy_embedding(source: nn.Module, to: Block, before: Sequence[int], after: Sequence[int]) -> None:
    _copy(source.get_submodule("conv"), to.get_submodule("conv"), _index(after), _index(before))
    _copy(source.get_submodule("norm"), to.get_submodule("norm"), _index(after))


def _copy_head(source: nn.Module, to: Block, channels: Sequence[int]) -> None:
    kept = _index(channels)
    _copy(source.get_submodule("norm"), to.get_submodule("norm"), kept)
    for name in ("head", "head_dist"):
        layer = dict(to.named_children()).get(name)
        if isinstance(layer, nn.Linear):
            _copy(source.get_submodule(name), layer, None, kept)


def _copy_block(source: Block, to: Block, channels: Sequence[int]) -> None:
    kept, tokens = _index(channels), to.spec.kind == MB3D.name
    reads = _weight(source, "fc2").flatten(1).norm(dim=0)
    gives = _weight(source, "fc1").flatten(1).norm(dim=1) if tokens else _weight(source, "norm1").abs()
    hidden = _most(gives * reads, to.get_parameter("fc1.weight").shape[0])
    _copy(source.get_submodule("fc1"), to.get_submodule("fc1"), hidden, kept)
    _copy(source.get_submodule("fc2"), to.get_submodule("fc2"), kept, hidden)
    _copy(source.get_submodule("scale1"), to.get_submodule("scale1"), kept)
    _copy(source.get_submodule("scale2"), to.get_submodule("scale2"), kept)
    if tokens:
        _copy(source.get_submodule("norm1"), to.get_submodule("norm1"), kept)
        _copy(source.get_submodule("norm2"), to.get_submodule("norm2"), kept)
        _copy(source.get_submodule("attention.qkv"), to.get_submodule("attention.qkv"), None, kept)
        _copy(source.get_submodule("attention.proj"), to.get_submodule("attention.proj"), kept)
        to.get_parameter("attention.biases").copy_(source.get_parameter("attention.biases"))
    else:
        _copy(source.get_submodule("norm1"), to.get_submodule("norm1"), hidden)
        _copy(source.get_submodule("norm2"), to.get_submodule("norm2"), kept)
