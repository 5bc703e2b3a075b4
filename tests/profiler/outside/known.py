"""`python -m tests.profiler.outside.known HOME`: lets agents of a home know what runtimes are like without loading toolchains."""

from __future__ import annotations

import sys
from pathlib import Path

from backends import registry
from profiler.toolchains import Toolchains

KNOWN = ("null", "scripted", "phone")


def know_runtimes(home: Path) -> None:
    """Remember the runtimes that need no toolchain, and the others as ones that cannot be used."""
    known = Toolchains(home / "toolchains")
    for name in registry.names("runtimes"):
        if name in KNOWN:
            known.load_runtime(name)
        else:
            known.missing("runtimes", name, "not in this test")


if __name__ == "__main__":
    know_runtimes(Path(sys.argv[1]))
