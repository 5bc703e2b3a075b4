"""One sweep at a time on a device; the kernel frees the lock of a dead holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgelut.errors import DeviceBusy
from profiler.lock import device_lock

HOLDER = """
import sys
from pathlib import Path
from profiler.lock import device_lock
with device_lock(Path(sys.argv[1]), "host"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_holder_is_told_which_process_holds_the_device(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        with (
            pytest.raises(DeviceBusy, match=f"device 'host' is being measured by process {holder.pid}"),
            device_lock(tmp_path, "host"),
        ):
            pass
        with device_lock(tmp_path, "other"):
            pass
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait()
        with device_lock(tmp_path, "host"):
            pass


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        holder.kill()
        holder.wait()
        with device_lock(tmp_path, "host"):
            assert (tmp_path / "host.lock").read_text() == f"process {os.getpid()}"


def test_the_lock_is_free_after_an_error_inside(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), device_lock(tmp_path / "new", "adb:serial"):
            raise KeyboardInterrupt
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["adb_serial.lock"]
