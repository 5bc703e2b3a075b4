"""What an agent announces: its devices by their names in the fleet, their facts, and the runtimes that work on this host."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backends import registry
from edgelut.errors import BackendMissing, EdgelutError, InvalidSpec
from edgelut.jobs import DeviceInfo, RuntimeInfo
from edgelut.types import Params, Scalar

from .devices import resolve
from .hosting import reaches
from .toolchains import Toolchains

LOOKING = "its runtimes are being looked for"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device of this host, by its backend's name, and its name in the fleet."""

    backend: str
    name: str


def parse_devices(texts: Iterable[str]) -> list[DeviceChoice]:
    """Return devices of `BACKEND`, `BACKEND:WHICH` or a serial alone, each with `=NAME` or without; raise InvalidSpec.

    Raise BackendMissing for a backend that there is not, or a serial that is not attached. A phone may be away where its backend
    is said.
    """
    found: list[DeviceChoice] = []
    for text in texts:
        said, equals, name = text.partition("=")
        if not said or (equals and not name) or "/" in name:
            raise InvalidSpec(
                f"{text!r} is no device: write BACKEND, or BACKEND=NAME with the name it has in the fleet"
            )
        backend = resolve(said, present=False)
        choice = DeviceChoice(backend, name or backend)
        for other in found:
            if choice.backend == other.backend or choice.name == other.name:
                raise InvalidSpec(f"--device {text}: {other.backend}={other.name} is given already")
        found.append(choice)
    return found


def parse_environments(texts: Iterable[str]) -> dict[str, Path]:
    """Return interpreters by name from `NAME=PYTHON`; raise InvalidSpec."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, python = text.partition("=")
        path = Path(python).expanduser().absolute()
        if not (name and equals and python) or name in found:
            raise InvalidSpec(f"{text!r} is no environment: write NAME=PYTHON, each name once")
        if not os.access(path, os.X_OK):
            raise InvalidSpec(f"environment {name}: {path} is no program; give the environment's own bin/python")
        found[name] = path
    return found


def host_facts() -> dict[str, Scalar]:
    """Return what is told of the host itself."""
    return {
        "hostname": socket.gethostname(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 0,
    }


def unknown_runtimes(toolchains: Toolchains) -> list[str]:
    """Return the runtimes that have to be loaded to say what they are like."""
    return [name for name in registry.names("runtimes") if not _is_known(toolchains, name)]


def device_info(choice: DeviceChoice, toolchains: Toolchains, busy: str = "") -> DeviceInfo:
    """Return what is announced of a device. One whose facts cannot be had, or that has no runtime, is not usable and says why."""
    runtimes: tuple[RuntimeInfo, ...] = ()
    try:
        device = registry.load_device(choice.backend)
        runtimes = tuple(_runtimes(toolchains, choice.backend))
        facts: Mapping[str, Scalar] = device.facts()
    except (EdgelutError, OSError) as error:
        return DeviceInfo(choice.name, Params({"backend": choice.backend}), runtimes, False, str(error))
    why = busy or (
        LOOKING if unknown_runtimes(toolchains) else "" if runtimes else "no runtime of this host reaches it"
    )
    return DeviceInfo(choice.name, Params({**facts, "backend": choice.backend}), runtimes, not why, why)


def trouble(choice: DeviceChoice) -> str:
    """Return why a device cannot be used just now, with the remedy; empty where it can."""
    try:
        registry.load_device(choice.backend).facts()
    except (EdgelutError, OSError) as error:
        return str(error)
    return ""


def _runtimes(toolchains: Toolchains, device: str) -> Iterable[RuntimeInfo]:
    """Yield the runtimes that reach a device and time on it."""
    for name in registry.names("runtimes"):
        try:
            traits = toolchains.find_runtime(name)
        except BackendMissing:
            continue
        if traits is not None and traits.timed and reaches(traits.devices, device):
            version = traits.version or registry.load_runtime(name).version
            yield RuntimeInfo(name, version, traits.formats, traits.precisions, traits.units)


def _is_known(toolchains: Toolchains, name: str) -> bool:
    try:
        return toolchains.find_runtime(name) is not None
    except BackendMissing:
        return True
