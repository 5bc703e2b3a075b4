"""Whether instruction counts of an emulated phone order blocks as this machine's latency does, and how far counts repeat."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from attached import attached_phone, measured
from narrow import missing, narrow_vectors
from report import Figure, parser, publish

from edgelut.blocks import get_kind
from edgelut.plan import Policy
from edgelut.types import BlockSpec
from supernet.blocks import macs

# Every multiple of 16 up to the widths of EfficientFormer-L1 at a resolution, and how many are drawn of them. What a block does
# beside its products grows with the resolution, and there a processor with other vectors than a phone's takes other shares of it:
# so the blocks are timed with this machine's vectors and with some as wide as the phone's.
SPACE = {
    "MB4D at 14 and 7": ("MB4D", {14: range(16, 225, 16), 7: range(16, 449, 16)}, 6),
    "MB3D at 14 and 7": ("MB3D", {14: range(16, 225, 16), 7: range(16, 449, 16)}, 6),
    "MB4D at 56 and 28": ("MB4D", {56: range(16, 49, 16), 28: range(16, 97, 16)}, 3),
}
COUNTED = Policy(warmups=1, min_samples=1, max_samples=1, min_rounds=2, max_rounds=2, spread_s=0.0)
RANK_GOAL, REPEAT_GOAL = 0.95, 1e-4
OWN, NARROW = "this machine's latency", "its latency with vectors of 128 bits"

Figures = Mapping[BlockSpec, float]


def main() -> None:
    """Count each block in two sweeps on the phone, time it on this machine, and compare the orders."""
    options = parser(__doc__ or "").parse_args()
    groups = _specs(options.seed)
    specs = [spec for some in groups.values() for spec in some]
    with tempfile.TemporaryDirectory() as folder, attached_phone() as device:
        first = _rows(specs, device, "onnxruntime-native", COUNTED, Path(folder, "first"))
        second = _rows(specs, device, "onnxruntime-native", COUNTED, Path(folder, "second"))
        latencies = {OWN: _rows(specs, "host", "onnxruntime-cpu", Policy(seed=options.seed), Path(folder, "host"))}
        if reason := missing():
            print(reason)
        else:
            with narrow_vectors():
                latencies[NARROW] = _rows(
                    specs, "host", "onnxruntime-cpu", Policy(seed=options.seed), Path(folder, "narrow")
                )
    for spec in sorted(specs, key=lambda spec: first[spec]):
        times = ", ".join(f"{latency[spec] / 1e6:.3f}" for latency in latencies.values())
        print(f"{spec.kind} {spec.width_in} @{spec.resolution}: {first[spec] / 1e6:.3f} M instr., {times} ms")
    publish(
        [*_ranks(groups, first, latencies), *_repeats(first, second), *_costs(groups, first, latencies)], options.json
    )


def _specs(seed: int) -> dict[str, list[BlockSpec]]:
    """Draw the blocks of each group."""
    rng = random.Random(seed)
    return {
        name: [
            get_kind(kind).spec(width, resolution)
            for resolution, widths in places.items()
            for width in rng.sample(list(widths), each)
        ]
        for name, (kind, places, each) in SPACE.items()
    }


def _rows(specs: Sequence[BlockSpec], device: str, runtime: str, policy: Policy, home: Path) -> Figures:
    """Measure the blocks alone; return p10 of each, in ns or in instructions."""
    home.mkdir()
    found, _ = measured(specs, device, runtime, policy, home / "edgelut.db", home)
    return {entry.spec: entry.latency.p10_ns for entry in found}


def _ranks(groups: Mapping[str, list[BlockSpec]], counts: Figures, latencies: Mapping[str, Figures]) -> list[Figure]:
    """Say how alike counts and latencies order each kind's blocks and all, beside how multiply-adds do."""
    near, mb3d, far = groups
    compared = {
        near: groups[near],
        mb3d: groups[mb3d],
        "MB4D at all four": groups[near] + groups[far],
        "all": [*counts],
    }
    figures = []
    for against, latency in latencies.items():
        for name, specs in compared.items():
            rank = _spearman([counts[spec] for spec in specs], [latency[spec] for spec in specs])
            by_macs = _spearman([macs(spec) for spec in specs], [latency[spec] for spec in specs])
            label = f"{name}: rank correlation with {against}, {len(specs)} blocks (baseline: MACs)"
            figures.append(Figure(label, rank, "", f">= {RANK_GOAL}", rank >= RANK_GOAL, by_macs))
    return figures


def _repeats(first: Figures, second: Figures) -> list[Figure]:
    """Say how far the second sweep's counts are from the first's."""
    moved = [abs(second[spec] / first[spec] - 1) for spec in first]
    worst = max(moved)
    name = "how far a count is from its repetition, worst block"
    return [
        Figure(name, worst, "", f"<= {REPEAT_GOAL:g}", worst <= REPEAT_GOAL),
        Figure("the same, median block", float(np.median(moved)), ""),
    ]


def _costs(groups: Mapping[str, list[BlockSpec]], counts: Figures, latencies: Mapping[str, Figures]) -> list[Figure]:
    """Say what an instruction of a group costs beside one of the first group."""
    base, *others = groups
    figures = []
    for against, latency in latencies.items():
        cost = {name: np.median([latency[spec] / counts[spec] for spec in specs]) for name, specs in groups.items()}
        figures += [
            Figure(f"ns per instruction of {name} over {base}, by {against}", float(cost[name] / cost[base]), "")
            for name in others
        ]
    return figures


def _spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the correlation of ranks; ties do not occur."""
    ranks = [np.argsort(np.argsort(values)) for values in (left, right)]
    return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
    main()
