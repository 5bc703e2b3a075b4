"""What phones print of themselves, as facts: getprop, dumpsys, cpufreq. A source that a phone refuses is a fact less."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgelut.types import Scalar

STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
HOTTEST_BATTERY_C = 45.0  # a round above it is not kept
CHARGING = 2  # of BatteryManager
CPU, SKIN = 0, 3  # types of temperatures in the thermal HAL
_CPUFREQ = "/sys/devices/system/cpu"
_FILES = ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq", "scaling_governor", "related_cpus")
_GLOBS = " ".join(
    [f"cpu[0-9]*/cpufreq/{name}" for name in _FILES[:4]]
    + [f"cpufreq/policy[0-9]*/{name}" for name in _FILES]
    + ["present"]
)
_SOURCES = {
    "battery": "dumpsys battery",
    "thermal": "dumpsys thermalservice",
    "cpufreq": f"cd {_CPUFREQ} && grep -H . {_GLOBS}",
    "meminfo": "grep -E '^Mem(Total|Available):' /proc/meminfo",
    "getprop": "getprop",
    "kernel": "uname -r",
    "boot": "cat /proc/sys/kernel/random/boot_id",
    "space": "df -k /data/local/tmp",
}
STATE = ("battery", "thermal", "cpufreq", "meminfo")
ALL = tuple(_SOURCES)


def script(names: Iterable[str]) -> str:
    """Return a shell script that prints the sources of those names; one that fails prints nothing."""
    return "\n".join(f"echo; echo '@@ {name}'; ( {_SOURCES[name]} ) 2>/dev/null" for name in names)


def sections(text: str) -> dict[str, str]:
    """Return what `script` printed, by name."""
    parts = re.split(r"^@@ (\w+)\r?\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def properties(text: str) -> dict[str, str]:
    """Return the lines `[name]: [value]` of getprop."""
    return dict(re.findall(r"^\[([^\]]+)\]: \[(.*)\]\s*$", text, flags=re.MULTILINE))


@dataclass(frozen=True, slots=True)
class Cpu:
    """A core's frequencies in kHz; None where the phone does not say."""

    most: int | None = None  # what it can do: cpuinfo_max_freq
    allowed: int | None = None  # what it may do just now: scaling_max_freq
    now: int | None = None
    governor: str = ""


def cpus(text: str) -> dict[int, Cpu]:
    """Return the cores of `path:value` lines. A core that is switched off has no files of its own: its cluster's speak for it."""
    files: dict[str, str] = {}
    for line in text.splitlines():
        path, colon, value = line.strip().partition(":")
        if colon:
            files[path] = value.strip()
    folders: dict[int, str] = {number: "" for number in _numbers(files.get("present", ""))}
    for path, value in files.items():
        policy = re.fullmatch(r"(cpufreq/policy\d+)/related_cpus", path)
        if policy:
            folders.update(dict.fromkeys(map(int, re.findall(r"\d+", value)), policy[1]))
    for path in files:
        own = re.fullmatch(r"(cpu(\d+)/cpufreq)/cpuinfo_max_freq", path)
        if own:
            folders[int(own[2])] = own[1]
    return {number: _cpu(files, folder) for number, folder in sorted(folders.items())}


def _cpu(files: Mapping[str, str], folder: str) -> Cpu:
    most, allowed, now = (_integer(files.get(f"{folder}/{name}", "")) for name in _FILES[:3])
    return Cpu(most, allowed, now, files.get(f"{folder}/scaling_governor", ""))


