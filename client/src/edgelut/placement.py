"""Which compute unit rows really ran on, and refusing those that ran elsewhere than is required."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .errors import InvalidSpec, OtherUnit
from .types import Entry

UNKNOWN = "a unit that is not known"


def unit_name(text: str) -> str:
    """Return a unit as rows name it: `NE+CPU` is `ne+cpu`, and so is what a query string made of it; raise InvalidSpec."""
    name = text.lower().replace(" ", "+")
    if not name or not name.isprintable():
        raise InvalidSpec(f"{text!r} is no compute unit: write cpu, gpu, ne, or what a row ran on, such as ne+cpu")
    return name


def placed(entries: list[Entry | None], require_unit: str | None) -> list[Entry | None]:
    """Return the rows that ran on that unit alone, None for the others; the same list where none is required."""
    if require_unit is None:
        return entries
    unit = unit_name(require_unit)
    return [entry if entry is not None and entry.ran_on == unit else None for entry in entries]


def require(entries: Sequence[Entry], require_unit: str | None) -> None:
    """Raise OtherUnit, which says what they ran on, unless all rows ran on that unit alone."""
    if require_unit is None:
        return
    unit = unit_name(require_unit)
    elsewhere = [entry for entry in entries if entry.ran_on != unit]
    if elsewhere:
        first = elsewhere[0]
        more = f" and {len(elsewhere) - 1} more rows" if len(elsewhere) > 1 else ""
        raise other_unit(f"{first.spec} on {first.target}{more}", elsewhere, unit)


def other_unit(what: str, elsewhere: Iterable[Entry], unit: str) -> OtherUnit:
    """Return the refusal of rows that ran elsewhere: what they ran on, most of them first, and what to ask instead."""
    counted = Counter(entry.ran_on for entry in elsewhere)
    ordered = [name for name, _ in sorted(counted.items(), key=lambda one: (-one[1], one[0] or ""))]
    known = [name for name in ordered if name is not None]
    ran = ", ".join(name or UNKNOWN for name in ordered)
    instead = f"require {' or '.join(known)}, or no unit" if known else "require no unit"
    return OtherUnit(f"{what} ran on {ran}, not on {unit} alone: {instead}", known)
