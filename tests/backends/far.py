"""Devices that are not this machine but run their programs on it, and runners that misbehave."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from backends.base import Process
from backends.devices.host import Host
from edgelut.errors import DeviceUnusable
from edgelut.types import Scalar


class Far(Host):
    """What a phone is to a runtime: files must be pushed, programs started, and it may be gone."""

    local = False
    name = "far"

    def __init__(self, folder: Path, **facts: Scalar) -> None:
        self.folder, self.more = folder, facts
        self.pushed: list[str] = []
        self.commands: list[tuple[str, ...]] = []
        self.gone = False

    def facts(self) -> dict[str, Scalar]:
        self._reach()
        return {"machine": platform.machine(), "cores": os.cpu_count() or 1, **self.more}

    def push(self, path: Path) -> str:
        self._reach()
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        content = sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()[:16]
        there = self.folder / content / path.name
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, there) if path.is_dir() else shutil.copyfile(path, there)
            self.pushed.append(path.name)
        return str(there)

    def pull(self, path: str, to: Path) -> None:
        self._reach()
        super().pull(path, to)

    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        self._reach()
        self.commands.append(tuple(argv))
        return super().run(argv, timeout_s)

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        self._reach()
        return super().start(argv, env)

    def _reach(self) -> None:
        if self.gone:
            raise DeviceUnusable("far is not attached; plug it in")


class Emulated(Far):
    """An arm64 machine by qemu-user, with a processor's description that onnxruntime can read."""

    name = "emulated"

    def __init__(self, folder: Path, plugin: Path | None = None) -> None:
        super().__init__(folder, machine="aarch64")
        self._root, self._plugin = folder / "root", plugin
        description = "processor\t: 0\nFeatures\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimddp\n"
        description += (
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n"
        )
        (self._root / "proc").mkdir(parents=True)
        (self._root / "proc" / "cpuinfo").write_text(description)

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        counts = self.folder / "counts"
        options = ["-plugin", f"{self._plugin},to={counts}"] if self._plugin else []
        counter = {"EDGELUT_COUNTER": str(counts)} if self._plugin else {}
        emulator = ["qemu-aarch64", "-cpu", "cortex-a76", "-L", str(self._root), *options]
        return super().start([*emulator, *argv], {**(env or {}), **counter})


HELLO = '{"runner": 1, "onnxruntime": "0.0.1", "counter": "none", "pid": 1}'
OPENED = '{"ok": true, "load_ns": 1, "inputs": [{"name": "x", "type": "float32", "shape": [1]}], "outputs": []}'


def write_runner(folder: Path, **answers: Any) -> Path:
    """Write a program that answers commands as it is told: by a line, or by what it does in Python."""
    known = {"hello": HELLO, "open": OPENED, "bind": '{"ok": true}', "close": '{"ok": true}', "pin": '{"ok": true}'}
    program = folder / "edgelut-runner"
    folder.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\nanswers = { ({**known, **answers})!r}\n"
        "def answer(word):\n"
        "    said = answers.get(word, '{\"ok\": true}')\n"
        "    exec(said[3:]) if said.startswith('!') else print(said, flush=True)\n"
        "answer('hello')\nfor line in sys.stdin:\n    answer(line.split()[0])\n".replace("said[3:]", "said[1:]")
    )
    program.chmod(0o755)
    return folder
