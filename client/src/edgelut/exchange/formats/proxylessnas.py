"""The format `proxylessnas`: ProxylessNAS's YAML of layers with count, mean and variance."""

from __future__ import annotations

from edgelut.exchange.layers import LayerFormat
from edgelut.types import BlockSpec


class ProxylessNas(LayerFormat):
    """Layers of ProxylessNAS; `expand` is a factor of the input width."""

    holds = "mean, variance and count of each layer of ProxylessNAS"
    lost = "no percentiles, no conditions: the files have none"
    publisher = "han-cai/files (ProxylessNAS)"
    prefix = "proxylessnas."
    spread = "var"
    layers = {  # noqa: RUF012 - a ClassVar of the base
        "Conv": (),
        "Conv_1": (),
        "Logits": (),
        "expanded_conv": ("expand", "kernel", "stride", "idskip"),
    }
    example = (
        b"Conv-input:224x224x3-output:112x112x32:\n  count: 982\n  mean: 4.083755600814664\n  var: 0.2502372872758427\n"
        b"Logits-input:7x7x1280-output:1000:\n  count: 982\n  mean: 0.3096415478615071\n  var: 0.05583766681628091\n"
    )
    example_value = b"4.083755600814664"

    def hidden(self, spec: BlockSpec) -> int:
        """Return `expand` times the input width."""
        return int(spec.params["expand"]) * spec.width_in
