"""How fast a search reads latencies as arrays, beside a snapshot's dictionary of specs and a plain dictionary of tuples."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice, product
from pathlib import Path

import numpy as np
from report import Figure, parser, publish

from edgelut.arrays import TableArrays
from edgelut.blocks import MB3D
from edgelut.snapshot import Snapshot, write
from edgelut.types import BlockSpec, Entry, Latency, Params, Target

TARGET = Target("phone", "onnxruntime-cpu")
RESOLUTIONS, EXPANSIONS = (7, 14, 28, 56), (2, 3, 4, 6)
FEW = 100_000  # of the slow ways, whose cost does not depend on how many there are
TURNS = 9


def table(rows: int) -> list[Entry]:
    """Return rows of one target: widths in steps of 8 at four resolutions and four expansions."""
    shapes = product(range(16, 16 + rows, 8), RESOLUTIONS, EXPANSIONS)
    specs = [MB3D.spec(width, side, params={"expansion": ratio}) for width, side, ratio in islice(shapes, rows)]
    return [entry(spec, number) for number, spec in enumerate(specs)]


def entry(spec: BlockSpec, number: int) -> Entry:
    """Return a row like a measured one."""
    p10 = 1e6 + number
    latency = Latency(p10, p10 * 1.02, p10 * 1.1, p10 * 0.99, p10 * 1.01, 10, 1000, slope_ns=p10 * 1.01)
    return Entry(spec, TARGET, latency, provenance=Params({"sweep": "benchmark", "reference_factor": 1.01}))


def shortest_s(use: Callable[[], object], turns: int = TURNS) -> float:
    """Return the shortest of some turns in seconds: what is longer is the machine's other work."""
    taken = []
    gc.disable()
    for _ in range(turns):
        start = time.perf_counter()
        use()
        taken.append(time.perf_counter() - start)
    gc.enable()
    return min(taken)


def ways(rows: Sequence[Entry], frozen: Snapshot, arrays: TableArrays, seed: int, count: int) -> dict[str, float]:
    """Return the seconds of each way to look up `count` rows, drawn at random."""
    draw = np.random.default_rng(seed)
    asked = draw.integers(0, len(rows), count)
    codes = arrays.codes_of([row.spec for row in rows])[asked]
    of_one = [row.spec for row in rows if row.spec.params["expansion"] == 4]
    drawn = draw.integers(0, len(of_one), count)
    widths = np.array([spec.width_in for spec in of_one])[drawn]
    sides = np.array([spec.resolution for spec in of_one])[drawn]
    networks = codes[: count // 10 * 10].reshape(-1, 10)
    specs = [rows[number].spec for number in asked[:FEW].tolist()]
    tuples = {
        (row.spec.width_in, row.spec.resolution, row.spec.params["expansion"]): row.latency.p10_ns for row in rows
    }
    keys = [(spec.width_in, spec.resolution, spec.params["expansion"]) for spec in specs]
    share = count / len(specs)
    numbers = list(zip(widths[:FEW].tolist(), sides[:FEW].tolist(), strict=True))
    found = frozen.find_many(specs, TARGET)
    same(arrays.ns(codes)[: len(specs)], [row.latency.p10_ns for row in found if row is not None])
    same(arrays.ns(codes)[: len(specs)], [tuples[key] for key in keys])
    return {
        "codes": shortest_s(lambda: arrays.ns(codes)),
        "widths": shortest_s(lambda: arrays.ns(arrays.codes("MB3D", widths, sides))),
        "networks": shortest_s(lambda: arrays.sums_ns(networks)),
        "find_many": shortest_s(lambda: frozen.find_many(specs, TARGET), 3) * share,
        "find_many from widths": shortest_s(lambda: frozen.find_many([MB3D.spec(*one) for one in numbers], TARGET), 1)
        * share,
        "tuples": shortest_s(lambda: [tuples[key] for key in keys], 3) * share,
        "tuples from widths": shortest_s(lambda: [tuples[width, side, 4] for width, side in numbers], 3) * share,
        "tuples' networks": shortest_s(
            lambda: [sum(map(tuples.__getitem__, keys[i : i + 10])) for i in range(0, len(keys), 10)], 3
        )
        * share,
    }


def same(one: object, other: object) -> None:
    """Stop where two ways do not give the same latencies."""
    if not np.array_equal(np.asarray(one), np.asarray(other)):
        raise SystemExit("the ways to look up do not give the same latencies")


def figures(rows: int, seed: int, count: int) -> list[Figure]:
    """Return the figures, those of arrays beside the dictionaries'."""
    held = table(rows)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "table.json")
        write(file, held)
        opening = shortest_s(lambda: Snapshot(file), 3)
        frozen = Snapshot(file)
    making = shortest_s(lambda: frozen.arrays(TARGET), 3)
    took = ways(held, frozen, frozen.arrays(TARGET), seed, count)
    million = f"{count:,} look-ups"
    found = [Figure(f"arrays: opening a snapshot of {rows:,} rows", opening, "s")]
    found.append(Figure("arrays: making the arrays of it", making, "s"))
    goals = {"codes": 3.9, "widths": 17.0, "networks": 2.7}
    names = {
        "codes": f"{million} from codes",
        "widths": f"{million} from widths",
        "networks": f"{count // 10:,} sums of 10",
    }
    beside = {
        "codes": ("find_many", "tuples"),
        "widths": ("find_many from widths", "tuples from widths"),
        "networks": ("find_many", "tuples' networks"),
    }
    for way, goal_ms in goals.items():
        ms = took[way] * 1e3
        found.append(Figure(f"arrays: {names[way]}", ms, "ms", f"<= {goal_ms} ms", ms <= goal_ms))
        found += [
            Figure(
                f"arrays: {names[way]}, faster than {other}", took[other] / took[way], "x", baseline=took[other] * 1e3
            )
            for other in beside[way]
        ]
    return found


def main() -> None:
    """Make a table and a snapshot of it, and look up."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rows", type=int, default=100_000, help="rows in the table (default: 100,000)")
    arguments.add_argument("--lookups", type=int, default=1_000_000, help="look-ups of each way (default: 1,000,000)")
    options = arguments.parse_args()
    publish(figures(options.rows, options.seed, options.lookups), options.json)


if __name__ == "__main__":
    main()
