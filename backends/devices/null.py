"""A device that is always cool and idle and keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backends.base import Device
from edgelut.types import Scalar


class Null(Device):
    """Answers at once."""

    local = True

    def facts(self) -> dict[str, Scalar]:
        """Return fixed facts."""
        return {"device_model": "null", "os": "none", "observed_load": 0.0}

    def push(self, path: Path) -> str:
        """Return the path as it is."""
        return str(path)

    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        """Run nothing; return the command."""
        return " ".join(argv).encode()
