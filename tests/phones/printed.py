"""What phones print: a Pixel of Android 14, a Samsung of Android 12, an old phone of Android 8, made up after how they print it."""

from __future__ import annotations

PIXEL = {
    "getprop": """\
[dalvik.vm.heapsize]: [512m]
[ro.board.platform]: [gs101]
[ro.boot.serialno]: [0A041FDD4003A6]
[ro.build.fingerprint]: [google/oriole/oriole:14/AP2A.240805.005/12025142:user/release-keys]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.hardware]: [oriole]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 6]
[ro.serialno]: [0A041FDD4003A6]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor]
[persist.sys.odd]: [a]: [b]
""",
    "battery": """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3160000
  status: 2
  health: 2
  present: true
  level: 87
  scale: 100
  voltage: 4256
  temperature: 268
  technology: Li-ion
  Charging state: 0
""",
    "thermal": """\
IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
	killed: false
	broadcasts count: -1
ThermalStatusListeners:
	callbacks: 5
	killed: false
	broadcasts count: -1
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=31.9, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
	Temperature{mValue=41.0, mType=0, mName=BIG, mStatus=0}
	Temperature{mValue=38.5, mType=0, mName=MID, mStatus=0}
	Temperature{mValue=37.0, mType=0, mName=LITTLE, mStatus=0}
	Temperature{mValue=36.0, mType=1, mName=G3D, mStatus=0}
	Temperature{mValue=26.8, mType=2, mName=battery, mStatus=0}
	Temperature{mValue=32.4, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
Temperature static thresholds from HAL:
	{.type = SKIN, .name = VIRTUAL-SKIN, .hotThrottlingThresholds = [NaN, 39.0, 43.0, 45.0, 47.0, 52.0, 55.0]}
""",
    "cpufreq": "".join(
        f"cpu{cpu}/cpufreq/{name}:{value}\n"
        for cpu, most in enumerate([1803000] * 4 + [2253000] * 2 + [2802000] * 2)
        for name, value in (
            ("cpuinfo_max_freq", most),
            ("scaling_max_freq", most),
            ("scaling_cur_freq", most // 2),
            ("scaling_governor", "sched_pixel"),
        )
    )
    + "cpufreq/policy0/related_cpus:0 1 2 3\ncpufreq/policy0/cpuinfo_max_freq:1803000\npresent:0-7\n",
    "meminfo": "MemTotal:        7671484 kB\nMemAvailable:    3145728 kB\n",
    "kernel": "5.10.198-android13-4-00050-g12f3388846c3-ab11920634\n",
    "boot": "5b6a1d1c-7d4d-4a6e-9d0c-3a8d3a8d3a8d\n",
    "space": """\
Filesystem       1K-blocks     Used Available Use% Mounted on
/dev/block/dm-44 112885740 40123456  72762284  36% /data/user/0
""",
}

SAMSUNG = {
    "getprop": """\
[ro.board.platform]: [exynos990]
[ro.build.fingerprint]: [samsung/x1sxeea/x1s:12/SP1A.210812.016/G981BXXSGHWK1:user/release-keys]
[ro.build.version.release]: [12]
[ro.build.version.sdk]: [31]
[ro.hardware.chipname]: [exynos990]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.manufacturer]: [samsung]
[ro.product.model]: [SM-G981B]
[ro.serialno]: [R58M123ABCD]
[ro.soc.manufacturer]: [unknown]
[ro.soc.model]: [unknown]
""",
    "battery": """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 0
  Max charging voltage: 0
  Charge counter: 0
  status: 5
  health: 2
  present: true
  level: 100
  scale: 100
  voltage: 4311
  temperature: 462
  technology: Li-ion
  batterySWSelfDischarging: false
  batteryMiscEvent: 0
  mSecPlugTypeSummary: 2
  LED Charging: true
  current now: 21
  charge counter: 0
  Adaptive Fast Charging Settings: true
USE_FAKE_BATTERY: false
SEC_FEATURE_BATTERY_SIMULATION: false
LLB CAL:
LLB MAN: 20200227
BatteryInfoBackUp
  mSavedBatteryAsoc: 96
  mSavedBatteryMaxTemp: 490
  mSavedBatteryUsage: 11870
  temperature: 999
""",
    "thermal": """\
IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
	Temperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}
	Temperature{mValue=61.6, mType=0, mName=AP, mStatus=2}
	Temperature{mValue=44.7, mType=3, mName=LRB, mStatus=2}
	Temperature{mValue=0.0, mType=4, mName=USB, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL 2.0 connected: no
Current temperatures from HAL:
""",
    "cpufreq": "".join(
        f"cpu{cpu}/cpufreq/{name}:{value}\n"
        for cpu, (most, allowed) in enumerate(
            [(2002000, 2002000)] * 4 + [(2504000, 1690000)] * 2 + [(2730000, 2730000)] * 2
        )
        for name, value in (
            ("cpuinfo_max_freq", most),
            ("scaling_max_freq", allowed),
            ("scaling_governor", "energy_step" if cpu < 4 else "schedutil"),
        )
    ),
    "meminfo": "",
    "kernel": "4.19.87-25372130\n",
    "boot": "",
    "space": """\
Filesystem                                             1K-blocks
                     Used Available Use% Mounted on
/dev/block/dm-12 109834212 109824212     10000 100% /data
""",
}

OLD = {
    "getprop": """\
[ro.board.platform]: [msm8953]
[ro.build.fingerprint]: [xiaomi/daisy/daisy_sprout:8.1.0/OPM1.171019.019/V9.6.11.0:user/release-keys]
[ro.build.version.release]: [8.1.0]
[ro.build.version.sdk]: [27]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.manufacturer]: [Xiaomi]
[ro.product.model]: [Mi A2 Lite]
[ro.serialno]: [9b8c7d6e]
""",
    "battery": "Current Battery Service state:\n  status: 3\n  present: true\n  level: 40\n  scale: 100\n  temperature: -15\n",
    "thermal": "Can't find service: thermalservice\n",
    # half of its cores are switched off: their own folders are empty, their cluster's is not
    "cpufreq": "".join(f"cpu{cpu}/cpufreq/cpuinfo_max_freq:2016000\n" for cpu in range(4))
    + "cpufreq/policy0/related_cpus:0 1 2 3\ncpufreq/policy0/cpuinfo_max_freq:2016000\n"
    + "cpufreq/policy4/related_cpus:4 5 6 7\ncpufreq/policy4/cpuinfo_max_freq:2208000\n"
    + "cpufreq/policy4/scaling_max_freq:2208000\npresent:0-7\n",
    "kernel": "4.9.112-perf-g1d6b3a6\n",
}


def printed(phone: dict[str, str]) -> str:
    """Return what the script of `backends.adb.texts` prints on that phone."""
    return "".join(f"\n@@ {name}\n{text}" for name, text in phone.items())
