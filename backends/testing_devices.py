"""The contract of devices as a pytest suite; `backends.testing` has it beside those of exporters and runtimes."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest

from backends.base import Device


class DeviceContract:
    """What every device keeps. Hook: `device`."""

    VARYING = ("load", "temperature", "frequency", "free", "battery")

    @pytest.fixture
    def device(self) -> Device:
        """The device under test."""
        raise NotImplementedError("give a fixture `device`")

    def test_its_facts_are_named_scalars(self, device: Device) -> None:
        facts = device.facts()
        assert {"device_model", "os"} <= set(facts)
        assert all(isinstance(name, str) and isinstance(value, str | int | float) for name, value in facts.items())

    def test_what_varies_by_itself_is_named_observed(self, device: Device) -> None:
        first, second = (
            {name: value for name, value in device.facts().items() if not name.startswith("observed_")}
            for _ in range(2)
        )
        assert first == second
        assert not [name for name in first if any(word in name.split("_") for word in self.VARYING)]

    def test_settles_in_time(self, device: Device) -> None:
        started = time.monotonic()
        with suppress(RuntimeError):  # DeviceBusy is an answer
            device.settle(timeout_s=1.0)
        assert time.monotonic() - started < 10

    def test_the_same_content_is_pushed_once(self, device: Device, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"content")
        there = device.push(path)
        assert there
        assert device.push(path) == there

    def test_a_command_gives_bytes(self, device: Device) -> None:
        assert b"hello" in device.run(["echo", "hello"], timeout_s=30.0)

    def test_a_command_ends_with_its_timeout(self, device: Device) -> None:
        started = time.monotonic()
        with suppress(TimeoutError):
            device.run(["sleep", "20"], timeout_s=0.3)
        assert time.monotonic() - started < 10
