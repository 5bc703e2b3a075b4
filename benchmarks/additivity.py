"""How well a table's sums predict whole networks that had no part in choosing the protocol: L1, L3 and 30 random ones.

One sweep measures the blocks with their chains and contexts; another, in processes of its own, the networks. The sum of hot
loops, which is what tables usually hold, is printed beside it. The networks' depths, widths and MB3D counts are drawn by --seed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from report import Figure, parser, publish

from db.engine import open_store
from db.store import SqlStore
from edgelut import NetworkSpec, Target, presets
from edgelut.compose import Composition, compose, kendall_tau
from edgelut.plan import Point, Policy
from edgelut.sequences import network_spec
from edgelut.slopes import with_needs
from profiler.observer import Observer, Progress
from profiler.sweep import run_sweep

FORMATS = {"onnxruntime-cpu": "onnx", "torchscript-cpu": "torchscript"}
GOALS = {"onnxruntime-cpu": (1.0, 3.0, 0.98), "torchscript-cpu": (2.0, None, None)}
NAMED = ("efficientformer-l1", "efficientformer-l3")


class Shown(Observer):
    """Prints a line now and then, for the run takes minutes."""

    def progress(self, progress: Progress) -> None:
        if progress.round % 5 == 0:
            print(f"  round {progress.round}: {progress.done}/{progress.total} rows", flush=True)

    def failed(self, point: Point, reason: str) -> None:
        raise SystemExit(f"{point}: {reason}")


def main() -> None:
    """Measure table and networks; print the errors of the sums."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--networks", type=int, default=30, help="random networks beside L1 and L3")
    arguments.add_argument("--runtime", action="append", choices=sorted(FORMATS), help="default: both")
    arguments.add_argument(
        "--half-width", type=float, default=0.01, help="of a row; noise of 2 %% hides an error of 1 %%"
    )
    arguments.add_argument("--max-rounds", type=int, default=60)
    arguments.add_argument("--keep", type=Path, help="folder for database and artifacts; goes on where it stopped")
    arguments.add_argument("--rows", type=Path, metavar="FILE", help="write each network's figures there, as JSON")
    options = arguments.parse_args()
    networks = [*(presets.whole(name) for name in NAMED), *presets.random_networks(options.networks, options.seed)]
    figures: list[Figure] = []
    rows: list[dict[str, float | str]] = []
    with ExitStack() as stack:
        home = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home.mkdir(parents=True, exist_ok=True)
        store = open_store(f"sqlite:///{home / 'edgelut.db'}", migrate=True)
        stack.callback(store.close)
        for runtime in options.runtime or FORMATS:
            target = Target("host", runtime)
            policy = Policy(seed=options.seed, half_width=options.half_width, max_rounds=options.max_rounds)
            compositions = _measure(networks, target, store, home, policy)
            measured = store.get_many([network_spec(network) for network in networks], target)
            truth = [entry.latency.p10_ns for entry in measured]
            figures += _figures(runtime, compositions, truth)
            rows += _rows(runtime, networks, compositions, truth)
    if options.rows:
        options.rows.write_text(json.dumps(rows, indent=1))
    publish(figures, options.json)


def _measure(
    networks: Sequence[NetworkSpec], target: Target, store: SqlStore, home: Path, policy: Policy
) -> list[Composition]:
    """Measure the table, then the networks in another sweep; return the networks' sums."""
    blocks = list(dict.fromkeys(block for network in networks for block in network.blocks))
    wholes = [network_spec(network) for network in networks]
    for name, specs in (("table", with_needs(blocks)), ("networks", wholes)):
        print(f"{target.runtime}: {name}, {len(specs)} rows", flush=True)
        points = [Point(spec, target, FORMATS[target.runtime]) for spec in specs]
        run_sweep(points, store, home, policy, observer=Shown())
    return [compose(network, target, store) for network in networks]


def _figures(runtime: str, compositions: Sequence[Composition], truth: Sequence[float]) -> list[Figure]:
    true = np.asarray(truth)
    total = np.asarray([composition.total_ns for composition in compositions])
    error, hot = _errors(total, true), _errors(np.asarray([c.hot_ns for c in compositions]), true)
    inside = np.mean([c.low_ns <= t <= c.high_ns for c, t in zip(compositions, truth, strict=True)])
    mape, largest, tau = GOALS[runtime]
    name = f"additivity, {runtime}"
    rank = kendall_tau(total, true)
    return [
        Figure(f"{name}: MAPE", error[0], "%", f"<= {mape:g} %", error[0] <= mape, f"hot sum {hot[0]:.2f} %"),
        Figure(
            f"{name}: largest error",
            error[1],
            "%",
            largest and f"<= {largest:g} %",
            None if largest is None else error[1] <= largest,
            f"hot sum {hot[1]:.2f} %",
        ),
        Figure(f"{name}: bias", error[2], "%", None, None, f"hot sum {hot[2]:.2f} %"),
        Figure(f"{name}: Kendall's tau", rank, "", tau and f">= {tau:g}", None if tau is None else rank >= tau),
        Figure(f"{name}: bracket holds the truth", 100 * float(inside), "%", ">= 95 %", bool(inside >= 0.95)),
    ]


def _errors(total: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Return MAPE, largest error and bias in percent."""
    relative = 100 * (total / true - 1)
    return float(np.abs(relative).mean()), float(np.abs(relative).max()), float(relative.mean())


def _rows(
    runtime: str, networks: Sequence[NetworkSpec], compositions: Sequence[Composition], truth: Sequence[float]
) -> list[dict[str, float | str]]:
    return [
        {
            "runtime": runtime,
            "network": network.name or network.key[:8],
            "blocks": len(network.blocks),
            "measured_ms": true / 1e6,
            "sum_ms": composition.total_ns / 1e6,
            "hot_ms": composition.hot_ns / 1e6,
            "low_ms": composition.low_ns / 1e6,
            "high_ms": composition.high_ns / 1e6,
        }
        for network, composition, true in zip(networks, compositions, truth, strict=True)
    ]


if __name__ == "__main__":
    main()
