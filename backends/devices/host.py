"""This machine as a device: its CPU, governor, load and environment."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from backends.apple import mac
from backends.base import Attached, Device, DeviceState, Process
from backends.processes import LineProcess
from edgelut.types import Params, Scalar


class Host(Device):
    """The machine that this process runs on."""

    local = True

    @classmethod
    def attached(cls) -> list[Attached]:
        """Return this machine, which is always there."""
        return [Attached("host", Params(cls().facts()))]

    def facts(self) -> dict[str, Scalar]:
        """Return CPU, kernel, governor (conditions) and load, frequency, temperature, memory (observed)."""
        facts: dict[str, Scalar] = {
            "device_model": _cpu_model(),
            "os": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "cores": os.cpu_count() or 0,
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
            "turbo": _turbo(),
            "observed_load": round(os.getloadavg()[0], 2),
            "observed_memory_free_bytes": psutil.virtual_memory().available,
        }
        frequency = psutil.cpu_freq()
        if frequency is not None and frequency.current:
            facts["observed_frequency_mhz"] = round(frequency.current)
        return {**facts, **mac.facts()} if mac.version() else facts

    def state(self) -> DeviceState:
        """Return what macOS says of its limits; other systems tell nothing here."""
        return DeviceState(throttled=mac.throttled()) if mac.version() else DeviceState()

    def push(self, path: Path) -> str:
        """Return the path as it is: the file is here already."""
        return str(path)

    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        """Run a command on this machine."""
        try:
            done = subprocess.run(list(argv), capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{argv[0]} did not end within {timeout_s:g} s") from error
        if done.returncode:
            raise OSError(done.returncode, f"{argv[0]} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def pull(self, path: str, to: Path) -> None:
        """Copy a file of this machine."""
        shutil.copyfile(path, to)

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program on this machine; raise OSError where there is none of that name."""
        return LineProcess(argv, env)


def _read(path: str) -> str:
    """Return a one-line system file, empty where there is none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _turbo() -> str:
    no_turbo = _read("/sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = _read("/sys/devices/system/cpu/cpufreq/boost")
    if no_turbo:
        return "off" if no_turbo == "1" else "on"
    return {"1": "on", "0": "off"}.get(boost, "unknown")
