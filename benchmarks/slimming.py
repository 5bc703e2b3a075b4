"""Slimming against random search, evolution and uniform scaling at one latency: one supernet, one table, trained alike.

`edgelut search slim` on its small preset, from an empty table: rows are measured, a supernet is trained on Fashion-MNIST, every way
looks for a network at half of the full network's latency with as many looks as slimming took, and what each found is trained from
scratch with three seeds and measured as a whole.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from report import Figure, parser, publish

TIMEOUT_S = 3 * 3600


def main() -> None:
    """Search in every way; print what each found is worth."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--preset", default="fashion-small")
    arguments.add_argument("--seeds", type=int, default=3, help="trainings of each found network")
    arguments.add_argument("--importance", help="published or normalised; default: the preset's")
    arguments.add_argument("--keep", type=Path, help="data folder; goes on where it stopped")
    options = arguments.parse_args()
    with ExitStack() as stack:
        home = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = ["search", "slim", options.preset, "--measure-missing", "--compare", "--home", str(home)]
        command += ["--folder", str(home / "search"), "--seed", str(options.seed), "--seeds", str(options.seeds)]
        command += ["--importance", options.importance] if options.importance else []
        environment = {name: value for name, value in os.environ.items() if name != "EDGELUT_URL"}
        environment["EDGELUT_DATABASE_URL"] = f"sqlite:///{home.resolve() / 'edgelut.db'}"
        subprocess.run([sys.executable, "-m", "edgelut", *command], env=environment, timeout=TIMEOUT_S, check=True)
        found = json.loads((home / "search" / "result.json").read_text())
    publish(figures(found), options.json)


def figures(found: dict[str, Any]) -> list[Figure]:
    """Return the figures of a search's result."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for one in found["networks"]:
        by_method.setdefault(one["method"], []).append(one)
    tests = {name: [100 * one["test_accuracy"] for one in group] for name, group in by_method.items()}
    means = {name: statistics.fmean(values) for name, values in tests.items()}
    spreads = {name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in tests.items()}
    others = {name: mean for name, mean in means.items() if name != "slimmed"}
    best = max(others, key=lambda name: others[name])
    ahead = means["slimmed"] - (means[best] - spreads[best])
    rows = [
        Figure(
            f"slimming: test accuracy, {name}",
            mean,
            "%",
            None,
            None,
            f"± {spreads[name]:.2f} %, {_shape(by_method[name][0])}",
        )
        for name, mean in means.items()
    ]
    rows.append(
        Figure(
            "slimming: ahead of the best other less its deviation", ahead, "%", ">= 0 %", ahead >= 0, f"best: {best}"
        )
    )
    if "uniform" in means:
        over = means["slimmed"] - means["uniform"]
        rows.append(Figure("slimming: ahead of uniform scaling", over, "%", "> 0 %", over > 0))
    return [*rows, *_latencies(found, by_method), *_times(found)]


def _latencies(found: dict[str, Any], by_method: dict[str, list[dict[str, Any]]]) -> list[Figure]:
    rows: list[Figure] = []
    for name, (one, *_) in by_method.items():
        if one["measured_ms"] is None:
            continue
        error = 100 * abs(one["predicted_ms"] / one["measured_ms"] - 1)
        over = 100 * (one["measured_ms"] / found["target_ms"] - 1)
        ours = name == "slimmed"
        width = f"half-width of the measured row {one['measured_half_width']:.1%}"
        rows.append(
            Figure(
                f"slimming: sum against the whole, {name}",
                error,
                "%",
                "<= 2 %" if ours else None,
                error <= 2 if ours else None,
                width,
            )
        )
        if ours:
            rows.append(Figure("slimming: measured above the target", over, "%", "<= 2 %", over <= 2))
    return rows


def _times(found: dict[str, Any]) -> list[Figure]:
    seconds = found["seconds"]
    own = sum(spent for part, spent in seconds.items() if part != "others" and "seed" not in part)
    own += seconds.get("slimmed seed 0", 0.0)
    parts = ", ".join(f"{part} {spent:.0f}" for part, spent in seconds.items() if "seed" not in part)
    rows = [Figure("slimming: the search without the others", own / 60, "min", "<= 15 min", own <= 900, f"{parts} s")]
    share = found["lookup_share"]
    if share is not None:
        rows.append(Figure("slimming: time in the table", 100 * share, "% of slimming", "< 1 %", share < 0.01))
    return rows


def _shape(one: dict[str, Any]) -> str:
    config = one["config"]
    widths, depths = ("-".join(map(str, config[name])) for name in ("widths", "depths"))
    return f"{widths} / {depths}, {config['mb3d']} MB3D"


if __name__ == "__main__":
    main()
