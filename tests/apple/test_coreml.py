"""The runtime `coreml` on a Mac, by its contract and by what is Core ML's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends import registry
from backends.apple import mac as this_mac
from backends.apple.plan import shares
from backends.devices.host import Host
from backends.devices.null import Null
from backends.runtimes.coreml import CoreML
from backends.testing import RuntimeContract
from edgelut.errors import BackendMissing, Unsupported
from tests.apple.support import Mac

X = {"x": np.ones((1, 16, 8, 8), np.float32)}


class TestCoreML(RuntimeContract):
    @pytest.fixture
    def runtime(self, mac: Mac) -> CoreML:
        return CoreML()


@pytest.mark.parametrize(
    ("unit", "ran_on", "facts", "ns"),
    [
        ("cpu_only", "cpu", {"share_cpu": 1.0}, 2_000_000),
        ("cpu_and_ne", "ne+cpu", {"share_ne": 0.97, "share_cpu": 0.03}, 500_000),
        ("cpu_and_gpu", "gpu", {"share_gpu": 1.0}, 900_000),
        ("all", "ne+gpu+cpu", {"share_ne": 0.6, "share_gpu": 0.3, "share_cpu": 0.1}, 450_000),
    ],
)
def test_each_unit_says_where_the_plan_puts_its_operations(
    mac: Mac, packages: dict[str, Path], unit: str, ran_on: str, facts: dict[str, float], ns: int
) -> None:
    with CoreML().open(packages["block"], Host(), "fp32", 1, unit) as session:
        loaded = session.loaded
        session.prepare(X)
        timing = session.time(4, inner=3)
    assert (loaded.unit, loaded.ran_on, dict(loaded.facts)) == (unit, ran_on, facts)
    assert loaded.load_ns is not None and loaded.compile_ns is not None and 0 < loaded.compile_ns < loaded.load_ns
    assert timing.cpu_ns == () and [round(sample / ns, 1) for sample in timing.wall_ns] == [3.0] * 4


def test_it_refuses_threads_which_core_ml_chooses(mac: Mac, packages: dict[str, Path]) -> None:
    with pytest.raises(Unsupported, match="ask for 1, not 2"):
        CoreML().open(packages["block"], Host(), "fp32", 2, "all")


def test_it_runs_on_no_other_device(mac: Mac, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Null, "local", False)
    with pytest.raises(Unsupported, match="not on null"):
        CoreML().open(packages["block"], Null(), "fp32", 1, "all")


def test_what_core_ml_cannot_load_is_unsupported_with_its_words(
    mac: Mac, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coremltools.models import model

    def refuse(path: str) -> str:
        raise RuntimeError("Error compiling model: the neural engine is on holiday")

    monkeypatch.setattr(model._MLModelProxy, "compileModel", staticmethod(refuse))
    opening = CoreML().open(packages["block"], Host(), "fp32", 1, "all")
    with pytest.raises(Unsupported, match="on holiday"), opening:
        pass


def test_without_plans_it_is_not_known_where_it_ran(
    mac: Mac, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coremltools.models import compute_plan

    def refuse(path: str, unit: str) -> None:
        raise RuntimeError("MLComputePlan needs macOS 14.4")

    monkeypatch.setattr(compute_plan._MLModelProxy, "get_compute_plan", staticmethod(refuse))
    with CoreML().open(packages["block"], Host(), "fp32", 1, "all") as session:
        assert session.loaded.ran_on == "" and not session.loaded.facts


def test_off_macos_it_is_missing_and_says_what_it_needs() -> None:
    registry._load.cache_clear()
    with pytest.raises(BackendMissing, match=r"needs macOS.*edgelut agent --apple"):
        registry.load_runtime("coreml")


def test_looking_at_it_imports_no_coremltools() -> None:
    code = """
import platform, sys
platform.mac_ver = lambda *_: ("15.1", ("", "", ""), "arm64")
from backends import registry
from backends.devices.iphone import IPhone
assert "coreml" in registry.names("runtimes") and "iphone" in registry.names("devices")
print(registry.load_runtime("coreml").version)
IPhone.attached()
assert "coremltools" not in sys.modules and "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.startswith("Core ML of macOS 15.1; coremltools 9"), done.stderr


def test_a_mac_tells_its_chip_its_system_and_its_power(mac: Mac) -> None:
    facts = Host().facts()
    assert (facts["device_model"], facts["soc"], facts["os"]) == ("Mac14,2", "Apple M2", "macOS 15.1 (24B83)")
    assert facts["low_power_mode"] == 0 and facts["observed_power"] == "AC Power"
    assert Host().state().throttled == ""
    (mac.phone / "therm").write_text("CPU_Scheduler_Limit = 100\nCPU_Speed_Limit = 70\n")
    assert Host().state().throttled == "macOS limits the processor to 70 %"


def test_a_machine_that_is_no_mac_says_nothing_of_one() -> None:
    assert this_mac.version() == "" and "soc" not in Host().facts() and Host().state().throttled == ""


def test_shares_are_of_cost_where_it_is_estimated_and_of_operations_where_not() -> None:
    weighted = shares([("ne", 0.9), ("cpu", 0.1), ("cpu", None), ("gpu", 0.0)])
    assert (weighted.ran_on, weighted.facts()) == ("ne+cpu", {"share_ne": 0.9, "share_cpu": 0.1})
    counted = shares([("cpu", None), ("ne", None), ("ne", None), ("ne", None)])
    assert counted.facts() == {"share_ne": 0.75, "share_cpu": 0.25, "shares_of": "operations"}
    assert shares([]).ran_on == ""
