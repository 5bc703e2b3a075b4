"""What a runner is built with: a C compiler for a machine, the libraries that its programs start with, and ONNX Runtime."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from edgelut.errors import BackendMissing

ASK_S = 30.0
COMPILE_S = 120.0
DOWNLOAD_S = 600.0
LIBRARY = "libonnxruntime.so.1"
FLAGS = ("-O3", "-std=gnu11", "-Wall", "-Wextra", "-s")
LINKED = ("-ldl", "-lpthread")
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
# What libonnxruntime needs beside the loader; glibc 2.34 and newer keep the last three as empty files, which older builds name.
SHARED = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1")
# Newest first: pip takes what there is of them. A wheel brings symbols of that glibc at most, and the bundle its own glibc.
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux2014", "manylinux_2_17")


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler whose programs run on `machine`."""

    path: str
    machine: str  # as `uname -m` has it
    version: str

    def compile(self, sources: list[Path], to: Path) -> None:
        """Write the program; raise BackendMissing with what the compiler said."""
        done = _run([self.path, *FLAGS, *map(str, sources), "-o", str(to), *LINKED], COMPILE_S)
        if done.returncode:
            raise BackendMissing(
                f"{self.path} cannot build the runner, {_packages(self.machine)} are needed: {_last(done.stderr)}"
            )

    def library(self, name: str) -> Path:
        """Return a shared library of the machine, as the compiler finds it; raise BackendMissing."""
        found = Path(_run([self.path, f"-print-file-name={name}"], ASK_S).stdout.strip())
        if not found.is_absolute() or not found.exists():
            raise BackendMissing(f"{self.path} knows no {name}: apt-get install {_packages(self.machine)}")
        return found.resolve()


def find_compiler(machine: str) -> Compiler:
    """Return a compiler for a machine; raise BackendMissing, which says what to install."""
    own = [f"{machine}-linux-gnu-gcc", "gcc", "cc", "clang"] if machine == platform.machine() else []
    for name in own or [f"{machine}-linux-gnu-gcc"]:
        path = shutil.which(name)
        if path is not None:
            done = _run([path, "--version"], ASK_S)
            if done.returncode == 0 and done.stdout:
                return Compiler(path, machine, done.stdout.splitlines()[0].strip())
    raise BackendMissing(
        f"no C compiler here for {machine}, which the runner is built with: apt-get install {_packages(machine)}"
    )


def onnxruntime_version() -> str:
    """Return the version of the installed onnxruntime; raise BackendMissing. Imports nothing of it."""
    try:
        return version("onnxruntime")
    except PackageNotFoundError as error:
        raise BackendMissing(
            "onnxruntime-native needs onnxruntime: pip install 'edgelut-service[onnxruntime-native]'"
        ) from error


def fetch_library(machine: str, to: Path) -> None:
    """Bring the installed version's libonnxruntime, built for a machine, to `to`; raise BackendMissing."""
    if machine == platform.machine():
        _link(_own_library(), to)
    else:
        _download_library(machine, to)


def _own_library() -> Path:
    """Return the library that the installed wheel brought."""
    spec = find_spec("onnxruntime")
    folder = Path(spec.origin).parent / "capi" if spec and spec.origin else Path("nowhere")
    found = sorted(folder.glob("libonnxruntime.so.*"), key=lambda path: len(path.name))
    if not found:
        raise BackendMissing(
            f"onnxruntime {onnxruntime_version()} brought no libonnxruntime.so: pip install --upgrade onnxruntime"
        )
    return found[-1].resolve()


def _download_library(machine: str, to: Path) -> None:
    """Take the library out of the wheel for another machine, which pip fetches from where the user's pip does."""
    wanted = f"onnxruntime=={onnxruntime_version()}"
    with tempfile.TemporaryDirectory(prefix="edgelut-wheel-", dir=to.parent) as folder:
        options = ["--only-binary=:all:", "--no-deps", "--quiet", "--no-input", "--disable-pip-version-check"]
        for name in PLATFORMS:
            options += ["--platform", f"{name}_{machine}"]
        options += ["--python-version", f"{sys.version_info[0]}.{sys.version_info[1]}", "--implementation", "cp"]
        done = _run([sys.executable, "-m", "pip", "download", *options, "--dest", folder, wanted], DOWNLOAD_S)
        wheels = list(Path(folder).glob("onnxruntime-*.whl"))
        if done.returncode or not wheels:
            raise BackendMissing(
                f"pip cannot fetch {wanted} for {machine}, which holds the libonnxruntime that runs there: "
                f"{_last(done.stderr) or 'no wheel came'}; once fetched, it is kept"
            )
        _extract(wheels[0], to)


def _extract(wheel: Path, to: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("onnxruntime/capi/libonnxruntime.so.")]
        if not names:
            raise BackendMissing(f"{wheel.name} holds no libonnxruntime.so: pip install --upgrade onnxruntime")
        with archive.open(max(names, key=len)) as source, to.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _link(source: Path, to: Path) -> None:
    """Give a file a second name, which costs no room; copy it where that is not possible."""
    try:
        to.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, to)


def _packages(machine: str) -> str:
    """Return what Debian and Ubuntu call the compiler and the libraries."""
    if machine == platform.machine():
        return "gcc libc6-dev"
    arch = {"aarch64": "arm64"}.get(machine, machine)
    packages = ("libc6-dev", "libstdc++6", "libgcc-s1")
    return " ".join([f"gcc-{machine.replace('_', '-')}-linux-gnu", *(f"{name}-{arch}-cross" for name in packages)])


def _run(argv: list[str], timeout_s: float, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; one that does not end in time failed, and says so."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=env,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, -1, "", f"{argv[0]} did not end within {timeout_s:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(argv, -1, "", f"{argv[0]} does not start: {error.strerror}")


def _last(said: str) -> str:
    """Return what a command complained of in a line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[-1][:400]
