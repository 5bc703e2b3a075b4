"""A runtime outside the tree whose calls take a millisecond, and which keeps the device's own log of when it was busy.

The log is the file $EDGELUT_INTERVALS: a line `start end process` for each burst, on the monotonic clock that all processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backends.base import Array, Device, Loaded, Runtime, Session, Timing

CALL_S = 0.001


class LoggedSession(Session):
    """Sleeps; writes down when it began and ended."""

    def __init__(self) -> None:
        self.loaded = Loaded(unit="cpu", load_ns=1, compile_ns=1)
        self._log = Path(os.environ["EDGELUT_INTERVALS"])

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        return list(inputs.values())

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Nothing to bind."""

    def time(self, iterations: int, inner: int = 1) -> Timing:
        began = time.monotonic()
        took: list[int] = []
        for _ in range(iterations):
            before = time.perf_counter_ns()
            time.sleep(CALL_S * inner)
            took.append(time.perf_counter_ns() - before)
        line = f"{began:.9f} {time.monotonic():.9f} {os.getpid()}\n"
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode())  # whole, or not at all
        os.close(descriptor)
        return Timing(tuple(took), tuple(took))


class Logged(Runtime):
    formats = ("null",)
    precisions = ("fp32",)
    hosted = False
    version = "1"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        json.loads(artifact.read_text())
        yield LoggedSession()
