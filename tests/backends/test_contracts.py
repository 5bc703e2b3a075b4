"""Every file of the three folders meets its contract; a new file brings its own tests."""

from __future__ import annotations

from typing import Any

import pytest

from backends import registry
from backends.testing import DeviceContract, ExporterContract, RuntimeContract, load


@pytest.mark.parametrize("name", registry.names("exporters"))
class TestExporter(ExporterContract):
    @pytest.fixture
    def exporter(self, name: str) -> Any:
        return load("exporters", name)

    @pytest.fixture
    def factory(self, name: str) -> str:
        return "backends.testing:identity" if name == "null" else "backends.testing:small_block"


OF_OTHER_SYSTEMS = ("coreml",)  # tests/apple holds it to the contract, on a Mac that is made of files


@pytest.mark.parametrize("name", [name for name in registry.names("runtimes") if name not in OF_OTHER_SYSTEMS])
class TestRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self, name: str) -> Any:
        return load("runtimes", name)

    @pytest.fixture
    def factory(self, name: str) -> str:
        return "backends.testing:identity" if name == "null" else "backends.testing:small_block"


ALWAYS_THERE = [name for name in registry.names("devices") if not registry.device_class(name).instanced]


@pytest.mark.parametrize("name", ALWAYS_THERE)  # one that is attached is tested where something is: tests/phones
class TestDevice(DeviceContract):
    @pytest.fixture
    def device(self, name: str) -> Any:
        return load("devices", name)