def _integer(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _numbers(text: str) -> list[int]:
    """Return 0, 1, 2, 3, 6 of `0-3,6`."""
    found: list[int] = []
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        found += range(int(first), int(last or first) + 1)
    return found


def battery(text: str) -> dict[str, Scalar]:
    """Return level, temperature and whether it charges, of `dumpsys battery`; makers add lines, ours come first."""
    said = dict(reversed(re.findall(r"^ *(\w[\w ]*): (\S+)\s*$", text, flags=re.MULTILINE)))
    facts: dict[str, Scalar] = {}
    if said.get("present") == "false":
        return facts
    level, scale = _integer(said.get("level", "")), _integer(said.get("scale", "")) or 100
    if level is not None:
        facts["observed_battery_percent"] = round(100 * level / scale)
    if re.fullmatch(r"-?\d+", said.get("temperature", "")):
        facts["observed_battery_c"] = int(said["temperature"]) / 10
    if said.get("status", "").isdigit():
        facts["observed_charging"] = int(said["status"]) == CHARGING
    return facts


def thermal(text: str) -> dict[str, Scalar]:
    """Return status and temperatures of `dumpsys thermalservice`, which Android 10 and newer have."""
    facts: dict[str, Scalar] = {}
    status = re.search(r"^\s*Thermal Status: (\d+)", text, flags=re.MULTILINE)
    if status:
        facts["observed_thermal_status"] = int(status[1])
    _, _, current = text.partition("Current temperatures from HAL")
    for name, kind in (("observed_temperature_c", CPU), ("observed_skin_c", SKIN)):
        for part in (current, text):  # a phone whose HAL is gone still has cached ones
            found = re.findall(rf"mValue=(-?[\d.]+), mType={kind},", part)
            values = [float(value) for value in found if 0 < float(value) < 150]  # 0.0 is of a sensor that is not there
            if values:
                facts[name] = round(max(values), 1)
                break
    return facts


def clusters(cores: Mapping[int, Cpu]) -> dict[str, Scalar]:
    """Return cores, max_khz as `1800000x4+2400000x4`, and the masks of the slowest cores and of all others."""
    facts: dict[str, Scalar] = {"cores": len(cores)} if cores else {}
    speeds = sorted({core.most for core in cores.values() if core.most})
    if not speeds:
        return facts
    counts = [(speed, sum(core.most == speed for core in cores.values())) for speed in speeds]
    facts["max_khz"] = "+".join(f"{speed}x{count}" for speed, count in counts)
    little = [number for number, core in cores.items() if core.most == speeds[0]]
    big = [number for number, core in cores.items() if core.most and core.most > speeds[0]]
    facts["big_mask"] = _mask(big or little)
    if big:
        facts["little_mask"] = _mask(little)
    return facts


def _mask(numbers: Iterable[int]) -> str:
    return f"{sum(1 << number for number in numbers):x}"


def system(said: Mapping[str, str]) -> dict[str, Scalar]:
    """Return model, SoC, OS build and ABI of getprop's values."""
    facts: dict[str, Scalar] = {
        "device_model": said.get("ro.product.model", ""),
        "manufacturer": said.get("ro.product.manufacturer", ""),
        "soc": soc(said),
        "build": said.get("ro.build.fingerprint", ""),
        "abi": said.get("ro.product.cpu.abi", ""),
    }
    release, api = said.get("ro.build.version.release", ""), said.get("ro.build.version.sdk", "")
    if release or api:
        facts["os"] = f"Android {release or '?'} (API {api or '?'})"
    if said.get("ro.edgelut.emulated") == "1":
        facts["emulated"] = True
    return {name: value for name, value in facts.items() if value != ""}


def soc(said: Mapping[str, str]) -> str:
    """Return the SoC's name: Android 12 and newer have one, before it there is the board's."""
    model = said.get("ro.soc.model", "")
    if model and model != "unknown":
        maker = said.get("ro.soc.manufacturer", "")
        return model if maker in ("", "unknown") or model.startswith(maker) else f"{maker} {model}"
    names = ("ro.hardware.chipname", "ro.board.platform", "ro.chipname", "ro.hardware")
    return next((said[name] for name in names if said.get(name)), "")


def state_facts(parts: Mapping[str, str]) -> dict[str, Scalar]:
    """Return what varies by itself; all names start with `observed_`."""
    facts = {**battery(parts.get("battery", "")), **thermal(parts.get("thermal", ""))}
    memory = re.search(r"^MemAvailable:\s+(\d+) kB", parts.get("meminfo", ""), flags=re.MULTILINE)
    if memory:
        facts["observed_memory_free_bytes"] = 1024 * int(memory[1])
    cores = cpus(parts.get("cpufreq", ""))
    fastest = max((core.most or 0 for core in cores.values()), default=0)
    slowest = min((core.most or 0 for core in cores.values()), default=0)
    big = [core.now for core in cores.values() if core.now and (core.most or 0) >= min(slowest + 1, fastest)]
    if big:
        facts["observed_frequency_khz"] = max(big)
    return facts


def all_facts(parts: Mapping[str, str]) -> dict[str, Scalar]:
    """Return every fact but the serial."""
    cores = cpus(parts.get("cpufreq", ""))
    facts = {**system(properties(parts.get("getprop", ""))), **clusters(cores), **state_facts(parts)}
    governors = sorted({core.governor for core in cores.values() if core.governor})
    if governors:
        facts["governor"] = "+".join(governors)
    if parts.get("kernel", "").strip():
        facts["kernel"] = parts["kernel"].strip()
    return facts


def throttled(parts: Mapping[str, str], hottest_c: float = HOTTEST_BATTERY_C) -> str:
    """Return why what is timed now would not be kept: hot, capped or both; empty where it would."""
    facts = state_facts(parts)
    why = []
    status = int(facts.get("observed_thermal_status", 0))
    if status:
        why.append(f"thermal status {status} ({STATUSES[min(status, 6)]})")
    for (allowed, most), numbers in _caps(cpus(parts.get("cpufreq", ""))).items():
        who = f"cpu {numbers[0]}" if len(numbers) == 1 else f"cpus {numbers[0]}-{numbers[-1]}"
        why.append(f"{who} capped at {allowed / 1e6:.2f} of {most / 1e6:.2f} GHz")
    warmth = float(facts.get("observed_battery_c", 0.0))
    if warmth > hottest_c:
        why.append(f"battery at {warmth:.0f} °C, above {hottest_c:.0f}")
    return ", ".join(why)


def _caps(cores: Mapping[int, Cpu]) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for number, core in cores.items():
        if core.most and core.allowed and core.allowed < core.most:
            found.setdefault((core.allowed, core.most), []).append(number)
    return found


def free_bytes(text: str) -> int | None:
    """Return what `df -k` says is free; a long name of a file system may stand on a line of its own."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    row = lines[-1] if lines else []
    if len(row) < 4 or not row[-1].startswith("/") or not row[-3].isdigit():
        return None
    return 1024 * int(row[-3])
