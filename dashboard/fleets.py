"""What can be measured on: the devices that agents announced, as targets, and why one cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from edgelut.jobs import FleetDevice
from edgelut.types import Target


class Fleet(msgspec.Struct, frozen=True):
    """The answer of GET /fleet."""

    devices: list[FleetDevice]


def measurable(devices: Sequence[FleetDevice]) -> Iterator[Target]:
    """Yield what the fleet's devices and runtimes can measure on one thread."""
    for device in devices:
        for runtime in device.info.runtimes:
            for unit in runtime.units:
                for precision in runtime.precisions:
                    yield Target(device.info.name, runtime.name, precision, 1, unit)


def why_not(target: Target, devices: Sequence[FleetDevice]) -> str:
    """Return why a job for a target would be refused; empty where it would not."""
    device = next((one for one in devices if one.info.name == target.device), None)
    if device is None:
        return f"no agent has announced {target.device}: start 'edgelut agent' where it is"
    runtime = next((one for one in device.info.runtimes if one.name == target.runtime), None)
    if runtime is None:
        known = ", ".join(one.name for one in device.info.runtimes) or "none"
        return f"the agent of {target.device} has no {target.runtime}; its runtimes: {known}"
    if target.precision not in runtime.precisions:
        return f"{target.runtime} of {target.device} runs {', '.join(runtime.precisions)}, not {target.precision}"
    if target.unit not in runtime.units:
        return f"{target.runtime} of {target.device} runs on {', '.join(runtime.units)}, not {target.unit}"
    return ""
