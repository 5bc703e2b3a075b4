from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelut import EMBEDDING, HEAD, MB3D, MB4D, STEM, BlockKind, BlockSpec, InvalidSpec, Params
from edgelut.notation import MOST_BLOCKS, format_block, format_blocks, parse_blocks, shorten

STEADY = settings(deadline=None, derandomize=True)
WORD = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
PLAIN = st.builds(
    BlockSpec,
    st.from_regex(r"[A-Za-z][A-Za-z0-9.-]{0,8}", fullmatch=True),
    *(st.integers(1, 10**9),) * 4,
    st.dictionaries(WORD, st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(Params),
)
ANY = st.builds(
    BlockSpec, st.text(min_size=1), *(st.integers(1, 10**12),) * 4, st.dictionaries(st.text(), st.text()).map(Params)
)
KNOWN = st.sampled_from(
    [
        STEM.spec(48, 224),
        MB4D.spec(48, 56),
        MB4D.spec(48, 56, params={"activation": "hardswish", "pool": 5}),
        EMBEDDING.spec(48, 56, width_out=96, params={"layout": "3d"}),
        MB3D.spec(96, 28, batch=4),
        HEAD.spec(448, 7, width_out=1000),
    ]
)


@STEADY
@given(st.lists(KNOWN, min_size=1, max_size=12))
def test_a_line_reads_back_as_the_blocks_with_equal_neighbours_counted(blocks: list[BlockSpec]) -> None:
    assert parse_blocks(format_blocks(blocks)) == tuple(blocks)


@STEADY
@given(PLAIN)
def test_a_kind_from_elsewhere_reads_back_as_it_is(spec: BlockSpec) -> None:
    try:
        line = format_block(spec)
    except InvalidSpec:  # a name of ours in another spelling, and nothing else
        assert spec.kind.lower() in ("stem", "mb4d", "embedding", "flat", "mb3d", "head", "identity")
    else:
        assert parse_blocks(line) == (spec,)


@STEADY
@given(ANY)
def test_whatever_a_spec_holds_its_line_is_right_or_refused(spec: BlockSpec) -> None:
    try:
        line = format_block(spec)
    except InvalidSpec:
        return
    assert parse_blocks(line) == (spec,)


@pytest.mark.parametrize(
    "params",
    [
        {"a": "x+y"},
        {"a": "x{"},
        {"a": "x}"},
        {"a": "x,b=1"},
        {"a": ""},
        {"a,b": 1},
        {"a=b": 1},
        {"a": " x"},
        {"a": "4"},  # would be read as the number
        {"a": "1e5"},
        {"a": "nan"},
        {"a": "1_000"},
        {"": 1},
    ],
)
def test_a_parameter_that_would_break_the_line_is_refused_when_it_is_written(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match="cannot be written in a line of blocks"):
        format_block(BlockSpec("mine", 8, 8, 4, params=Params(params)))


@pytest.mark.parametrize(
    "spec",
    [
        BlockSpec("mb4d", 48, 48, 56, params=MB4D.fill(None)),  # read as MB4D, another key
        BlockSpec("MB4D", 48, 48, 56),  # read with its defaults, another key
        BlockSpec("a:b", 48, 48, 56),
        BlockSpec("ümlaut kind", 48, 48, 56),
        BlockSpec("mine", 10**11, 8, 8),
    ],
)
def test_a_spec_that_would_be_read_as_another_is_refused(spec: BlockSpec) -> None:
    with pytest.raises(InvalidSpec, match="line of blocks"):
        format_block(spec)


def test_what_is_left_out_is_at_its_default_and_kinds_match_whatever_their_case() -> None:
    assert parse_blocks(" 2 * mb4d:48@56 + stem:48@224x2 ") == (*[MB4D.spec(48, 56)] * 2, STEM.spec(48, 224, batch=2))
    assert parse_blocks("MB4D:48@56{pool=5}") == (MB4D.spec(48, 56, params={"pool": 5}),)


def test_another_registry_may_say_what_the_kinds_are() -> None:
    mine = BlockKind("mine", {"rank": 2})
    assert parse_blocks("mine:8@4", lambda _: mine) == (mine.spec(8, 4),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "'' is no block: write 2*MB4D:48@56"),
        ("MB4D", "'MB4D' is no block"),
        ("MB4D:48@56 + ", "'' is no block"),
        ("MB4D:48@56 MB4D:48@56", "is no block"),
        ("0*MB4D:48@56", "a line holds 1 to 1000 blocks"),
        ("9999999999*MB4D:48@56", "a line holds 1 to 1000 blocks"),
        ("1000*MB4D:48@56 + MB4D:48@56", "a line holds 1 to 1000 blocks"),
        ("MB4D:0@56", "positive whole number"),
        (f"MB4D:{'9' * 5000}@56", "is no block"),
        ("MB4D:48>96@56", "input and output width are one"),
        ("MB4D:48@56{pool}", "'pool' is no parameter: write name=value"),
        ("MB4D:48@56{pool=4}", "pool must be one of 3, 5, 7"),
        ("MB4D:48@56{depth=4}", "has no parameter 'depth'"),
        ("mine:8@4{a=nan}", "finite number"),
        (f"mine:8@4{{a={'9' * 5000}}}", "finite number"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_the_part_that_is_wrong(line: str, said: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_blocks(line)
    assert said in str(caught.value) and len(str(caught.value)) < 250


def test_as_many_blocks_as_a_line_holds_are_read() -> None:
    assert len(parse_blocks(f"{MOST_BLOCKS}*MB4D:48@56")) == MOST_BLOCKS


def test_a_line_for_people_has_no_parameters() -> None:
    blocks = [MB4D.spec(48, 56), MB4D.spec(48, 56), MB3D.spec(96, 28, batch=2)]
    assert shorten(blocks) == "2*MB4D:48@56 + MB3D:96@28x2"
