"""A runtime that computes nothing, in a known time that depends on the artifact alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

from backends.base import Array, Device, Loaded, Runtime, Session, Timing, as_float32
from edgelut.errors import ArtifactCorrupted, Unsupported


class NullSession(Session):
    """Returns its inputs; a call takes 1000 ns and one more for each input element."""

    def __init__(self, elements: int) -> None:
        self.loaded = Loaded(unit="cpu", load_ns=1000, compile_ns=0)
        self._ns = 1000 + elements

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the inputs."""
        return as_float32(list(inputs.values()))

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Nothing to bind."""

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Return the known time."""
        samples = (self._ns * inner,) * iterations
        return Timing(samples, samples)


class Null(Runtime):
    """Reads the format `null`."""

    formats = ("null",)
    precisions = ("fp32",)
    hosted = False
    devices = ("*",)
    version = "1"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        """Read the file; nothing to release."""
        if precision != "fp32" or unit != "cpu":
            raise Unsupported(f"null runs fp32 on cpu, not {precision} on {unit}")
        try:
            shapes = json.loads(artifact.read_text())["inputs"]
        except (ValueError, KeyError) as error:
            raise ArtifactCorrupted(f"{artifact.name} is no null artifact: {error}") from error
        yield NullSession(sum(prod(shape) for shape in shapes.values()))
