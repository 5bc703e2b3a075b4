"""How far off estimates of unmeasured blocks are, how often their intervals hold, and how far a few rows of another phone go."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from report import Figure, parser, publish
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge

from edgelut.estimate import LEAST_ROWS, Estimates, Estimator
from edgelut.exchange.base import Asked
from edgelut.exchange.registry import load
from edgelut.features import Encoder
from edgelut.transfer import Transfer
from edgelut.types import Entry

TABLES = Path(__file__).parent.parent.parent / "shared" / "data"  # as published by microsoft/nn-Meter, MIT
PHONES = ("pixel4", "pixel1")
MEASURED = (200, 1000)
PROBES = (10, 50)
DRAWS = 3
TESTED = 3000
WITHIN, HELD, CARRIED = {200: 0.94, 1000: 0.986}, 0.93, {10: 0.81, 50: 0.85}
Held = Callable[[Sequence[Entry]], set[Entry]]


def main() -> None:
    """Draw rows to learn from, estimate others of the same table, and compare."""
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--tables", type=Path, default=TABLES, help="folder with nn_meter_pixel1_v3.json and ..pixel4_v3.json"
    )
    options = arguments.parse_args()
    if not options.tables.is_dir():
        raise SystemExit(f"no folder {options.tables}: give --tables a folder with the published tables")
    tables = {phone: _table(options.tables, phone) for phone in PHONES}
    figures = [figure for n in MEASURED for figure in _alone(tables, n, options.seed)]
    figures += [figure for n in PROBES for figure in _carried(tables, n, options.seed)]
    publish(figures, options.json)


def _table(folder: Path, phone: str) -> list[Entry]:
    content = (folder / f"nn_meter_{phone}_v3.json").read_bytes()
    return load("nn-meter").read(content, Asked(device=phone, runtime="tflite-cpu", values_in="ms"))


def _alone(tables: dict[str, list[Entry]], n: int, seed: int) -> list[Figure]:
    """Estimate from rows of the same phone: any others, and such as lie beyond or between what was measured."""
    figures = []
    for name, held_out in CASES.items():
        near, held, boosted, refused, half = [], [], [], [], []
        for phone, rows in tables.items():
            for draw in range(DRAWS):
                rng = np.random.default_rng([seed, draw, n])
                out = held_out(rows)
                pool = [row for row in rows if row not in out]
                chosen = [pool[place] for place in rng.permutation(len(pool))[:n]]
                rest = list(out) if out else [row for row in pool if row not in set(chosen)]
                tested = [rest[place] for place in rng.permutation(len(rest))[:TESTED]]
                began = time.perf_counter()
                pairs = _answered(Estimator(chosen, rows[0].target), tested)
                print(f"{phone}, {n} rows, {name}: {time.perf_counter() - began:.1f} s", flush=True)
                near.append(_near(pairs))
                held.append(_held(pairs))
                half.append(float(np.median([found.latency.half_width for found, _ in pairs])))
                refused.append(1 - len(pairs) / len(tested))
                boosted.append(_boosted(chosen, tested, seed))
        mean = float(np.mean(near))
        goal = f">= {WITHIN[n]}" if name == "at random" else None
        figures += [
            Figure(
                f"{n} rows, {name}: within 10 %, of those estimated (baseline: ridge and gradient boosting)",
                mean,
                "",
                goal,
                None if goal is None else mean >= WITHIN[n],
                float(np.mean(boosted)),
            ),
            _coverage(f"{n} rows, {name}: 95 % intervals hold (baseline: the least of {len(held)} draws)", held),
            Figure(
                f"{n} rows, {name}: half-width, median (baseline: refused)",
                float(np.mean(half)),
                "",
                None,
                None,
                float(np.mean(refused)),
            ),
        ]
    return figures


def _carried(tables: dict[str, list[Entry]], n: int, seed: int) -> list[Figure]:
    """Estimate one phone from the other's whole table and a few of its own rows."""
    near, alone, held, refused, too = [], [], [], [], []
    for phone, rows in tables.items():
        (other,) = set(PHONES) - {phone}
        source = Estimator(tables[other], tables[other][0].target)
        for draw in range(DRAWS):
            rng = np.random.default_rng([seed, draw, n])
            order = [rows[place] for place in rng.permutation(len(rows))]
            probes, tested = order[:n], order[n : n + TESTED]
            pairs = _answered(Transfer(source, probes, rows[0].target), tested)
            own = _answered(Estimator(probes, rows[0].target), tested)
            near.append(_near(pairs))
            held.append(_held(pairs))
            refused.append(1 - len(pairs) / len(tested))
            alone.append(_near(own))
            too.append(1 - len(own) / len(tested))
    mean, name = float(np.mean(near)), f"{n} rows and another phone's table"
    label = f"{name}: within 10 %, of those estimated (baseline: these rows alone)"
    return [
        Figure(label, mean, "", f">= {CARRIED[n]}", mean >= CARRIED[n], float(np.mean(alone))),
        Figure(
            f"{name}: refused (baseline: these rows alone)",
            float(np.mean(refused)),
            "",
            None,
            None,
            float(np.mean(too)),
        ),
        _coverage(f"{name}: 95 % intervals hold (baseline: the least of {len(held)} draws)", held),
    ]


