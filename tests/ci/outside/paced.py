"""A runtime outside the tree whose calls take as long as the artifact says, and a little noise of process and moment."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from backends.base import Array, Device, Loaded, Runtime, Session, Timing
from edgelut.errors import Unsupported

PROCESS, MOMENT = 0.005, 0.005  # standard deviations, relative


class PacedSession(Session):
    """Returns its inputs in 20 us and 1 us for each input element, times the artifact's pace."""

    def __init__(self, made: Mapping[str, Any]) -> None:
        self.loaded = Loaded(unit="cpu", load_ns=1, compile_ns=0)
        if made["pace"] == "broken":
            raise Unsupported("this artifact was made to fail")
        elements = sum(prod(shape) for shape in made["inputs"].values())
        self._ns = (20_000 + 1_000 * elements) * float(made["pace"]) * (1 + random.gauss(0, PROCESS))

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        return list(inputs.values())

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Nothing to bind."""

    def time(self, iterations: int, inner: int = 1) -> Timing:
        samples = tuple(int(self._ns * inner * (1 + abs(random.gauss(0, MOMENT)))) for _ in range(iterations))
        return Timing(samples, samples)


class Paced(Runtime):
    hosted = False
    formats = ("null",)
    precisions = ("fp32",)
    version = "1"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        yield PacedSession(json.loads(artifact.read_text()))
