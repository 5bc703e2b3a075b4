"""The tasks of an export worker: block -> module -> file, its outputs checked against the module's, into the store."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backends import registry
from backends.base import Array, Exporter, Runtime
from edgelut.errors import ArtifactCorrupted, BackendMissing, ParityFailed, Unsupported
from edgelut.types import Artifact, BlockSpec, Scalar
from profiler.artifacts import ArtifactStore, Stored, artifact_key, size_bytes
from profiler.toolchains import Toolchains
from supernet import blocks
from supernet.weights import WEIGHTS_VERSION

TOLERANCE: Mapping[str, float] = {"fp32": 1e-5, "fp16": 3e-3, "int8": 0.05}  # docs/exporting.md, "Parity"


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
    got = _evaluate(path, format, precision, arrays)
    if [value.shape for value in got] != [value.shape for value in expected]:
        raise ParityFailed(f"{path.name}: outputs {[g.shape for g in got]}, expected {[e.shape for e in expected]}")
    first = next(iter(arrays.values()))
    errors = []
    for ours, theirs in zip(got, expected, strict=True):
        branch = theirs - first if module.residual else theirs
        scale = float(np.abs(branch).max())
        errors.append(float(np.abs(ours - theirs).max()) / scale if scale else float(np.abs(ours - theirs).max()))
    return max(errors)


def _evaluate(path: Path, format: str, precision: str, arrays: Mapping[str, Array]) -> list[Array]:
    """Run a file once, by the first runtime that can: the timed ones are quicker, the others know every precision."""
    refused = []
    for runtime in checkers(format, precision):
        try:
            with runtime.open(path, registry.load_device("host"), precision, 1, runtime.units[0]) as session:
                return session.run(arrays)
        except Unsupported as error:
            refused.append(str(error))
    raise Unsupported(f"no runtime here can check {format} {precision}: {'; '.join(refused) or 'none reads it'}")


def checkers(format: str, precision: str) -> Iterator[Runtime]:
    """Yield the runtimes here that read a format in a precision, timed ones first.

    Those named after the format come before all others, which are then not even loaded: coremltools alone takes seconds.
    """
    names = registry.names("runtimes")
    for group in ([name for name in names if format in name], [name for name in names if format not in name]):
        found = [runtime for name in group if (runtime := _find_runtime(name)) is not None]
        reads = [runtime for runtime in found if format in runtime.formats and precision in runtime.precisions]
        yield from sorted(reads, key=lambda runtime: not runtime.timed)


def _find_runtime(name: str) -> Runtime | None:
    """Return a runtime, or None where its toolchain is not installed."""
    try:
        return registry.load_runtime(name)
    except BackendMissing:
        return None


_frozen = False


def _freeze_once() -> None:
    """Take what the first export loaded out of the collector's sight: coremltools collects at each conversion (half its time)."""
    global _frozen
    if not _frozen:
        gc.collect()
        gc.freeze()
        _frozen = True
