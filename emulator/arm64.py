"""The userland `arm64`: arm64 programs under qemu in private namespaces."""

from __future__ import annotations

from pathlib import Path

from edgelut.errors import DeviceUnusable

from .userland import Userland


class Arm64Userland(Userland):
    """Not written yet."""

    name = "arm64"
    abi = "arm64-v8a"

    async def boot(self, remove: Path | None) -> None:
        """Raise DeviceUnusable."""
        raise DeviceUnusable("the arm64 userland is not there yet: --userland host")

    def argv(self, command: str) -> list[str]:
        """Raise DeviceUnusable."""
        raise DeviceUnusable("the arm64 userland is not there yet: --userland host")
