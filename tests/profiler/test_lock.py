"""One sweep at a time on a device; the kernel frees the lock of a dead holder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgelut.errors import DeviceBusy
from profiler.lock import device_lock, find_holder
from profiler.worker import Worker
from tests.fakes import OUTSIDE

HOLDER = """
import sys
import time
from pathlib import Path
from profiler.lock import device_lock
with device_lock(Path(sys.argv[1]), "host"):
    print("held", flush=True)
    sys.stdin.read()
"""


# Its worker outlives it, as one would that hangs where no signal reaches it: nothing but the lock is tested here.
LEAVES_A_WORKER = """
import os, sys
from pathlib import Path
from profiler.lock import device_lock
with device_lock(Path(sys.argv[1]), "host") as lock:
    os.set_inheritable(lock, True)
    if os.fork() == 0:
        os.close(1)
        os.execvp(sys.executable, [sys.executable, "-c", "import sys; sys.stdin.read()"])
    print("held", flush=True)
    os.kill(os.getpid(), 9)
"""


def hold(folder: Path, program: str = HOLDER) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(folder)],
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


def test_a_device_stays_locked_until_the_last_worker_of_a_killed_sweep_is_gone(tmp_path: Path) -> None:
    with hold(tmp_path, LEAVES_A_WORKER) as holder:
        holder.wait()
        with (
            pytest.raises(DeviceBusy, match=f"by a worker that process {holder.pid} left behind"),
            device_lock(tmp_path, "host"),
        ):
            pass
        assert find_holder(tmp_path, "host") == f"a worker that process {holder.pid} left behind"
        assert holder.stdin is not None
        holder.stdin.close()
        wait_until_free(tmp_path)


def test_a_worker_holds_the_lock_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with device_lock(tmp_path, "host") as lock:
        worker = Worker(f"{OUTSIDE}.tasks", keep=[lock])
    assert worker.call("pid") and find_holder(tmp_path, "host") == f"process {os.getpid()}"
    worker.close()
    assert find_holder(tmp_path, "host") is None


def test_a_device_that_was_never_measured_is_held_by_nobody(tmp_path: Path) -> None:
    assert find_holder(tmp_path / "none", "host") is None


def wait_until_free(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while find_holder(folder, "host") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
