"""A runtime outside the tree that reads the format `null` and does what files in the folder $EDGELUT_SCRIPT say.

A file is named by what happens, and by the width of the block that it happens to: `die-16` kills the process once, in the next
burst; `always-die-16` in every call; `fail-16` raises Unsupported; `boom-16` raises what pickle cannot restore; `noisy-16` gives
other times in every burst; `hold-16` holds the number of a burst that writes into the FIFO `held-16` and then waits for a writer
of the FIFO `until-16`; `version` holds the runtime's version; `times` is where bursts are counted, one line each.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

from backends.base import Array, Device, Loaded, Runtime, Session, Timing
from edgelut.errors import Unsupported


class LibraryError(Exception):
    """An exception as libraries have them: pickle cannot make it again from its text."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"code {code}: {reason}")


class ScriptedSession(Session):
    def __init__(self, shapes: Mapping[str, list[int]], folder: Path) -> None:
        self.loaded = Loaded(unit="cpu", load_ns=7, compile_ns=3)
        self.width = next(iter(shapes.values()))[1]
        self._ns = 1000 + sum(prod(shape) for shape in shapes.values())
        self._folder = folder
        self._bursts = 0

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        return list(inputs.values())

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Nothing to bind."""

    def time(self, iterations: int, inner: int = 1) -> Timing:
        if self._says("always-die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if iterations > 3:  # a burst, neither warm-up nor first calls
            self._burst()
        samples = (self._ns * inner * (1 + self._bursts * self._says("noisy")),) * iterations
        return Timing(samples, samples)

    def _burst(self) -> None:
        self._bursts += 1
        if self._says("hold") and self._bursts == int(self._file("hold").read_text()):
            self._file("held").write_text("here")
            self._file("until").read_text()
        if self._says("die"):
            self._file("die").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if self._says("fail"):
            raise Unsupported(f"told to fail at {self.width}")
        if self._says("boom"):
            raise LibraryError(3, "told to break")
        with (self._folder / "times").open("a") as log:
            log.write(f"{self.width}\n")

    def _file(self, what: str) -> Path:
        return self._folder / f"{what}-{self.width}"

    def _says(self, what: str) -> bool:
        return self._file(what).exists()


class Scripted(Runtime):
    hosted = False  # the fixture `hosted` sets it
    formats = ("null",)
    precisions = ("fp32", "fp16")

    @property
    def version(self) -> str:
        file = _folder() / "version"
        return file.read_text() if file.exists() else "1"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        if precision != "fp32":
            raise Unsupported(f"scripted runs fp32 here, not {precision}")
        yield ScriptedSession(json.loads(artifact.read_text())["inputs"], _folder())


def _folder() -> Path:
    return Path(os.environ["EDGELUT_SCRIPT"])
