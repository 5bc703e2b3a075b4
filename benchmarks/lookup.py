"""How long a look-up takes in a table of millions of rows, beside the same look-up in one of ten thousand."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice, product
from pathlib import Path

import sqlalchemy as sa
from report import Figure, parser, publish

from db.connect import writing
from db.engine import SqlStore, open_store
from db.rows import spec_ids, target_ids
from db.schema import entries, specs
from edgelut.blocks import MB3D, MB4D
from edgelut.query import Query
from edgelut.types import BlockSpec, Target

SMALL = 10_000
TIMES = 300
GOAL = 2.0
LONELY = Target("lonely", "null")  # a device with 50 rows among all those specs
LATENCY = {
    "p10_ns": 1e6,
    "p50_ns": 1.1e6,
    "p90_ns": 1.3e6,
    "low_ns": 9.9e5,
    "high_ns": 1.01e6,
    "runs": 20,
    "samples": 600,
}
PROVENANCE = {
    "sweep": "0" * 32,
    "measured_at": "2026-01-02T03:04:05+00:00",
    "conditions": "0" * 32,
    "artifact_sha256": "0" * 64,
}


def space() -> Iterator[BlockSpec]:
    """Yield 40,000 specs: widths 224 and 96 among the first, so that every table has them."""
    widths = [224, 96, *(width for width in range(8, 1256, 4) if width not in (224, 96))]
    for width, resolution, expansion, kind in product(widths, (7, 14, 28, 56), (2, 3, 4, 6), (MB3D, MB4D)):
        for activation in ("gelu", "relu", "hardswish"):
            yield kind.spec(width, resolution, params={"expansion": expansion, "activation": activation})


def shape(rows: int) -> tuple[int, int]:
    """Return how many specs and targets make that many rows; large tables have both more specs and more devices."""
    devices = 10 if rows <= 10 * SMALL else rows // 25_000
    return -(-rows // devices), devices


def fill(store: SqlStore, rows: int) -> None:
    """Write rows of the null device, past the table's own checks: only reading is timed."""
    count, devices = shape(rows)
    wanted = list(islice(space(), count))
    if len(wanted) < count:
        raise SystemExit(f"{rows} rows need {count} specs, there are {len(wanted)}")
    targets = [Target(f"null-{number}", "null") for number in range(devices)]
    with writing(store.engine) as connection:
        of_spec = sorted(spec_ids(connection, wanted).values())
        of_target = list(target_ids(connection, targets).values())
        lonely = target_ids(connection, [LONELY])[LONELY.key]
    row = {**LATENCY, "kind": "emulated", "clock": "cpu", "doubts": [], "provenance": PROVENANCE, "current": True}
    row["created_at"] = datetime.now(UTC)
    for target in [*of_target, lonely]:
        chosen = of_spec if target != lonely else of_spec[-50:]
        values = [
            sa.literal(value, entries.c[name].type).label(name) for name, value in {**row, "target_id": target}.items()
        ]
        points = sa.select(specs.c.id, *values).where(specs.c.id.between(min(chosen), max(chosen)))
        with writing(store.engine) as connection:
            connection.execute(entries.insert().from_select(["spec_id", *row, "target_id"], points))


def uses(store: SqlStore, devices: int, random_: random.Random) -> dict[str, Callable[[], object]]:
    """Return what is timed; each returns as many rows from a small table as from a large one."""
    near = [MB3D.spec(224, resolution) for resolution in (7, 14, 28, 56)]

    def device() -> str:
        return f"null-{random_.randrange(devices)}"

    return {
        "search block=MB3D&width=224, 100 rows": lambda: store.search(Query(block="MB3D", width=224)),
        "search block=MB3D&width=224, 1 row": lambda: store.search(Query(block="MB3D", width=224, limit=1)),
        "search block, width, device, 48 rows": lambda: store.search(Query(block="mb3d", width=224, device=device())),
        "search device that has 50 rows": lambda: store.search(Query(device=LONELY.device)),
        "get one": lambda: store.get(random_.choice(near), Target(device(), "null")),
        "get_many, 4 specs": lambda: store.get_many(near, Target(device(), "null")),
    }


def timed(pair: tuple[Callable[[], object], Callable[[], object]]) -> list[tuple[float, float]]:
    """Return the p50 and p99 of each use, in milliseconds; called in turn, so that both see the same load of the machine."""
    taken: list[list[float]] = [[], []]
    for _ in range(TIMES + 20):
        for use, times in zip(pair, taken, strict=True):
            start = time.perf_counter()
            use()
            times.append((time.perf_counter() - start) * 1e3)
    cuts = [statistics.quantiles(times[20:], n=100) for times in taken]
    return [(cut[49], cut[98]) for cut in cuts]


def opened(rows: int, folder: Path) -> SqlStore:
    """Return a new table of that many rows."""
    store = open_store(f"sqlite:///{folder / f'{rows}.db'}", migrate=True)
    fill(store, rows)
    return store


def measure(rows: int, seed: int, folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the p50 and p99 of each use in a small table and in one of that many rows."""
    with opened(SMALL, folder) as small, opened(rows, folder) as large:
        pairs = [uses(store, shape(size)[1], random.Random(seed)) for store, size in ((small, SMALL), (large, rows))]
        return {name: timed((pairs[0][name], pairs[1][name])) for name in pairs[0]}


def main() -> None:
    """Fill two tables, time both, print the ratios."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rows", type=int, default=1_000_000, help="rows of the large table (default: 1000000)")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        measured = measure(options.rows, options.seed, Path(folder))
        print(f"filled and timed {options.rows:,} rows in {time.perf_counter() - start:.0f} s")
        size = sum(file.stat().st_size for file in Path(folder).glob(f"{options.rows}.db*"))
    figures = [Figure("SQLite file a row", size / options.rows, "bytes")]
    for name, ((before, before_p99), (p50, p99)) in measured.items():
        ratio = p50 / before
        figures += [
            Figure(f"{name}: p50 at {options.rows:,} rows", p50, "ms", baseline=before),
            Figure(f"{name}: p99", p99, "ms", baseline=before_p99),
            Figure(f"{name}: p50 against {SMALL:,} rows", ratio, "x", f"<= {GOAL:g} x", ratio <= GOAL),
        ]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
