"""Which phones are attached, by which transports, and which one a name means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from backends.base import Attached
from edgelut.errors import BackendMissing, DeviceUnusable
from edgelut.types import Params, Scalar

from . import client, remedies, texts
from .shell import Phone

BACKEND = "android"
PROBE_S = 10.0  # for a phone to say what it is
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Seen:
    """A transport and what was learnt by it. `why` is empty where it can be used."""

    transport: client.Transport
    serial: str  # of the phone, where it said so; else the transport's
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    boot: str = ""  # the same for two transports of one phone
    why: str = ""

    @property
    def name(self) -> str:
        """What `--device` takes."""
        return f"{BACKEND}:{self.serial}"


def attached() -> list[Attached]:
    """List every phone that adb sees, usable or not; where there is no adb, one line says what to install."""
    try:
        seen = look()
    except (BackendMissing, DeviceUnusable) as error:
        return [Attached(BACKEND, why=str(error))]
    return [
        Attached(one.name, Params({**one.facts, "serial": one.serial, "transport": one.transport.serial}), one.why)
        for one in seen
    ]


def look() -> list[Seen]:
    """Ask every transport what phone it leads to, all at once; raise BackendMissing, DeviceUnusable where adb fails."""
    found = client.transports()
    if not found:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(found)), thread_name_prefix="edgelut-adb") as pool:
        return _without_twins(list(pool.map(_probe, found)))


def find(serial: str) -> Phone:
    """Return the phone of a serial, or of a transport's; raise DeviceUnusable with the remedy, BackendMissing.

    A phone on USB is found by adb's list alone; those on a network are asked for their serials.
    """
    name = f"{BACKEND}:{serial}"
    found = client.transports()
    own = [one for one in found if one.serial == serial]
    if len(own) > 1:
        raise DeviceUnusable(remedies.twins(serial))
    if own and own[0].state == "device":
        return Phone(own[0], name)
    others = [one for one in found if one.network and one.state == "device" and one.serial != serial]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="edgelut-adb") as pool:
        serials = list(pool.map(_serial, others))
    matches = [one for one, has in zip(others, serials, strict=True) if has == serial]
    silent = [one for one, has in zip(others, serials, strict=True) if not has]
    if len(matches) > 1 and len({_boot(one) for one in matches}) > 1:
        raise DeviceUnusable(remedies.twins(serial))
    if matches:
        return Phone(matches[0], name)
    if own:
        raise DeviceUnusable(f"{name}: {remedies.of_state(own[0])}")
    unknown = [f"{one.serial}: {remedies.of_state(one)}" for one in found if one.network and one.state != "device"]
    unknown += [remedies.silent(one.serial, PROBE_S) for one in silent]
    raise DeviceUnusable(remedies.absent(name, [one.serial for one in found if one.state == "device"], unknown))


def _probe(transport: client.Transport) -> Seen:
    """Return what a transport's phone says; never raises."""
    why = remedies.of_state(transport)
    known: dict[str, Scalar] = {"device_model": " ".join(transport.model.split("_")).strip()} if transport.model else {}
    if why:
        return Seen(transport, transport.serial, known, why=why)
    try:
        parts = texts.sections(Phone(transport, transport.serial, exact=True).ask(texts.script(texts.ALL), PROBE_S))
    except (DeviceUnusable, BackendMissing) as error:
        return Seen(transport, transport.serial, known, why=str(error))
    said = texts.properties(parts.get("getprop", ""))
    serial = own_serial(transport, said)
    facts = {**texts.all_facts(parts), "observed_throttled": texts.throttled(parts)}
    return Seen(transport, serial, facts, parts.get("boot", "").strip(), _unfit(parts, said, serial))


def own_serial(transport: client.Transport, said: Mapping[str, str]) -> str:
    """Return the serial that a phone's rows carry: adb's on USB; on a network the phone's own, for addresses change."""
    if not transport.network:
        return transport.serial
    names = ("ro.serialno", "ro.boot.serialno")
    return next((said[name] for name in names if said.get(name, "unknown") != "unknown"), transport.serial)


def _unfit(parts: Mapping[str, str], said: Mapping[str, str], serial: str) -> str:
    api = said.get("ro.build.version.sdk", "")
    if api.isdigit() and int(api) < remedies.OLDEST_API:
        return remedies.too_old(int(api), said.get("ro.build.version.release", "?"))
    free = texts.free_bytes(parts.get("space", ""))
    if free is not None and free < remedies.LEAST_FREE_BYTES:
        return remedies.no_space(free, serial)
    return ""


def _without_twins(seen: Sequence[Seen]) -> list[Seen]:
    """Let a phone that is there twice be used by one transport, USB first, and two phones of one serial by none."""
    found = []
    for one in seen:
        same = [other for other in seen if other.serial == one.serial and not other.why]
        boots = {other.boot for other in same}
        if one.why or len(same) < 2:
            found.append(one)
        elif len(boots) > 1 or "" in boots:
            found.append(Seen(one.transport, one.serial, one.facts, one.boot, remedies.twins(one.serial)))
        else:
            first = min(same, key=lambda other: (other.transport.network, same.index(other)))
            why = "" if one is first else remedies.second_way(one.transport.serial, first.transport.serial)
            found.append(Seen(one.transport, one.serial, one.facts, one.boot, why))
    return found


def _serial(transport: client.Transport) -> str:
    """Return the serial that a phone on a network gives itself; empty where it does not answer."""
    try:
        said = Phone(transport, transport.serial).ask("getprop ro.serialno; getprop ro.boot.serialno", PROBE_S)
    except DeviceUnusable:
        return ""
    names = ("ro.serialno", "ro.boot.serialno")
    return own_serial(transport, dict(zip(names, (line.strip() for line in said.splitlines()), strict=False)))


def _boot(transport: client.Transport) -> str:
    """Return what tells a running phone from another of the same serial."""
    try:
        return Phone(transport, transport.serial).ask("cat /proc/sys/kernel/random/boot_id", PROBE_S).strip()
    except DeviceUnusable:
        return transport.serial
