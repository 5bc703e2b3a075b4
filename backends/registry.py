"""The folder is the registry: `backends/runtimes/onnxruntime_cpu.py` is the runtime `onnxruntime-cpu`.

Backends outside this tree join by the entry points `edgelut.exporters`, `edgelut.runtimes` and `edgelut.devices`, each
`name = "module"`. Listing imports nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from inspect import isabstract
from pathlib import Path
from typing import Any, Literal

from edgelut.errors import BackendMissing

from .base import Device, Exporter, Runtime

Axis = Literal["exporters", "runtimes", "devices"]
AXES: dict[Axis, type] = {"exporters": Exporter, "runtimes": Runtime, "devices": Device}


def names(axis: Axis) -> list[str]:
    """List the backends of an axis, importing none of them."""
    return sorted(_modules(axis))


def load_exporter(name: str) -> Exporter:
    """Return the exporter of that format; raise BackendMissing, which lists the formats or gives the install line."""
    loaded: Exporter = _load("exporters", name)
    return loaded


def load_runtime(name: str) -> Runtime:
    """Return the runtime of that name; raise BackendMissing."""
    loaded: Runtime = _load("runtimes", name)
    return loaded


def load_device(name: str) -> Device:
    """Return the device of that name, `BACKEND` or `BACKEND:WHICH`; raise BackendMissing."""
    loaded: Device = _load("devices", name)
    return loaded


def device_class(name: str) -> type[Device]:
    """Return the class of a device backend, so that it can be asked what is attached; raise BackendMissing."""
    found: type[Device] = _class("devices", name)
    return found


def module_of(axis: Axis, name: str) -> str:
    """Return the name of a backend's module without importing it; raise BackendMissing, which lists those there are."""
    modules = _modules(axis)
    if axis == "devices":
        name = name.partition(":")[0]
    if name not in modules:
        raise BackendMissing(f"no {axis[:-1]} {name!r}; there are {', '.join(sorted(modules))}")
    return modules[name]


def _modules(axis: Axis) -> dict[str, str]:
    """Map names to modules: the files of the folder, then entry points."""
    folder = Path(__file__).parent / axis
    own = {file.stem.replace("_", "-"): f"backends.{axis}.{file.stem}" for file in folder.glob("[a-z]*.py")}
    return {**{point.name: point.value for point in entry_points(group=f"edgelut.{axis}")}, **own}


@cache
def _load(axis: Axis, name: str) -> Any:
    found = _class(axis, name)
    backend, colon, which = name.partition(":")
    if axis != "devices" or not (colon or found.instanced):
        return found()
    if not found.instanced:
        raise BackendMissing(f"there is one device {backend!r}: leave out {colon + which!r}")
    if not which:
        raise BackendMissing(f"which one? write {backend}:WHICH; 'edgelut devices' lists those that are attached")
    return found(which)


@cache
def _class(axis: Axis, name: str) -> Any:
    base = AXES[axis]
    place = module_of(axis, name)
    try:
        module: Any = import_module(place)
    except ImportError as error:
        raise BackendMissing(
            f"{axis[:-1]} {name!r} needs {error.name or error}: pip install 'edgelut-service[{name}]'"
        ) from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and not isabstract(value)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise BackendMissing(f"{module.__name__} must hold one {base.__name__}, not {len(found)}")
    return found[0]
