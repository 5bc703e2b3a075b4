"""CPU time to export one block to all three formats in a warm process: Core ML fp16, ONNX fp32, TorchScript fp32."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in an export worker; before torch is imported

import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from report import Figure, parser, publish

from backends import registry
from edgelut import presets
from edgelut.types import BlockSpec
from profiler import exporting
from supernet import blocks

FORMATS = {"coreml": "fp16", "onnx": "fp32", "torchscript": "fp32"}
WARM_UP = 2  # blocks that pay for imports and first calls
GOAL_S = 0.35


def main() -> None:
    """Export the demo's blocks one after another; print the median block."""
    options = parser(__doc__ or "").parse_args()
    specs = presets.get("demo")
    random.Random(options.seed).shuffle(specs)
    alone = {name: [] for name in FORMATS}
    whole: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, spec in enumerate([*specs[:WARM_UP], *specs]):
            cost = _alone(spec, Path(folder))
            full = _whole(spec, Path(folder, str(number)))
            if number >= WARM_UP:
                whole.append(full)
                for name, seconds in cost.items():
                    alone[name].append(seconds)
    publish(_figures(alone, whole), options.json)


def _alone(spec: BlockSpec, folder: Path) -> dict[str, float]:
    """Return the CPU seconds of writing the file alone, by format."""
    module, inputs = blocks.build(spec), blocks.example_inputs(spec)
    return {name: _export(name, module, inputs, folder) for name in FORMATS}


def _export(name: str, module: Any, inputs: Mapping[str, Any], folder: Path) -> float:
    exporter = registry.load_exporter(name)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        started = time.process_time()
        exporter.export(module, inputs, FORMATS[name], Path(place, f"block{exporter.suffix}"), exporter.options)
        return time.process_time() - started


def _whole(spec: BlockSpec, root: Path) -> float:
    """Return the CPU seconds of all that an export worker does: build, export, check outputs, hash, store; three formats."""
    started = time.process_time()
    for name, precision in FORMATS.items():
        exporting.export(spec, name, precision, {}, root)
    return time.process_time() - started


def _figures(alone: Mapping[str, list[float]], whole: list[float]) -> list[Figure]:
    total = np.sum([alone[name] for name in FORMATS], axis=0)
    median = float(np.median(total))
    figures = [
        Figure(
            "export, one block to three formats",
            median,
            "s CPU",
            f"<= {GOAL_S} s",
            median <= GOAL_S,
            "largest block " + f"{total.max():.2f} s",
        )
    ]
    for name, precision in FORMATS.items():
        figures.append(Figure(f"export, {name} {precision} alone", float(np.median(alone[name])), "s CPU"))
    figures.append(
        Figure("export with outputs checked, hashed, stored", float(np.median(whole)), "s CPU", baseline=median)
    )
    return figures


if __name__ == "__main__":
    main()
