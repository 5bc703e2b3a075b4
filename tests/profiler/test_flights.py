"""Sweeps on a device that is not this machine: looked at, cooled, checked, counted, gone and back again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from db.engine import SqlStore
from edgelut.blocks import IDENTITY, MB4D
from edgelut.errors import DeviceBusy, DeviceUnusable
from edgelut.plan import Point, Policy
from edgelut.sequences import cold
from edgelut.types import Entry, Run, Target
from profiler import checking, cooling, flights, overlap
from profiler.sweep import SweepResult, run_sweep
from tests.fakes import Watcher
from tests.profiler.test_sweep import sweeps

pytestmark = pytest.mark.usefixtures("quick_exports", "inline", "phone")
PROCESSES = pytest.mark.usefixtures("processes")
PHONE = Target("phone:one", "phone")
POLICY = Policy(min_rounds=4, spread_s=0)
SIDE = 4


def points(*widths: int, target: Target = PHONE) -> list[Point]:
    return [Point(IDENTITY.spec(width, SIDE), target, "null") for width in widths]


def sweep(
    store: SqlStore, home: Path, todo: Sequence[Point], watcher: Watcher | None = None, policy: Policy = POLICY
) -> SweepResult:
    return run_sweep(todo, store, home, policy, observer=watcher)


def runs_of(store: SqlStore, width: int) -> list[Run]:
    return store.runs(IDENTITY.spec(width, SIDE), PHONE)


def row(store: SqlStore, width: int) -> Entry:
    return store.get(IDENTITY.spec(width, SIDE), PHONE)


def log(script: Path) -> list[str]:
    return (script / "log").read_text().splitlines()


def known_ns(width: int) -> int:
    return 1000 + width * SIDE**2


def test_a_phone_is_measured_in_rounds_and_its_rows_are_stored(store: SqlStore, home: Path, script: Path) -> None:
    watcher = Watcher()
    result = sweep(store, home, points(8, 16), watcher)
    assert not result.failures and len(result.measured) == 2
    for width in (8, 16):
        entry = row(store, width)
        assert entry.latency.p10_ns == known_ns(width) and entry.latency.stable and entry.kind == "measured"
        assert [run.round for run in runs_of(store, width)] == list(range(POLICY.min_rounds))
    assert watcher.reports[-1].done == watcher.reports[-1].total == 2 and not watcher.waits


def test_what_was_seen_before_and_after_a_round_is_among_its_facts(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooling, "FRESH_S", -1.0)
    (script / "states").write_text("31\n32\n33\n34\n")
    sweep(store, home, points(8))
    seen = [(run.facts["observed_battery_c"], run.facts["observed_battery_c_after"]) for run in runs_of(store, 8)]
    assert seen == [(31, 32), (33, 34), (30, 30), (30, 30)]
    assert runs_of(store, 8)[0].facts["affinity"] == "f0"
    assert not [name for name in runs_of(store, 8)[0].conditions if name.startswith(("observed_", "python", "numpy"))]


def test_the_look_after_a_round_is_the_one_before_the_next(store: SqlStore, home: Path, script: Path) -> None:
    sweep(store, home, points(8))
    assert log(script).count("state") == POLICY.min_rounds + 1


def test_a_throttled_round_is_thrown_away_and_measured_again(store: SqlStore, home: Path, script: Path) -> None:
    (script / "states").write_text("30\n44 thermal status 2\n43 thermal status 1\n36\n")
    watcher = Watcher()
    result = sweep(store, home, points(8), watcher)
    assert len(result.measured) == 1 and result.measured[0].latency.stable
    assert log(script).count("burst 8") == POLICY.min_rounds + 1
    runs = runs_of(store, 8)
    assert [run.round for run in runs] == list(range(POLICY.min_rounds))
    assert runs[0].facts["observed_battery_c"] == 36
    assert watcher.waits == [("phone:one", "thermal status 2"), ("phone:one", "thermal status 1")]


def test_a_phone_that_is_hot_after_every_round_ends_the_sweep_and_the_next_one_goes_on(
    store: SqlStore, home: Path, script: Path
) -> None:
    hot = "30\n" + "44 hot\n30\n" * cooling.MOST_DISCARDED
    (script / "states").write_text("30\n30\n" + hot)
    with pytest.raises(
        DeviceBusy, match=r"phone:one was throttled in 8 rounds in a row \(hot\).* the same command goes on"
    ):
        sweep(store, home, points(8))
    kept = len(runs_of(store, 8))
    assert kept >= 1
    watcher = Watcher()
    (script / "states").unlink()
    result = sweep(store, home, points(8), watcher)
    assert watcher.resumes == [kept] and len(result.measured) == 1
    assert len(runs_of(store, 8)) == POLICY.min_rounds


@pytest.mark.parametrize("how", ["hot", "restless"])
def test_a_phone_that_never_cools_is_given_up(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(cooling, "COOL_S", 0.0)
    (script / how).touch()
    with pytest.raises(DeviceBusy, match="the same command goes on"):
        sweep(store, home, points(8))
    assert not runs_of(store, 8)


def test_the_devices_own_reference_divides_its_rows(store: SqlStore, home: Path, script: Path) -> None:
    (script / "reference").write_text("1000")
    (first,) = sweep(store, home, points(8)).measured
    assert first.provenance["reference_factor"] == 1 and first.provenance["reference_ns"] == pytest.approx(2000)
    assert log(script).count("reference") == POLICY.min_rounds
    (script / "load").write_text("1.05")
    (second,) = run_sweep(points(8), store, home, POLICY, again=True).measured
    assert second.provenance["reference_factor"] == pytest.approx(1 / 1.05)
    assert second.latency.p10_ns == pytest.approx(first.latency.p10_ns, rel=1e-3)


def test_a_device_without_a_reference_is_asked_once_and_nothing_is_divided(
    store: SqlStore, home: Path, script: Path
) -> None:
    (entry,) = sweep(store, home, points(8)).measured
    assert log(script).count("reference") == 1 and "reference_factor" not in entry.provenance
    assert all(run.reference_ns == 0 for run in runs_of(store, 8))


def test_outputs_that_are_not_this_hosts_fail_the_row_and_no_other(store: SqlStore, home: Path, script: Path) -> None:
    (script / "wrong-16").touch()
    result = sweep(store, home, points(8, 16))
    (failure,) = result.failures
    assert failure.spec.width_in == 16 and failure.reason.startswith("ParityFailed: outputs on the device are 0.0")
    assert "this host's, allowed are 1e-05" in failure.reason
    assert row(store, 8).provenance["device_parity_error"] == 0


def test_this_hosts_outputs_are_computed_once_and_kept_beside_the_artifact(
    store: SqlStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[Path] = []
    original = checking.host_outputs

    def counted(**how: object) -> None:
        computed.append(how["path"])  # type: ignore[arg-type]
        original(**how)  # type: ignore[arg-type]

    monkeypatch.setattr(checking, "host_outputs", counted)
    sweep(store, home, points(8))
    run_sweep(points(8), store, home, POLICY, again=True)
    assert len(computed) == 1 and list(computed[0].parent.glob("outputs-*.npz"))


def test_a_block_and_its_cold_row_are_checked_once(store: SqlStore, home: Path, script: Path) -> None:
    spec = MB4D.spec(width=16, resolution=SIDE)
    result = sweep(store, home, [Point(spec, PHONE, "null"), Point(cold(spec), PHONE, "null")])
    assert len(result.measured) == 2 and log(script).count("check 16") == 1
    assert "cold 16" in log(script) and store.get(spec, PHONE).latency.cold_ns == known_ns(16)


def test_what_ran_where_is_a_condition_and_in_the_rows_provenance(store: SqlStore, home: Path, script: Path) -> None:
    (script / "ran-on").write_text("gpu+cpu")
    sweep(store, home, points(8))
    assert {run.conditions["ran_on"] for run in runs_of(store, 8)} == {"gpu+cpu"}
    assert row(store, 8).provenance["ran_on"] == "gpu+cpu" and row(store, 8).latency.peak_memory_bytes == 99


def test_counts_are_emulated_rows_of_few_rounds_with_one_sample_each(store: SqlStore, home: Path, script: Path) -> None:
    (script / "counts").touch()
    (script / "reference").write_text("1000")
    spec = MB4D.spec(width=16, resolution=SIDE)
    result = sweep(store, home, [Point(spec, PHONE, "null"), Point(cold(spec), PHONE, "null")])
    assert not result.failures
    entry, runs = store.get(spec, PHONE), store.runs(spec, PHONE)
    assert entry.kind == "emulated" and entry.latency.clock == "instructions" and entry.latency.stable
    assert entry.latency.p10_ns == known_ns(16) == entry.latency.cold_ns and entry.latency.wall_p10_ns is None
    assert len(runs) == 3 and {(len(run.wall_ns), run.cpu_ns, run.inner) for run in runs} == {(1, (), 1)}
    assert {run.conditions["clock"] for run in runs} == {"instructions"}
    assert "reference" not in log(script) and "reference_factor" not in entry.provenance


def test_counts_that_do_not_repeat_are_in_doubt(store: SqlStore, home: Path, script: Path) -> None:
    (script / "counts").touch()
    (script / "counts-vary").write_text("0")
    (entry,) = sweep(store, home, points(8)).measured
    assert entry.latency.runs == 6
    (doubt,) = entry.latency.doubts
    assert doubt.startswith("counts differ by") and doubt.endswith("more than 0.1%")


def test_threads_are_not_counted(store: SqlStore, home: Path, script: Path) -> None:
    (script / "counts").touch()
    result = sweep(store, home, points(8, target=Target("phone:one", "phone", threads=2)))
    assert "counts the instructions of one thread" in result.failures[0].reason


def test_a_row_of_an_emulated_device_is_emulated_even_where_it_is_timed(
    store: SqlStore, home: Path, script: Path
) -> None:
    (script / "fake").touch()
    (entry,) = sweep(store, home, points(8)).measured
    assert entry.kind == "emulated" and entry.latency.clock == "cpu"


def test_a_phone_that_is_not_there_ends_the_sweep_before_anything_is_exported(
    store: SqlStore, home: Path, script: Path
) -> None:
    (script / "gone").touch()
    watcher = Watcher()
    with pytest.raises(DeviceUnusable, match="phone:one is not attached: plug it in"):
        sweep(store, home, points(8), watcher)
    assert not watcher.exports and not watcher.failures


def test_a_phone_that_goes_in_a_round_costs_that_round_and_no_row(store: SqlStore, home: Path, script: Path) -> None:
    (script / "gone-after").write_text("5")
    watcher = Watcher()
    with pytest.raises(DeviceUnusable, match="plug it in"):
        sweep(store, home, points(8, 16), watcher)
    assert not watcher.failures and [len(runs_of(store, width)) for width in (8, 16)] == [2, 2]
    assert [state for _, state in sweeps(store)] == ["interrupted"]
    (script / "gone").unlink()
    again = Watcher()
    result = sweep(store, home, points(8, 16), again)
    assert again.resumes == [4] and len(result.measured) == 2
    assert [run.round for run in runs_of(store, 8)] == list(range(POLICY.min_rounds))


def test_a_burst_that_fails_fails_its_row(store: SqlStore, home: Path, script: Path) -> None:
    (script / "fail-16").touch()
    (script / "unopened-24").touch()
    result = sweep(store, home, points(8, 16, 24))
    assert [entry.spec.width_in for entry in result.measured] == [8]
    assert {failure.spec.width_in: failure.reason for failure in result.failures} == {
        16: "Unsupported: told to fail at 16",
        24: "Unsupported: 24 is not opened",
    }


def test_what_a_library_raised_fails_its_row_and_the_others_are_opened_again(
    store: SqlStore, home: Path, script: Path
) -> None:
    (script / "boom-16").touch()
    result = sweep(store, home, points(8, 16))
    assert [failure.reason for failure in result.failures] == ["TaskFailed: LibraryError: told to break"]
    assert row(store, 8).latency.stable and log(script).count("open 8") == 2


@PROCESSES
def test_a_worker_that_dies_costs_the_row_that_ends_it(store: SqlStore, home: Path, script: Path) -> None:
    (script / "die-16").touch()
    result = sweep(store, home, points(8, 16, 24))
    assert sorted(entry.spec.width_in for entry in result.measured) == [8, 24]
    (failure,) = result.failures
    assert failure.spec.width_in == 16 and "signal 9" in failure.reason


@PROCESSES
def test_a_device_in_other_processes_is_measured_alike(store: SqlStore, home: Path, script: Path) -> None:
    (script / "reference").write_text("1000")
    sweep(store, home, points(8, 16))
    assert row(store, 8).latency.p10_ns == known_ns(8) and row(store, 8).provenance["device_parity_error"] == 0


def test_many_bursts_are_begun_before_the_first_is_waited_for(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "FLIGHT_S", 1e9)
    (script / "reference").write_text("1000")
    sweep(store, home, points(8, 16))
    done = [line for line in log(script) if line.startswith(("begin", "burst", "state"))]
    looks = [index for index, line in enumerate(done) if line == "state"]
    assert len(looks) == 2, "one flight has all rounds"
    flight = done[looks[0] + 1 : looks[1]]
    assert [line.split()[0] for line in flight] == ["begin"] * 8 + ["burst"] * 8


def test_points_that_complete_each_other_are_in_one_group() -> None:
    first, second = (Point(MB4D.spec(width=width, resolution=SIDE), PHONE, "null") for width in (16, 32))
    beside = Point(cold(first.spec), PHONE, "null")
    assert overlap.together([first, second, beside]) == [first, beside, second]


def test_the_next_group_is_exported_and_opened_while_one_is_measured(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "ROWS", 2)
    widths = [8 * number for number in range(1, 9)]
    result = sweep(store, home, points(*widths), policy=Policy(min_rounds=20, spread_s=0))
    assert len(result.measured) == len(widths)
    done = log(script)
    opened = [index for index, line in enumerate(done) if line.startswith("open")]
    bursts = [index for index, line in enumerate(done) if line.startswith("burst")]
    assert opened[2] < bursts[-1], "no group was opened before all was measured"


def test_a_device_that_has_nothing_to_do_waits_for_few_rows_and_the_others_come_after_them(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (overlap, flights):
        monkeypatch.setattr(module, "FEWEST", 2)
    monkeypatch.setattr(overlap, "ROWS", 6)
    (script / "slow-open").write_text("0.1")
    widths = [8 * number for number in range(1, 19)]
    result = sweep(store, home, points(*widths))
    assert sorted(entry.spec.width_in for entry in result.measured) == widths
    opened = [line for line in log(script) if line.startswith("open")]
    assert sorted(opened) == sorted(f"open {width}" for width in widths), "each once"
    assert {len(runs_of(store, width)) for width in widths} == {POLICY.min_rounds}


def test_a_device_of_few_cores_is_left_alone_while_it_measures(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "ROWS", 2)
    (script / "cores").write_text("1")
    sweep(store, home, points(8, 16, 24, 32, 40, 48))
    kinds = [line.split()[0] for line in log(script) if line.startswith(("open", "burst"))]
    groups = [kind for index, kind in enumerate(kinds) if index == 0 or kind != kinds[index - 1]]
    assert groups == ["open", "burst"] * (len(groups) // 2) and len(groups) >= 4


def test_ctrl_c_ends_all_threads_and_the_sweep_goes_on_later(
    store: SqlStore, home: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    monkeypatch.setattr(overlap, "ROWS", 2)
    todo = points(8, 16, 24, 32, 40, 48)
    with pytest.raises(KeyboardInterrupt):
        sweep(store, home, todo, Watcher(interrupt_after=2))
    assert not [thread for thread in threading.enumerate() if thread.name in ("edgelut-ahead", "edgelut-export")]
    again = Watcher()
    result = sweep(store, home, todo, again)
    assert len(result.measured) == 6 and sum(again.resumes) >= 4
