"""The two sides of a comparison as the service has them: a target's rows, now or at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from edgelut.answers import EntryHistory, EntryPage, NumberedEntry
from edgelut.errors import LatencyNotFound
from edgelut.types import Entry, Target

from .moments import Moment, day_of
from .rest import Call, Calls

PAGE = 1000
CHUNK = 5000  # specs of one request
FRESH_S = 5.0
LOOKED_AT = 4  # rows whose history says on which days there was something new
SHOWN = 3  # specs of the call that the footer shows


@dataclass(frozen=True, slots=True)
class Side:
    """A target at a moment."""

    target: Target
    moment: Moment


class _Batch(msgspec.Struct, frozen=True):
    entries: list[Entry | None]


async def rows(calls: Calls, side: Side, name: str) -> list[Entry]:
    """Return a side's rows; `name` tells its calls from the other side's in the page's footer.

    Rows never leave the table, so the specs that it has now are all that it can have had at any moment.
    """
    current = await _current(calls, side.target, name)
    if side.moment.is_now:
        return current
    specs = [entry.spec for entry in current]
    asked = {"target": side.target, **side.moment.asked()}
    call = Call.of("POST", "/latency/batch", None, {"specs": specs[:SHOWN], **asked})
    remark = f"{name}: the first {min(SHOWN, len(specs))} of {len(specs):,} specs"
    calls.note(Call(call.method, call.path, call.params, call.body, remark))
    found: list[Entry | None] = []
    for start in range(0, len(specs), CHUNK):
        body = {"specs": specs[start : start + CHUNK], **asked}
        found += (await calls.post(_Batch, "/latency/batch", body, fresh_s=FRESH_S, note=False)).entries
    return [entry for entry in found if entry is not None]


async def days(calls: Calls, target: Target, current: Sequence[Entry]) -> list[str]:
    """Return days on which rows of a target were measured: those of its rows now, and of the past of some of them."""
    found = {day_of(str(entry.provenance.get("measured_at", ""))) for entry in current}
    for entry in current[:: max(1, len(current) // LOOKED_AT)][:LOOKED_AT]:
        body = {"spec": entry.spec, "target": target}
        past = await calls.post(EntryHistory, "/history", body, fresh_s=60.0, note=False)
        found |= {day_of(str(one.provenance.get("measured_at", ""))) for one in past.entries}
    return sorted(found - {""})


async def _current(calls: Calls, target: Target, name: str) -> list[Entry]:
    found: list[NumberedEntry] = []
    cursor: str | None = None
    call = Call.of("GET", "/latency", {**target.as_json(), "limit": PAGE})
    calls.note(Call(call.method, call.path, call.params, call.body, name))
    while True:
        try:
            page = await calls.get(
                EntryPage, "/latency", fresh_s=FRESH_S, note=False, **target.as_json(), limit=PAGE, cursor=cursor
            )
        except LatencyNotFound:  # the service says so where a target has no rows
            break
        found += page.entries
        cursor = page.next_cursor
        if cursor is None:
            break
    return [row.entry() for row in found if row.target == target]
