"""The device `iphone`: what is listed, what it is, and why it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import registry
from backends.devices.iphone import IPhone
from backends.testing import DeviceContract
from edgelut.errors import BackendMissing, DeviceUnusable, InvalidSpec, Unsupported
from tests.apple.support import IDENTIFIER, UDID, Mac

NAME = f"iphone:{IDENTIFIER}"


class TestIPhone(DeviceContract):
    """An iPhone runs apps and no commands; all else of the contract holds."""

    @pytest.fixture
    def device(self, iphone: IPhone) -> IPhone:
        return iphone

    def test_a_command_gives_bytes(self, device: IPhone) -> None:  # type: ignore[override]
        with pytest.raises(Unsupported, match="no commands"):
            device.run(["echo", "hello"], 1.0)

    def test_a_command_ends_with_its_timeout(self, device: IPhone) -> None:  # type: ignore[override]
        """It has none."""


def test_one_is_made_by_its_identifier_and_reaches_for_nothing(mac: Mac) -> None:
    assert isinstance(registry.load_device(NAME), IPhone)
    assert mac.calls() == []
    with pytest.raises(InvalidSpec, match="edgelut devices"):
        registry.load_device("iphone:a b")
    with pytest.raises(BackendMissing, match="which one"):
        registry.load_device("iphone")


def test_attached_phones_are_listed_with_what_they_are_and_no_persons_name(mac: Mac) -> None:
    (one,) = IPhone.attached()
    assert one.name == NAME and one.usable
    assert one.facts["device_model"] == "iPhone 13" and one.facts["os"] == "iOS 18.1 (22B83)"
    assert one.facts["serial"] == UDID
    assert "Somebody" not in str(one)


def test_why_a_phone_cannot_be_used(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    def why() -> str:
        (one,) = IPhone.attached()
        return one.why

    mac.now(locked=True)
    assert why().startswith("it is locked: unlock it")
    mac.now(locked=True, deviceProperties={"ddiServicesAvailable": False})  # a locked one cannot mount it
    assert why().startswith("it is locked: unlock it")
    mac.now(deviceProperties={"ddiServicesAvailable": False})
    assert "disk image" in why()
    mac.now(deviceProperties={"developerModeStatus": "disabled"})
    assert "Developer Mode" in why()
    mac.now(connectionProperties={"pairingState": "unpaired"})
    assert "manage pair" in why()
    mac.now(unplugged=True)
    assert "not attached (unavailable)" in why()
    mac.now()
    monkeypatch.delenv("EDGELUT_APPLE_TEAM")
    assert "EDGELUT_APPLE_TEAM" in why()


def test_one_that_sleeps_is_asked_so_that_it_connects(mac: Mac) -> None:
    mac.now(connectionProperties={"tunnelState": "disconnected"})
    (one,) = IPhone.attached()
    assert "disconnected" in one.why
    assert mac.calls() == ["list devices", "device info lockState", "list devices"]


def test_without_xcode_one_line_says_so(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    (mac.phone / "no-devicectl").touch()
    (one,) = IPhone.attached()
    assert one.name == "iphone" and "install Xcode 15" in one.why
    monkeypatch.setenv("PATH", "")
    (one,) = IPhone.attached()
    assert "no xcrun" in one.why


def test_a_machine_that_is_no_mac_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert IPhone.attached() == []


def test_one_that_is_gone_is_unusable(mac: Mac) -> None:
    mac.now(identifier="ANOTHER", udid="ANOTHER")
    with pytest.raises(DeviceUnusable, match="not attached"):
        IPhone(IDENTIFIER).facts()


def test_without_a_team_it_has_no_app(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGELUT_APPLE_TEAM")
    with pytest.raises(DeviceUnusable, match="EDGELUT_APPLE_TEAM"):
        IPhone(IDENTIFIER).app()


def test_what_it_needs_is_pushed_with_its_requests(iphone: IPhone, tmp_path: Path) -> None:
    assert iphone.push(tmp_path) == str(tmp_path)
