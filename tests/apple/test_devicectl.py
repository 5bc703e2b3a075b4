"""What devicectl says, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from backends.apple import devicectl
from backends.apple.devicectl import Phone, Refused, why_not
from edgelut.errors import BackendMissing
from tests.apple.support import IDENTIFIER, UDID, Mac

READY = Phone(IDENTIFIER, connection="connected", pairing="paired", developer_mode="enabled", services=True)
# `devicectl list devices` of Xcode 27 (version 5 of its format), and of one that still has the older mappings beside it.
VERSION_5: dict[str, Any] = {
    "identifier": IDENTIFIER,
    "connectionProperties": {"tunnelState": "disconnected"},
    "deviceProperties": {"name": "Stale", "osVersionNumber": "26.5"},
    "properties": {
        "connection": {"pairingState": "paired", "state": "connected", "transportType": "wired"},
        "hardware": {
            "deviceType": "iPhone",
            "marketingName": "iPhone 18 Pro",
            "productType": "iPhone19,1",
            "udid": UDID,
        },
        "software": {
            "osVersionNumber": {"components": [27, 0], "stringValue": "27.0"},
            "osBuildVersions": {"buildVersion": {"name": "24A5000"}},
        },
        "state": {"bootState": "booted", "developerModeStatus": {"enabled": {"mode": 1}}, "name": "My iPhone"},
    },
}


def test_it_lists_phones_and_neither_macs_nor_simulators(mac: Mac) -> None:
    (phone,) = devicectl.phones()
    assert (phone.identifier, phone.udid, phone.model, phone.os, phone.build) == (
        *(IDENTIFIER, UDID, "iPhone 13"),
        *("18.1", "22B83"),
    )
    assert (phone.transport, phone.connection, phone.pairing) == ("wired", "connected", "paired")
    assert devicectl.find_phone(UDID) == devicectl.find_phone(IDENTIFIER) == phone


def test_it_reads_what_xcode_27_says() -> None:
    phone = devicectl._phone(VERSION_5)
    assert phone is not None and why_not(phone) == ""
    assert (phone.model, phone.os, phone.build) == ("iPhone 18 Pro", "27.0", "24A5000")
    assert (phone.connection, phone.developer_mode) == ("connected", "enabled")


@pytest.mark.parametrize("listed", [{}, {"identifier": "a b; rm", "hardwareProperties": {"deviceType": "iPhone"}}])
def test_what_has_no_plain_identifier_is_no_phone(listed: dict[str, Any]) -> None:
    assert devicectl._phone(listed) is None


@pytest.mark.parametrize(
    ("changed", "why", "remedy"),
    [
        ({}, "", ""),
        ({"pairing": "unpaired"}, "not paired", "manage pair --device " + IDENTIFIER),
        ({"developer_mode": "disabled"}, "developer mode is off", "Developer Mode"),
        ({"connection": "disconnected"}, "not attached (disconnected)", "cable"),
        ({"connection": ""}, "connection unknown", "cable"),
        ({"services": False}, "disk image", "Devices and Simulators"),
        ({"services": None}, "", ""),
    ],
)
def test_a_phone_that_cannot_be_used_says_why_and_what_to_do(changed: dict[str, Any], why: str, remedy: str) -> None:
    from dataclasses import replace

    said = why_not(replace(READY, **changed))
    assert why in said and remedy in said and bool(said) == bool(why)


@pytest.mark.parametrize(
    ("text", "meaning", "remedy"),
    [
        ("the device was not, or could not be, unlocked", "is locked", "Auto-Lock"),
        ("Developer Mode is disabled", "developer mode switched off", "Privacy & Security"),
        ("its profile has not been explicitly trusted by the user", "distrusts the app", "VPN & Device Management"),
        ("The developer disk image could not be mounted on this device.", "disk image", "Devices and Simulators"),
        ("The specified device was not found.", "not attached", "cable"),
        ("devicectl device copy to timed out after 120 s", "not attached", "cable"),
        ("something that nobody ever saw", "something that nobody ever saw", "xcrun devicectl list devices"),
    ],
)
def test_what_a_phone_refuses_comes_with_its_remedy(text: str, meaning: str, remedy: str) -> None:
    said = str(devicectl.unusable(IDENTIFIER, text))
    assert f"iphone:{IDENTIFIER}" in said and meaning in said and remedy in said and text in said


def test_a_refusal_says_what_devicectl_said_and_why(mac: Mac) -> None:
    with pytest.raises(Refused, match="not found") as caught:
        devicectl.is_locked("NOBODY")
    assert caught.value.code == 1


def test_without_xcode_it_says_what_to_install(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    (mac.phone / "no-devicectl").touch()
    with pytest.raises(BackendMissing, match=r"Xcode 15.*xcode-select"):
        devicectl.phones()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendMissing, match="macOS with Xcode"):
        devicectl.phones()


def test_a_command_that_hangs_ends_with_its_time(mac: Mac) -> None:
    mac._tool("xcrun", "#!/bin/sh\nexec sleep 20\n")
    with pytest.raises(Refused, match="timed out"):
        devicectl.call(["list", "devices"], 0.2)
