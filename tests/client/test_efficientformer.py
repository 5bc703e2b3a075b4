"""The networks as lists of blocks, against the numbers of the paper's table."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from edgelut import InvalidSpec
from edgelut.blocks import get_kind
from edgelut.efficientformer import CONFIGS, Config, get_config, network

SMALL = Config((16, 24, 32, 40), (1, 1, 2, 2), 1)


@pytest.mark.parametrize(
    ("name", "mb4d", "mb3d"), [("efficientformer-l1", 14, 1), ("efficientformer-l3", 22, 4), ("l7", 30, 8)]
)
def test_a_published_network_has_the_blocks_of_the_paper(name: str, mb4d: int, mb3d: int) -> None:
    counts = Counter(block.kind for block in network(get_config(name)).blocks)
    assert counts == {"stem": 1, "MB4D": mb4d, "embedding": 3, "flat": 1, "MB3D": mb3d, "head": 1}


@pytest.mark.parametrize("config", [*CONFIGS.values(), *(replace(SMALL, mb3d=n) for n in range(5))], ids=str)
def test_each_block_takes_what_the_one_before_it_gives(config: Config) -> None:
    blocks = network(config).blocks
    for before, after in itertools.pairwise(blocks):
        assert get_kind(before.kind).output_shape(before) == get_kind(after.kind).input_shape(after), after
    assert get_kind("head").output_shape(blocks[-1]) == (1, 1000)


def test_stages_have_the_widths_and_resolutions_of_the_paper() -> None:
    stages = {(b.width_in, b.resolution) for b in network(get_config("l1")).blocks if b.kind in ("MB4D", "MB3D")}
    assert stages == {(48, 56), (96, 28), (224, 14), (448, 7)}


def test_the_flattening_comes_right_before_the_first_mb3d() -> None:
    kinds = [block.kind for block in network(get_config("l3")).blocks]
    assert kinds.index("MB3D") == kinds.index("flat") + 1 and kinds.count("flat") == 1


def test_a_network_without_mb3d_is_never_flattened_and_its_head_reads_a_map() -> None:
    blocks = network(replace(SMALL, mb3d=0)).blocks
    assert not {"flat", "MB3D"} & {block.kind for block in blocks}
    assert blocks[-1].params["layout"] == "4d"
    assert network(SMALL).blocks[-1].params["layout"] == "3d"


def test_mb3d_that_reach_into_stage_3_put_an_embedding_among_tokens() -> None:
    blocks = network(replace(SMALL, mb3d=3)).blocks
    layouts = [block.params["layout"] for block in blocks if block.kind == "embedding"]
    assert layouts == ["4d", "4d", "3d"]
    assert [block.kind for block in blocks[-6:]] == ["flat", "MB3D", "embedding", "MB3D", "MB3D", "head"]


def test_all_of_stage_3_may_be_mb3d() -> None:
    kinds = [block.kind for block in network(replace(SMALL, mb3d=4)).blocks]
    assert kinds[-8:] == ["embedding", "flat", "MB3D", "MB3D", "embedding", "MB3D", "MB3D", "head"]


def test_distillation_classes_and_batch_reach_the_blocks() -> None:
    blocks = network(replace(SMALL, distillation=False, classes=10, batch=4)).blocks
    assert blocks[-1].params["distillation"] == 0 and blocks[-1].width_out == 10
    assert {block.batch for block in blocks} == {4}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"widths": (1, 2, 3)}, "4 widths and 4 depths, not 3 and 4"),
        ({"depths": (1, 1, 1)}, "4 widths and 4 depths, not 4 and 3"),
        ({"depths": (1, 0, 2, 2)}, "at least one block"),
        ({"mb3d": 5}, r"0\.\.4 \(stages 3 and 4\), not 5"),
        ({"mb3d": -1}, "not -1"),
        ({"resolution": 225}, "stride 32; try 224 or 256"),
        ({"resolution": 0}, "try 32"),
        ({"resolution": -224}, "not divisible"),
        ({"stem_stride": 0}, "stem_stride must be one of 1, 2, 4, not 0"),
        ({"stem_stride": 3}, "not 3"),
    ],
)
def test_a_network_that_cannot_be_says_why(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        replace(SMALL, **changes)


def test_a_network_is_found_by_either_name_whatever_its_case() -> None:
    assert get_config("L1") is get_config("EfficientFormer-L1") is CONFIGS["efficientformer-l1"]
    with pytest.raises(InvalidSpec, match="efficientformer-l1, efficientformer-l3, efficientformer-l7"):
        get_config("l2")
