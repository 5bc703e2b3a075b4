"""The timing policy is pure: the same arguments give the same plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelut import MB3D, MB4D, Params, Target
from edgelut.plan import Point, Policy, describe, plan_key

HOST = Target("host", "onnxruntime-cpu")
POLICY = Policy(burst_ns=5_000_000, min_sample_ns=100_000)
POINTS = [Point(kind.spec(width, 14), HOST, "onnx") for kind in (MB4D, MB3D) for width in (208, 224)]


@pytest.mark.parametrize(
    ("call_ns", "inner"),
    [(100_000, 1), (5e9, 1), (99_999, 2), (50_000, 2), (49_999, 4), (1_000, 128), (0, 131_072)],
)
def test_a_short_call_is_repeated_a_power_of_two_times(call_ns: float, inner: int) -> None:
    assert POLICY.inner(call_ns) == inner


@given(st.floats(1, 1e10))
def test_a_sample_lasts_long_enough_and_not_twice_as_long_as_it_must(call_ns: float) -> None:
    inner = POLICY.inner(call_ns)
    assert inner * call_ns >= POLICY.min_sample_ns * (1 - 1e-9)
    assert inner == 1 or inner * call_ns < 2 * POLICY.min_sample_ns * (1 + 1e-9)


@pytest.mark.parametrize(
    ("call_ns", "inner", "samples"), [(1e5, 1, 12), (1e6, 1, 5), (2e6, 1, 3), (1e9, 1, 3), (0, 1, 12)]
)
def test_a_burst_has_as_many_samples_as_fit_within_bounds(call_ns: float, inner: int, samples: int) -> None:
    assert POLICY.samples(call_ns, inner) == samples


def test_the_order_of_a_round_is_random_and_the_same_for_the_same_seed() -> None:
    items = list(range(20))
    assert POLICY.order(items, 3) == POLICY.order(items, 3) != items
    assert sorted(POLICY.order(items, 3)) == items == list(range(20))
    assert POLICY.order(items, 3) != POLICY.order(items, 4) != Policy(seed=1).order(items, 4)


def test_rounds_of_neighbouring_seeds_do_not_repeat_each_other() -> None:
    items = list(range(50))
    orders = {tuple(Policy(seed=seed).order(items, round_)) for seed in range(10) for round_ in range(10)}
    assert len(orders) == 100


def test_the_key_of_a_plan_does_not_depend_on_the_order_of_its_points() -> None:
    assert plan_key(POINTS, POLICY) == plan_key(POINTS[::-1], Policy(burst_ns=5_000_000, min_sample_ns=100_000))


@pytest.mark.parametrize(
    "change",
    [
        lambda point: replace(point, spec=MB4D.spec(240, 14)),
        lambda point: replace(point, target=replace(HOST, threads=2)),
        lambda point: replace(point, format="torchscript"),
        lambda point: replace(point, options=Params({"opset": 17})),
    ],
)
def test_another_point_is_another_plan(change: object) -> None:
    assert plan_key([change(POINTS[0]), *POINTS[1:]], POLICY) != plan_key(POINTS, POLICY)  # type: ignore[operator]


def test_another_policy_is_another_plan() -> None:
    assert plan_key(POINTS, Policy(half_width=0.01)) != plan_key(POINTS, POLICY)


def test_a_plan_says_for_people_what_was_asked() -> None:
    said = describe(POINTS, POLICY)
    assert said["points"] == 4 and said["blocks"] == ["MB3D", "MB4D"] and said["targets"] == [str(HOST)]
    assert said["policy"]["max_rounds"] == 30
    assert str(POINTS[0]) == f"MB4D 208 @14 on {HOST}" and POINTS[0].precision == "fp32"


@pytest.mark.parametrize(("round_s", "pause_s"), [(0.1, 0.4), (0.5, 0.0), (3.0, 0.0)])
def test_the_rounds_of_a_short_sweep_are_spread_and_those_of_a_long_one_are_not(round_s: float, pause_s: float) -> None:
    assert Policy(spread_s=8.0, min_rounds=16).pause_s(round_s) == pytest.approx(pause_s)
