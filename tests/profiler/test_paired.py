"""Sessions of pairs on a real database, with a runtime whose times are known and that does as it is told."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from db.engine import SqlStore
from edgelut.blocks import IDENTITY
from edgelut.errors import DeviceBusy, DeviceUnusable
from edgelut.gate import Pair, judge
from edgelut.jobs import Baseline, BatchPoint, Closed
from edgelut.plan import Point, Policy
from edgelut.sequences import cold
from edgelut.types import BlockSpec, Run, Target
from profiler import pair_rounds, timing
from profiler.artifacts import ArtifactStore
from profiler.export_points import ExportPool
from profiler.lock import device_lock
from profiler.paired import Pairing, run_pairs
from profiler.worker import Worker
from tests.fakes import InlineWorker, Watcher

NULL, SCRIPTED = Target("null", "null"), Target("null", "scripted")
PHONE = Target("phone:one", "phone")
BURSTS = Pairing(
    generations=3, rounds=4, burst_ns=8_000_000, min_samples=4, max_samples=8
)  # more than 3: seen as bursts
SIDE = 4

pytestmark = pytest.mark.usefixtures("quick_exports", "inline_pairs")


@pytest.fixture
def inline_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing in this process; a test of what a process does asks for `processes`."""
    monkeypatch.setattr(pair_rounds, "Worker", InlineWorker)
    monkeypatch.setattr(timing, "time_reference", lambda warmups, samples: timing.ReferenceTime(1e6, 2e6))


@pytest.fixture
def real_processes(inline_pairs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_rounds, "Worker", Worker)


PROCESSES = pytest.mark.usefixtures("real_processes")


def spec(width: int) -> BlockSpec:
    return IDENTITY.spec(width, SIDE)


def ns(width: int) -> int:
    """What a call of an artifact of that width takes."""
    return 1000 + width * SIDE**2


def exported(home: Path, *points: Point) -> dict[Point, str]:
    """Export artifacts as earlier jobs did; return their hashes."""
    found: dict[Point, str] = {}

    def failed(index: int, error: Exception) -> None:
        raise error

    with ExportPool(home / "artifacts") as pool:
        pool.export_all(points, lambda n, stored, made: found.update({points[n]: stored.artifact.sha256}), failed)
    return found


def pairs(home: Path, widths: dict[int, int | None], target: Target = SCRIPTED) -> list[BatchPoint]:
    """Return points by new width, each with the artifact of another width as its baseline, or none."""
    old = {width for width in widths.values() if width is not None}
    hashes = exported(home, *(Point(spec(width), target, "null") for width in old))
    by_width = {point.spec.width_in: sha256 for point, sha256 in hashes.items()}
    return [
        BatchPoint(
            number + 100,
            Point(spec(new), target, "null"),
            None if before is None else Baseline(by_width[before], "earlier"),
        )
        for number, (new, before) in enumerate(widths.items())
    ]


class Bench:
    """A database with sweeps for both sides."""

    def __init__(self, store: SqlStore, home: Path) -> None:
        self.store, self.home = store, home
        self.new = store.start_sweep("new", {}).id
        self.old = store.start_sweep("old", {}).id

    def run(self, points: Sequence[BatchPoint], watcher: Watcher | None = None, **how: object) -> list[Closed]:
        sides = (self.store, self.store, self.new, self.old, self.home, Policy())
        return run_pairs(points, *sides, observer=watcher, **{"pairing": BURSTS, **how})  # type: ignore[arg-type]

    def runs(self, width: int | None = None) -> tuple[list[Run], list[Run]]:
        found = [self.store.sweep_runs(sweep) for sweep in (self.new, self.old)]
        new, old = ([run for run in runs if width in (None, run.spec.width_in)] for runs in found)
        return new, old


@pytest.fixture
def bench(store: SqlStore, home: Path) -> Bench:
    return Bench(store, home)


