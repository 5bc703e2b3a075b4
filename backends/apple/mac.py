"""This machine as a Mac: whether it is one, what it is, and how it is."""

from __future__ import annotations

import platform
import re
import subprocess

from edgelut.types import Scalar

ASK_S = 10.0


def version() -> str:
    """Return the version of macOS, empty on any other system."""
    return platform.mac_ver()[0]


def facts() -> dict[str, Scalar]:
    """Return model, chip, system and power of this Mac; what its tools do not say is left out."""
    settings, power = _say("pmset", "-g"), _say("pmset", "-g", "batt")
    found: dict[str, Scalar] = {
        "device_model": _say("sysctl", "-n", "hw.model"),
        "soc": _say("sysctl", "-n", "machdep.cpu.brand_string"),
        "os": f"macOS {version()} ({_say('sysctl', '-n', 'kern.osversion')})",
    }
    low = re.search(r"lowpowermode\s+(\d)", settings)
    source = re.search(r"drawing from '([^']+)'", power)
    if low:
        found["low_power_mode"] = int(low[1])
    if source:
        found["observed_power"] = source[1]
    return {name: value for name, value in found.items() if value != ""}


def throttled() -> str:
    """Say why the Mac is slower than it can be just now, by what `pmset` says; empty where it is not."""
    limit = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", _say("pmset", "-g", "therm"))
    return f"macOS limits the processor to {limit[1]} %" if limit and int(limit[1]) < 100 else ""


def _say(*argv: str) -> str:
    """Return what a command says, empty where there is none."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.strip()
