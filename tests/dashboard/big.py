"""A table of 12,000 rows of the null device: a space as a search has it, stored as `edgelut profile` would store it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from db.store import SqlStore
from edgelut.blocks import MB3D, MB4D
from edgelut.types import BlockSpec, Entry, Latency, Params, Target

ROWS = 12_000
NULL = Target("null", "null")
AT = datetime(2026, 11, 2, 14, 5, tzinfo=UTC).isoformat()


def specs() -> Iterator[BlockSpec]:
    """Yield blocks: 250 widths, eight resolutions, several expansions of two kinds."""
    for expansion in (2, 3, 4, 6):
        for width in range(8, 2008, 8):
            for resolution in (7, 14, 28, 56):
                yield MB4D.spec(width, resolution, params={"expansion": expansion})
                yield MB4D.spec(width, resolution, params={"expansion": expansion, "pool": 5})
                if resolution <= 28:
                    yield MB3D.spec(width, resolution, params={"expansion": expansion})
                    yield MB3D.spec(width, resolution, params={"expansion": expansion, "heads": 4})


def entries(number: int = ROWS, target: Target = NULL) -> Iterator[Entry]:
    """Yield rows; one in 50 is in doubt."""
    draw = random.Random(0)
    for spec in islice(specs(), number):
        ns = 2e4 + 0.9 * spec.width_in * spec.resolution**2 * float(spec.params["expansion"]) * draw.uniform(0.97, 1.03)
        half = draw.uniform(0.004, 0.018)
        doubts = ("too few rounds: 2 of 16",) if draw.random() < 0.02 else ()
        latency = Latency(
            ns,
            1.02 * ns,
            1.1 * ns,
            ns * (1 - half),
            ns * (1 + half),
            runs=16,
            samples=192,
            slope_ns=1.04 * ns,
            doubts=doubts,
        )
        yield Entry(
            spec, target, latency, provenance=Params({"sweep": "null-1", "conditions": "null", "measured_at": AT})
        )


def fill(store: SqlStore, number: int = ROWS) -> None:
    """Put the rows."""
    rows = list(entries(number))
    assert len(rows) == number
    for start in range(0, number, 3000):
        store.put_many(rows[start : start + 3000])
