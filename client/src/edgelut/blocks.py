"""The block kinds of EfficientFormer as values: names, parameters, shapes; no torch, so that a client can write any key.

A kind defined elsewhere (CONTRIBUTING.md) is a `BlockKind` in that file; nothing here needs to know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import InvalidSpec, UnknownKind
from .types import BlockSpec, Params, Scalar

Layout = Literal["4d", "3d"]  # (B, C, H, W) or (B, N, C)


@dataclass(frozen=True, slots=True)
class BlockKind:
    """A kind of block: its name, its parameters with their defaults, and how it changes the map.

    `choices` lists the allowed values of a parameter; a numeric parameter that has none must be a positive whole number.
    `widens` is true where the output width is free (stem, embedding, head) and false where it equals the input width.
    """

    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    choices: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    widens: bool = False
    width_in: int | None = None  # fixed, as the stem's three colours
    layout_in: Layout | None = "4d"  # None: as the parameter `layout` says
    layout_out: Layout | None = "4d"

    def spec(
        self,
        width: int,
        resolution: int,
        *,
        width_out: int | None = None,
        batch: int = 1,
        params: Mapping[str, Any] | None = None,
    ) -> BlockSpec:
        """Return the spec with every parameter filled in and checked.

        `width` is the input width C; where a kind fixes it (stem), `width` is the output width. Raises InvalidSpec.
        """
        if self.width_in is not None:
            if width_out is not None and width != self.width_in:
                raise InvalidSpec(f"{self.name}: its input width is {self.width_in}, not {width}")
            width, width_out = self.width_in, width if width_out is None else width_out
        if self.widens and width_out is None:
            raise InvalidSpec(f"{self.name}: give its output width too (width_out=...)")
        if not self.widens and width_out not in (None, width):
            raise InvalidSpec(f"{self.name}: input and output width are one, not {width} and {width_out}")
        return self.check(
            BlockSpec(self.name, width, width if width_out is None else width_out, resolution, batch, self.fill(params))
        )

    def fill(self, params: Mapping[str, Any] | None) -> Params:
        """Return all parameters, those not given at their defaults; raise InvalidSpec for an unknown name or a bad value."""
        filled = Params({**self.params, **(params or {})})
        for name, value in filled.items():
            if name not in self.params:
                has = ", ".join(sorted(self.params)) or "none"
                raise InvalidSpec(f"{self.name} has no parameter {name!r}; its parameters: {has}")
            allowed = self.choices.get(name)
            if allowed is not None and value not in allowed:
                raise InvalidSpec(f"{self.name}: {name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
            if allowed is None and not (isinstance(value, int) and value >= 1):
                raise InvalidSpec(f"{self.name}: {name} must be a positive whole number, not {value!r}")
        return filled

    def stride(self, spec: BlockSpec) -> int:
        """Return by how much the block shrinks the map's side."""
        return int(spec.params.get("stride", 1))

    def resolution_out(self, spec: BlockSpec) -> int:
        """Return the side of the output map."""
        return spec.resolution // self.stride(spec)

    def check(self, spec: BlockSpec) -> BlockSpec:
        """Return a spec of this kind that can be built; raise InvalidSpec otherwise."""
        if spec.kind != self.name:
            raise InvalidSpec(f"a block of kind {spec.kind!r} is no {self.name}: names in keys are written exactly")
        if self.fill(spec.params) != spec.params:
            missing = ", ".join(sorted(set(self.params) - set(spec.params)))
            raise InvalidSpec(f"{self.name}: the spec lacks {missing}; build it with {self.name}.spec(...)")
        if not self.widens and spec.width_in != spec.width_out:
            raise InvalidSpec(f"{self.name}: input and output width are one, not {spec.width_in} and {spec.width_out}")
        if self.width_in is not None and spec.width_in != self.width_in:
            raise InvalidSpec(f"{self.name}: its input width is {self.width_in}, not {spec.width_in}")
        if spec.resolution % self.stride(spec):
            lower = spec.resolution - spec.resolution % self.stride(spec)
            near = f"{lower} or {lower + self.stride(spec)}" if lower else f"{self.stride(spec)}"
            raise InvalidSpec(
                f"{self.name}: resolution {spec.resolution} is not divisible by its stride {self.stride(spec)}; try {near}"
            )
        return spec

    def layouts(self, spec: BlockSpec) -> tuple[Layout, Layout]:
        """Return the layouts of input and output."""
        own: Layout = "3d" if spec.params.get("layout") == "3d" else "4d"
        return self.layout_in or own, self.layout_out or own

    def input_shape(self, spec: BlockSpec) -> tuple[int, ...]:
        """Return (B, C, R, R) or (B, R*R, C)."""
        return _shape(self.layouts(spec)[0], spec.batch, spec.width_in, spec.resolution)

    def output_shape(self, spec: BlockSpec) -> tuple[int, ...]:
        """Return (B, C', R', R') or (B, R'*R', C'); a head's is (B, classes)."""
        return _shape(self.layouts(spec)[1], spec.batch, spec.width_out, self.resolution_out(spec))


@dataclass(frozen=True, slots=True)
class HeadKind(BlockKind):
    """The head: the output width is the number of classes and the map is gone."""

    def output_shape(self, spec: BlockSpec) -> tuple[int, ...]:
        """Return (B, classes)."""
        return (spec.batch, spec.width_out)


def _shape(layout: Layout, batch: int, width: int, resolution: int) -> tuple[int, ...]:
    return (batch, width, resolution, resolution) if layout == "4d" else (batch, resolution * resolution, width)


ACTIVATIONS: tuple[Scalar, ...] = ("gelu", "relu", "hardswish")

STEM = BlockKind(
    "stem",
    {"stride": 4, "activation": "relu"},
    {"stride": (1, 2, 4), "activation": ACTIVATIONS},
    widens=True,
    width_in=3,
)
MB4D = BlockKind(
    "MB4D", {"expansion": 4, "pool": 3, "activation": "gelu"}, {"pool": (3, 5, 7), "activation": ACTIVATIONS}
)
EMBEDDING = BlockKind(
    "embedding",
    {"kernel": 3, "stride": 2, "layout": "4d"},
    {"kernel": (3, 5, 7), "stride": (1, 2), "layout": ("4d", "3d")},
    widens=True,
    layout_in=None,
    layout_out=None,
)
FLAT = BlockKind("flat", layout_out="3d")
MB3D = BlockKind(
    "MB3D",
    {"expansion": 4, "heads": 8, "key_dim": 32, "attn_ratio": 4, "activation": "gelu"},
    {"activation": ACTIVATIONS},
    layout_in="3d",
    layout_out="3d",
)
HEAD = HeadKind(
    "head",
    {"layout": "3d", "distillation": 1},
    {"layout": ("4d", "3d"), "distillation": (0, 1)},
    widens=True,
    layout_in=None,
)
IDENTITY = BlockKind("identity", {"layout": "4d"}, {"layout": ("4d", "3d")}, layout_in=None, layout_out=None)

KINDS: Mapping[str, BlockKind] = {kind.name: kind for kind in (STEM, MB4D, EMBEDDING, FLAT, MB3D, HEAD, IDENTITY)}


def find_kind(name: str) -> BlockKind | None:
    """Return the kind of that name, whatever its case, or None."""
    return next((kind for known, kind in KINDS.items() if known.lower() == name.lower()), None)


def get_kind(name: str) -> BlockKind:
    """Return the kind of that name, whatever its case; raise UnknownKind, which lists those there are."""
    kind = find_kind(name)
    if kind is None:
        raise UnknownKind(f"no block kind {name!r}; there are {', '.join(KINDS)}")
    return kind
