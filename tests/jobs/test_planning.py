"""What is asked becomes batches of what each device can do, and what can never run is refused with what there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from edgelut import MB3D, MB4D, BlockSpec
from edgelut.errors import InvalidSpec, UnknownKind
from edgelut.jobs import Agent, Baseline, DeviceInfo, FleetDevice, JobRequest, RuntimeInfo, families
from edgelut.types import Params
from jobs.planning import MOST_IN_BATCH, check_environment, choose, plan, with_baselines

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORT = RuntimeInfo("onnxruntime-cpu", "1.22", ("onnx",), ("fp32", "int8"))
NULL = RuntimeInfo("null", "1", ("null", "onnx"), ("fp32", "fp16"), ("cpu", "gpu"))


def device(name: str, *runtimes: RuntimeInfo, state: Any = "idle", reason: str = "", **facts: Any) -> FleetDevice:
    info = DeviceInfo(name, Params(facts), runtimes or (ORT, NULL), usable=state != "unusable", reason=reason)
    return FleetDevice(info, "lab", state, NOW)


FLEET = (
    device("pixel-1", device_model="Pixel 8", cores=8),
    device("pixel-2", device_model="Pixel 8", cores=8),
    device("host", ORT, device_model="a desk", cores=2),
)
ONE = JobRequest(specs=(MB3D.spec(224, 7),), devices=("host",), alone=True)


def points_of(request: JobRequest, fleet: Any = FLEET) -> list[Any]:
    return [point for batch in plan(request, fleet) for point in batch.points]


def test_a_point_is_a_block_on_a_target_in_the_first_format_that_the_runtime_reads() -> None:
    (batch,) = plan(ONE, FLEET)
    (one,) = batch.points
    assert (batch.device, one.number, one.baseline) == ("host", 0, None)
    assert str(one.point.target) == "host/onnxruntime-cpu/fp32/1/cpu"
    assert (one.point.spec, one.point.format) == (ONE.specs[0], "onnx")


def test_blocks_come_with_what_their_sums_need_unless_they_are_asked_for_alone() -> None:
    kinds = {one.point.spec.kind for one in points_of(replace(ONE, alone=False))}
    assert kinds == {"MB3D", "chain", "cold"}


def test_every_combination_is_planned_once_and_numbered_through() -> None:
    request = replace(
        ONE,
        specs=(),
        blocks=("MB3D", "MB4D"),
        widths=(64, 64, 128),
        resolutions=(7, 14),
        devices=("pixel-1", "host", "pixel-1"),
        runtimes=("onnxruntime-cpu",),
        precisions=("fp32", "int8"),
        threads=(1, 2),
    )
    found = points_of(request)
    assert len(found) == 2 * 2 * 2 * 2 * 2 * 2
    assert [one.number for one in found] == list(range(len(found)))
    assert len({(one.point.spec, one.point.target) for one in found}) == len(found)


def test_each_device_has_batches_of_its_own() -> None:
    request = replace(ONE, devices=("pixel-1", "pixel-2"))
    assert [(batch.device, batch.points[0].point.target.device) for batch in plan(request, FLEET)] == [
        ("pixel-1", "pixel-1"),
        ("pixel-2", "pixel-2"),
    ]


def test_batches_are_small_even_and_part_no_family() -> None:
    request = JobRequest(
        presets=("demo",), devices=("pixel-1",), runtimes=("onnxruntime-cpu", "null"), threads=(1, 2, 3, 4)
    )
    batches = plan(request, FLEET)
    sizes = [len(batch.points) for batch in batches]
    assert len(batches) > 2 and max(sizes) <= MOST_IN_BATCH and min(sizes) >= max(sizes) / 3
    place = {(one.point.spec, one.point.target): number for number, batch in enumerate(batches) for one in batch.points}
    targets = {target for _, target in place}
    assert len(targets) == 8
    for family in families(request.blocks_asked()):
        assert len({place[spec, target] for spec in family for target in targets}) == 1


def test_a_family_on_more_targets_than_a_batch_holds_is_parted_by_targets() -> None:
    request = replace(ONE, alone=False, threads=tuple(range(1, 101)))
    batches = plan(request, FLEET)
    assert sum(len(batch.points) for batch in batches) == 300
    assert max(len(batch.points) for batch in batches) <= MOST_IN_BATCH
    for batch in batches:
        by_target: dict[Any, set[BlockSpec]] = {}
        for one in batch.points:
            by_target.setdefault(one.point.target, set()).add(one.point.spec)
        assert {len(specs) for specs in by_target.values()} == {3}


def test_blocks_that_others_are_timed_between_come_first() -> None:
    kinds = [one.point.spec.kind for one in points_of(JobRequest(presets=("efficientformer-l1",), devices=("host",)))]
    assert kinds[0] in ("MB3D", "MB4D")
    assert kinds.index("stem") > max(kinds.index("MB3D"), kinds.index("MB4D"))


def test_a_format_is_taken_where_the_runtime_reads_it() -> None:
    request = replace(ONE, devices=("pixel-1",), runtimes=("onnxruntime-cpu", "null"), formats=("coreml", "onnx"))
    assert {one.point.format for one in points_of(request)} == {"onnx"}


def test_options_are_every_points_own() -> None:
    assert points_of(replace(ONE, options=Params({"opset": 20})))[0].point.options == {"opset": 20}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"devices": ("host", "phone")}, r"no device 'phone'; there are host, pixel-1, pixel-2"),
        ({"runtimes": ("coreml-mil",)}, r"device host has no runtime 'coreml-mil'; it has onnxruntime-cpu"),
        ({"precisions": ("fp16",)}, r"onnxruntime-cpu on host runs fp32, int8, not 'fp16': give another precision"),
        ({"unit": "gpu"}, r"onnxruntime-cpu on host runs on cpu, not 'gpu': give another unit"),
        ({"formats": ("coreml",)}, r"onnxruntime-cpu reads onnx, not coreml"),
        ({"threads": ()}, r"name at least one runtime, one precision and one number of threads"),
        ({"half_width": 0.9}, r"half_width must be"),
        ({"max_rounds": 1}, r"max_rounds must be"),
        ({"specs": (), "blocks": ("MB3D",), "widths": (64,)}, r"MB3D: give --resolution"),
        ({"specs": ()}, r"name a preset"),
        ({"networks": ("resnet",)}, r"resnet"),
    ],
)
def test_what_can_never_run_is_refused_with_what_there_is(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        plan(replace(ONE, **change), FLEET)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UnknownKind, match="MB5D"):
        plan(replace(ONE, specs=(), blocks=("MB5D",), widths=(64,), resolutions=(7,)), FLEET)


def test_a_job_has_at_most_50000_points_and_says_how_many_it_would_have() -> None:
    request = replace(
        ONE, specs=(), blocks=("MB3D", "MB4D"), widths=tuple(range(1, 1001)), resolutions=tuple(range(1, 27))
    )
    with pytest.raises(
        InvalidSpec, match=r"at most|may have 50,000 points, and this one has 52,000: 52,000 blocks on 1"
    ):
        plan(request, FLEET)


def test_a_request_for_billions_of_blocks_is_refused_without_making_them() -> None:
    many = tuple(range(1, 100_001))
    with pytest.raises(InvalidSpec, match="may have 50,000 points"):
        plan(replace(ONE, specs=(), blocks=("MB3D",), widths=many, resolutions=many), FLEET)


def test_no_agent_at_all_says_what_to_start() -> None:
    with pytest.raises(InvalidSpec, match="start `edgelut agent`"):
        plan(ONE, ())


def test_a_selector_takes_every_device_whose_facts_say_so_after_those_named() -> None:
    request = replace(ONE, devices=("pixel-2",), selector=Params({"device_model": "Pixel 8", "cores": "8"}))
    assert [one.info.name for one in choose(request, FLEET)] == ["pixel-2", "pixel-1"]


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ({"device_model": "Pixel 9"}, r"no device has device_model=Pixel 9; device_model is Pixel 8, a desk"),
        ({"colour": "red"}, r"no device has colour=red; no device says its colour"),
        ({"device_model": "a desk", "cores": 8}, r"no device has .*cores is 2, 8"),
    ],
)
def test_a_selector_that_matches_nothing_says_what_there_is(selector: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        choose(replace(ONE, devices=(), selector=Params(selector)), FLEET)


def test_a_selector_leaves_out_what_cannot_be_measured_on_and_a_name_waits_for_it() -> None:
    gone = device("pixel-1", state="away", device_model="Pixel 8")
    hot = device("pixel-2", state="unusable", reason="it is locked", device_model="Pixel 8")
    request = replace(ONE, devices=(), selector=Params({"device_model": "Pixel 8"}))
    assert [one.info.name for one in choose(request, (gone, FLEET[1]))] == ["pixel-2"]
    with pytest.raises(InvalidSpec, match=r"pixel-1 \(away\), pixel-2 \(unusable: it is locked\); name one"):
        choose(request, (gone, hot))
    assert len(plan(replace(ONE, devices=("pixel-1", "pixel-2")), (gone, hot))) == 2


def test_a_device_without_any_runtime_says_why() -> None:
    bare = FleetDevice(DeviceInfo("host", usable=False, reason="unlock the phone"), "lab", "unusable", NOW)
    with pytest.raises(
        InvalidSpec, match="device host has no runtime 'onnxruntime-cpu'; it has none: unusable: unlock"
    ):
        plan(ONE, (bare,))


def test_points_get_the_baselines_that_there_are() -> None:
    request = replace(ONE, specs=(MB3D.spec(224, 7), MB4D.spec(224, 14)))
    batches = plan(request, FLEET)
    first = batches[0].points[0].point
    old = Baseline("ab" * 32, "a sweep")
    (batch,) = with_baselines(batches, {(first.spec, first.target): old})
    assert [one.baseline for one in batch.points] == [old, None]
    assert [one.point for one in batch.points] == [one.point for one in batches[0].points]


def test_an_environment_must_be_the_agents() -> None:
    agent = Agent("lab", "1", True, NOW, Params(), ("host",), ("old",))
    batches = plan(ONE, FLEET)
    check_environment(replace(ONE, environment="old"), batches, FLEET, [agent])
    with pytest.raises(InvalidSpec, match="agent lab has no environment 'new'; it has old"):
        check_environment(replace(ONE, environment="new"), batches, FLEET, [agent])
    with pytest.raises(InvalidSpec, match="it has none"):
        check_environment(replace(ONE, environment="new"), batches, FLEET, [])
