"""Tables whose true latencies are known, for the tests of estimates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from edgelut import MB3D, MB4D, BlockSpec, Entry, Latency, Target
from edgelut.types import Params

HOST = Target("host", "onnxruntime-cpu")
PHONE = Target("phone", "onnxruntime-native")
WIDTHS = range(32, 449, 32)
RESOLUTIONS = (7, 14, 28)


def true_ns(spec: BlockSpec, target: Target = HOST) -> float:
    """What a block takes: products at a price that falls with the size, memory, a start; a phone is slower, less so at MB3D."""
    width, pixels = spec.width_in, spec.resolution**2
    products = (8 * width**2 + (2560 * width + 1280 * pixels if spec.kind == "MB3D" else 0)) * pixels
    host = 4e3 + products / 50 * (1 + 200 / (200 + width)) + 0.5 * pixels * width * 4
    return host if target == HOST else host * (3.0 if spec.kind == "MB4D" else 2.2) * (1 + 30 / width)


def blocks(widths: Iterable[int] = WIDTHS, resolutions: Iterable[int] = RESOLUTIONS) -> list[BlockSpec]:
    """MB4D everywhere, MB3D at 7 and 14."""
    places = [(width, resolution) for resolution in resolutions for width in widths]
    return [MB4D.spec(*place) for place in places] + [MB3D.spec(*place) for place in places if place[1] <= 14]


def measured(spec: BlockSpec, target: Target = HOST, noise: float = 0.0, seed: int = 0, **changes: object) -> Entry:
    """A measured row with its slope and its cold time, off by some noise."""
    rng = np.random.default_rng([seed, spec.width_in, spec.resolution, len(spec.kind)])
    ns = true_ns(spec, target) * float(np.exp(noise * rng.standard_normal()))
    latency = Latency(
        ns, 1.05 * ns, 1.2 * ns, 0.99 * ns, 1.01 * ns, 8, 96, slope_ns=1.1 * ns, cold_ns=1.4 * ns, chain_ns=5.4 * ns
    )
    entry = Entry(spec, target, latency, provenance=Params({"conditions": "c1", "ran_on": "cpu"}))
    return replace(entry, **changes)  # type: ignore[arg-type]


def table(target: Target = HOST, noise: float = 0.01, seed: int = 0, **places: Iterable[int]) -> list[Entry]:
    """Rows of all blocks."""
    return [measured(spec, target, noise, seed) for spec in blocks(**places)]
