"""The cores that an emulated phone says it has."""

from __future__ import annotations

import os

MOST = 8


def usable_cores() -> tuple[int, ...]:
    """Return this machine's cores that commands may be held on, so that a mask that the phone tells can be set; 8 at most."""
    return tuple(sorted(os.sched_getaffinity(0))[:MOST])
