"""The folder is the registry: `supernet/blocks/mb4d.py` is the kind MB4D; and what can be asked of any kind.

A kind outside this tree joins by the entry point group `edgelut.blocks`, `name = "module"`, where the module holds one
subclass of `Block` and its `KIND`. Names are compared without case, and listing them imports nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from inspect import isabstract
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from edgelut.blocks import BlockKind
from edgelut.errors import InvalidSpec, UnknownKind
from edgelut.types import BlockSpec
from supernet.weights import generator, randomize, uniform

from .base import Block

Init = Literal["random", "paper"]

__all__ = ["Block", "Init", "build", "create", "example_inputs", "kind", "load", "macs", "names", "parameters"]


def names() -> list[str]:
    """List the kinds in lower case, importing none of them."""
    return sorted(_modules())


def load(name: str) -> type[Block]:
    """Return the module class of a kind; raise UnknownKind, which lists those there are."""
    return _load(_plain(name))[0]


def kind(name: str) -> BlockKind:
    """Return the kind of that name, wherever it is defined; raise UnknownKind."""
    return _load(_plain(name))[1]


def create(spec: BlockSpec) -> Block:
    """Return a block with the paper's initial weights, drawn from torch's global generator; raise InvalidSpec."""
    return load(spec.kind)(_checked(spec))


def build(spec: BlockSpec, seed: int | None = None, *, copy: int = 0, init: Init = "random") -> Block:
    """Return a block in evaluation mode; raise InvalidSpec for a spec that lacks parameters or cannot exist.

    The weights depend on (spec, seed, copy) alone, and torch's global generator is left as it was. `random` weights are
    for profiling (`supernet.weights`); give each block of a chain another `copy`. `paper` weights are for training.
    """
    parts = (spec.key, seed or 0, copy)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator("paper", *parts).initial_seed())
        block = create(spec)
    if init == "random":
        randomize(block, generator("random", *parts))
    return block.eval()


def example_inputs(spec: BlockSpec, seed: int = 0) -> dict[str, Tensor]:
    """Return the block's one input `x`, of variance 1 and the same for the same spec and seed everywhere."""
    shape = kind(spec.kind).input_shape(spec)
    return {"x": uniform(shape, -(3**0.5), 3**0.5, generator("input", spec.key, seed))}


def parameters(spec: BlockSpec) -> int:
    """Return the number of trainable values, without building the block."""
    return load(spec.kind).count_parameters(_checked(spec))


def macs(spec: BlockSpec, *, attention: bool = False) -> int:
    """Return the multiply-accumulates of one call (its whole batch): convolutions, linears, attention's if asked."""
    return load(spec.kind).count_macs(_checked(spec), attention)


def _checked(spec: BlockSpec) -> BlockSpec:
    """Return a spec that can be built; raise InvalidSpec, also for a kind in another spelling: its key is another."""
    known = kind(spec.kind)
    if spec.kind != known.name:
        raise InvalidSpec(
            f"the kind {spec.kind!r} is spelled {known.name!r}; build the spec with {known.name}.spec(...)"
        )
    return known.check(spec)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _modules() -> dict[str, str]:
    """Map names to modules: the files of the folder, then entry points."""
    files = (file.stem for file in Path(__file__).parent.glob("[a-z]*.py") if file.stem != "base")
    own = {_plain(stem): f"{__name__}.{stem}" for stem in files}
    return {**{_plain(point.name): point.value for point in entry_points(group="edgelut.blocks")}, **own}


@cache
def _load(name: str) -> tuple[type[Block], BlockKind]:
    modules = _modules()
    if name not in modules:
        raise UnknownKind(f"no block kind {name!r}; there are {', '.join(sorted(modules))}")
    module: Any = import_module(modules[name])
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Block)
        and not isabstract(value)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1 or not isinstance(getattr(module, "KIND", None), BlockKind):
        raise UnknownKind(f"{module.__name__} must hold one Block and its KIND, but it holds {len(found)} blocks")
    if _plain(module.KIND.name) != name:
        raise UnknownKind(f"{module.__name__} is listed as {name!r}, but its KIND is named {module.KIND.name!r}")
    return found[0], module.KIND
