"""Every file of the three folders meets its contract; a new file brings its own tests."""

from __future__ import annotations

from typing import Any

import pytest

from backends import registry
from backends.testing import DeviceContract, ExporterContract, RuntimeContract, load

FULL_DISK = "test_a_full_disk_is_an_os_error_and_leaves_nothing_behind"
KNOWN = {  # where an exporter does not keep the contract yet, and why
    (
        "null",
        "test_refuses_a_precision_that_it_does_not_write",
    ): "the null format holds no numbers and takes any precision",
    ("null", FULL_DISK): "the null exporter writes in place",
    ("coreml", FULL_DISK): "coremltools' writer does not say why it failed",
}


@pytest.mark.parametrize("name", registry.names("exporters"))
class TestExporter(ExporterContract):
    @pytest.fixture
    def exporter(self, name: str) -> Any:
        return load("exporters", name)

    @pytest.fixture
    def factory(self, name: str) -> str:
        return "backends.testing:identity" if name == "null" else "backends.testing:small_block"

    @pytest.fixture(autouse=True)
    def _known(self, name: str, request: pytest.FixtureRequest) -> None:
        reason = KNOWN.get((name, request.node.originalname))
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=False))


@pytest.mark.parametrize("name", registry.names("runtimes"))
class TestRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self, name: str) -> Any:
        return load("runtimes", name)

    @pytest.fixture
    def factory(self, name: str) -> str:
        return "backends.testing:identity" if name == "null" else "backends.testing:small_block"


@pytest.mark.parametrize("name", registry.names("devices"))
class TestDevice(DeviceContract):
    @pytest.fixture
    def device(self, name: str) -> Any:
        return load("devices", name)
