"""One sweep at a time measures on a device: a lock that the kernel frees when its holder and all of its workers are gone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelut.errors import DeviceBusy


@contextmanager
def device_lock(folder: Path, device: str) -> Iterator[int]:
    """Hold the device's lock and yield its descriptor; raise DeviceBusy, which names the process that holds it.

    A worker that inherits the descriptor holds the lock with us: where we are killed, the device stays locked until the last
    worker that may still be measuring on it has ended.
    """
    path = _path(folder, device)
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeviceBusy(
                f"device {device!r} is being measured by {_holder(path)}: wait for it, or end it"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield file.fileno()


def find_holder(folder: Path, device: str) -> str | None:
    """Return who measures on a device, in words, or None where nobody does."""
    path = _path(folder, device)
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(path)
    except FileNotFoundError:
        pass
    return None


def _path(folder: Path, device: str) -> Path:
    return folder / f"{device.replace(':', '_')}.lock"


def _holder(path: Path) -> str:
    """Return what the holder wrote; a process that is gone left a worker behind that is still busy."""
    holder = path.read_text().strip()
    _, _, number = holder.rpartition(" ")
    if not number.isdigit():
        return "another process"
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return f"a worker that {holder} left behind"
    except PermissionError:
        pass
    return holder
