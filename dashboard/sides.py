"""The two sides of a comparison as the service has them: a target's rows, now or at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from edgelut.answers import EntryHistory
from edgelut.types import Entry, Target

from .moments import Moment, day_of
from .rest import Call, Calls
from .rows import Found, RowCache

CHUNK = 5000  # specs of one request
FRESH_S = 5.0
LOOKED_AT = 4  # rows whose history says on which days there was something new
SHOWN = 3  # specs of the call that the footer shows


@dataclass(frozen=True, slots=True)
class Side:
    """A target at a moment."""

    target: Target
    moment: Moment
    version: str  # of the target's rows, as its coverage gave it


class _Batch(msgspec.Struct, frozen=True):
    entries: list[Entry | None]


async def rows(calls: Calls, cache: RowCache, side: Side, name: str) -> Sequence[Found]:
    """Return a side's rows; `name` tells its calls from the other side's in the page's footer.

    Rows never leave the table, so the specs that it has now are all that it can have had at any moment.
    """
    current = (await cache.get(calls, side.target, side.version, name)).rows
    if side.moment.is_now:
        return current
    specs = [row.spec for row in current]
    asked = {"target": side.target, **side.moment.asked()}
    call = Call.of("POST", "/latency/batch", None, {"specs": specs[:SHOWN], **asked})
    remark = f"{name}: the first {min(SHOWN, len(specs))} of {len(specs):,} specs"
    calls.note(Call(call.method, call.path, call.params, call.body, remark))
    found: list[Entry | None] = []
    for start in range(0, len(specs), CHUNK):
        body = {"specs": specs[start : start + CHUNK], **asked}
        found += (await calls.post(_Batch, "/latency/batch", body, fresh_s=FRESH_S, note=False)).entries
    return [Found.of(entry) for entry in found if entry is not None]


async def days(calls: Calls, target: Target, current: Sequence[Found]) -> list[str]:
    """Return days on which rows of a target were measured: those of its rows now, and of the past of some of them."""
    found = {day_of(row.measured_at) for row in current}
    for row in current[:: max(1, len(current) // LOOKED_AT)][:LOOKED_AT]:
        body = {"spec": row.spec, "target": target}
        past = await calls.post(EntryHistory, "/history", body, fresh_s=60.0, note=False)
        found |= {day_of(str(one.provenance.get("measured_at", ""))) for one in past.entries}
    return sorted(found - {""})
