"""How much processor time the commands of a phone have used."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def group_seconds(sessions: Collection[int]) -> float:
    """Return the seconds that the live processes of these sessions have used, their ended children included."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            rest = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue
        if int(rest[3]) in sessions:  # state, parent, group, session; processor time is in 11 to 14
            total += sum(map(int, rest[11:15]))
    return total * _TICK_S
