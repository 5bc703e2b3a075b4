"""From what is asked for to points: numbers, presets, products, and refusals that say what to type."""

from __future__ import annotations

import pytest

from edgelut import InvalidSpec, presets, wire
from edgelut.blocks import MB4D, get_kind
from edgelut.errors import BackendMissing, UnknownKind, Unsupported
from edgelut.request import BlockRequest, parse_numbers, parse_specs
from edgelut.sequences import SEQUENCES, network_spec
from profiler.request import TargetRequest, exports


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (None, []),
        (["224"], [224]),
        (["208,224", "208"], [208, 224]),
        (["208..240:16"], [208, 224, 240]),
        (["1..3", "9"], [1, 2, 3, 9]),
        (["5..5"], [5]),
        (["7..14:7,28"], [7, 14, 28]),
    ],
)
def test_numbers_are_single_listed_or_ranges_with_both_ends(texts: list[str] | None, numbers: list[int]) -> None:
    assert parse_numbers(texts, "width") == numbers


@pytest.mark.parametrize(
    "text", ["x", "", "1,", "1..", "..3", "1..9:0", "9..1:-2", "240..208", "1.5", "1..x", "1..999999999999"]
)
def test_what_is_no_number_says_how_to_write_one(text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"width .*write 224, or 208,224,240, or 208\.\.240:16"):
        parse_numbers([text], "width")


@pytest.mark.parametrize("text", ["0", "-16", "-1..1"])
def test_numbers_are_positive(text: str) -> None:
    with pytest.raises(InvalidSpec, match="width must be positive, not"):
        parse_numbers([text], "width")


def test_kinds_widths_resolutions_and_batches_are_multiplied_out() -> None:
    specs = BlockRequest(kinds=["mb4d", "MB3D"], widths=[16, 32], resolutions=[7, 14], batches=[1, 2]).specs()
    assert len(specs) == len(set(specs)) == 16 and {spec.kind for spec in specs} == {"MB4D", "MB3D"}


def test_a_block_named_twice_is_asked_for_once() -> None:
    request = BlockRequest(presets=["efficientformer-l1", "L1"], kinds=["MB3D"], widths=[448], resolutions=[7])
    assert request.specs() == presets.get("efficientformer-l1")


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (BlockRequest(), InvalidSpec, "name a preset .*efficientformer-l1.*--block"),
        (BlockRequest(kinds=["MB5D"], widths=[1], resolutions=[1]), UnknownKind, "MB4D"),
        (BlockRequest(kinds=["MB4D"], widths=[16]), InvalidSpec, "MB4D: give --resolution"),
        (BlockRequest(kinds=["MB4D"]), InvalidSpec, "give --width and --resolution"),
        (BlockRequest(presets=["l9"]), InvalidSpec, "no preset 'l9'; there are .*demo"),
        (BlockRequest(kinds=["stem"], widths=[48], resolutions=[225]), InvalidSpec, "try 224 or 228"),
    ],
)
def test_what_cannot_be_built_says_what_can(request_: BlockRequest, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        request_.specs()


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_has_distinct_blocks(name: str) -> None:
    specs = presets.get(name)
    assert len(specs) == len(set(specs)) >= 10


def test_the_demo_has_the_blocks_of_l1_and_neighbours_at_14_and_7() -> None:
    demo = set(presets.get("demo"))
    assert set(presets.get("efficientformer-l1")) < demo
    found = {(spec.kind, spec.width_in, spec.resolution) for spec in demo}
    for kind in ("MB3D", "MB4D"):
        assert {(kind, 224 + step, 14) for step in (-16, 0, 16)} | {
            (kind, 448 + step, 7) for step in (-16, 0, 16)
        } <= found


def test_every_target_is_joined_with_every_block() -> None:
    specs = presets.get("efficientformer-l1")
    request = TargetRequest(devices=["null", "host"], runtimes=["null"], threads=[1, 2])
    points = request.points(specs)
    assert len(points) == 4 * len(specs) and {point.format for point in points} == {"null"}


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (TargetRequest(runtimes=["nought"]), BackendMissing, "no runtime 'nought'; there are"),
        (TargetRequest(devices=["nought"], runtimes=["null"]), BackendMissing, "no device 'nought'"),
        (TargetRequest(runtimes=["null"], precisions=["int8"]), Unsupported, "null runs fp32, not int8"),
        (TargetRequest(runtimes=["null"], formats=["onnx"]), Unsupported, "null reads null, not onnx"),
        (TargetRequest(runtimes=["coreml-mil"]), Unsupported, "never gives a latency"),
    ],
)
def test_a_target_that_can_never_run_is_refused_at_once(
    request_: TargetRequest, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        request_.points(presets.get("efficientformer-l1"))


def test_exports_are_every_combination_of_known_formats() -> None:
    specs = presets.get("efficientformer-l1")[:2]
    assert len(exports(specs, ["onnx", "coreml"], ["fp32", "fp16"], {})) == 8
    with pytest.raises(BackendMissing, match="no exporter 'onx'; there are coreml"):
        exports(specs, ["onx"], ["fp32"], {})


def test_a_list_of_specs_is_read_and_what_it_leaves_out_is_the_kind_s() -> None:
    listed = [*presets.get("demo"), network_spec(presets.whole("efficientformer-l1"))]
    assert parse_specs(wire.encode([*listed, listed[0]]), lambda name: SEQUENCES.get(name) or get_kind(name)) == listed
    short = b'[{"kind": "mb4d", "width_in": 48, "width_out": 48, "resolution": 56}]'
    assert parse_specs(short) == [MB4D.spec(48, 56)]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"kind": "MB4D"}]'])
def test_a_list_of_specs_that_is_none_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(InvalidSpec, match=r'give a JSON list such as \[\{"kind": "MB4D"'):
        parse_specs(text.encode())
    with pytest.raises(InvalidSpec, match="holds no blocks"):
        parse_specs(b"[]")
