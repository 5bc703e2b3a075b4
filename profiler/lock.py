"""One sweep at a time measures on a device: a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelut.errors import DeviceBusy


@contextmanager
def device_lock(folder: Path, device: str) -> Iterator[None]:
    """Hold the device's lock; raise DeviceBusy, which names the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{device.replace(':', '_')}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise DeviceBusy(f"device {device!r} is being measured by {holder}: wait for it, or end it") from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
