"""What the benchmarks of the emulated phone share: an adb server of their own, a phone attached to it, sweeps on it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from backends.adb import client
from db.engine import open_store
from edgelut.plan import Policy
from edgelut.types import BlockSpec, Entry, Run
from emulator.arm64 import Arm64Userland
from emulator.phone import Phone, running
from profiler.request import TargetRequest
from profiler.sweep import run_sweep


@contextmanager
def attached_phone() -> Iterator[str]:
    """Switch a phone on, attach it, and yield the name of its device."""
    with _adb_server(), running(Phone(Arm64Userland())) as phone:
        client.run(["connect", phone.address], 30)
        client.run(["-s", phone.address, "wait-for-device"], 30)
        yield f"android:{phone.serial}"


def measured(
    specs: Sequence[BlockSpec], device: str, runtime: str, policy: Policy, database: Path, home: Path
) -> tuple[list[Entry], list[Run]]:
    """Measure the blocks alone into a database of their own; return the rows, and what they were made of."""
    with open_store(f"sqlite:///{database}", migrate=True) as store:
        points = TargetRequest(devices=[device], runtimes=[runtime]).points(specs)
        result = run_sweep(points, store, home, policy)
        runs = store.sweep_runs(result.sweep)
    if result.failures:
        raise SystemExit(f"not every block was measured: {result.failures[0]}")
    return result.measured, runs


@contextmanager
def _adb_server() -> Iterator[None]:
    """Have an adb server of our own on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ["ANDROID_ADB_SERVER_PORT"] = str(probe.getsockname()[1])
    try:
        yield
    finally:
        subprocess.run([client.path(), "kill-server"], timeout=30, check=False, capture_output=True)
