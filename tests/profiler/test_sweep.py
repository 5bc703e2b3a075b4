"""Whole sweeps on a real database, with a runtime whose times are known."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from db.engine import SqlStore
from edgelut.blocks import IDENTITY
from edgelut.errors import BackendMissing, DeviceBusy, StorageError
from edgelut.plan import Point, Policy, plan_key
from edgelut.testing import make_entry
from edgelut.types import BlockSpec, Params, Target
from profiler import rounds
from profiler.artifacts import ArtifactStore
from profiler.lock import device_lock
from profiler.sweep import SweepResult, run_sweep
from tests.fakes import Watcher

pytestmark = pytest.mark.usefixtures("quick_exports", "inline")
PROCESSES = pytest.mark.usefixtures("processes")

NULL, SCRIPTED = Target("null", "null"), Target("null", "scripted")
POLICY = Policy(drift=1e9, min_rounds=8)  # the reference kernel is real, and this machine may be busy
SIDE = 4


def point(width: int, target: Target = SCRIPTED) -> Point:
    return Point(IDENTITY.spec(width, SIDE), target, "null")


def points(*widths: int, target: Target = SCRIPTED) -> list[Point]:
    return [point(width, target) for width in widths]


def expected_ns(spec: BlockSpec) -> int:
    return 1000 + spec.batch * spec.width_in * spec.resolution**2


def state(store: SqlStore, result: str) -> str:
    import sqlalchemy as sa

    with store.engine.connect() as connection:
        return str(connection.execute(sa.text("SELECT state FROM sweeps WHERE key = :key"), {"key": result}).scalar())


def sweeps(store: SqlStore) -> list[tuple[str, str]]:
    import sqlalchemy as sa

    with store.engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(sa.text("SELECT key, state FROM sweeps ORDER BY id"))]


def bursts(script: Path) -> Counter[str]:
    file = script / "times"
    return Counter(file.read_text().split()) if file.exists() else Counter()


def sweep(store: SqlStore, home: Path, todo: list[Point], watcher: Watcher | None = None, **how: bool) -> SweepResult:
    return run_sweep(todo, store, home, POLICY, observer=watcher, **how)


def test_a_sweep_stores_the_known_latency_of_every_row(store: SqlStore, home: Path) -> None:
    todo, watcher = points(8, 16, 24, target=NULL), Watcher()
    result = sweep(store, home, todo, watcher)
    assert not result.failures and not result.known and len(result.measured) == 3
    for wanted in todo:
        entry = store.get(wanted.spec, NULL)
        latency, known = entry.latency, expected_ns(wanted.spec)
        assert (latency.p10_ns, latency.p50_ns, latency.p90_ns) == (known, known, known)
        assert (latency.low_ns, latency.high_ns, latency.wall_p10_ns) == (known, known, known)
        assert latency.stable and latency.runs == POLICY.min_rounds and latency.clock == "cpu"
        assert latency.samples == sum(len(run.cpu_ns) for run in store.runs(wanted.spec, NULL))
        assert entry.kind == "measured" and entry.provenance["sweep"] == result.sweep
        assert entry.provenance["format"] == "null" and entry.provenance["parity_error"] == 0
        artifact = store.find_artifact(str(entry.provenance["artifact_sha256"]))
        assert artifact is not None and artifact.spec == wanted.spec
    assert state(store, result.sweep) == "done"


@PROCESSES
def test_a_raw_run_holds_its_round_its_process_and_its_conditions(store: SqlStore, home: Path) -> None:
    (wanted,) = todo = points(8, target=NULL)
    result = sweep(store, home, todo)
    runs = store.runs(wanted.spec, NULL)
    assert [run.round for run in runs] == list(range(POLICY.min_rounds))
    assert len({run.process for run in runs}) == 1 and {run.sweep for run in runs} == {result.sweep}
    for run in runs:
        assert run.facts["device_model"] == "null" and run.facts["runtime_version"] == "1"
        assert "observed_load" in run.facts and "observed_load" not in run.conditions
        assert run.reference_ns == 0 and run.load_ns == 1000 and run.inner == POLICY.inner(expected_ns(wanted.spec))
        assert set(run.cpu_ns) == {expected_ns(wanted.spec) * run.inner}


def test_the_reference_kernel_runs_beside_what_runs_on_this_machine(
    store: SqlStore, home: Path, script: Path, hosted: None
) -> None:
    (wanted,) = todo = points(8, target=SCRIPTED)
    sweep(store, home, todo)
    runs = store.runs(wanted.spec, SCRIPTED)
    assert runs and all(run.reference_ns > 0 for run in runs)


def test_an_observer_is_told_of_exports_rounds_and_rows(store: SqlStore, home: Path) -> None:
    todo, watcher = points(8, 16, target=NULL), Watcher()
    sweep(store, home, todo, watcher)
    assert [(done, total, made) for done, total, _, made in watcher.exports] == [(1, 2, True), (2, 2, True)]
    assert {export[2] for export in watcher.exports} == set(todo)
    assert [report.round for report in watcher.reports] == list(range(1, POLICY.min_rounds + 1))
    assert [report.done for report in watcher.reports] == [0] * (POLICY.min_rounds - 1) + [2]
    assert all(report.total == 2 and report.seconds_left >= 0 for report in watcher.reports)
    assert sorted(map(str, (row for row, _ in watcher.rows))) == sorted(map(str, todo))
    assert all(current for _, current in watcher.rows) and not watcher.failures and not watcher.knowns


def test_a_known_row_is_not_measured_again_and_a_new_one_is(store: SqlStore, home: Path, script: Path) -> None:
    sweep(store, home, points(8))
    before, watcher = bursts(script), Watcher()
    result = sweep(store, home, points(8, 16), watcher)
    assert watcher.knowns == points(8) and [entry.spec for entry in result.known] == [point(8).spec]
    assert [entry.spec for entry in result.measured] == [point(16).spec]
    assert bursts(script)["8"] == before["8"] == POLICY.min_rounds
    assert [made for _, _, p, made in watcher.exports if p == point(8)] == [False]


def test_what_is_asked_again_is_measured_again_and_history_grows(store: SqlStore, home: Path, script: Path) -> None:
    sweep(store, home, points(8))
    result = sweep(store, home, points(8), again=True)
    assert len(result.measured) == 1 and not result.known
    history = store.history(point(8).spec, SCRIPTED)
    assert len(history) == 2 and store.get(point(8).spec, SCRIPTED) == history[1]
    assert bursts(script)["8"] == 2 * POLICY.min_rounds


def test_a_row_is_measured_again_when_a_condition_has_changed(store: SqlStore, home: Path, script: Path) -> None:
    sweep(store, home, points(8))
    (script / "version").write_text("2")
    result = sweep(store, home, points(8))
    assert len(result.measured) == 1 and not result.known
    conditions = [entry.provenance["conditions"] for entry in store.history(point(8).spec, SCRIPTED)]
    assert len(set(conditions)) == 2


def test_a_point_that_fails_is_a_stored_failure_and_the_others_go_on(store: SqlStore, home: Path, script: Path) -> None:
    (script / "fail-24").touch()
    (script / "boom-32").touch()
    refused = point(40, replace(SCRIPTED, precision="fp16"))
    unexportable, watcher = point(13), Watcher()
    result = sweep(store, home, [*points(8, 24, 32), refused, unexportable], watcher)
    assert [entry.spec for entry in result.measured] == [point(8).spec]
    reasons = {failure.spec.width_in: failure.reason for failure in store.failures(result.sweep)}
    assert reasons == {
        24: "Unsupported: told to fail at 24",
        32: "TaskFailed: LibraryError: code 3: told to break",
        40: "Unsupported: scripted runs fp32 here, not fp16",
        13: "Unsupported: 13 is not exported",
    }
    assert {failed for failed, _ in watcher.failures} == {*points(24, 32), refused, unexportable}
    assert state(store, result.sweep) == "done"


def test_a_runtime_that_cannot_start_fails_its_rows_and_not_the_others(
    store: SqlStore, home: Path, script: Path
) -> None:
    (script / "version").mkdir()  # reading it raises
    result = sweep(store, home, [*points(8), *points(8, target=NULL)])
    assert [entry.target for entry in result.measured] == [NULL]
    assert [failure.target for failure in result.failures] == [SCRIPTED]
    assert "IsADirectoryError" in result.failures[0].reason


@PROCESSES
def test_a_worker_that_dies_in_a_burst_costs_one_row_and_the_others_finish(
    store: SqlStore, home: Path, script: Path
) -> None:
    (script / "die-16").touch()
    result = sweep(store, home, points(8, 16, 24))
    assert sorted(entry.spec.width_in for entry in result.measured) == [8, 24]
    (failure,) = store.failures(result.sweep)
    assert failure.spec == point(16).spec and "signal 9" in failure.reason
    for entry in result.measured:
        assert entry.latency.p10_ns == expected_ns(entry.spec) and entry.latency.stable


@PROCESSES
def test_two_rows_that_kill_every_worker_cost_two_failures_and_the_others_finish(
    store: SqlStore, home: Path, script: Path
) -> None:
    (script / "always-die-16").touch()
    (script / "always-die-24").touch()
    result = sweep(store, home, points(8, 16, 24, 32))
    assert sorted(entry.spec.width_in for entry in result.measured) == [8, 32]
    assert sorted(failure.spec.width_in for failure in result.failures) == [16, 24]


@PROCESSES
def test_rows_that_kill_the_worker_while_it_is_opened_again_fail_once_each(
    store: SqlStore, home: Path, script: Path
) -> None:
    class Sabotage(Watcher):
        """After the second round, one row ends the worker in its burst, and two others each worker that comes after."""

        def progress(self, progress: object) -> None:
            super().progress(progress)  # type: ignore[arg-type]
            if len(self.reports) == 2:
                for width in (8, 16, 24):
                    (script / f"always-die-{width}").touch()

    result = sweep(store, home, points(8, 16, 24, 32), Sabotage())
    assert sorted(failure.spec.width_in for failure in result.failures) == [8, 16, 24]
    assert [entry.spec.width_in for entry in result.measured] == [32]


@PROCESSES
def test_a_worker_that_dies_between_bursts_costs_no_row(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killer(Watcher):
        """Kills the worker after the second round; it is found dead when the device is to settle."""

        def progress(self, progress: object) -> None:
            super().progress(progress)  # type: ignore[arg-type]
            if len(self.reports) == 2:
                os.kill(workers[0]._child.pid, signal.SIGKILL)

    workers: list[rounds.Worker] = []

    def start(*arguments: object, **named: object) -> rounds.Worker:
        workers.append(started(*arguments, **named))  # type: ignore[arg-type]
        return workers[-1]

    started = rounds.Worker
    monkeypatch.setattr(rounds, "Worker", start)
    result = sweep(store, home, points(8, 16), Killer())
    assert len(workers) == 2 and not result.failures and len(result.measured) == 2
    for entry in result.measured:
        runs = store.runs(entry.spec, SCRIPTED)
        assert len({run.process for run in runs}) == 2 and entry.latency.runs == len(runs) == POLICY.min_rounds


def test_a_doubtful_row_does_not_replace_a_stable_one(store: SqlStore, home: Path, script: Path) -> None:
    sweep(store, home, points(8))
    stable = store.get(point(8).spec, SCRIPTED)
    (script / "noisy-8").touch()
    watcher = Watcher()
    result = sweep(store, home, points(8), watcher, again=True)
    assert watcher.rows == [(point(8), False)]
    (doubtful,) = result.measured
    assert "half-width" in doubtful.latency.doubts[0] and doubtful.latency.runs == POLICY.max_rounds
    assert store.get(point(8).spec, SCRIPTED) == stable
    assert store.history(point(8).spec, SCRIPTED) == [stable, doubtful]


def test_a_doubtful_row_is_not_known_and_is_measured_again(store: SqlStore, home: Path, script: Path) -> None:
    (script / "noisy-8").touch()
    sweep(store, home, points(8))
    (script / "noisy-8").unlink()
    result = sweep(store, home, points(8))
    assert len(result.measured) == 1 and store.get(point(8).spec, SCRIPTED).latency.stable


def test_an_interrupted_sweep_goes_on_with_the_rounds_that_were_stored(
    store: SqlStore, home: Path, script: Path
) -> None:
    todo = points(8, 16)
    with pytest.raises(KeyboardInterrupt):
        sweep(store, home, todo, Watcher(interrupt_after=3))
    ((first, how),) = sweeps(store)
    assert how == "interrupted" and not list(store.entries())
    assert bursts(script) == {"8": 3, "16": 3}
    watcher = Watcher()
    result = sweep(store, home, todo[::-1], watcher)
    assert result.sweep == first and watcher.resumes == [6] and sweeps(store) == [(first, "done")]
    assert bursts(script) == {"8": POLICY.min_rounds, "16": POLICY.min_rounds}
    for wanted in todo:
        runs = store.runs(wanted.spec, SCRIPTED)
        assert [run.round for run in runs] == list(range(POLICY.min_rounds))
        assert store.get(wanted.spec, SCRIPTED).latency.runs == POLICY.min_rounds


def test_rounds_of_other_conditions_are_not_taken_up(store: SqlStore, home: Path, script: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sweep(store, home, points(8), Watcher(interrupt_after=3))
    (script / "version").write_text("2")
    watcher = Watcher()
    result = sweep(store, home, points(8), watcher)
    assert not watcher.resumes and result.measured[0].latency.runs == POLICY.min_rounds
    assert {run.facts["runtime_version"] for run in store.runs(point(8).spec, SCRIPTED)} == {"1", "2"}


def test_a_sweep_of_another_plan_does_not_take_up_the_rounds(store: SqlStore, home: Path, script: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sweep(store, home, points(8), Watcher(interrupt_after=3))
    watcher = Watcher()
    result = sweep(store, home, points(8, 16), watcher)
    assert not watcher.resumes and len(result.measured) == 2
    assert [how for _, how in sweeps(store)] == ["interrupted", "done"]


def test_a_damaged_artifact_is_exported_again(store: SqlStore, home: Path, script: Path) -> None:
    sweep(store, home, points(8))
    (file,) = (home / "artifacts" / "objects").rglob("artifact.json")
    good = file.read_bytes()
    file.write_bytes(b"damaged")
    watcher = Watcher()
    sweep(store, home, points(8), watcher)
    assert [made for *_, made in watcher.exports] == [True] and file.read_bytes() == good
    assert watcher.knowns == points(8)  # the same artifact, so the row still holds


def test_a_point_asked_for_twice_is_measured_once(store: SqlStore, home: Path, script: Path) -> None:
    result = sweep(store, home, points(8, 8))
    assert len(result.measured) == 1 and bursts(script) == {"8": POLICY.min_rounds}


def test_nothing_to_do_is_done_at_once(store: SqlStore, home: Path) -> None:
    result = sweep(store, home, [])
    assert not result.measured and state(store, result.sweep) == "done"


def test_a_device_that_is_being_measured_is_busy_and_the_sweep_can_go_on_later(
    store: SqlStore, home: Path, script: Path
) -> None:
    with device_lock(home / "locks", "null"), pytest.raises(DeviceBusy, match=f"process {os.getpid()}"):
        sweep(store, home, points(8))
    ((first, how),) = sweeps(store)
    assert how == "interrupted"
    assert sweep(store, home, points(8)).sweep == first


def test_a_missing_exporter_ends_the_sweep_for_no_point_could_be_measured(store: SqlStore, home: Path) -> None:
    with pytest.raises(BackendMissing, match="no exporter 'nought'"):
        sweep(store, home, [replace(point(8, NULL), format="nought")])
    assert [how for _, how in sweeps(store)] == ["interrupted"]


def test_a_store_of_artifacts_that_cannot_be_written_ends_the_sweep(store: SqlStore, home: Path) -> None:
    (home / "artifacts").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot keep artifacts"):
        sweep(store, home, points(8, 16, target=NULL))
    assert [how for _, how in sweeps(store)] == ["interrupted"]


def test_groups_that_do_not_fit_in_memory_together_are_measured_one_after_another(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.sweep.GROUP_BYTES", 1)
    result = sweep(store, home, points(8, 16))
    assert len(result.measured) == 2
    order = (script / "times").read_text().split()
    assert order in (["8"] * 8 + ["16"] * 8, ["16"] * 8 + ["8"] * 8)


def test_rows_of_one_group_are_measured_interleaved(store: SqlStore, home: Path, script: Path) -> None:
    sweep(store, home, points(8, 16, 24))
    order = (script / "times").read_text().split()
    rounds_ = [order[start : start + 3] for start in range(0, len(order), 3)]
    assert all(sorted(round_) == ["16", "24", "8"] for round_ in rounds_) and len(set(map(tuple, rounds_))) > 1


def test_a_row_under_other_conditions_in_the_table_is_not_taken_for_this_one(
    store: SqlStore, home: Path, script: Path
) -> None:
    store.put(make_entry(5.0, point(8).spec, SCRIPTED, provenance=Params({"conditions": "x", "artifact_sha256": "y"})))
    assert not sweep(store, home, points(8)).known
    assert store.get(point(8).spec, SCRIPTED).latency.p10_ns == expected_ns(point(8).spec)


@PROCESSES
def test_a_sweep_leaves_no_temporary_files_and_no_processes(store: SqlStore, home: Path, script: Path) -> None:
    import psutil

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    sweep(store, home, points(8))
    assert not list((home / "artifacts" / "tmp").iterdir())
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    assert ArtifactStore(home / "artifacts").find(plan_key(points(8), POLICY)) is None
