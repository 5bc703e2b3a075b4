"""Builds the runner into a folder that can be pushed to a device as it is, once for the same content.

A folder holds the program `edgelut-runner`, libonnxruntime and `manifest.json`; for another device also the C library that it
starts with and that library's loader, so that nothing of the device's own is needed. A user's own build (EDGELUT_RUNNER_DIR) is a
folder with an `edgelut-runner` and whatever it needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgelut import settings
from edgelut.errors import BackendMissing, StorageError, Unsupported

from . import toolchain

VERSION = 2  # of the runner: raise it where its figures may change; a condition of every run
PROGRAM = "edgelut-runner"
MANIFEST = "manifest.json"
VARIABLE = "EDGELUT_RUNNER_DIR"
SOURCES = Path(__file__).parent
STALE_S = 24 * 3600  # after which an unfinished build is a dead process's


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with a runner in it."""

    folder: Path
    loader: str = ""  # what starts the program, where that is not the system's own
    facts: Mapping[str, str] | None = None  # what it was built from

    def argv(self, there: str) -> list[str]:
        """Return the command that starts it where the folder is `there`."""
        start = [f"{there}/{self.loader}", "--library-path", there] if self.loader else []
        return [*start, f"{there}/{PROGRAM}"]


def user_bundle() -> Bundle | None:
    """Return the folder that EDGELUT_RUNNER_DIR names; None where it names none; raise BackendMissing where it holds no runner."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    if not os.access(folder / PROGRAM, os.X_OK) or not (folder / PROGRAM).is_file():
        raise BackendMissing(f"{VARIABLE}={named} holds no executable {PROGRAM!r}: see docs/native.md for building one")
    return _read(folder) or Bundle(folder)


def bundle(machine: str, portable: bool, root: Path | None = None) -> Bundle:
    """Return a runner for a machine (`x86_64`, `aarch64`), building it where there is none yet.

    `portable` adds the loader and the C library. It lies in `root` (default: `runners` in the data folder) under the hash of what
    it is made of. Two processes may build it at once: one of the two is kept, whole. Raises BackendMissing for a missing compiler,
    library or wheel, Unsupported for a machine that none is built for, StorageError for a full disk.
    """
    if platform.system() != "Linux" or machine not in toolchain.LOADERS:
        raise Unsupported(
            f"no runner is built for {machine} on {platform.system()}: those for {', '.join(toolchain.LOADERS)} are built on "
            f"Linux; {VARIABLE} names a folder with your own"
        )
    compiler = toolchain.find_compiler(machine)
    shared = _shared(compiler) if portable else {}
    inputs = {
        "version": str(VERSION),
        "machine": machine,
        "compiler": compiler.version,
        "flags": " ".join(toolchain.FLAGS),
        "onnxruntime": toolchain.onnxruntime_version(),
        "sources": _sources_hash(),
        **{name: _hash(path) for name, path in shared.items()},
    }
    name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]
    root = root or settings.home() / "runners"
    try:
        return _read(root / name) or _build(root, name, compiler, shared, inputs)
    except OSError as error:
        raise StorageError(
            f"cannot keep a runner in {root}: {error.strerror}; free space or set EDGELUT_HOME"
        ) from error


def sources() -> list[Path]:
    """Return the C files that make the program, for a compiler of your own."""
    return sorted(SOURCES.glob("*.c"))


def _shared(compiler: toolchain.Compiler) -> dict[str, Path]:
    loader = toolchain.LOADERS[compiler.machine]
    return {name: compiler.library(name) for name in (loader, *toolchain.SHARED)}


def _build(
    root: Path, name: str, compiler: toolchain.Compiler, shared: Mapping[str, Path], inputs: Mapping[str, str]
) -> Bundle:
    """Build in a folder of this process's own, and rename it when all is there."""
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    staged = Path(tempfile.mkdtemp(prefix=".building-", dir=root))
    try:
        compiler.compile(sources(), staged / PROGRAM)
        toolchain.fetch_library(compiler.machine, staged / toolchain.LIBRARY)
        for library, path in shared.items():
            shutil.copyfile(path, staged / library)
        files = sorted(path for path in staged.iterdir())
        for path in files:
            if path.name != toolchain.LIBRARY:  # which may be the wheel's own file
                path.chmod(0o755)
        manifest = {
            "loader": toolchain.LOADERS[compiler.machine] if shared else "",
            "built_from": dict(inputs),
            "files": {path.name: {"bytes": path.stat().st_size, "sha256": _hash(path)} for path in files},
        }
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        staged.chmod(0o755)
        _put(staged, root / name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    found = _read(root / name)
    if found is None:
        raise StorageError(f"{root / name} was removed while it was built; try again")
    return found


def _put(staged: Path, final: Path) -> None:
    """Give a finished folder its name, unless another process was faster."""
    try:
        staged.rename(final)
    except OSError:
        if _read(final) is not None:
            return
        broken = staged.with_name(f"{staged.name}-broken")  # files of it were removed: it is moved away as a whole
        with suppress(OSError):
            final.rename(broken)
        shutil.rmtree(broken, ignore_errors=True)
        with suppress(OSError):
            staged.rename(final)


def _read(folder: Path) -> Bundle | None:
    """Return a folder's bundle if it is one of ours and every file is there; None otherwise."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        whole = all((folder / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items())
        return Bundle(folder, manifest["loader"], manifest["built_from"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sweep(root: Path) -> None:
    """Remove what processes left that were killed while they built."""
    for path in root.glob(".building-*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)


def _sources_hash() -> str:
    """Hash what is compiled."""
    files = sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")])
    return hashlib.sha256(b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)).hexdigest()


def _hash(path: Path) -> str:
    stat = path.stat()
    return _hash_of(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash_of(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
