"""Whether instruction counts of an emulated phone order blocks as this machine's latency does, and how far counts repeat."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from report import Figure, parser, publish

sys.path.insert(0, str(Path(__file__).parent.parent))

from backends.adb import client
from db.engine import open_store
from edgelut.blocks import get_kind
from edgelut.plan import Policy
from edgelut.types import BlockSpec
from emulator.arm64 import Arm64Userland
from emulator.phone import Phone, Running, running
from profiler.request import TargetRequest
from profiler.sweep import run_sweep
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
    with tempfile.TemporaryDirectory() as folder, _adb_server(), running(Phone(Arm64Userland())) as phone:
        _connect(phone)
        device = f"android:{phone.serial}"
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
    with open_store(f"sqlite:///{home / 'edgelut.db'}", migrate=True) as store:
        points = TargetRequest(devices=[device], runtimes=[runtime]).points(specs)
        result = run_sweep(points, store, home, policy)
    if result.failures:
        raise SystemExit(f"not every block was measured: {result.failures[0]}")
    return {entry.spec: entry.latency.p10_ns for entry in result.measured}


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


@contextmanager
def _adb_server() -> Iterator[None]:
    """Have an adb server of our own on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ["ANDROID_ADB_SERVER_PORT"] = str(probe.getsockname()[1])
    try:
        yield
    finally:
        subprocess.run([client.path(), "kill-server"], timeout=30, check=False, capture_output=True)


def _connect(phone: Running) -> None:
    client.run(["connect", phone.address], 30)
    client.run(["-s", phone.address, "wait-for-device"], 30)


if __name__ == "__main__":
    main()
