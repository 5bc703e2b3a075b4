"""The runner's figures beside onnxruntime-cpu's on this machine, and what a further row costs on a device that is elsewhere."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from report import Figure, parser, publish

from backends import registry
from backends.base import Device, Session
from backends.devices.host import Host
from backends.native.link import close_all
from edgelut.blocks import EMBEDDING, MB3D, MB4D, STEM
from edgelut.plan import Policy
from edgelut.types import BlockSpec
from supernet import blocks

SPECS = (
    STEM.spec(24, 64),
    MB4D.spec(48, 56),
    MB4D.spec(96, 28),
    MB4D.spec(224, 14),
    EMBEDDING.spec(96, 28, width_out=224),
    MB4D.spec(448, 7),
    MB3D.spec(448, 7),
)
ROUNDS = 60
GOAL_OFF_PERCENT = 3.0
GOAL_ROW_S = 0.5
POLICY = Policy()


class Elsewhere(Host):
    """This machine, reached as a phone is: files are copied, programs brought along, clocks read by them."""

    local = False
    name = "elsewhere"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def push(self, path: Path) -> str:
        """Copy what is not there yet."""
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        content = sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()
        there = self.folder / content / path.name
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, there) if path.is_dir() else shutil.copyfile(path, there)
        return str(there)


def export(folder: Path) -> dict[BlockSpec, tuple[Path, dict[str, Any]]]:
    """Write the blocks; return their files and inputs."""
    exporter, made = registry.load_exporter("onnx"), {}
    for number, spec in enumerate(SPECS):
        path, inputs = folder / f"{number}.onnx", blocks.example_inputs(spec)
        exporter.export(blocks.build(spec), inputs, "fp32", path, exporter.options)
        made[spec] = path, {name: value.numpy() for name, value in inputs.items()}
    return made


def burst(session: Session, inner: int) -> list[float]:
    """Return the CPU ns a call of one burst, as a sweep has it."""
    timing = session.begin(POLICY.warmups, POLICY.min_samples, inner)()
    return [sample / inner for sample in timing.cpu_ns]


def ratios(made: dict[BlockSpec, tuple[Path, dict[str, Any]]], order: random.Random) -> dict[BlockSpec, float]:
    """Return the runner's p10 over onnxruntime-cpu's, of bursts that are interleaved in random order."""
    device, samples = registry.load_device("host"), defaultdict(list)
    with ExitStack() as stack:
        rows = []
        for spec, (path, inputs) in made.items():
            for name in ("onnxruntime-native", "onnxruntime-cpu"):
                session = stack.enter_context(registry.load_runtime(name).open(path, device, "fp32", 1, "cpu"))
                session.prepare(inputs)
                rows.append((spec, name, session, POLICY.inner(min(session.time(3).wall_ns))))
        for _ in range(ROUNDS):
            for spec, name, session, inner in order.sample(rows, len(rows)):
                samples[spec, name] += burst(session, inner)

    def p10(spec: BlockSpec, name: str) -> float:
        return float(np.percentile(samples[spec, name], 10))

    return {spec: p10(spec, "onnxruntime-native") / p10(spec, "onnxruntime-cpu") for spec in made}


def row_seconds(device: Device, path: Path, inputs: dict[str, Any]) -> tuple[float, float]:
    """Measure a row from its file to its last round; return the seconds it took and those that were its own calls."""
    runtime, started, own_ns = registry.load_runtime("onnxruntime-native"), time.perf_counter(), 0
    with runtime.open(path, device, "fp32", 1, "cpu") as session:
        session.run(inputs)  # compared with the module's outputs
        session.prepare(inputs)
        call_ns = min(session.time(3).wall_ns)
        inner = POLICY.inner(call_ns)
        samples = POLICY.samples(call_ns, inner)
        for _ in range(POLICY.min_rounds):
            timing = session.begin(POLICY.warmups, samples, inner)()
            own_ns += sum(timing.wall_ns) + POLICY.warmups * min(timing.wall_ns) // inner
    return time.perf_counter() - started, own_ns / 1e9


def main() -> None:
    """Compare the two runtimes here, then measure the blocks as rows of a device that is elsewhere."""
    options = parser(__doc__ or "").parse_args()
    order = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("EDGELUT_HOME", folder)
        made = export(Path(folder))
        found = ratios(made, order)
        device = Elsewhere(Path(folder, "elsewhere"))
        rows = [row_seconds(device, *made[spec]) for spec in order.sample(SPECS, len(SPECS))]
        close_all()
    off = sorted(abs(ratio - 1) for ratio in found.values())
    extra = [took - own for took, own in rows[1:]]
    median, worst = 100 * float(np.median(off)), 100 * off[-1]
    each = float(np.mean(extra))
    figures = [
        Figure(
            "runner: CPU p10 off onnxruntime-cpu's, median block", median, "%", "<= 3 %", median <= GOAL_OFF_PERCENT
        ),
        Figure("runner: the same, worst block", worst, "%"),
        Figure("runner: mean ratio of CPU p10", float(np.mean(list(found.values()))), "x"),
        Figure("runner: first row elsewhere, beyond its own timing", rows[0][0] - rows[0][1], "s"),
        Figure("runner: a further row, beyond its own timing", each, "s", "<= 0.5 s", each <= GOAL_ROW_S),
        Figure("runner: the same, worst row", max(extra), "s"),
    ]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
