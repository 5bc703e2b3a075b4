"""How often the regression gate cries wolf on equal artifacts, and which slowdowns of one block it finds.

Each run is a whole A/A build: a session of 21 blocks of EfficientFormer-L1 and its neighbours and the whole network, new and old
being the same file, and a second session as suspects get. +10 % and +20 % are then put into the data, one block at a time. The
rules of other tools see the same samples: a run is compared with the run before it, or with all runs before it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from report import Figure, parser, publish
from rich.console import Console
from rich.table import Table

from edgelut import MB3D, MB4D, BlockSpec, Run, Target, presets
from edgelut.gate import GatePolicy, Key, Pair, Verdict, judge, ratio_of
from edgelut.jobs import Baseline, BatchPoint
from edgelut.other_gates import asv_rule, bencher_rule, five_percent_rule
from edgelut.plan import Point, Policy
from edgelut.self_test import Rate, SelfTest, Trial, evaluate, run_trial, slowed
from edgelut.sequences import network_spec
from edgelut.types import Artifact
from profiler.export_points import ExportPool
from profiler.paired import run_pairs

TARGET = Target("host", "onnxruntime-cpu")
NETWORK = "efficientformer-l1"
STEP = 16  # of the neighbours' widths
RUNS, QUICK_RUNS = 60, 6
SLOWDOWNS = (0.06, 0.08, 0.10, 0.20)
NEW, OLD = "new", "baseline"


class Kept:
    """A store of runs in memory: what `run_pairs` needs of one."""

    def __init__(self) -> None:
        self.held: list[Run] = []

    def put_runs(self, runs: Sequence[Run]) -> None:
        """Hold runs."""
        self.held += runs

    def sweep_runs(self, sweep: str) -> list[Run]:
        """Return the runs of a sweep."""
        return [run for run in self.held if run.sweep == sweep]

    def put_artifact(self, artifact: Artifact) -> None:
        """Artifacts' metadata is not needed."""


class Session:
    """Measures sessions of all rows or of some, each in new processes, against the very same artifacts."""

    def __init__(self, home: Path, seed: int) -> None:
        self._home = home
        self._seed = seed
        self._points = [Point(spec, TARGET, "onnx") for spec in specs()]
        found: dict[int, str] = {}
        with ExportPool(home / "artifacts") as pool:
            pool.export_all(self._points, lambda i, stored, made: found.update({i: stored.artifact.sha256}), _raise)
        self._hashes = {point.spec: found[index] for index, point in enumerate(self._points)}

    def __call__(self, keys: Sequence[Key] | None) -> list[Pair]:
        """Return the pairs of one session."""
        wanted = {spec for spec, _ in keys} if keys is not None else set(self._hashes)
        points = [point for point in self._points if point.spec in wanted]
        batch = [BatchPoint(n, point, Baseline(self._hashes[point.spec], OLD)) for n, point in enumerate(points)]
        self._seed += 1
        kept: Any = Kept()
        closed = run_pairs(batch, kept, kept, NEW, OLD, self._home, Policy(seed=self._seed))
        failed = [one for one in closed if one.state == "failed"]
        if failed:
            raise SystemExit(f"{points[failed[0].number]}: {failed[0].reason}")
        return pairs_of(kept.held)


def specs() -> list[BlockSpec]:
    """Return L1's 11 distinct blocks, 10 neighbours in width, and the whole network."""
    found = list(presets.get(NETWORK))
    for kind, width, resolution in ((MB4D, 48, 56), (MB4D, 96, 28), (MB4D, 224, 14), (MB4D, 448, 7), (MB3D, 448, 7)):
        found += [kind.spec(width - STEP, resolution), kind.spec(width + STEP, resolution)]
    return [*found, network_spec(presets.whole(NETWORK))]


def pairs_of(runs: Sequence[Run]) -> list[Pair]:
    """Return the pairs that runs of both sides are of."""
    found = []
    for spec in dict.fromkeys(run.spec for run in runs):
        new, old = ([run for run in runs if run.spec == spec and run.sweep == side] for side in (NEW, OLD))
        found.append(Pair(spec, TARGET, tuple(new), tuple(old), pinned=spec.kind == "network"))
    return found


def _raise(index: int, error: Exception) -> None:
    raise error


def main() -> None:
    """Measure or load trials; print the rates."""
    options = _options()
    trials = load(options.load) if options.load else measure(options)
    policy = GatePolicy(tolerance=options.tolerance)
    told = evaluate(trials, policy, SLOWDOWNS)
    seen = [{pair.spec: Seen.of(pair) for pair in trial.first} for trial in trials]
    others = {name: _rule_rates(seen, rule) for name, rule in RULES.items()}
    _show(trials, told, policy, others)
    publish(_figures(told, others), options.json)


