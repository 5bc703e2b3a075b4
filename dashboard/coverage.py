"""What the table covers, as pages need it: by device and target, with a version that changes whenever a row does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from edgelut.coverage import Coverage
from edgelut.render import short
from edgelut.sequences import SEQUENCES
from edgelut.types import Target


class Covered(msgspec.Struct, frozen=True):
    """The answer of GET /coverage."""

    coverage: list[Coverage]


@dataclass(frozen=True, slots=True)
class Share:
    """What the table has of one target."""

    target: Target
    rows: int
    doubtful: int
    estimated: int  # or emulated: not measured
    kinds: tuple[tuple[str, int, int], ...]  # kind of block, rows, of them in doubt; blocks first, then sequences
    newest_at: datetime
    version: str

    @property
    def name(self) -> str:
        """The target without its device."""
        return short(self.target).removeprefix(self.target.device).strip()


def shares(coverage: Sequence[Coverage], device: str) -> list[Share]:
    """Return what the table has of a device, target by target, the one with most rows first."""
    parts = _by_target(one for one in coverage if one.target.device == device)
    found = [_share(target, of_it) for target, of_it in parts.items()]
    return sorted(found, key=lambda share: (-share.rows, str(share.target)))


def versions(coverage: Iterable[Coverage]) -> dict[Target, str]:
    """Return what changes whenever a row of a target does."""
    return {target: _version(parts) for target, parts in _by_target(coverage).items()}


def _by_target(coverage: Iterable[Coverage]) -> dict[Target, list[Coverage]]:
    found: dict[Target, list[Coverage]] = {}
    for one in coverage:
        found.setdefault(one.target, []).append(one)
    return found


def _version(parts: Sequence[Coverage]) -> str:
    return f"{sum(part.rows for part in parts)}:{max(part.newest for part in parts)}"


def _share(target: Target, parts: Sequence[Coverage]) -> Share:
    kinds: dict[str, tuple[int, int]] = {}
    for part in parts:
        rows, doubtful = kinds.get(part.block, (0, 0))
        kinds[part.block] = (rows + part.rows, doubtful + part.doubtful)
    rows = sum(part.rows for part in parts)
    return Share(
        target,
        rows,
        sum(part.doubtful for part in parts),
        sum(part.rows for part in parts if part.kind != "measured"),
        tuple(
            (kind, *counts) for kind, counts in sorted(kinds.items(), key=lambda item: (item[0] in SEQUENCES, item[0]))
        ),
        max(part.newest_at for part in parts),
        _version(parts),
    )


def devices(coverage: Sequence[Coverage]) -> list[str]:
    """Return the devices that have rows, in order."""
    return sorted({one.target.device for one in coverage})
