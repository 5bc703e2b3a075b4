"""What a phone says of itself: properties, processor cores, battery and temperature, as files and scripts in its userland."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .cores import usable_cores
from .faults import Faults
from .userland import Userland

LITTLE_KHZ, BIG_KHZ = 1_800_000, 2_400_000
LOWEST_KHZ, CAPPED_KHZ = 600_000, 1_200_000
ROOM_C, WARM_C, HOT_C = (
    27.0,
    30.0,
    38.0,
)  # the battery at rest, the skin at rest, and where the thermal status begins to rise
STATUS_STEP_C = 3.0  # light, moderate, severe ... follow in such steps
HEAT_C, HOTTEST_C = 12.0, 50.0  # by a second of computing
COOL_C = 4.0  # by a second of rest
RESTING = 0.05  # share of one core below which it rests
PLACE = "/system/etc/emulated"

GETPROP = """#!/system/bin/sh
# getprop [NAME [DEFAULT]]
place=$PHONE_ROOT/system/etc/emulated
if [ $# -eq 0 ]; then exec cat "$place/properties.txt"; fi
value=${2-}
if [ -f "$place/properties/$1" ]; then read -r value < "$place/properties/$1"; fi
echo "$value"
"""
DUMPSYS = """#!/system/bin/sh
# dumpsys SERVICE
place=$PHONE_ROOT/system/etc/emulated/dumpsys/${1-}
if [ -f "$place" ]; then exec cat "$place"; fi
echo "Can't find service: ${1-}"
"""


def properties(serial: str, userland: Userland) -> dict[str, str]:
    """Return the phone's properties."""
    release, sdk = "14", "34"
    product = f"edgelut_{userland.name}"
    return {
        "ro.serialno": serial,
        "ro.boot.serialno": serial,
        "ro.product.name": product,
        "ro.product.device": product,
        "ro.product.model": "Emulated phone" if userland.name == "arm64" else "Emulated phone (host commands)",
        "ro.product.brand": "EdgeLUT",
        "ro.product.manufacturer": "EdgeLUT",
        "ro.product.cpu.abi": userland.abi,
        "ro.product.cpu.abilist": userland.abi,
        "ro.board.platform": "emulated",
        "ro.hardware": "emulated",
        "ro.soc.manufacturer": "EdgeLUT",
        "ro.soc.model": "cortex-a76 (qemu)" if userland.name == "arm64" else "host",
        "ro.build.version.release": release,
        "ro.build.version.sdk": sdk,
        "ro.build.id": "EMULATED.1",
        "ro.build.type": "user",
        "ro.build.fingerprint": f"EdgeLUT/{product}/{product}:{release}/EMULATED.1/1:user/release-keys",
        "ro.edgelut.emulated": "1",
        "sys.boot_completed": "1",
    }


def banner(known: Mapping[str, str], features: str) -> str:
    """Return what a phone says when a host connects."""
    names = ("ro.product.name", "ro.product.model", "ro.product.device")
    return "device::" + "".join(f"{name}={known[name]};" for name in names) + f"features={features}"


@dataclass(slots=True)
class Body:
    """The phone's changing state. `refresh` lets time pass and writes the files anew."""

    userland: Userland
    faults: Faults
    serial: str
    busy_s: Callable[[], float]  # processor time that commands have used since the phone began
    cores: tuple[int, ...] = field(default_factory=usable_cores)
    warm_c: float = WARM_C
    times_hot: int = 0
    _was_hot: bool = False
    _then: float = field(default_factory=time.monotonic)
    _busy_then: float = 0.0
    _written: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The thermal status, 0 (none) to 6 (shutdown)."""
        return 0 if self.warm_c < HOT_C else min(6, 1 + int((self.warm_c - HOT_C) / STATUS_STEP_C))

    def build(self) -> None:
        """Write what never changes."""
        known = properties(self.serial, self.userland)
        shell = "/bin/sh" if self.userland.name == "host" else "/system/bin/sh"
        for name, script in (("getprop", GETPROP), ("dumpsys", DUMPSYS)):
            self.userland.write(f"/system/bin/{name}", script.replace("/system/bin/sh", shell), executable=True)
        for name, value in known.items():
            self.userland.write(f"{PLACE}/properties/{name}", value + "\n")
        self.userland.write(
            f"{PLACE}/properties.txt", "".join(f"[{name}]: [{known[name]}]\n" for name in sorted(known))
        )
        self._build_cores()
        self.refresh()

    def refresh(self) -> None:
        """Let the time since the last call pass, and write battery, temperature and frequencies."""
        self._pass_time()
        for path, text in {**self._battery(), **self._thermal(), **self._frequencies()}.items():
            if self._written.get(path) != text:
                self.userland.write(path, text)
                self._written[path] = text

    def _pass_time(self) -> None:
        now, busy = time.monotonic(), self.busy_s()
        elapsed, worked = now - self._then, max(0.0, busy - self._busy_then)
        self._then, self._busy_then = now, busy
        heat = HEAT_C * worked if self.faults.holds("hot") else 0.0
        rest = elapsed if worked < RESTING * elapsed else 0.0
        self.warm_c = min(HOTTEST_C, max(WARM_C, self.warm_c + heat - COOL_C * rest))
        if self._was_hot and not self.status:
            self.times_hot += 1
            most = self.faults.argument("hot")
            if most and self.times_hot >= int(most):
                self.faults.heal("hot")
        self._was_hot = bool(self.status)

    def _battery(self) -> dict[str, str]:
        bad = self.faults.holds("battery")
        level, celsius = (4, 46.5) if bad else (87, ROOM_C + (self.warm_c - WARM_C) / 2)
        lines = {
            "AC powered": "false",
            "USB powered": "false" if bad else "true",
            "Wireless powered": "false",
            "Max charging current": 500000,
            "Charge counter": 2811000,
            "status": 3 if bad else 2,  # discharging, charging
            "health": 3 if bad else 2,  # overheat, good
            "present": "true",
            "level": level,
            "scale": 100,
            "voltage": 4270,
            "temperature": round(celsius * 10),
            "technology": "Li-ion",
        }
        text = "Current Battery Service state:\n" + "".join(f"  {name}: {value}\n" for name, value in lines.items())
        supply = "/sys/class/power_supply/battery"
        return {
            f"{PLACE}/dumpsys/battery": text,
            f"{supply}/capacity": f"{level}\n",
            f"{supply}/temp": f"{round(celsius * 10)}\n",
            f"{supply}/status": "Discharging\n" if bad else "Charging\n",
        }

    def _thermal(self) -> dict[str, str]:
        warm, status = round(self.warm_c, 1), self.status
        reading = f"\tTemperature{{mValue={warm}, mType=3, mName=skin, mStatus={status}}}\n"
        text = (
            "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 1\nThermalStatusListeners:\n\tcallbacks: 1\n"
            f"Thermal Status: {status}\nCached temperatures:\n{reading}HAL Ready: true\nHAL connection:\n"
            f"\tThermalHAL 2.0 connected: yes\nCurrent temperatures from HAL:\n{reading}"
            "Current cooling devices from HAL:\n\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}\n"
        )
        zones = {}
        for number, (kind, celsius) in enumerate((("skin-therm", warm), ("cpu-therm", warm + 5))):
            zones[f"/sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
            zones[f"/sys/class/thermal/thermal_zone{number}/temp"] = f"{round(celsius * 1000)}\n"
        return {f"{PLACE}/dumpsys/thermalservice": text, **zones}

    def _frequencies(self) -> dict[str, str]:
        capped = self.faults.holds("throttled") or self.status >= 2
        found = {}
        for folder, highest, _ in self._policies():
            cap = min(highest, CAPPED_KHZ) if capped else highest
            found[f"{folder}/scaling_max_freq"] = f"{cap}\n"
            found[f"{folder}/scaling_cur_freq"] = f"{cap}\n"
        return found

    def _policies(self) -> list[tuple[str, int, tuple[int, ...]]]:
        """Return folder, highest frequency in kHz and cores of each cluster: the first half is little."""
        half = len(self.cores) // 2
        clusters = [(LITTLE_KHZ, self.cores[:half]), (BIG_KHZ, self.cores[half:])]
        return [(f"/sys/devices/system/cpu/cpufreq/policy{some[0]}", khz, some) for khz, some in clusters if some]

    def _build_cores(self) -> None:
        top = "/sys/devices/system/cpu"
        together = _ranges(self.cores)
        for name in ("possible", "present", "online"):
            self.userland.write(f"{top}/{name}", f"{together}\n")
        self.userland.write(f"{top}/kernel_max", f"{max(self.cores)}\n")
        for cluster, (folder, highest, some) in enumerate(self._policies()):
            fixed = {
                "cpuinfo_max_freq": highest,
                "cpuinfo_min_freq": LOWEST_KHZ,
                "scaling_min_freq": LOWEST_KHZ,
                "scaling_governor": "schedutil",
                "related_cpus": " ".join(map(str, some)),
                "affected_cpus": " ".join(map(str, some)),
                "scaling_available_frequencies": f"{LOWEST_KHZ} {CAPPED_KHZ} {highest} ",
            }
            for name, value in fixed.items():
                self.userland.write(f"{folder}/{name}", f"{value}\n")
            for core in some:
                link = self.userland.root / top.lstrip("/") / f"cpu{core}" / "cpufreq"
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(f"../cpufreq/policy{some[0]}")
                self.userland.write(f"{top}/cpu{core}/online", "1\n")
                self.userland.write(f"{top}/cpu{core}/topology/core_id", f"{core}\n")
                self.userland.write(f"{top}/cpu{core}/topology/physical_package_id", f"{cluster}\n")
                self.userland.write(f"{top}/cpu{core}/topology/core_siblings_list", f"{_ranges(some)}\n")


def _ranges(cores: tuple[int, ...]) -> str:
    """Write cores as the kernel does: `0-3` or `0,2-3`."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)
