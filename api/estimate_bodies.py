"""What requests for estimates and their answers hold."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from edgelut.figures import figures
from edgelut.types import BlockSpec, Entry, EntryKind, Latency, Measure, Params, Target

from .bodies import LIMIT, Name, SpecIn, TargetIn


class EstimatesRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Many specs on one target. `like` is another target whose table is to help, where this one has few rows.

    Where `require_unit` is given, what did not run on that compute unit alone is null.
    """

    specs: Annotated[list[SpecIn], Meta(max_length=LIMIT)]
    target: TargetIn
    like: TargetIn | None = None
    require_unit: Name | None = None


class EstimatesOut(Struct, frozen=True):
    """The row or the estimate of each spec, in order; null where there can be none, and `why_not` says why, null elsewhere."""

    entries: list[Entry | None]
    why_not: list[str | None]


class EstimateOut(Struct, frozen=True):
    """One row or estimate: `kind` says which it is, and `provenance` by what. Fields are those of a row of GET /latency."""

    latency_ms: float | None
    instructions: float | None
    measure: Measure
    interval: tuple[float, float]
    ran_on: str | None
    spec: BlockSpec
    target: Target
    latency: Latency
    kind: EntryKind
    provenance: Params


def estimate_out(entry: Entry) -> EstimateOut:
    """Return an estimate as it is answered."""
    told = figures(entry)
    return EstimateOut(
        told.latency_ms,
        told.instructions,
        told.measure,
        told.interval,
        told.ran_on,
        entry.spec,
        entry.target,
        entry.latency,
        entry.kind,
        entry.provenance,
    )
