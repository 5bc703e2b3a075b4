"""Whether instruction counts of an emulated phone order blocks as this machine's latency does, and how far counts repeat."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from attached import attached_phone, measured
from report import Figure, parser, publish

from edgelut.blocks import get_kind
from edgelut.plan import Policy
from edgelut.types import BlockSpec
from supernet.blocks import macs

# Every multiple of 16 up to the widths of EfficientFormer-L1 at a resolution, and how many are drawn of them. What a block does
# beside its products grows with the resolution, and there a processor with other vectors than this one's takes other shares of it.
SPACE = {
    "MB4D at 14 and 7": ("MB4D", {14: range(16, 225, 16), 7: range(16, 449, 16)}, 6),
    "MB3D at 14 and 7": ("MB3D", {14: range(16, 225, 16), 7: range(16, 449, 16)}, 6),
    "MB4D at 56 and 28": ("MB4D", {56: range(16, 49, 16), 28: range(16, 97, 16)}, 3),
}
COUNTED = Policy(warmups=1, min_samples=1, max_samples=1, min_rounds=2, max_rounds=2, spread_s=0.0)
RANK_GOAL, REPEAT_GOAL = 0.95, 1e-4

Figures = Mapping[BlockSpec, float]


def main() -> None:
    """Count each block in two sweeps on the phone, time it on this machine, and compare the orders."""
    options = parser(__doc__ or "").parse_args()
    groups = _specs(options.seed)
    specs = [spec for some in groups.values() for spec in some]
    with tempfile.TemporaryDirectory() as folder, attached_phone() as device:
        first = _rows(specs, device, "onnxruntime-native", COUNTED, Path(folder, "first"))
        second = _rows(specs, device, "onnxruntime-native", COUNTED, Path(folder, "second"))
        latency = _rows(specs, "host", "onnxruntime-cpu", Policy(seed=options.seed), Path(folder, "host"))
    for spec in sorted(specs, key=lambda spec: first[spec]):
        print(
            f"{spec.kind} {spec.width_in} @{spec.resolution}: {first[spec] / 1e6:.3f} M instr., {latency[spec] / 1e6:.3f} ms"
        )
    publish(_figures(groups, first, second, latency), options.json)


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


def _figures(groups: Mapping[str, list[BlockSpec]], first: Figures, second: Figures, latency: Figures) -> list[Figure]:
    near, other, far = groups
    compared = {**groups, "MB4D at all four": groups[near] + groups[far], "all": [*first]}
    del compared[far]
    figures = []
    for name, specs in compared.items():
        rank = _spearman([first[spec] for spec in specs], [latency[spec] for spec in specs])
        by_macs = _spearman([macs(spec) for spec in specs], [latency[spec] for spec in specs])
        label = f"{name}: rank correlation with this machine's latency, {len(specs)} blocks (baseline: MACs)"
        figures.append(Figure(label, rank, "", f">= {RANK_GOAL}", rank >= RANK_GOAL, by_macs))
    moved = {spec: abs(second[spec] / first[spec] - 1) for spec in first}
    worst = max(moved.values())
    cost = {name: float(np.median([latency[spec] / first[spec] for spec in specs])) for name, specs in groups.items()}
    return [
        *figures,
        Figure(
            "how far a count is from its repetition, worst block",
            worst,
            "",
            f"<= {REPEAT_GOAL:g}",
            worst <= REPEAT_GOAL,
        ),
        Figure("the same, median block", float(np.median(list(moved.values()))), ""),
        Figure(f"ns per instruction of {other} over {near}", cost[other] / cost[near], ""),
        Figure(f"ns per instruction of {far} over {near}", cost[far] / cost[near], ""),
    ]


def _spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the correlation of ranks; ties do not occur."""
    ranks = [np.argsort(np.argsort(values)) for values in (left, right)]
    return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
    main()