def states(closed: Sequence[Closed]) -> list[str]:
    return [one.state for one in closed]


def test_both_sides_are_measured_in_the_same_rounds_each_in_processes_of_its_own(bench: Bench, script: Path) -> None:
    points = pairs(bench.home, {8: 16, 24: 24})
    assert bench.run(points) == [Closed(100, "compared"), Closed(101, "compared")]
    for new_width, old_width in ((8, 16), (24, 24)):
        new, old = bench.runs(new_width)
        assert [run.round for run in new] == [run.round for run in old] == list(range(12))
        assert {value for run in new for value in run.cpu_ns} == {ns(new_width) * new[0].inner}
        assert {value for run in old for value in run.cpu_ns} == {ns(old_width) * old[0].inner}
        assert {(len(run.cpu_ns), run.inner) for run in (*new, *old)} == {(len(new[0].cpu_ns), new[0].inner)}
        assert {run.artifact_sha256 for run in old}.isdisjoint({run.artifact_sha256 for run in new}) == (
            old_width != 24
        )
        for runs in (new, old):
            generations = [run.process for run in runs]
            assert len(set(generations)) == 3 and Counter(generations) == dict.fromkeys(generations, 4)
        assert {run.process for run in new}.isdisjoint({run.process for run in old})
    assert {run.process for run in bench.runs(8)[0]} == {run.process for run in bench.runs(24)[0]}


def test_each_side_comes_first_in_every_second_round(bench: Bench, script: Path) -> None:
    bench.run(pairs(bench.home, {8: 16}))
    new, old = bench.runs(8)
    first = [a.started_at < b.started_at for a, b in zip(new, old, strict=True)]
    assert first[0::2] == [first[0]] * 6 and first[1::2] == [not first[0]] * 6


def test_what_is_measured_can_be_judged(bench: Bench, script: Path) -> None:
    points = pairs(bench.home, {64: 64, 128: 64, 192: 192})
    bench.run(points, pairing=None)
    rows = [Pair(one.point.spec, one.point.target, *map(tuple, bench.runs(one.point.spec.width_in))) for one in points]
    assert [row.outcome for row in judge(rows).rows] == ["unchanged", "regression", "unchanged"]


def test_a_baseline_that_is_not_here_leaves_the_new_side_alone(bench: Bench, script: Path) -> None:
    points = [replace(one, baseline=Baseline("ab" * 32, "x")) for one in pairs(bench.home, {8: None})]
    points += pairs(bench.home, {16: None, 24: 24})[:1]
    closed = bench.run([points[0], replace(points[1], number=7)])
    assert states(closed) == ["compared", "compared"]
    assert "not on this host" in closed[0].reason and closed[1].reason == ""
    assert len(bench.runs()[0]) == 24 and bench.runs()[1] == []


def test_a_damaged_baseline_is_as_if_it_were_not_here(bench: Bench, script: Path) -> None:
    points = pairs(bench.home, {8: 16})
    found = ArtifactStore(bench.home / "artifacts").by_hash({points[0].baseline.artifact_sha256})  # type: ignore[union-attr]
    (stored,) = found.values()
    stored.path.write_text("{}")
    (closed,) = bench.run(points)
    assert closed.state == "compared" and "not on this host" in closed.reason and not bench.runs()[1]


def test_a_point_that_fails_on_either_side_says_so_and_the_others_go_on(bench: Bench, script: Path) -> None:
    (script / "fail-16").touch()
    (script / "boom-40").touch()
    watcher = Watcher()
    closed = bench.run(pairs(bench.home, {8: 16, 40: 24, 32: 32}), watcher)
    assert states(closed) == ["failed", "failed", "compared"]
    assert closed[0].reason == "baseline: Unsupported: told to fail at 16"
    assert closed[1].reason == "TaskFailed: LibraryError: code 3: told to break"
    assert len(watcher.failures) == 2 and len(bench.runs(32)[0]) == 12
    assert not bench.runs(8)[0] and not bench.runs(40)[1]  # a round without both sides is no round


