"""Which devices a runtime reaches, and whether its calls there run on this machine's processor."""

from __future__ import annotations

from collections.abc import Sequence

from backends import registry
from edgelut.errors import BackendMissing
from edgelut.types import Target

from .toolchains import Toolchains


def is_local(device: str) -> bool:
    """Say whether a device is this machine; raise BackendMissing. Reaches for nothing."""
    return registry.load_device(device).local


def is_remote(device: str) -> bool:
    """Say whether a device is not this machine; one that there is not is none, and each row of it will say so."""
    try:
        return not is_local(device)
    except BackendMissing:
        return False


def is_hosted(target: Target, toolchains: Toolchains) -> bool:
    """Say whether calls run on this machine's processor: then the reference kernels beside them tell how fast it is, they take
    turns with all else that does, and no export goes on meanwhile. Raises BackendMissing."""
    return is_local(target.device) and toolchains.runtime(target.runtime).hosted


def reaches(devices: Sequence[str], device: str) -> bool:
    """Say whether a runtime of those `Runtime.devices` runs on a device; raise BackendMissing for a device that there is not."""
    names = {"*", device.partition(":")[0]}
    if is_local(device):
        names.add("local")
    return not names.isdisjoint(devices)
