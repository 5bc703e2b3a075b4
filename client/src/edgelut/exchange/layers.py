"""What the two YAML formats of MIT HAN Lab share: keys of a layer's name, shapes and fields; a mean, a spread and a count."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec, Params

from .base import Figure, KeyedFormat, shown
from .text import number, positive, yaml_table

_SIDE = "([1-9][0-9]{0,8})"
_KEY = re.compile(
    rf"([A-Za-z][A-Za-z0-9_]*)-input:{_SIDE}x{_SIDE}x{_SIDE}-output:(?:{_SIDE}x{_SIDE}x)?{_SIDE}((?:-[a-z]+:(?:0|[1-9][0-9]{{0,8}}))*)"
)
SIDE_OUT = "side_out"  # of the output map; a key whose output is a vector has none


class LayerFormat(KeyedFormat):
    """`NAME-input:HxWxC-output:HxWxC-field:value…` with count, mean, and std or var.

    `layers` are the fields of each layer's name, in the order of its key; `spread` is the name of the spread's field.
    """

    suffix = ".yaml"
    usual_unit = "ms"
    most_bytes = 2 * 2**20  # YAML is read at about 1 MB/s; the published files have 15 kB
    prefix: ClassVar[str]
    layers: ClassVar[Mapping[str, tuple[str, ...]]]
    spread: ClassVar[str]  # std or var

    @abstractmethod
    def hidden(self, spec: BlockSpec) -> int:
        """Return the width within an expanded convolution."""

    def figures(self, content: bytes) -> list[Figure]:
        """Return the file's keys with mean, standard deviation and count."""
        found = []
        for key, (place, row) in yaml_table(content, dict.fromkeys(("count", "mean", self.spread), "")).items():
            at = f"{place}, key {shown(key)}"
            spread = number(at, row[self.spread])
            if spread < 0:
                raise InvalidSpec(f"{at}: {self.spread} is not negative, as {shown(row[self.spread])} is")
            if not re.fullmatch("[1-9][0-9]{0,8}", row["count"]):
                raise InvalidSpec(f"{at}: count must be a whole number above zero, not {shown(row['count'])}")
            std = math.sqrt(spread) if self.spread == "var" else spread
            found.append(Figure(key, positive(at, row["mean"]), std, int(row["count"])))
        return found

    def spec(self, key: str) -> BlockSpec:
        """Return the layer as a block: widths are channels, the resolution is the input map's side."""
        matched = _KEY.fullmatch(key)
        if matched is None or matched[1] not in self.layers:
            raise InvalidSpec(f"key {shown(key)} is of no form of {self.prefix[:-1]}: {self._forms()}")
        name, height, width, cin, high_out, wide_out, cout, rest = matched.groups()
        if height != width or high_out != wide_out:
            raise InvalidSpec(f"key {shown(key)}: its maps are not square, and a block's resolution is one side")
        pairs = [pair.partition(":") for pair in rest.split("-")[1:]]
        if tuple(field for field, _, _ in pairs) != self.layers[name]:
            raise InvalidSpec(f"key {shown(key)}: {name} has the fields {', '.join(self.layers[name]) or 'none'}")
        values = {field: int(value) for field, _, value in pairs}
        side = {} if high_out is None else {SIDE_OUT: int(high_out)}
        return BlockSpec(self.prefix + name, int(cin), int(cout), int(height), params=Params({**values, **side}))

    def key(self, spec: BlockSpec) -> str:
        """Return the key again."""
        name = spec.kind.removeprefix(self.prefix)
        if not spec.kind.startswith(self.prefix) or name not in self.layers:
            raise InvalidSpec(f"{spec} is no layer of {self.prefix[:-1]}")
        side = spec.params.get(SIDE_OUT)
        out = f"{spec.width_out}" if side is None else f"{side}x{side}x{spec.width_out}"
        fields = "".join(f"-{field}:{spec.params[field]}" for field in self.layers[name])
        return f"{name}-input:{spec.resolution}x{spec.resolution}x{spec.width_in}-output:{out}{fields}"

    def macs(self, spec: BlockSpec) -> int | None:
        """Return a layer's MACs; a pooling has none. The first convolution's kernel is 3, the others' 1, as in the networks."""
        name, cin, cout = spec.kind.removeprefix(self.prefix), spec.width_in, spec.width_out
        pixels, out = spec.resolution**2, int(spec.params.get(SIDE_OUT, 1)) ** 2
        if name == "expanded_conv":
            hidden = self.hidden(spec)
            wide = pixels * cin * hidden if hidden != cin else 0
            return wide + out * int(spec.params["kernel"]) ** 2 * hidden + out * hidden * cout
        if name.startswith("Conv"):
            return out * cin * cout * (9 if name == "Conv" else 1)
        return cin * cout if name == "Logits" else None

    def _forms(self) -> str:
        return ", ".join(
            f"{name}-input:HxWxC-output:HxWxC{''.join(f'-{field}:N' for field in fields)}"
            for name, fields in self.layers.items()
        )


__all__ = ["SIDE_OUT", "LayerFormat"]
