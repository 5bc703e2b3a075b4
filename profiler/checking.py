"""Whether an artifact gives the same numbers elsewhere: what reads it here, how far outputs may be off, and what this host's
own runtime gives for it, which is computed once and kept beside it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np

from backends import registry
from backends.base import Array, Runtime
from edgelut.errors import BackendMissing, EdgelutError, ParityFailed, Unsupported

from .artifacts import Stored
from .worker import Worker

TASKS = "profiler.checking"
TOLERANCE: Mapping[str, float] = {"fp32": 1e-5, "fp16": 3e-3, "int8": 0.05}  # docs/exporting.md, "Parity"
KEPT = "outputs-1.npz"  # beside the artifact; the number is that of the inputs they are for
TIMEOUT_S = 300.0


def checkers(format: str, precision: str) -> Iterator[Runtime]:
    """Yield the runtimes here that read a format in a precision, timed ones first.

    Those named after the format come before all others, which are then not even loaded: coremltools alone takes seconds.
    """
    names = registry.names("runtimes")
    for group in ([name for name in names if format in name], [name for name in names if format not in name]):
        found = [runtime for name in group if (runtime := _find_runtime(name)) is not None]
        reads = [runtime for runtime in found if format in runtime.formats and precision in runtime.precisions]
        yield from sorted(reads, key=lambda runtime: not runtime.timed)


def evaluate(path: Path, format: str, precision: str, inputs: Mapping[str, Array]) -> list[Array]:
    """Run a file once on this machine, by the first runtime that can: timed ones are quicker, the others know every precision."""
    refused = []
    for runtime in checkers(format, precision):
        if not {"*", "local"} & set(runtime.devices):
            continue
        try:
            with runtime.open(path, registry.load_device("host"), precision, 1, runtime.units[0]) as session:
                return session.run(inputs)
        except Unsupported as error:
            refused.append(str(error))
    raise Unsupported(f"no runtime here can check {format} {precision}: {'; '.join(refused) or 'none reads it'}")


def standard_inputs(shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Return the same standard-normal inputs in every process."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(tuple(shape), dtype=np.float32) for name, shape in sorted(shapes.items())}


def device_error(got: Sequence[Array], expected: Sequence[Array], x: Array, precision: str) -> float:
    """Return how far outputs are off, relative to the largest value that the block adds to `x`; raise ParityFailed.

    A block that changes neither shape nor size may end in `x + f(x)`: then f(x) alone is what can be wrong.
    """
    if [value.shape for value in got] != [value.shape for value in expected]:
        raise ParityFailed(f"the device gave {[g.shape for g in got]}, this host {[e.shape for e in expected]}")
    errors = []
    for ours, theirs in zip(got, expected, strict=True):
        added = theirs - x if theirs.shape == x.shape and not np.array_equal(theirs, x) else theirs
        off, scale = float(np.abs(ours - theirs).max()), float(np.abs(added).max())
        errors.append(off / scale if scale else off)
    worst = float(np.max(errors))  # of NaN it is NaN
    if not worst <= TOLERANCE[precision]:
        raise ParityFailed(
            f"outputs on the device are {worst:.2g} off this host's, allowed are {TOLERANCE[precision]:g} ({precision})"
        )
    return worst


def host_outputs(path: Path, format: str, precision: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Compute the host's outputs for the standard inputs and keep them. A task of a worker; raises Unsupported."""
    outputs = evaluate(path, format, precision, standard_inputs(shapes))
    kept = path.with_name(KEPT)
    staged = kept.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        np.savez(staged, *outputs)
        os.replace(staged, kept)  # noqa: PTH105 - whole, or not there
    finally:
        staged.unlink(missing_ok=True)


def kept_outputs(path: Path) -> list[Array] | None:
    """Return the outputs that are kept beside an artifact, in order; None where there are none, or they are damaged."""
    try:
        with np.load(path.with_name(KEPT)) as file:
            return [file[f"arr_{index}"] for index in range(len(file.files))]
    except (OSError, ValueError, KeyError, EOFError):
        return None


class Checker:
    """Gives the host's outputs of artifacts, from a worker that starts when the first of them is not known; close it.

    One thread uses it. `turn` is entered while it computes, which takes a processor that somebody may be measuring on.
    """

    def __init__(self, turn: Callable[[], AbstractContextManager[object]], keep: Sequence[int] = ()) -> None:
        self._turn, self._keep = turn, keep
        self._worker: Worker | None = None
        self._unread: set[tuple[str, str]] = set()  # formats and precisions that nothing here reads

    def prepare(self, stored: Stored) -> bool:
        """Have an artifact's outputs kept beside it; False where no runtime here reads it. Raises what computing them raised."""
        kind = stored.artifact.format, stored.artifact.precision
        if kind in self._unread:
            return False
        if kept_outputs(stored.path) is None:
            try:
                with self._turn():
                    self._compute(stored)
            except Unsupported:
                self._unread.add(kind)
                return False
        return True

    def _compute(self, stored: Stored) -> None:
        self._worker = self._worker or Worker(TASKS, keep=self._keep)
        artifact = stored.artifact
        how = {"format": artifact.format, "precision": artifact.precision, "shapes": stored.shapes}
        try:
            self._worker.call("host_outputs", TIMEOUT_S, path=stored.path, **how)
        except Unsupported:
            raise
        except EdgelutError as error:
            self.close()
            raise ParityFailed(f"this host cannot compute the outputs to compare with: {error}") from error

    def close(self) -> None:
        """End the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(OSError):
                worker.close()


def _find_runtime(name: str) -> Runtime | None:
    """Return a runtime, or None where its toolchain is not installed."""
    try:
        return registry.load_runtime(name)
    except BackendMissing:
        return None