def test_a_point_that_cannot_be_exported_or_opened_fails_alone(bench: Bench, script: Path) -> None:
    refused = Point(spec(40), replace(SCRIPTED, precision="fp16"), "null")
    points = [*pairs(bench.home, {8: 8}), BatchPoint(7, refused), BatchPoint(8, Point(spec(13), SCRIPTED, "null"))]
    closed = bench.run(points)
    assert states(closed) == ["compared", "failed", "failed"]
    assert "fp16" in closed[1].reason and closed[2].reason == "Unsupported: 13 is not exported"


@PROCESSES
@pytest.mark.parametrize(("width", "said"), [(16, "baseline: WorkerDied"), (8, "WorkerDied")])
def test_a_worker_that_dies_in_a_burst_costs_one_point(bench: Bench, script: Path, width: int, said: str) -> None:
    (script / f"die-{width}").touch()
    closed = bench.run(pairs(bench.home, {8: 16, 24: 24, 32: 40}))
    assert states(closed) == ["failed", "compared", "compared"]
    assert closed[0].reason.startswith(said) and "signal 9" in closed[0].reason
    new, old = bench.runs(32)
    assert [run.round for run in new] == [run.round for run in old]
    assert len(new) >= 11  # the round in which the worker died has lost what it held


@PROCESSES
def test_an_artifact_that_kills_every_worker_that_opens_it_costs_one_point(bench: Bench, script: Path) -> None:
    (script / "always-die-16").touch()
    (script / "always-die-40").touch()
    closed = bench.run(pairs(bench.home, {8: 16, 24: 24, 40: 32}))
    assert states(closed) == ["failed", "compared", "failed"]
    assert closed[0].reason.startswith("baseline: WorkerDied") and closed[2].reason.startswith("WorkerDied")


