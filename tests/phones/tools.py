"""The programs that tests of phones need: in CI a missing one is a failure, elsewhere a skip with its reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "adb": "adb",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross",
    "qemu-aarch64": "qemu-user",
}
TIMEOUT_S = 60


def missing(reason: str) -> NoReturn:
    """Fail in CI, skip elsewhere."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)


def require(name: str) -> str:
    """Return where a program is."""
    found = shutil.which(name)
    if found is None:
        missing(f"no {name} here: apt-get install {PACKAGES.get(name, name)}")
    return found


def until(what: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    """Wait for what comes by itself."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def cross_compile(source: str, folder: Path, name: str) -> Path:
    """Build a static arm64 program from C."""
    compiler = require("aarch64-linux-gnu-gcc")
    file, program = folder / f"{name}.c", folder / name
    file.write_text(source)
    subprocess.run([compiler, "-O2", "-static", "-pthread", "-o", program, file], check=True, timeout=TIMEOUT_S)
    return program


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both outputs: adb 29 and adb 36 do not agree on which is for what."""
        return self.out + self.err


@dataclass(frozen=True)
class Adb:
    """An adb binary, and the serial that it talks to."""

    path: str
    serial: str = ""

    def __call__(self, *arguments: str, typed: bytes = b"", timeout_s: float = TIMEOUT_S) -> Done:
        """Run a command to its end."""
        chosen = ["-s", self.serial] if self.serial else []
        argv = [self.path, *chosen, *arguments]
        done = subprocess.run(argv, input=typed, capture_output=True, timeout=timeout_s, check=False)
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def shell(self, command: str, typed: bytes = b"") -> Done:
        """Run a command of the phone's shell."""
        return self("shell", command, typed=typed)

    def state(self) -> str:
        """Return the state that `adb devices` tells, empty where it is not listed."""
        for line in Adb(self.path)("devices").out.splitlines():
            serial, _, state = line.partition("\t")
            if serial == self.serial:
                return state.strip()
        return ""
