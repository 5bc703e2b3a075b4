"""The fakes are faithful: coremltools' own client, unmodified, builds, installs, launches, loads and predicts with them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from backends.mil.toolchain import coremltools
from tests.apple.support import IDENTIFIER, TEAM, UDID, Mac


@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")
def test_the_remote_client_of_coremltools_runs_as_it_is(mac: Mac, packages: dict[str, Path], tmp_path: Path) -> None:
    from coremltools.models.ml_program.experimental import remote_device
    from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    x = np.arange(48, dtype=np.float16).reshape(1, 3, 4, 4)

    async def use() -> None:
        (found,) = Device.get_connected_devices(DeviceType.IPHONE)
        assert (found.identifier, found.udid, found.os_version) == (IDENTIFIER, UDID, "18.1")
        credentials = AppSigningCredentials(development_team=TEAM, bundle_identifier="org.example.runner")
        ready = await found.prepare_for_model_debugging(credentials, working_directory=tmp_path)
        try:
            model = MLModelAsyncWrapper.from_spec_or_path(
                spec_or_path=str(packages["identity"]),
                weights_dir="",
                compute_units=coremltools.ComputeUnit.CPU_AND_NE,
                device=ready,
            )
            await model.load()
            assert model.load_duration_in_nano_seconds == 31_000_000
            outputs = await model.predict({"x": x})
            np.testing.assert_array_equal(outputs["y"], x)
            assert model.last_predict_duration_in_nano_seconds == 250_000
            plan = await model._remote_service.retrieve_compute_plan()
            assert {info.estimated_cost for info in plan.infos.values()} == {0.97, 0.03}
            await model.unload()
        finally:
            ready.session.stop()
            ready.session._process.communicate(timeout=10)

    asyncio.run(use())
    assert mac.launches() == 1 and remote_device._DeviceCtl._validation_done
