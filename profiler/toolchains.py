"""What runtimes and exporters are like, without loading their toolchains: as they were the last time they were loaded.

Loading torch takes 1.5 s and coremltools more. Whether an artifact is in the store, whether a runtime's calls run on this
machine's processor, and what an agent announces can be told without: what a backend said of itself holds as long as the same
packages are installed and the files around its own are unchanged.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from backends import registry
from backends.base import Runtime
from edgelut import wire
from edgelut.errors import BackendMissing
from edgelut.types import Params, digest

T = TypeVar("T")
WEIGHTS = "supernet"  # the package whose weights version is part of an artifact's key


@dataclass(frozen=True, slots=True)
class RuntimeTraits:
    """What a `backends.base.Runtime` says of itself. `version` is empty where the runtime was not asked for it."""

    formats: tuple[str, ...]
    precisions: tuple[str, ...]
    units: tuple[str, ...]
    timed: bool
    hosted: bool
    emulated: bool
    devices: tuple[str, ...] = ("local",)  # `local`, names of device backends, or `*`
    env: Params = field(default_factory=Params)
    version: str = ""


@dataclass(frozen=True, slots=True)
class ExporterTraits:
    """What a `backends.base.Exporter` says of itself, and the version of the weights that it was loaded beside."""

    version: str
    precisions: tuple[str, ...]
    options: dict[str, bool | int | float | str]
    weights: str


class Toolchains:
    """A folder of what backends said.

    Obligations: what is found is what the backend would say if it were loaded now; a backend that is loaded in this process
    is asked itself. A file that is missing, damaged or of other packages is as if nothing had been said.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Any] = {}

    @classmethod
    def beside(cls, artifacts: Path) -> Toolchains:
        """Return those of the data folder that holds an artifact store."""
        return cls(artifacts.parent / "toolchains")

    def runtime(self, name: str) -> RuntimeTraits:
        """Return what a runtime is like, loading it where that is not known; raise BackendMissing."""
        found = self.find_runtime(name)
        if found is None:
            found = self._known[f"runtimes/{name}"] = _traits(registry.load_runtime(name))
        return found

    def find_runtime(self, name: str) -> RuntimeTraits | None:
        """Return what a runtime is like, loading nothing, or None where that is not known; raise BackendMissing."""
        key = f"runtimes/{name}"
        if key not in self._known and _is_loaded("runtimes", name):
            self._known[key] = _traits(registry.load_runtime(name))
        return self._find("runtimes", name, RuntimeTraits)

    def load_runtime(self, name: str) -> RuntimeTraits:
        """Load a runtime and remember what it is like, version included, or that it cannot be used; raise BackendMissing."""

        def traits(name: str) -> RuntimeTraits:
            loaded = registry.load_runtime(name)
            try:
                return replace(_traits(loaded), version=loaded.version)
            except Exception as error:  # what fails in a library becomes a stored reason
                raise BackendMissing(f"runtime {name!r} does not work here: {type(error).__name__}: {error}") from error

        return self._load("runtimes", name, traits)

    def find_exporter(self, name: str) -> ExporterTraits | None:
        """Return what an exporter is like, loading nothing, or None where that is not known; raise BackendMissing."""
        return self._find("exporters", name, ExporterTraits)

    def load_exporter(self, name: str, weights: str) -> ExporterTraits:
        """Load an exporter and remember what it is like; raise BackendMissing."""

        def traits(name: str) -> ExporterTraits:
            loaded = registry.load_exporter(name)
            return ExporterTraits(loaded.version, tuple(loaded.precisions), dict(loaded.options), weights)

        return self._load("exporters", name, traits)

    def missing(self, axis: registry.Axis, name: str, why: str) -> None:
        """Remember that a backend cannot be used."""
        self._keep(axis, name, None, why)
        self._known[f"{axis}/{name}"] = BackendMissing(why)

    def _find(self, axis: registry.Axis, name: str, type_: type[T]) -> T | None:
        key = f"{axis}/{name}"
        if key not in self._known:
            try:
                row = json.loads(self._file(axis, name).read_text())
                if row["stamp"] != stamp(axis, name):
                    return None
                self._known[key] = BackendMissing(row["missing"]) if row["missing"] else wire.load(type_, row["traits"])
            except (OSError, ValueError, KeyError, TypeError):
                return None
        found = self._known[key]
        if isinstance(found, BackendMissing):
            raise BackendMissing(str(found))
        assert isinstance(found, type_)
        return found

    def _load(self, axis: registry.Axis, name: str, traits: Callable[[str], T]) -> T:
        try:
            found = traits(name)
        except BackendMissing as error:
            if name in registry.names(axis):
                self.missing(axis, name, str(error))
            raise
        self._keep(axis, name, found, "")
        self._known[f"{axis}/{name}"] = found
        return found

    def _keep(self, axis: registry.Axis, name: str, traits: object, missing: str) -> None:
        """Write what was said, whole; a folder that cannot be written costs the next process some seconds and is no error."""
        file = self._file(axis, name)
        row = {"stamp": stamp(axis, name), "traits": wire.dump(traits), "missing": missing}
        staged = file.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            staged.write_text(json.dumps(row, indent=1))
            staged.replace(file)
        except OSError:
            with suppress(OSError):
                staged.unlink()

    def _file(self, axis: str, name: str) -> Path:
        return self.folder / axis / f"{name}.json"


def stamp(axis: registry.Axis, name: str) -> str:
    """Return the hash of all that decides what a backend says of itself: the interpreter, what is installed, and the files
    of its package. Raises BackendMissing for a name that there is not."""
    package = registry.module_of(axis, name).partition(".")[0]
    packages = sorted({package, "backends", WEIGHTS})
    return digest([sys.version, sys.prefix, _installed(), [_files(package) for package in packages]])


@cache
def _installed() -> list[str]:
    """Return the names of the distributions on the path, which end in their versions."""
    found: set[str] = set()
    for place in sys.path:
        try:
            found |= {
                entry.name for entry in os.scandir(place or ".") if entry.name.endswith((".dist-info", ".egg-info"))
            }
        except OSError:
            continue
    return sorted(found)


@cache
def _files(package: str) -> list[tuple[str, int, int]]:
    """Return the sources of a package, with their sizes and dates."""
    found = find_spec(package)
    if found is None:
        return []
    roots = found.submodule_search_locations
    places = [Path(found.origin or "nowhere")] if roots is None else [path for root in roots for path in _sources(root)]
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in places if path.exists())


def _sources(root: str) -> list[Path]:
    return list(Path(root).rglob("*.py"))


def _is_loaded(axis: registry.Axis, name: str) -> bool:
    try:
        return registry.module_of(axis, name) in sys.modules
    except BackendMissing:
        return False


def _traits(loaded: Runtime) -> RuntimeTraits:
    return RuntimeTraits(
        formats=tuple(loaded.formats),
        precisions=tuple(loaded.precisions),
        units=tuple(loaded.units),
        timed=loaded.timed,
        hosted=loaded.hosted,
        emulated=loaded.emulated,
        devices=tuple(loaded.devices),
        env=Params(loaded.env),
    )


def probe(folder: Path, name: str) -> None:
    """Load a runtime and remember what it is like. A task of a worker; raises BackendMissing."""
    Toolchains(folder).load_runtime(name)
