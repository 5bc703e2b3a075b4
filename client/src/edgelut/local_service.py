"""The service that runs on this machine's data folder: where it is and what opens it, for the commands of the same user.

A service that serves a data folder's own table writes `service.json` there, which only its user may read, and holds a lock on
`service.lock` as long as it lives: a file that a killed service left behind is not taken for one.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

FILE, LOCK = "service.json", "service.lock"
LOOKED_AT_S = 1.0  # for how long somebody who looks may hold up somebody who announces


@contextmanager
def announce(home: Path, url: str, token: str | None) -> Iterator[bool]:
    """Tell this user's commands of a service of that folder until the block ends.

    Yields False, and tells nothing, where another process has told of one already, or where this system has no such locks.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK).open("a+") as lock:
        if not _take(lock):
            yield False
            return
        _write(home / FILE, {"url": url, "pid": os.getpid(), "token": token or ""})
        try:
            yield True
        finally:
            (home / FILE).unlink(missing_ok=True)


def find(home: Path) -> tuple[str, str | None] | None:
    """Return the URL and the token of the service that runs on a folder, or None where none does."""
    if not _is_held(home / LOCK):
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads((home / FILE).read_text())
        return str(told["url"]), str(told["token"]) or None
    return None


def _take(lock: IO[str]) -> bool:
    """Lock the file; who looks whether it is locked holds it for a moment."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: commands go without
        return False
    deadline = time.monotonic() + LOOKED_AT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _is_held(path: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _write(path: Path, told: dict[str, object]) -> None:
    """Write the file whole, readable by its user alone from the start: it holds a token."""
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps(told))
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


__all__ = ["announce", "find"]
