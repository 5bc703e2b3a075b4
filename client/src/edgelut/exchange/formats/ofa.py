"""The format `ofa`: once-for-all's YAML of layers with count, mean and standard deviation."""

from __future__ import annotations

from edgelut.exchange.layers import LayerFormat
from edgelut.types import BlockSpec


class Ofa(LayerFormat):
    """Layers of MobileNetV3 with squeeze and excitation (`se`) and h-swish (`hs`); `expand` is the width within."""

    holds = "mean, standard deviation and count of each layer of once-for-all's MobileNetV3"
    lost = "no percentiles, no conditions: the files have none"
    publisher = "han-cai/files (once-for-all)"
    prefix = "ofa."
    spread = "std"
    layers = {  # noqa: RUF012 - a ClassVar of the base
        "Conv": (),
        "Conv_1": (),
        "Conv_2": (),
        "AvgPool2D": (),
        "Logits": (),
        "expanded_conv": ("expand", "kernel", "stride", "idskip", "se", "hs"),
    }
    example = (
        b"Conv-input:224x224x3-output:112x112x24:\n  count: 500\n  mean: 0.994418\n  std: 0.01726798413249215\n"
        b"Logits-input:1x1x1536-output:1000:\n  count: 500\n  mean: 0.669412\n  std: 0.07743974597065771\n"
    )
    example_value = b"0.994418"

    def hidden(self, spec: BlockSpec) -> int:
        """Return `expand`, which is the width itself."""
        return int(spec.params["expand"])