def _options() -> argparse.Namespace:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--runs", type=int, help=f"A/A builds (default: {RUNS})")
    arguments.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} builds: enough to see that it works")
    arguments.add_argument(
        "--tolerance", type=float, default=GatePolicy().tolerance, help="of the gate (default: 0.05)"
    )
    arguments.add_argument("--save", type=Path, metavar="FILE", help="append the raw samples to it (.jsonl.gz)")
    arguments.add_argument(
        "--load", type=Path, metavar="FILE", action="append", help="judge kept samples; measure none"
    )
    arguments.add_argument("--keep", type=Path, help="folder for artifacts (default: one that is gone afterwards)")
    return arguments.parse_args()


def measure(options: argparse.Namespace) -> list[Trial]:
    """Measure the trials; what is to be saved is appended after each."""
    count = options.runs or (QUICK_RUNS if options.quick else RUNS)
    trials: list[Trial] = []
    with ExitStack() as stack:
        home = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        session = Session(home, options.seed * 1_000_003)
        for number in range(count):
            started = time.perf_counter()
            trials.append(run_trial(session, number, GatePolicy(tolerance=options.tolerance), seed=options.seed))
            if options.save:
                save(trials[-1], options.save)
            print(f"run {number + 1} of {count}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return trials


class Seen:
    """What other tools would know of a row from one run: its samples in ns a call, and the figure that is reported of them."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples
        self.p10 = float(np.quantile(samples, 0.1))

    @classmethod
    def of(cls, pair: Pair) -> Seen:
        """Return the new side of a pair as a run of its own."""
        return cls(np.asarray([value / run.inner for run in pair.new for value in run.cpu_ns]))

    def slower(self, slowdown: float) -> Seen:
        """Return the run with every sample longer."""
        return Seen(self.samples * (1 + slowdown))


Rule = Callable[[Seen, Sequence[Seen]], bool]  # a row's run, and its runs before it
RULES: dict[str, Rule] = {
    "over 5 % against the previous run": lambda run, past: five_percent_rule(run.p10, past[-1].p10),
    "asv (factor 1.1 and p < 0.002)": lambda run, past: asv_rule(list(run.samples), list(past[-1].samples)),
    "Bencher (t-test 0.99, all earlier runs)": lambda run, past: bencher_rule(run.p10, [one.p10 for one in past]),
}
LEARN = 5  # runs before the first that is judged: Bencher's test needs some


def _rule_rates(runs: Sequence[dict[BlockSpec, Seen]], rule: Rule) -> tuple[Rate, Rate, dict[float, Rate]]:
    """Return a rule's false alarms by rows and by runs, and how often it finds each slowdown."""
    alarms: list[list[bool]] = []
    hits: dict[float, list[bool]] = {slowdown: [] for slowdown in SLOWDOWNS}
    for number in range(min(LEARN, len(runs) - 1), len(runs)):
        past = {spec: [earlier[spec] for earlier in runs[:number]] for spec in runs[number]}
        alarms.append([rule(run, past[spec]) for spec, run in runs[number].items()])
        for slowdown, found in hits.items():
            rows = [spec for spec in runs[number] if spec.kind != "network"]
            found += [rule(runs[number][spec].slower(slowdown), past[spec]) for spec in rows]
    return (
        Rate(sum(map(sum, alarms)), sum(map(len, alarms))),
        Rate(sum(map(any, alarms)), len(alarms)),
        {slowdown: Rate(sum(found), len(found)) for slowdown, found in hits.items()},
    )


def _once(trials: Sequence[Trial], policy: GatePolicy) -> tuple[Rate, Rate, dict[float, Rate]]:
    """Return the rates of the gate's first session alone: the same sessions, and no second one."""
    alarms: list[int] = []
    hits: dict[float, list[bool]] = {slowdown: [] for slowdown in SLOWDOWNS}
    for trial in trials:
        ratios = {(pair.spec, pair.target): ratio_of(pair, policy) for pair in trial.first}
        alarms.append(len(_called(judge(trial.first, policy, list(ratios.values())))))
        for key in trial.drawn:
            for slowdown, found in hits.items():
                slower = slowed([pair for pair in trial.first if (pair.spec, pair.target) == key], slowdown)
                injected = {**ratios, key: ratio_of(slower[0], policy)}
                found.append(key in _called(judge(trial.first, policy, list(injected.values()))))
    rows = sum(len(trial.first) for trial in trials)
    return (
        Rate(sum(alarms), rows),
        Rate(sum(count > 0 for count in alarms), len(alarms)),
        {slowdown: Rate(sum(found), len(found)) for slowdown, found in hits.items()},
    )


def _called(verdict: Verdict) -> set[Key]:
    return {row.key for row in verdict.rows if row.outcome == "regression"}


def _show(
    trials: Sequence[Trial],
    told: SelfTest,
    policy: GatePolicy,
    others: dict[str, tuple[Rate, Rate, dict[float, Rate]]],
) -> None:
    """Print every rule's rates with their intervals."""
    table = Table("rule", "false alarms, rows", "false alarms, runs", *(f"finds {slow:+.0%}" for slow in SLOWDOWNS))
    lines = {
        **others,
        "this gate, one session": _once(trials, policy),
        "this gate, suspects confirmed": (told.rows, told.runs, dict(told.found)),
    }
    for name, (rows, runs, found) in lines.items():
        table.add_row(name, *(_short(rate) for rate in (rows, runs, *found.values())))
    console = Console(width=170)
    console.print(table)
    console.print(f"builds that needed a second session: {told.suspects}; that could not tell: {told.unclear}")
    for slowdown, rate in told.wrong.items():
        console.print(f"another row called slower beside {slowdown:+.0%}: {rate}")
    for slowdown, rate in told.everything.items():
        console.print(f"{slowdown:+.0%} on everything, found by the pinned network: {rate}")
    console.print(f"median half-width of a row's 95 % interval after one session: {_half_width(trials, policy):.1%}")


def _short(rate: Rate) -> str:
    return f"{rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _half_width(trials: Sequence[Trial], policy: GatePolicy) -> float:
    widths = [(row.high - row.low) / 2 for trial in trials for row in judge(trial.first, policy).rows]
    return float(np.median(widths))


def _figures(told: SelfTest, others: dict[str, tuple[Rate, Rate, dict[float, Rate]]]) -> list[Figure]:
    asv = others["asv (factor 1.1 and p < 0.002)"]
    alarms = ", ".join(f"{name.partition(' (')[0]} {100 * rates[1].share:.0f} %" for name, rates in others.items())
    found = ", ".join(f"{name.partition(' (')[0]} {100 * rates[2][0.10].share:.0f} %" for name, rates in others.items())
    runs, ten = 100 * told.runs.share, 100 * told.found[0.10].share
    return [
        Figure("gate, A/A runs with a false alarm", runs, "%", "<= 5 %", runs <= 5, alarms),
        Figure("gate, false alarms of rows", 100 * told.rows.share, "%", None, None, 100 * asv[0].share),
        Figure("gate, +10 % on one block found", ten, "%", ">= 80 %", ten >= 80, found),
        Figure("gate, +20 % on one block found", 100 * told.found[0.20].share, "%", None, None, None),
        Figure("gate, A/A runs that could not tell", 100 * told.unclear.share, "%", None, None, None),
    ]


def save(trial: Trial, path: Path) -> None:
    """Append a trial's raw samples: a line of JSON, with a row for each run of its sessions."""
    rows = specs()
    data = {
        "drawn": [rows.index(spec) for spec, _ in trial.drawn],
        **{
            name: [
                [rows.index(run.spec), run.sweep == NEW, *_packed(run)]
                for pair in pairs
                for run in (*pair.new, *pair.baseline)
            ]
            for name, pairs in (("first", trial.first), ("second", trial.second))
        },
    }
    with gzip.open(path, "at") as file:
        file.write(json.dumps(data) + "\n")


def _packed(run: Run) -> list[Any]:
    return [run.process[:8], run.round, run.inner, round(run.reference_ns), run.cpu_ns, run.wall_ns]


def load(paths: Sequence[Path]) -> list[Trial]:
    """Read what `save` wrote, one file after another."""
    return [trial for path in paths for trial in _loaded(path)]


def _loaded(path: Path) -> Iterator[Trial]:
    rows = specs()
    with gzip.open(path, "rt") as file:
        for line in file:
            trial = json.loads(line)
            first, second = (pairs_of([_run(rows, run) for run in trial[name]]) for name in ("first", "second"))
            yield Trial(tuple(first), tuple(second), tuple((rows[index], TARGET) for index in trial["drawn"]))


def _run(rows: Sequence[BlockSpec], line: Sequence[Any]) -> Run:
    index, is_new, process, round_, inner, reference, cpu, wall = line
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=round_)
    side = NEW if is_new else OLD
    return Run(rows[index], TARGET, side, process, round_, tuple(wall), tuple(cpu), inner, 1, float(reference), started)


if __name__ == "__main__":
    main()
