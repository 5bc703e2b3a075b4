"""Targets as pages choose among them: listed, written into an address, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from edgelut.errors import InvalidSpec
from edgelut.render import short
from edgelut.types import Target

from .rest import Calls

FRESH_S = 5.0


class TargetsOut(msgspec.Struct, frozen=True):
    """What GET /targets answers; the qualities are looked up with the sums that they are of."""

    targets: list[Target]


async def listed(calls: Calls) -> list[Target]:
    """Return the targets that have rows."""
    return (await calls.get(TargetsOut, "/targets", fresh_s=FRESH_S)).targets


def options(targets: Iterable[Target]) -> dict[str, str]:
    """Return what a choice of targets shows, by what an address holds."""
    return {str(target): short(target) for target in targets}


def parse(text: str) -> Target | None:
    """Return the target that an address names, or None for what is none."""
    parts = text.split("/")
    if len(parts) != 5 or not (parts[3].isascii() and parts[3].isdigit()):
        return None
    try:
        return Target(parts[0], parts[1], parts[2], int(parts[3]), parts[4])
    except InvalidSpec:
        return None


def find(text: str, targets: Sequence[Target]) -> Target | None:
    """Return the target of an address if it is among those there are."""
    return next((target for target in targets if str(target) == text), None)


def parse_many(text: str, targets: Sequence[Target]) -> list[Target]:
    """Return the targets of a list with commas that are among those there are."""
    found = (find(part, targets) for part in text.split(","))
    return list(dict.fromkeys(target for target in found if target is not None))