def _answered(known: Estimates, tested: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    found = known.find_many([row.spec for row in tested])
    return [(entry, row) for entry, row in zip(found, tested, strict=True) if entry is not None]


def _near(pairs: Sequence[tuple[Entry, Entry]]) -> float:
    return (
        float(np.mean([abs(found.latency.p10_ns / row.latency.p10_ns - 1) <= 0.1 for found, row in pairs]))
        if pairs
        else 0.0
    )


def _held(pairs: Sequence[tuple[Entry, Entry]]) -> float:
    return float(np.mean([found.latency.low_ns <= row.latency.p10_ns <= found.latency.high_ns for found, row in pairs]))


def _coverage(label: str, held: Sequence[float]) -> Figure:
    mean = float(np.mean(held))
    return Figure(label, mean, "", f">= {HELD}", mean >= HELD, min(held))


def _boosted(chosen: Sequence[Entry], tested: Sequence[Entry], seed: int) -> float:
    """Return the share within 10 % of a ridge regression and gradient boosting of what it leaves, on the same features."""
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for row in chosen:
        by_kind[row.spec.kind].append(row)
    good = asked = 0
    for kind, rows in by_kind.items():
        wanted = [row for row in tested if row.spec.kind == kind]
        if len(rows) < LEAST_ROWS or not wanted:
            continue
        encoder = Encoder([row.spec for row in rows])
        x, y = encoder.encode([row.spec for row in rows]), np.log([row.latency.p10_ns for row in rows])
        at, true = encoder.encode([row.spec for row in wanted]), np.log([row.latency.p10_ns for row in wanted])
        ridge = Ridge(1e-3).fit(x, y)
        rest = GradientBoostingRegressor(
            n_estimators=500, max_depth=4, learning_rate=0.05, subsample=0.7, random_state=seed
        )
        found = ridge.predict(at) + rest.fit(x, y - ridge.predict(x)).predict(at)
        good += int((np.abs(np.expm1(found - true)) <= 0.1).sum())
        asked += len(wanted)
    return good / asked


def _by_kind(rows: Sequence[Entry], chosen: Callable[[list[Entry]], set[Entry]]) -> set[Entry]:
    of: dict[str, list[Entry]] = defaultdict(list)
    for row in rows:
        of[row.spec.kind].append(row)
    return set().union(*(chosen(some) for some in of.values()))


def _resolutions(rows: Sequence[Entry], pick: Callable[[list[int]], list[int]]) -> set[Entry]:
    values = sorted({row.spec.resolution for row in rows})
    left = set(pick(values)) if len(values) > 4 else set()
    return {row for row in rows if row.spec.resolution in left}


def _widest(rows: Sequence[Entry]) -> set[Entry]:
    values = sorted({row.spec.width_in for row in rows})
    return {row for row in rows if len(values) > 4 and row.spec.width_in >= values[int(0.85 * len(values))]}


CASES: dict[str, Held] = {
    "at random": lambda rows: set(),
    "two resolutions missing": lambda rows: _by_kind(
        rows, lambda some: _resolutions(some, lambda values: [values[len(values) // 2], values[len(values) // 2 + 2]])
    ),
    "the widest 15 %": lambda rows: _by_kind(rows, _widest),
    "the largest two resolutions": lambda rows: _by_kind(
        rows, lambda some: _resolutions(some, lambda values: values[-2:])
    ),
}


if __name__ == "__main__":
    main()
