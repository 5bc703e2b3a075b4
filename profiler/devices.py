"""Devices that this host sees: listed, and found by what people call them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich import box
from rich.table import Table

from backends import registry
from backends.base import Attached
from edgelut.errors import BackendMissing, DeviceUnusable
from edgelut.types import Params


def attached() -> list[Attached]:
    """List what every device backend sees, usable or not, this host first; a backend that fails says so in a line of its own."""
    found: list[Attached] = []
    for backend in sorted(registry.names("devices"), key=lambda name: (name != "host", name)):
        found += _attached(backend)
    return found


def resolve(text: str, *, present: bool = True) -> str:
    """Return the name that a device has in rows, of that name, of `BACKEND:WHICH`, or of a serial or address alone.

    Raise BackendMissing for what is no device, and DeviceUnusable for one that is not attached or cannot be used, with what is
    attached; where it need not be present, a name with its backend is taken as it is.
    """
    backend, _, which = text.partition(":")
    known = backend in registry.names("devices")
    if known and not (which and registry.device_class(backend).instanced):
        if present or which:
            registry.load_device(text)  # raises for a colon too many and one too few
        return text
    seen = _attached(backend) if known else _instanced()
    names = {one.name for one in seen if _means(one, which if known else text)}
    matches = sorted(
        (one for one in seen if one.name in names), key=lambda one: not one.usable
    )  # there may be two ways to it
    if matches and (matches[0].usable or not present):
        return matches[0].name
    if matches:
        raise DeviceUnusable(f"{matches[0].name}: {matches[0].why}")
    if known and not present:
        return text
    if known:
        for one in seen:
            if one.name == backend:  # it cannot look
                raise BackendMissing(one.why)
        raise DeviceUnusable(f"{text} is not attached; {_there(seen)}")
    always = ", ".join(name for name in registry.names("devices") if not _is_instanced(name))
    raise BackendMissing(f"no device {text!r}; there are {always}; {_there(seen)}")


def _attached(backend: str) -> list[Attached]:
    try:
        kind = registry.device_class(backend)
    except BackendMissing as error:
        return [Attached(backend, why=str(error))]
    found = kind.attached()
    return found if kind.instanced else [replace(one, name=backend) for one in found]


def _is_instanced(backend: str) -> bool:
    try:
        return registry.device_class(backend).instanced
    except BackendMissing:
        return False


def _instanced() -> list[Attached]:
    return [one for backend in registry.names("devices") for one in _attached(backend) if ":" in one.name or one.why]


def _means(one: Attached, which: str) -> bool:
    """Say whether somebody who writes that means this one."""
    return ":" in one.name and which in (
        one.name.partition(":")[2],
        one.facts.get("serial"),
        one.facts.get("transport"),
    )


def _there(seen: Iterable[Attached]) -> str:
    """Return what is attached in words, and why what is not usable is not."""
    said = [one.name if one.usable else f"{one.name} ({one.why})" for one in seen]
    return f"attached: {', '.join(said)}" if said else "nothing is attached: see 'edgelut devices'"


def devices_table(devices: Sequence[Attached]) -> Table:
    """Return an entry a device: what it is, its build, how warm and how full it is. Why one is not usable stands below."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("device", no_wrap=True, overflow="fold")  # to be copied
    table.add_column("what it is", overflow="fold")
    table.add_column("system", min_width=15, overflow="fold")  # the length of a build
    table.add_column("battery", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for one in devices:
        facts = one.facts
        what = _lines(facts.get("device_model"), facts.get("soc"))
        table.add_row(one.name, what, _lines(_system(facts), build_id(facts)), _battery(facts), state(one))
    return table


def notes(devices: Iterable[Attached]) -> list[str]:
    """Return a line for each device that cannot be used, or that a sweep would wait for."""
    found = []
    for one in devices:
        hot = one.facts.get("observed_throttled", "")
        if one.why:
            found.append(f"{one.name}: {one.why}")
        elif hot:
            found.append(f"{one.name} is to cool down first: {hot}")
    return found


def state(one: Attached) -> str:
    """Return how a device is in a word or two: ready, hot, unusable, and its thermal status where that is not 0."""
    if one.why:
        return "unusable"
    status = one.facts.get("observed_thermal_status", 0)
    return f"hot\nstatus {status}" if status else "hot" if one.facts.get("observed_throttled") else "ready"


def build_id(facts: Params) -> str:
    """Return AP2A.240805.005 of google/oriole/oriole:14/AP2A.240805.005/12025142:user/release-keys."""
    parts = str(facts.get("build", "")).split("/")
    return parts[3] if len(parts) > 3 else ""


def _system(facts: Params) -> str:
    return str(facts.get("os", "")).partition(" (API")[0]


def _battery(facts: Params) -> str:
    percent, warmth = facts.get("observed_battery_percent"), facts.get("observed_battery_c")
    return _lines("" if percent is None else f"{percent} %", "" if warmth is None else f"{float(warmth):.0f} °C")


def _lines(*texts: object) -> str:
    return "\n".join(str(text) for text in texts if text)
