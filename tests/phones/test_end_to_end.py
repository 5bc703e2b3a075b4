"""The whole path with no phone: blocks exported here, brought by a real adb, run as arm64 code, checked, counted and kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backends import registry
from db.engine import open_store
from edgelut import settings
from edgelut.errors import BackendMissing, DeviceUnusable
from edgelut.query import Query
from edgelut.types import Entry
from emulator.arm64 import COUNTS, Arm64Userland
from emulator.phone import Phone, Running, running
from tests.phones import tools
from tests.phones.tools import Adb

RUNTIME = "onnxruntime-native"
TIMEOUT_S = 600


@pytest.fixture(scope="module")
def phone(adb_server: int) -> Iterator[Running]:
    """An arm64 phone that adb sees."""
    for name in ("adb", "qemu-aarch64", "aarch64-linux-gnu-gcc"):
        tools.require(name)
    try:
        registry.load_runtime(RUNTIME)
        with running(Phone(Arm64Userland(), serial=f"emulated-{os.getpid()}")) as phone:
            attach(phone)
            yield phone
    except (BackendMissing, DeviceUnusable) as error:
        tools.missing(str(error))


def attach(phone: Running) -> None:
    """Let adb connect to it."""
    adb = Adb(tools.require("adb"))
    adb("connect", phone.address)
    tools.until(lambda: Adb(adb.path, phone.address).state() == "device")


def profile(phone: Running, home: Path, *more: str) -> subprocess.Popen[str]:
    """Start to measure two blocks on it, by what a user would type."""
    blocks = ["--block", "MB4D", "--block", "MB3D", "--width", "96", "--resolution", "14"]
    where = [
        "--device",
        phone.serial,
        "--runtime",
        RUNTIME,
        "--home",
        str(home),
        "--local",
        "--alone",
        "--max-rounds",
        "3",
    ]
    argv = [sys.executable, "-m", "edgelut", "profile", *blocks, *where, *more]
    environment = {**os.environ, "EDGELUT_HOME": str(settings.home())}  # where the runner is kept between tests
    environment.pop("EDGELUT_DATABASE_URL", None)
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(home: Path) -> list[Entry]:
    with closing(open_store(f"sqlite:///{home / 'edgelut.db'}")) as store:
        return [row.entry for row in store.search(Query()).rows]


def counted(phone: Running) -> int:
    """Return how many samples the phone has counted for commands that run."""
    folder = phone.userland.root / COUNTS.lstrip("/")
    return sum(file.read_bytes().count(b"\n") for file in folder.iterdir())


def test_blocks_are_counted_on_arm64_and_an_unplugged_phone_is_gone_on_with(phone: Running, tmp_path: Path) -> None:
    with profile(phone, tmp_path) as first:
        tools.until(lambda: counted(phone) > 8 or first.poll() is not None, timeout_s=TIMEOUT_S)
        phone.control("fault unplugged")
        said = "".join(first.communicate(timeout=TIMEOUT_S))
    assert first.returncode not in (0, -9), said
    assert phone.serial in said and "Traceback" not in said
    phone.control("heal")
    attach(phone)

    with profile(phone, tmp_path, "--json") as second:
        output, complaints = second.communicate(timeout=TIMEOUT_S)
    assert second.returncode == 0, complaints
    assert not json.loads(output)["failures"]

    found = {entry.spec.kind: entry for entry in rows(tmp_path)}
    assert set(found) == {"MB4D", "MB3D"}
    for entry in found.values():
        assert entry.target.device == f"android:{phone.serial}" and entry.target.runtime == RUNTIME
        assert entry.kind == "emulated" and entry.latency.clock == "instructions"
        assert entry.latency.p10_ns > 1e5
        assert entry.latency.p90_ns / entry.latency.p10_ns - 1 <= 1e-4  # the counts of all rounds
        assert float(entry.provenance["parity_error"]) < 1e-4
    assert found["MB3D"].latency.p10_ns > found["MB4D"].latency.p10_ns
