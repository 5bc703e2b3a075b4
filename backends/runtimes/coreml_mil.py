"""The runtime `coreml-mil`: interprets the MIL program of a Core ML package, on any system, to check its numbers.

It checks what the package says: operations, attributes, weights and roundings. It does not check what Apple's compiler makes
of it; no Apple hardware has run these packages. It is never a latency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import NoReturn

import torch

from backends.base import Array, Device, Loaded, Runtime, Session, as_float32
from backends.mil.program import Program
from backends.mil.toolchain import coremltools
from edgelut.errors import Unsupported


class MILSession(Session):
    """A program and its constants; every call computes on this machine's CPU."""

    def __init__(self, program: Program, loaded: Loaded) -> None:
        self.loaded = loaded
        self._program = program

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Compute in the program's own precision."""
        return as_float32(self._program.run(inputs))

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Nothing to bind."""

    def time(self, iterations: int, inner: int = 1) -> NoReturn:
        """Refuse."""
        raise Unsupported("coreml-mil: numerics only, never a latency")


class CoreMLMIL(Runtime):
    """Computes each operation in fp32 and rounds its result to the type that the program declares."""

    formats = ("coreml",)
    precisions = ("fp32", "fp16")
    units = ("cpu",)
    timed = False
    version = f"MIL interpreter 1; coremltools {coremltools.__version__}; torch {torch.__version__.split('+')[0]}"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        """Read the whole package; `threads` changes no number and is ignored."""
        if precision not in self.precisions or unit not in self.units:
            raise Unsupported(f"coreml-mil computes fp32 and fp16 on cpu, not {precision} on {unit}")
        started = perf_counter_ns()
        program = Program(artifact)
        found = program.precisions()
        if found - {precision}:
            raise Unsupported(f"{artifact.name} computes in {' and '.join(sorted(found))}, not {precision}")
        yield MILSession(program, Loaded(unit="cpu", load_ns=perf_counter_ns() - started, compile_ns=0))
