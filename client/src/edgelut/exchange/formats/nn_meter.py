"""The format `nn-meter`: a JSON object of block keys and one latency each, as microsoft/nn-Meter publishes look-up tables.

Their hw is the side of the block's own input map: each key's model was built with an input of hw x hw x cin, or of hw * hw
tokens, converted to TFLite and timed on the phone.
"""

from __future__ import annotations

import re
from typing import ClassVar

from edgelut.errors import InvalidSpec
from edgelut.exchange.base import Figure, KeyedFormat, shown
from edgelut.exchange.text import json_table, positive
from edgelut.types import BlockSpec, Params, Scalar

PREFIX = "nn-meter."
# A name's fields in the order of its key. cin and cout are the widths (c is both), hw the resolution; the rest are parameters.
FORMS: dict[str, tuple[str, ...]] = {
    "firstconv": ("hw", "cin", "cout", "stride", "kernel"),
    "conv": ("hw", "cin", "cout", "expansion", "stride", "act", "kernel", "se"),
    "transds": ("hw", "cin", "cout", "stride", "expansion"),
    "transattn": ("hw", "c", "act", "v", "norm"),
    "transffn": ("hw", "c", "expansion", "act", "norm"),
    "mbpool": ("hw", "cin", "cout", "expansion", "act"),
}
_WIDTHS = ("hw", "cin", "cout", "c")
_TEXTS = {"act": "[a-z][a-z0-9]*(?:_[a-z]+)*", "se": "se|nose", "norm": "ln|bn"}
_WHOLE = "[1-9][0-9]{0,8}"
_PATTERNS = {
    name: re.compile("_".join([name, *(f"(?P<{field}>{_TEXTS.get(field, _WHOLE)})" for field in fields)]))
    for name, fields in FORMS.items()
}


class NnMeter(KeyedFormat):
    """One value a key, of TFLite models of a block each."""

    suffix = ".json"
    holds = "one latency a block of a hybrid of convolutions and attention, by key"
    lost = "no percentiles, no interval, no count, no conditions: the files have none"
    publisher = "microsoft/nn-Meter"
    usual_unit = "ms"
    example = b'{"conv_64_16_16_1_1_hard_swish_5_nose": 0.419474, "transattn_8_48_hard_swish_2_ln": 0.153455}\n'
    example_value = b"0.419474"
    forms: ClassVar[str] = ", ".join(
        "_".join([name, *(f"{{{field}}}" for field in fields)]) for name, fields in FORMS.items()
    )

    def figures(self, content: bytes) -> list[Figure]:
        """Return the object's pairs."""
        return [Figure(key, _value(key, value)) for key, value in json_table(content).items()]

    def spec(self, key: str) -> BlockSpec:
        """Return the block: `conv_64_16_24_6_2_hard_swish_3_nose` is nn-meter.conv 16->24 @64 with the rest as parameters."""
        name = key.partition("_")[0]
        matched = _PATTERNS[name].fullmatch(key) if name in _PATTERNS else None
        if matched is None:
            raise InvalidSpec(f"key {shown(key)} is of no form of nn-meter: {self.forms}")
        fields = matched.groupdict()
        values: dict[str, Scalar] = {
            field: text if field in _TEXTS else int(text) for field, text in fields.items() if field not in _WIDTHS
        }
        cin, cout = int(fields.get("cin") or fields["c"]), int(fields.get("cout") or fields["c"])
        return BlockSpec(PREFIX + name, cin, cout, int(fields["hw"]), params=Params(values))

    def key(self, spec: BlockSpec) -> str:
        """Return the key again."""
        name = spec.kind.removeprefix(PREFIX)
        if not spec.kind.startswith(PREFIX) or name not in FORMS:
            raise InvalidSpec(f"{spec} is no block of nn-meter")
        own = {"hw": spec.resolution, "cin": spec.width_in, "cout": spec.width_out, "c": spec.width_in}
        return "_".join([name, *(str(own.get(field) or spec.params[field]) for field in FORMS[name])])

    def macs(self, spec: BlockSpec) -> int:
        """Return the MACs of its convolutions and products; that of squeeze and excitation are left out, below 1 %."""
        name, cin, cout = spec.kind.removeprefix(PREFIX), spec.width_in, spec.width_out
        params = {field: value for field, value in spec.params.items() if isinstance(value, int)}
        pixels, expansion = spec.resolution**2, params.get("expansion", 1)
        out = (-(-spec.resolution // params.get("stride", 1))) ** 2
        if name == "firstconv":
            return out * params["kernel"] ** 2 * cin * cout
        if (
            name == "transattn"
        ):  # query, key, value of v times the width, output; then both products of all pairs of tokens
            scale = params["v"]
            return pixels * cin * cin * (2 + 2 * scale) + pixels**2 * cin * (1 + scale)
        if name == "transffn":
            return 2 * pixels * cin * cin * expansion
        if name == "mbpool":
            return pixels * cin * cin * expansion + cin * expansion * cout
        hidden, kernel = cin * expansion, params.get("kernel", 3)
        wide = pixels * cin * hidden if expansion > 1 else 0
        return wide + out * kernel**2 * hidden + out * hidden * cout


def _value(key: str, value: object) -> float:
    if isinstance(value, str):
        raise InvalidSpec(f"key {shown(key)}: {shown(value)} is a text: its latency must be a number")
    return positive(f"key {shown(key)}", value)
