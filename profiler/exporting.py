"""The tasks of an export worker: block -> module -> file, its outputs checked against the module's, into the store."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backends import registry
from backends.base import Array, Exporter
from edgelut.errors import ArtifactCorrupted, ParityFailed, Unsupported
from edgelut.types import Artifact, BlockSpec, Scalar
from profiler.artifacts import ArtifactStore, Stored, artifact_key, size_bytes
from profiler.checking import TOLERANCE, evaluate
from profiler.toolchains import Toolchains
from supernet import blocks
from supernet.weights import WEIGHTS_VERSION


def export(
    spec: BlockSpec, format: str, precision: str, options: Mapping[str, Scalar], root: Path
) -> tuple[Stored, bool]:
    """Return the stored artifact and whether it had to be made; a damaged one is made again.

    Raises Unsupported, BackendMissing, ParityFailed, StorageError.
    """
    exporter = registry.load_exporter(format)
    _remember(root, format)
    settings = check(exporter, format, precision, options)
    store = ArtifactStore(root)
    key = artifact_key(spec, format, precision, settings, exporter.version, str(WEIGHTS_VERSION))
    try:
        found = store.find(key)
    except ArtifactCorrupted:
        store.discard(key)
        found = None
    if found is not None:
        return found, False
    with store.workplace() as folder:
        return _make(spec, exporter, format, precision, settings, store, key, folder), True


@cache
def _remember(root: Path, format: str) -> None:
    """Let other processes find artifacts without loading this exporter."""
    Toolchains.beside(root).load_exporter(format, str(WEIGHTS_VERSION))


def check(exporter: Exporter, format: str, precision: str, options: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return all options of an exporter, those not given at their defaults; raise Unsupported for what it does not have."""
    if precision not in exporter.precisions:
        raise Unsupported(f"{format} is exported as {', '.join(exporter.precisions)}, not as {precision}")
    unknown = sorted(set(options) - set(exporter.options))
    if unknown:
        has = ", ".join(sorted(exporter.options)) or "none"
        raise Unsupported(f"{format} has no option {', '.join(unknown)}; its options: {has}")
    return {**exporter.options, **options}


def _make(
    spec: BlockSpec,
    exporter: Exporter,
    format: str,
    precision: str,
    options: Mapping[str, Scalar],
    store: ArtifactStore,
    key: str,
    folder: Path,
) -> Stored:
    module, inputs = blocks.build(spec), blocks.example_inputs(spec)
    path = folder / f"artifact{exporter.suffix}"
    exporter.export(module, inputs, precision, path, options)
    _freeze_once()
    error = parity_error(module, inputs, path, format, precision) if exporter.checked else 0.0
    if not error <= TOLERANCE[precision]:
        raise ParityFailed(
            f"{spec} as {format} {precision}: outputs are {error:.2g} of the branch off, allowed are {TOLERANCE[precision]:g}"
        )
    artifact = Artifact(spec, format, precision, exporter.digest(path), exporter.version, error, size_bytes(path))
    return store.add(key, artifact, path, {name: tuple(value.shape) for name, value in inputs.items()})


def parity_error(module: Any, inputs: Mapping[str, Any], path: Path, format: str, precision: str) -> float:
    """Return the largest error of an artifact's outputs, relative to the largest value that the block itself adds.

    For a block that ends in `x + f(x)` that value is taken of f(x) alone: with a small f, an artifact that only passes x on
    would be right otherwise.
    """
    arrays: dict[str, Array] = {name: value.detach().numpy() for name, value in inputs.items()}
    if precision == "fp16":
        arrays = {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}
    with torch.inference_mode():
        outputs = module(*(torch.from_numpy(array) for array in arrays.values()))
    expected = [value.numpy() for value in (outputs if isinstance(outputs, tuple | list) else (outputs,))]
    got = evaluate(path, format, precision, arrays)
    if [value.shape for value in got] != [value.shape for value in expected]:
        raise ParityFailed(f"{path.name}: outputs {[g.shape for g in got]}, expected {[e.shape for e in expected]}")
    first = next(iter(arrays.values()))
    errors = []
    for ours, theirs in zip(got, expected, strict=True):
        branch = theirs - first if module.residual else theirs
        scale = float(np.abs(branch).max())
        errors.append(float(np.abs(ours - theirs).max()) / scale if scale else float(np.abs(ours - theirs).max()))
    return max(errors)


_frozen = False


def _freeze_once() -> None:
    """Take what the first export loaded out of the collector's sight: coremltools collects at each conversion (half its time)."""
    global _frozen
    if not _frozen:
        gc.collect()
        gc.freeze()
        _frozen = True
