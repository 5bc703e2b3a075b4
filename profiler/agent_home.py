"""The data folder of an agent: one agent at a time, and a name of this installation."""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgelut.errors import Conflict

ENDING_S = 2.0  # for an agent of the same home that is just ending


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold a home for one agent; raise Conflict, which names the process of the other, where that does not end at once."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "agent.lock").open("a+") as file:
        deadline = time.monotonic() + ENDING_S
        while not _locks(file):
            if time.monotonic() > deadline:
                file.seek(0)
                other = file.read().strip() or "another process"
                raise Conflict(
                    f"an agent already runs on {home} ({other}): stop it, add the device to it, "
                    "or give this one another --home"
                )
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def installation(home: Path) -> str:
    """Return the name of this installation, made at its first start: by it the service knows an agent that starts again."""
    file = home / "agent.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(file.read_text())["installation"])
    made = uuid.uuid4().hex
    staged = home / f"agent.{made}.tmp"
    staged.touch(mode=0o600)
    staged.write_text(json.dumps({"installation": made}))
    staged.replace(file)
    return made


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
