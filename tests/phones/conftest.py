"""An emulated phone that runs this machine's own commands, attached by a real adb."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.adb import client
from backends.devices.android import Android
from emulator.host import HostUserland
from emulator.phone import Phone, Running, running


def binaries() -> list[str]:
    """Return every adb that there is: Debian's of 2019 and Google's of today do not end alike."""
    return list(dict.fromkeys(client._candidates(None)))


@pytest.fixture
def attached_phone(adb_server: int) -> Iterator[Running]:
    """The one phone that adb sees; it is switched off afterwards."""
    client.run(["disconnect"], 10)  # what other tests of this process left behind
    with running(Phone(HostUserland())) as phone:
        connect(phone)
        yield phone
        client.run(["disconnect", phone.address], 10)


@pytest.fixture
def android(attached_phone: Running) -> Android:
    """The device under test."""
    return Android(attached_phone.serial)


def connect(phone: Running) -> None:
    """Attach it, and wait until it runs commands."""
    client.run(["connect", phone.address], 10)
    client.run(["-s", phone.address, "wait-for-device"], 10)
