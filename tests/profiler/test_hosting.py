"""Which devices runtimes reach, and what runs on this machine's processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelut.blocks import IDENTITY
from edgelut.errors import BackendMissing, Unsupported
from edgelut.types import Target
from profiler.hosting import is_hosted, is_remote, reaches
from profiler.request import TargetRequest
from profiler.toolchains import Toolchains
from tests.profiler.outside.known import know_runtimes


def test_a_row_is_hosted_where_runtime_and_device_are(tmp_path: Path, phone: Path) -> None:
    known = Toolchains(tmp_path)
    assert is_hosted(Target("host", "onnxruntime-cpu"), known)
    assert not is_hosted(Target("host", "null"), known)
    assert not is_hosted(Target("phone:one", "phone"), known)


def test_a_device_that_there_is_not_is_not_remote() -> None:
    assert not is_remote("nought") and not is_remote("host")


@pytest.mark.parametrize(
    ("devices", "device", "reached"),
    [
        (("local",), "host", True),
        (("local",), "phone:one", False),
        (("phone",), "phone:one", True),
        (("phone",), "host", False),
        (("*",), "phone:one", True),
        (("local", "phone"), "phone:two", True),
    ],
)
def test_a_runtime_says_which_devices_it_reaches(
    phone: Path, devices: tuple[str, ...], device: str, reached: bool
) -> None:
    assert reaches(devices, device) == reached


def test_what_a_runtime_said_of_devices_is_remembered(tmp_path: Path, phone: Path) -> None:
    Toolchains(tmp_path).load_runtime("phone")
    found = Toolchains(tmp_path).find_runtime("phone")
    assert found is not None and found.devices == ("phone",)


def test_a_runtime_that_does_not_reach_a_device_is_refused_with_those_that_do(home: Path, phone: Path) -> None:
    know_runtimes(home)
    specs = [IDENTITY.spec(8, 4)]
    assert TargetRequest(devices=["phone:one"], runtimes=["phone"]).points(specs)
    with pytest.raises(Unsupported, match=r"phone does not run on 'host'; those that do: null, .*scripted"):
        TargetRequest(runtimes=["phone"]).points(specs)
    with pytest.raises(Unsupported, match="scripted does not run on 'phone:one'; those that do: null, phone"):
        TargetRequest(devices=["phone:one"], runtimes=["scripted"]).points(specs)
    with pytest.raises(BackendMissing, match="which one"):
        TargetRequest(devices=["phone"], runtimes=["phone"]).points(specs)
