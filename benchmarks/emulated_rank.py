"""Whether instruction counts of an emulated phone order blocks as this machine's latency does, and how far counts repeat."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
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

SPACE = {  # of each kind: resolutions, and the widths that networks have there
    "MB4D": {28: range(48, 113, 16), 14: range(96, 241, 16), 7: range(160, 449, 32)},
    "MB3D": {14: range(96, 225, 16), 7: range(160, 449, 16)},
}
EACH = 12
COUNTED = Policy(warmups=1, min_samples=1, max_samples=1, min_rounds=2, max_rounds=2, spread_s=0.0)
RANK_GOAL, REPEAT_GOAL = 0.95, 1e-4

Figures = Mapping[BlockSpec, float]


def main() -> None:
    """Count each block in two sweeps on the phone, time it on this machine, and compare the orders."""
    options = parser(__doc__ or "").parse_args()
    specs = _specs(options.seed)
    with tempfile.TemporaryDirectory() as folder, _adb_server(), running(Phone(Arm64Userland())) as phone:
        _connect(phone)
        device = f"android:{phone.serial}"
        started = time.monotonic()
        first = _rows(specs, device, "onnxruntime-native", COUNTED, Path(folder, "first"))
        took = time.monotonic() - started
        second = _rows(specs, device, "onnxruntime-native", COUNTED, Path(folder, "second"))
        latency = _rows(specs, "host", "onnxruntime-cpu", Policy(seed=options.seed), Path(folder, "host"))
    for spec in sorted(specs, key=lambda spec: first[spec]):
        print(
            f"{spec.kind} {spec.width_in} @{spec.resolution}: {first[spec] / 1e6:.3f} M instr., {latency[spec] / 1e6:.3f} ms"
        )
    publish(_figures(first, second, latency, took), options.json)


def _specs(seed: int) -> list[BlockSpec]:
    """Draw blocks of each kind, as many of each resolution as of the others."""
    drawn, rng = [], random.Random(seed)
    for kind, places in SPACE.items():
        for resolution, widths in places.items():
            some = rng.sample(list(widths), EACH // len(places))
            drawn += [get_kind(kind).spec(width, resolution) for width in some]
    return drawn


def _rows(specs: Sequence[BlockSpec], device: str, runtime: str, policy: Policy, home: Path) -> Figures:
    """Measure the blocks alone; return p10 of each, in ns or in instructions."""
    home.mkdir()
    with open_store(f"sqlite:///{home / 'edgelut.db'}", migrate=True) as store:
        points = TargetRequest(devices=[device], runtimes=[runtime]).points(specs)
        result = run_sweep(points, store, home, policy)
    if result.failures:
        raise SystemExit(f"not every block was measured: {result.failures[0]}")
    return {entry.spec: entry.latency.p10_ns for entry in result.measured}


def _figures(first: Figures, second: Figures, latency: Figures, took_s: float) -> list[Figure]:
    groups = {"all": list(first), **{kind: [spec for spec in first if spec.kind == kind] for kind in SPACE}}
    figures = []
    for name, specs in groups.items():
        rank = _spearman([first[spec] for spec in specs], [latency[spec] for spec in specs])
        by_macs = _spearman([macs(spec) for spec in specs], [latency[spec] for spec in specs])
        label = f"{name}: rank correlation of counts with this machine's latency, {len(specs)} blocks (baseline: MACs)"
        figures.append(Figure(label, rank, "", f">= {RANK_GOAL}", rank >= RANK_GOAL, by_macs))
    moved = {spec: abs(second[spec] / first[spec] - 1) for spec in first}
    worst = max(moved.values())
    cost = {kind: np.median([latency[spec] / first[spec] for spec in groups[kind]]) for kind in SPACE}
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
        Figure("ns per instruction of MB3D over MB4D", float(cost["MB3D"] / cost["MB4D"]), ""),
        Figure("a row, from export to the store", took_s / len(first), "s"),
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
