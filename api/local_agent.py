"""The embedded agent: a process of its own beside the service, which measures on this machine.

Measuring inside the service's process would disturb both.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .children import Child

NEEDED = ("torch", "onnxruntime")  # to measure anything here with the runtime that a job takes by default
INSTALL = "pip install 'edgelut-service[profile]'"


def missing() -> list[str]:
    """Return which packages an agent lacks here."""
    return [name for name in NEEDED if find_spec(name) is None]


class LocalAgent(Child):
    """Runs `edgelut agent` until `stop`, which gives it time for the round in hand, and for telling the service."""

    name = "agent"

    def __init__(self, url: str, token: str, home: Path) -> None:
        arguments = ("agent", "--url", url, "--name", "host", "--device", "host=host", "--home", str(home), "--quiet")
        super().__init__(arguments, {"EDGELUT_TOKEN": token})
