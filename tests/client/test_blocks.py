"""Block kinds as values: what is filled in, what is refused and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from edgelut import KINDS, BlockKind, BlockSpec, InvalidSpec, Params
from edgelut.blocks import EMBEDDING, FLAT, HEAD, IDENTITY, MB3D, MB4D, STEM, find_kind, get_kind
from edgelut.errors import UnknownKind

EACH = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
RESOLUTION = 16

DEFAULTS: dict[str, dict[str, Any]] = {
    "stem": {"stride": 4, "activation": "relu"},
    "MB4D": {"expansion": 4, "pool": 3, "activation": "gelu"},
    "embedding": {"kernel": 3, "stride": 2, "layout": "4d"},
    "flat": {},
    "MB3D": {"expansion": 4, "heads": 8, "key_dim": 32, "attn_ratio": 4, "activation": "gelu"},
    "head": {"layout": "3d", "distillation": 1},
    "identity": {"layout": "4d"},
}


def spec_of(kind: BlockKind, **changes: Any) -> BlockSpec:
    out = {"width_out": 24} if kind.widens and kind is not STEM else {}
    return kind.spec(**{"width": 16, "resolution": RESOLUTION, **out, **changes})


def test_the_kinds_are_those_of_efficientformer() -> None:
    assert set(KINDS) == set(DEFAULTS)


@EACH
def test_every_parameter_is_filled_in_with_its_default(kind: BlockKind) -> None:
    spec = spec_of(kind)
    assert spec.params == DEFAULTS[kind.name] and spec.kind == kind.name and spec.batch == 1
    assert spec.key == spec_of(kind, params=DEFAULTS[kind.name]).key


@EACH
def test_an_unknown_parameter_is_refused_with_those_there_are(kind: BlockKind) -> None:
    with pytest.raises(InvalidSpec) as caught:
        spec_of(kind, params={"expnsion": 4})
    assert "'expnsion'" in str(caught.value)
    assert (", ".join(sorted(DEFAULTS[kind.name])) or "none") in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, None) for kind in KINDS.values() for name in kind.choices]
    + [(kind, name, bad) for kind in (MB4D, MB3D) for name in ("expansion",) for bad in (0, -1, 2.5, "4")],
    ids=lambda value: value.name if isinstance(value, BlockKind) else str(value),
)
def test_a_value_that_cannot_be_is_refused_with_what_can(kind: BlockKind, name: str, value: Any) -> None:
    allowed = kind.choices.get(name)
    with pytest.raises(InvalidSpec) as caught:
        spec_of(kind, params={name: "nonsense" if value is None else value})
    said = str(caught.value)
    assert kind.name in said and name in said
    assert (", ".join(map(str, allowed)) if allowed else "positive whole number") in said


@EACH
@pytest.mark.parametrize("bad", [0, -16, 1.5, "16"])
def test_widths_resolutions_and_batches_are_positive_whole_numbers(kind: BlockKind, bad: Any) -> None:
    for name in ("width", "resolution", "batch"):
        with pytest.raises(InvalidSpec):
            spec_of(kind, **{name: bad})


@pytest.mark.parametrize(
    ("kind", "resolution", "tried"),
    [(STEM, 225, "224 or 228"), (STEM, 3, "try 4"), (EMBEDDING, 7, "6 or 8"), (EMBEDDING, 1, "try 2")],
)
def test_a_resolution_that_the_stride_does_not_divide_says_what_to_try(
    kind: BlockKind, resolution: int, tried: str
) -> None:
    with pytest.raises(InvalidSpec, match=f"resolution {resolution} is not divisible by its stride") as caught:
        spec_of(kind, resolution=resolution)
    assert tried in str(caught.value)


def test_a_kind_without_a_stride_takes_any_resolution() -> None:
    for kind in (MB4D, MB3D, FLAT, IDENTITY, HEAD):
        assert spec_of(kind, resolution=7).resolution == 7


def test_the_width_of_a_stem_is_its_output_width() -> None:
    spec = STEM.spec(48, 224)
    assert (spec.width_in, spec.width_out) == (3, 48)
    assert STEM.spec(3, 224, width_out=48) == spec
    with pytest.raises(InvalidSpec, match="input width is 3, not 4"):
        STEM.spec(4, 224, width_out=48)


@pytest.mark.parametrize("kind", [EMBEDDING, HEAD], ids=lambda kind: kind.name)
def test_a_kind_that_widens_needs_its_output_width(kind: BlockKind) -> None:
    with pytest.raises(InvalidSpec, match="output width"):
        kind.spec(16, RESOLUTION)


@pytest.mark.parametrize("kind", [MB4D, MB3D, FLAT, IDENTITY], ids=lambda kind: kind.name)
def test_a_kind_of_one_width_refuses_another_output_width(kind: BlockKind) -> None:
    assert kind.spec(16, RESOLUTION, width_out=16).width_out == 16
    with pytest.raises(InvalidSpec, match="16 and 24"):
        kind.spec(16, RESOLUTION, width_out=24)


@pytest.mark.parametrize(
    ("spec", "shape_in", "shape_out"),
    [
        (STEM.spec(48, 224, batch=2), (2, 3, 224, 224), (2, 48, 56, 56)),
        (STEM.spec(48, 224, params={"stride": 1}), (1, 3, 224, 224), (1, 48, 224, 224)),
        (MB4D.spec(96, 28), (1, 96, 28, 28), (1, 96, 28, 28)),
        (EMBEDDING.spec(48, 56, width_out=96), (1, 48, 56, 56), (1, 96, 28, 28)),
        (
            EMBEDDING.spec(224, 14, width_out=448, batch=3, params={"layout": "3d"}),
            (3, 196, 224),
            (3, 49, 448),
        ),
        (FLAT.spec(448, 7), (1, 448, 7, 7), (1, 49, 448)),
        (MB3D.spec(448, 7, batch=2), (2, 49, 448), (2, 49, 448)),
        (HEAD.spec(448, 7, width_out=1000), (1, 49, 448), (1, 1000)),
        (HEAD.spec(448, 7, width_out=10, batch=2, params={"layout": "4d"}), (2, 448, 7, 7), (2, 10)),
        (IDENTITY.spec(8, 4), (1, 8, 4, 4), (1, 8, 4, 4)),
        (IDENTITY.spec(8, 4, params={"layout": "3d"}), (1, 16, 8), (1, 16, 8)),
    ],
    ids=str,
)
def test_shapes_follow_from_the_spec(spec: BlockSpec, shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> None:
    kind = get_kind(spec.kind)
    assert (kind.input_shape(spec), kind.output_shape(spec)) == (shape_in, shape_out)


@EACH
def test_a_spec_made_by_hand_without_parameters_is_not_taken_for_one_of_the_kind(kind: BlockKind) -> None:
    good = spec_of(kind)
    assert kind.check(good) is good
    if kind.params:
        with pytest.raises(InvalidSpec, match=f"lacks {', '.join(sorted(kind.params))}") as caught:
            kind.check(BlockSpec(kind.name, good.width_in, good.width_out, good.resolution))
        assert f"{kind.name}.spec(...)" in str(caught.value)


def test_a_spec_made_by_hand_of_impossible_widths_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="one, not 8 and 9"):
        FLAT.check(BlockSpec("flat", 8, 9, 4))
    with pytest.raises(InvalidSpec, match="input width is 3, not 4"):
        STEM.check(BlockSpec("stem", 4, 9, 4, params=Params(DEFAULTS["stem"])))


@EACH
def test_a_kind_is_found_whatever_its_case(kind: BlockKind) -> None:
    assert get_kind(kind.name.upper()) is get_kind(kind.name.lower()) is find_kind(kind.name) is kind


def test_an_unknown_kind_lists_those_there_are() -> None:
    assert find_kind("MB5D") is None
    with pytest.raises(UnknownKind, match="no block kind 'MB5D'") as caught:
        get_kind("MB5D")
    assert all(name in str(caught.value) for name in KINDS)


def test_a_kind_of_ones_own_needs_nothing_but_a_value() -> None:
    mine = BlockKind("mine", {"ratio": 2}, widens=True)
    spec = mine.spec(8, 4, width_out=16)
    assert (mine.input_shape(spec), mine.output_shape(spec)) == ((1, 8, 4, 4), (1, 16, 4, 4))
