"""A Mac in this process, and one for processes that are started."""

from __future__ import annotations

import gc
import importlib.util
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("coremltools", reason="the extra 'coreml' is not installed")

from backends import registry
from backends.devices.iphone import IPhone
from backends.exporters.coreml import CoreML as Exporter
from backends.testing import identity, small_block
from tests.apple.support import FAKE, IDENTIFIER, MACOS, Mac


@pytest.fixture(scope="session", autouse=True)
def frozen_heap() -> Iterator[None]:
    """Keep coremltools, which collects after each conversion, off a heap that holds torch."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    """A Mac with a phone: Xcode's tools on PATH, Core ML in this process."""
    made = Mac(tmp_path / "mac").make()
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDGELUT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(platform, "mac_ver", lambda *_: (MACOS, ("", "", ""), "arm64"))
    _give_core_ml(made, monkeypatch)
    for kept in (registry._load, registry._class):
        kept.cache_clear()
    return made


@pytest.fixture
def iphone(mac: Mac) -> Iterator[IPhone]:
    """The phone that is attached to it; its app ends with the test."""
    made = IPhone(IDENTIFIER)
    yield made
    if made._app is not None:
        made._app.close()


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages by name: `block`, a small one in fp32, and `identity`, in fp16."""
    folder = tmp_path_factory.mktemp("packages")
    made = {"block": folder / "block.mlpackage", "identity": folder / "identity.mlpackage"}
    Exporter().export(*small_block(), "fp32", made["block"], Exporter.options)
    Exporter().export(*identity(), "fp16", made["identity"], Exporter.options)
    return made


def _give_core_ml(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let coremltools, which was imported without its native module, find it where it is on a Mac."""
    from coremltools.models import compute_device, compute_plan, model, utils
    from coremltools.models.ml_program.experimental import remote_device

    spec = importlib.util.spec_from_file_location("coremltools.libcoremlpython", FAKE / "libcoremlpython.py")
    assert spec is not None and spec.loader is not None
    native: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    monkeypatch.setitem(sys.modules, "coremltools.libcoremlpython", native)
    for module in (compute_device, compute_plan, model, utils):
        for name in vars(native):
            if name.endswith("Proxy") and hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(native, name))
    for module in (model, utils):
        monkeypatch.setattr(module, "_macos_version", lambda: tuple(map(int, MACOS.split("."))))
    project = mac.folder / "site" / "coremltools" / "modelrunner"
    monkeypatch.setattr(remote_device._ModelRunnerAppBuilder, "_get_project_path", staticmethod(lambda: project))
    monkeypatch.setattr(remote_device._DeviceCtl, "_validation_done", False)