@PROCESSES
def test_a_worker_that_dies_between_bursts_costs_no_point(
    bench: Bench, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[Worker] = []

    class Known(Worker):
        def __init__(self, *arguments: object, **how: object) -> None:
            super().__init__(*arguments, **how)  # type: ignore[arg-type]
            workers.append(self)

    class Killer(Watcher):
        def progress(self, progress: object) -> None:
            super().progress(progress)  # type: ignore[arg-type]
            if len(self.reports) == 2:
                os.kill(workers[-1]._child.pid, signal.SIGKILL)

    monkeypatch.setattr(pair_rounds, "Worker", Known)
    assert states(bench.run(pairs(bench.home, {8: 16, 24: 24}), Killer())) == ["compared", "compared"]
    assert len(bench.runs(8)[0]) == len(bench.runs(8)[1]) == 12
    assert len(workers) == 2 * BURSTS.generations + 1
    assert all(worker._child.poll() is not None for worker in workers)


def test_a_session_that_was_cut_off_goes_on_with_the_next_round(bench: Bench, script: Path) -> None:
    points, watcher = pairs(bench.home, {8: 16, 24: 24}), Watcher(interrupt_after=6)
    with pytest.raises(KeyboardInterrupt):
        bench.run(points, watcher)
    assert len(bench.runs(8)[0]) == 6
    again = Watcher()
    assert states(bench.run(points, again)) == ["compared", "compared"]
    new, old = bench.runs(8)
    assert [run.round for run in new] == [run.round for run in old] == list(range(12)) and again.resumes == [6]
    processes = Counter(run.process for run in new)
    assert list(processes.values()) == [4, 2, 2, 4]  # the generation that was cut off has two
    assert bench.run(points) == [Closed(100, "compared"), Closed(101, "compared")]
    assert len(bench.runs(8)[0]) == 12


def test_a_round_that_a_crash_cut_in_two_is_never_completed_by_a_later_one(bench: Bench, script: Path) -> None:
    points = pairs(bench.home, {8: 16})
    with pytest.raises(KeyboardInterrupt):
        bench.run(points, Watcher(interrupt_after=3))
    old = bench.runs(8)[1]
    bench.store.put_runs([replace(old[-1], round=3)])  # the new side's was lost
    bench.run(points)
    new, old = bench.runs(8)
    assert [run.round for run in new] == [0, 1, 2, *range(4, 13)]
    assert [run.round for run in old] == [0, 1, 2, 3, *range(4, 13)]


def test_rounds_of_another_artifact_are_not_taken_up(bench: Bench, script: Path) -> None:
    bench.run(pairs(bench.home, {8: 16}))
    bench.run(pairs(bench.home, {8: 24}))
    new, old = bench.runs(8)
    assert len(old) == 24 and len({run.artifact_sha256 for run in old}) == 2
    assert [run.round for run in new[12:]] == [run.round for run in old[12:]] == list(range(12, 24))


def test_stores_of_their_own_get_each_side_its_runs_the_baselines_first(bench: Bench, script: Path) -> None:
    told: list[str] = []

    class Side:
        def __init__(self, name: str) -> None:
            self.name = name

        def sweep_runs(self, sweep: str) -> list[Run]:
            return []

        def put_artifact(self, artifact: object) -> None:
            assert self.name == "new"

        def put_runs(self, runs: Sequence[Run]) -> None:
            told.append(self.name)
            assert {run.sweep for run in runs} == {self.name} and len(runs) == 2

    points = pairs(bench.home, {8: 16, 24: 24})
    stores = Side("new"), Side("old")
    run_pairs(points, *stores, "new", "old", bench.home, Policy(), pairing=BURSTS)  # type: ignore[arg-type]
    assert told == ["old", "new"] * 12


def test_the_reference_is_timed_once_a_round_on_the_clock_of_the_row(
    bench: Bench, hosted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def reference(warmups: int, samples: int) -> timing.ReferenceTime:
        calls.append(samples)
        return timing.ReferenceTime(5e6, 3e6)

    monkeypatch.setattr(timing, "time_reference", reference)
    bench.run(pairs(bench.home, {8: 16, 24: 24}))
    assert len(calls) == 12 and {run.reference_ns for side in bench.runs() for run in side} == {3e6}


def test_progress_is_told_round_by_round(bench: Bench, script: Path) -> None:
    watcher = Watcher()
    bench.run(pairs(bench.home, {8: 16}), watcher)
    assert [report.round for report in watcher.reports] == list(range(1, 13))
    assert watcher.reports[-1].seconds_left == 0 and all(report.total == 1 for report in watcher.reports)
    assert [done for done, _, _, _ in watcher.exports] == [1]


def test_a_device_that_is_being_measured_is_refused(bench: Bench, script: Path) -> None:
    with device_lock(bench.home / "locks", "null"), pytest.raises(DeviceBusy, match="being measured"):
        bench.run(pairs(bench.home, {8: 16}))


def test_a_cold_row_is_flushed_before_each_call_on_both_sides(bench: Bench, script: Path) -> None:
    point = Point(cold(spec(8)), SCRIPTED, "null")
    (sha256,) = exported(bench.home, point).values()
    (closed,) = bench.run([BatchPoint(0, point, Baseline(sha256, "x"))], pairing=Pairing(generations=1, rounds=2))
    new, old = bench.runs(8)
    assert closed.state == "compared" and len(new) == len(old) == 2
    assert {(run.inner, run.warmups, len(run.cpu_ns)) for run in (*new, *old)} == {(1, 0, Policy().cold_samples)}


def interpreter(folder: Path, name: str, line: str) -> Path:
    """Return a stand-in for the interpreter of another environment."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)
    return file


@PROCESSES
def test_a_baseline_runs_in_the_interpreter_that_is_named(bench: Bench, script: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "version").write_text("0.9")
    python = interpreter(tmp_path, "python-old", f'EDGELUT_SCRIPT={other} exec {sys.executable} "$@"')
    (closed,) = bench.run(pairs(bench.home, {8: 8}), environment=python)
    new, old = bench.runs(8)
    assert closed.state == "compared" and len(new) == len(old) == 12
    assert {run.facts["runtime_version"] for run in new} == {"1"}
    assert {run.facts["runtime_version"] for run in old} == {"0.9"}


@PROCESSES
def test_an_interpreter_that_lacks_the_package_fails_what_has_a_baseline(
    bench: Bench, script: Path, tmp_path: Path
) -> None:
    python = interpreter(tmp_path, "python-old", "echo 'No module named profiler' >&2; exit 1")
    closed = bench.run(pairs(bench.home, {8: 16, 24: None}), environment=python)
    assert states(closed) == ["failed", "compared"]
    assert closed[0].reason.startswith("baseline: WorkerDied") and "No module named profiler" in closed[0].reason


def test_few_points_are_measured_in_more_rounds() -> None:
    assert [Pairing.of(points).rounds for points in (0, 1, 8, 12, 22, 500)] == [16, 16, 16, 10, 6, 6]
    assert Pairing(3, 6).total == 18


def test_a_burst_is_short_and_a_long_call_is_taken_once() -> None:
    pairing = Pairing()
    assert pairing.burst(500_000, 1) == (1, 4) and pairing.burst(3_000_000, 1) == (1, 2)
    assert pairing.burst(1_000, 512) == (1, 3) and pairing.burst(30_000_000, 1) == (0, 1)


def test_pairs_on_a_phone_are_looked_at_checked_and_stored(bench: Bench, phone: Path) -> None:
    (phone / "states").write_text("31\n44 hot\n36\n37\n")
    watcher = Watcher()
    closed = bench.run(pairs(bench.home, {8: 16}, PHONE), watcher)
    assert [one.state for one in closed] == ["compared"] and watcher.waits == [("phone:one", "hot")]
    new, old = bench.runs()
    assert [run.round for run in new] == [run.round for run in old] == list(range(BURSTS.total))
    assert {run.wall_ns[0] // run.inner for run in new} == {ns(8)} and {run.wall_ns[0] // run.inner for run in old} == {
        ns(16)
    }
    assert new[0].facts["observed_battery_c"] == 36 and new[0].facts["affinity"] == "f0"


def test_pairs_on_a_phone_that_goes_are_interrupted_and_go_on(bench: Bench, phone: Path) -> None:
    (phone / "gone-after").write_text("9")
    with pytest.raises(DeviceUnusable, match="plug it in"):
        bench.run(pairs(bench.home, {8: 16}, PHONE))
    kept = len(bench.runs()[0])
    (phone / "gone").unlink()
    watcher = Watcher()
    closed = bench.run(pairs(bench.home, {8: 16}, PHONE), watcher)
    assert kept >= 1 and watcher.resumes == [kept] and closed[0].state == "compared"
    assert len(bench.runs()[0]) == BURSTS.total


@pytest.mark.parametrize("how", ["wrong-8", "boom-8", "fail-16"])
def test_a_side_that_fails_on_a_phone_fails_its_point_and_no_other(bench: Bench, phone: Path, how: str) -> None:
    (phone / how).touch()
    closed = bench.run(pairs(bench.home, {8: 16, 24: 32}, PHONE))
    assert [one.state for one in closed] == ["failed", "compared"]


def test_counts_are_compared_one_sample_a_round(bench: Bench, phone: Path) -> None:
    (phone / "counts").touch()
    bench.run(pairs(bench.home, {8: 16}, PHONE))
    new, _ = bench.runs()
    assert {(len(run.wall_ns), run.inner, run.conditions["clock"]) for run in new} == {(1, 1, "instructions")}
