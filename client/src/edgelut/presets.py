"""Named lists of blocks to profile: what a network, a search space or the demo needs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product

from .blocks import EMBEDDING, FLAT, HEAD, MB3D, MB4D, STEM
from .efficientformer import CONFIGS, Config, get_config, network
from .errors import InvalidSpec
from .sequences import network_spec
from .types import BlockSpec, NetworkSpec


def names() -> list[str]:
    """List the presets."""
    return [*CONFIGS, *_SPACES]


def get(name: str) -> list[BlockSpec]:
    """Return the distinct blocks of a preset; raise InvalidSpec, which lists the presets."""
    space = _SPACES.get(name.lower())
    if space is not None:
        return _distinct(space())
    try:
        return _distinct(network(get_config(name)).blocks)
    except InvalidSpec as error:
        raise InvalidSpec(f"no preset {name!r}; there are {', '.join(names())}") from error


def whole(name: str) -> NetworkSpec:
    """Return the whole network of a preset; raise InvalidSpec, which lists the networks."""
    return network(get_config(name))


def random_networks(count: int, seed: int) -> list[NetworkSpec]:
    """Return distinct random networks of EfficientFormer's shape: depths, widths and number of MB3D drawn by the seed.

    Widths come from a grid of three a stage around L1's, so that networks share blocks and the table they need stays small.
    """
    draw = random.Random(seed)
    found: dict[str, NetworkSpec] = {}
    while len(found) < count:
        depths = (draw.randint(1, 4), draw.randint(1, 4), draw.randint(2, 8), draw.randint(2, 6))
        widths = (draw.choice(GRID[0]), draw.choice(GRID[1]), draw.choice(GRID[2]), draw.choice(GRID[3]))
        config = Config(widths, depths, draw.randint(0, depths[3] + (draw.random() < 0.3) * depths[2]))
        drawn = network(config)
        found.setdefault(drawn.key, drawn)
    return list(found.values())


def with_networks(specs: Sequence[BlockSpec], networks: Sequence[NetworkSpec]) -> list[BlockSpec]:
    """Return specs, the networks as wholes, and every block that their sums need."""
    blocks = [block for drawn in networks for block in drawn.blocks]
    return _distinct([*specs, *blocks, *map(network_spec, networks)])


GRID = ((32, 48, 64), (64, 96, 128), (160, 224, 320), (320, 448, 512))


def _demo() -> Iterable[BlockSpec]:
    """EfficientFormer-L1, and MB4D and MB3D at its widths 224 and 448 with their neighbours, MB3D at 14x14 included."""
    yield from network(get_config("efficientformer-l1")).blocks
    for centre, resolution in ((224, 14), (448, 7)):
        for width in (centre - 16, centre, centre + 16):
            yield MB4D.spec(width, resolution)
            yield MB3D.spec(width, resolution)


def _slimming_space(widths: Sequence[int], resolutions: Sequence[int] = (56, 28, 14, 7)) -> Iterable[BlockSpec]:
    """The MB4D and MB3D that slimming can reach from a supernet of these widths: every multiple of 16 up to them."""
    for stage, (widest, resolution) in enumerate(zip(widths, resolutions, strict=True)):
        for width in range(16, widest + 1, 16):
            yield MB4D.spec(width, resolution)
            if stage >= 2:
                yield MB3D.spec(width, resolution)


def slimming_table(config: Config) -> Iterable[BlockSpec]:
    """All that slimming a supernet of these widths may look up, in steps of 16: MB4D everywhere, MB3D in stages 3 and 4, stems,
    embeddings of every pair of widths, flats where MB3D can begin, heads."""
    side = config.resolution // config.stem_stride
    yield from _slimming_space(config.widths, [side >> stage for stage in range(4)])
    steps = [range(16, widest + 1, 16) for widest in config.widths]
    for width in steps[0]:
        yield STEM.spec(width, config.resolution, params={"stride": config.stem_stride})
    for stage in range(3):
        for one, other in product(steps[stage], steps[stage + 1]):
            yield EMBEDDING.spec(one, side >> stage, width_out=other)
    for stage in (2, 3):
        for width in steps[stage]:
            yield FLAT.spec(width, side >> stage)
    for width in steps[3]:
        yield HEAD.spec(width, side >> 3, width_out=config.classes)


_SPACES: dict[str, Callable[[], Iterable[BlockSpec]]] = {
    "demo": _demo,
    **{f"{name}-space": partial(_slimming_space, config.widths) for name, config in CONFIGS.items()},
    **{f"{name}-table": partial(slimming_table, config) for name, config in CONFIGS.items()},
}


def _distinct(specs: Iterable[BlockSpec]) -> list[BlockSpec]:
    return list(dict.fromkeys(specs))
