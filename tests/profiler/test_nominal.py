from __future__ import annotations

from pathlib import Path

import pytest

from db.store import SqlStore
from edgelut import IDENTITY, Latency, Target
from edgelut.plan import Point, Policy
from profiler import timing
from profiler.nominal import at_nominal, nominal_ns, reference_spec
from profiler.sweep import run_sweep

pytestmark = pytest.mark.usefixtures("inline", "quick_exports")
FACTS = {"device_model": "cpu", "numpy": "2", "runtime_version": "a", "env_X": "1", "observed_load": 0.5}
TARGET = Target("host", "reference")


def test_the_first_sweep_fixes_a_machines_nominal_time(store: SqlStore) -> None:
    assert nominal_ns(store, FACTS, "host", "cpu", [10.0, 20.0, 30.0], "first") == 12.0
    assert nominal_ns(store, FACTS, "host", "cpu", [99.0], "second") == 12.0
    assert len(store.history(reference_spec(FACTS, "cpu"), TARGET)) == 1


@pytest.mark.parametrize("change", [{"runtime_version": "b"}, {"env_X": "2"}, {"observed_load": 9.0}])
def test_what_is_measured_and_what_is_observed_do_not_change_the_machine(change: dict[str, object]) -> None:
    assert reference_spec({**FACTS, **change}, "cpu") == reference_spec(FACTS, "cpu")


@pytest.mark.parametrize("change", [{"device_model": "other"}, {"numpy": "3"}])
def test_another_machine_or_library_has_a_nominal_time_of_its_own(change: dict[str, object]) -> None:
    assert reference_spec({**FACTS, **change}, "cpu") != reference_spec(FACTS, "cpu")


def test_each_clock_and_each_device_has_a_nominal_time_of_its_own(store: SqlStore) -> None:
    assert nominal_ns(store, FACTS, "host", "cpu", [10.0], "s") == 10.0
    assert nominal_ns(store, FACTS, "host", "wall", [20.0], "s") == 20.0
    assert nominal_ns(store, FACTS, "other", "cpu", [30.0], "s") == 30.0


def test_times_of_a_slow_moment_are_told_at_nominal_speed_and_wall_times_as_they_were() -> None:
    latency = Latency(105.0, 126.0, 147.0, 103.95, 106.05, 9, 90, wall_p10_ns=150.0)
    told = at_nominal(latency, 1 / 1.05)
    assert (told.p10_ns, told.p50_ns, told.low_ns) == pytest.approx((100.0, 120.0, 99.0))
    assert told.wall_p10_ns == 150.0 and told.stable and told.half_width == pytest.approx(latency.half_width)


def test_a_machine_far_from_its_nominal_speed_is_a_doubt() -> None:
    (doubt,) = at_nominal(Latency(100.0, 100.0, 100.0, 99.0, 101.0, 9, 90), 1 / 1.25).doubts
    assert doubt == "the machine ran +25% off the speed that its reference was fixed at"


def test_a_sweep_on_a_slower_day_tells_the_same_latency_and_says_what_it_did(
    store: SqlStore, home: Path, script: Path, hosted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [Point(IDENTITY.spec(8, 4), Target("null", "scripted"), "null")]
    policy = Policy(min_rounds=2, max_rounds=2)
    (first,) = run_sweep(points, store, home, policy).measured
    monkeypatch.setattr(timing, "time_reference", lambda warmups, samples: timing.ReferenceTime(1.05e6, 1.05e6))
    (second,) = run_sweep(points, store, home, policy, again=True).measured
    assert first.provenance["reference_factor"] == 1
    assert second.provenance["reference_factor"] == pytest.approx(1 / 1.05)
    assert second.provenance["raw_p10_ns"] == pytest.approx(second.latency.p10_ns * 1.05)
    assert store.runs(points[0].spec, points[0].target)[-1].reference_ns == 1.05e6
