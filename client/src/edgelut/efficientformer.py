"""EfficientFormer's networks as lists of block specs (Li et al. 2022, arXiv 2206.01191)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .blocks import EMBEDDING, FLAT, HEAD, MB3D, MB4D, STEM
from .errors import InvalidSpec
from .types import BlockSpec, NetworkSpec


@dataclass(frozen=True, slots=True)
class Config:
    """A network of the family: widths and depths of its four stages, and how many trailing blocks are MB3D.

    `mb3d` counts from the end of the network and may reach back through stage 3 (search states do); the published ones keep
    them in stage 4.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    mb3d: int
    resolution: int = 224
    batch: int = 1
    classes: int = 1000
    distillation: bool = True
    stem_stride: int = 4
    name: str = ""

    def __post_init__(self) -> None:
        if len(self.widths) != 4 or len(self.depths) != 4:
            raise InvalidSpec(f"give 4 widths and 4 depths, not {len(self.widths)} and {len(self.depths)}")
        if any(depth < 1 for depth in self.depths):
            raise InvalidSpec(f"every stage needs at least one block: depths {self.depths}")
        if not 0 <= self.mb3d <= sum(self.depths[2:]):
            raise InvalidSpec(f"mb3d must lie in 0..{sum(self.depths[2:])} (stages 3 and 4), not {self.mb3d}")
        strides = STEM.choices["stride"]
        if self.stem_stride not in strides:
            raise InvalidSpec(f"stem_stride must be one of {', '.join(map(str, strides))}, not {self.stem_stride!r}")
        total = self.stem_stride * 8
        if self.resolution < 1 or self.resolution % total:
            lower = self.resolution - self.resolution % total
            near = f"{lower} or {lower + total}" if lower > 0 else f"{total}"
            raise InvalidSpec(
                f"resolution {self.resolution} is not divisible by the network's stride {total}; try {near}"
            )


CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        Config((48, 96, 224, 448), (3, 2, 6, 4), 1, name="efficientformer-l1"),
        Config((64, 128, 320, 512), (4, 4, 12, 6), 4, name="efficientformer-l3"),
        Config((96, 192, 384, 768), (6, 6, 18, 8), 8, name="efficientformer-l7"),
    )
}


def get_config(name: str) -> Config:
    """Return a published configuration by name (`efficientformer-l1`, `L1`); raise InvalidSpec, which lists them."""
    wanted = name.lower()
    for known, config in CONFIGS.items():
        if wanted in (known, known.rpartition("-")[2]):
            return config
    raise InvalidSpec(f"no network {name!r}; there are {', '.join(CONFIGS)}")


def network(config: Config) -> NetworkSpec:
    """List the blocks of a network in order: stem, stages with embeddings between them, flat before the first MB3D, head."""
    resolution = config.resolution // config.stem_stride
    stem = STEM.spec(config.widths[0], config.resolution, batch=config.batch, params={"stride": config.stem_stride})
    blocks: list[BlockSpec] = [stem]
    first_mb3d = sum(config.depths) - config.mb3d
    index, flat = 0, False
    for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
        if stage:
            before = config.widths[stage - 1]
            blocks += _embedding(before, width, resolution, config.batch, flat)
            resolution //= 2
        for _ in range(depth):
            if index >= first_mb3d and not flat:
                blocks.append(FLAT.spec(width, resolution, batch=config.batch))
                flat = True
            kind = MB3D if flat else MB4D
            blocks.append(kind.spec(width, resolution, batch=config.batch))
            index += 1
    params = {"layout": "3d" if flat else "4d", "distillation": int(config.distillation)}
    head = HEAD.spec(config.widths[3], resolution, width_out=config.classes, batch=config.batch, params=params)
    return NetworkSpec((*blocks, head), name=config.name)


def _embedding(width_in: int, width_out: int, resolution: int, batch: int, flat: bool) -> Sequence[BlockSpec]:
    """Return the embedding between two stages; one inside the 3D part reads tokens and writes tokens."""
    params = {"layout": "3d"} if flat else {}
    return [EMBEDDING.spec(width_in, resolution, width_out=width_out, batch=batch, params=params)]
