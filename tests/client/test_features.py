from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelut import MB4D, BlockSpec
from edgelut.blocks import EMBEDDING
from edgelut.features import Encoder, Gap, Side, Unlike
from edgelut.types import Params

WIDTHS = (32, 64, 96, 128, 160, 192, 224)
SPECS = [MB4D.spec(width, resolution) for width in WIDTHS for resolution in (7, 14, 28)]


def other(**params: object) -> BlockSpec:
    return BlockSpec("theirs", 16, 24, 56, params=Params(params))


def test_a_width_that_is_always_the_input_s_counts_once() -> None:
    assert Encoder(SPECS).trend == 2  # width and resolution
    embeddings = [EMBEDDING.spec(a, 28, width_out=b) for a in (16, 32, 48) for b in (64, 96)]
    assert Encoder(embeddings).trend == 2  # both widths; the map is always the same


def test_products_are_sums_of_features_and_tiles_are_told_apart() -> None:
    encoder = Encoder(SPECS)
    small, large = encoder.encode([MB4D.spec(32, 7), MB4D.spec(64, 14)])
    np.testing.assert_allclose(large[:2] - small[:2], np.log(2))
    assert encoder.width == 2, "all widths are multiples of 32"
    odd = Encoder([MB4D.spec(width, 7) for width in range(8, 65, 8)])
    tiles = odd.encode([MB4D.spec(width, 7) for width in (31, 30, 28, 16, 64, 96)])[:, odd.trend]
    assert tiles.tolist() == [0, 1, 2, 4, 5, 5]


def test_words_are_features_of_their_own() -> None:
    specs = [other(act=act, kernel=kernel) for act in ("relu", "gelu", "hardswish") for kernel in (3, 5)]
    encoder = Encoder(specs)
    assert encoder.trend == 1 + 2
    assert len({tuple(row) for row in encoder.encode(specs).tolist()}) == 6


@pytest.mark.parametrize(
    ("width", "resolution", "gaps"),
    [
        (64, 14, []),
        (70, 14, [Gap("width", Side.BETWEEN), Gap("width_out", Side.BETWEEN)]),
        (64, 10, [Gap("resolution", Side.BETWEEN)]),
        (16, 56, [Gap("width", Side.BELOW), Gap("width_out", Side.BELOW), Gap("resolution", Side.ABOVE)]),
    ],
)
def test_it_says_where_a_block_is_among_the_rows(width: int, resolution: int, gaps: list[Gap]) -> None:
    assert Encoder(SPECS).gaps(MB4D.spec(width, resolution)) == gaps


def test_it_says_how_far_beyond_the_rows_a_block_is() -> None:
    (gap,) = Encoder(SPECS).gaps(MB4D.spec(64, 56))
    assert gap.reach == pytest.approx(np.log(2)) and gap.is_beyond


@pytest.mark.parametrize(
    ("specs", "asked", "why"),
    [
        (SPECS, MB4D.spec(64, 14, batch=2), "all rows have batch 1"),
        (SPECS, MB4D.spec(64, 14, params={"activation": "relu"}), "no row has activation relu, but gelu"),
        ([other(k=3), other(k=5)], other(kernel=3), "its parameters are .*kernel"),
        ([other(k=3), other(k=5)], other(k=0), "its k is 0"),
        ([other(k=3), other(k=5)], other(k="five"), "its k is 'five'"),
    ],
)
def test_a_block_that_rows_say_nothing_of_is_refused(specs: list[BlockSpec], asked: BlockSpec, why: str) -> None:
    with pytest.raises(Unlike) as caught:
        Encoder(specs).gaps(asked)
    assert re.search(why, caught.value.why)


def test_inner_values_are_left_out_one_by_one_and_outer_ones_by_the_end() -> None:
    encoder = Encoder(SPECS)
    widths = np.array([spec.width_in for spec in SPECS])
    between, reach = encoder.groups(SPECS, Gap("width", Side.BETWEEN))
    assert [set(widths[group]) for group in between] == [{width} for width in WIDTHS[1:-1]] and reach == 0
    above, reach = encoder.groups(SPECS, Gap("width", Side.ABOVE))
    assert [set(widths[group]) for group in above] == [{224}, {192, 224}]
    assert reach == pytest.approx(np.log(224 / 160))
    below, _ = encoder.groups(SPECS, Gap("resolution", Side.BELOW))
    assert [{SPECS[place].resolution for place in group} for group in below] == [{7}]


def test_no_group_takes_most_of_the_rows() -> None:
    lopsided = [MB4D.spec(32, 7), MB4D.spec(64, 7), *(MB4D.spec(96, 7 * n) for n in range(1, 9))]
    for side in Side:
        groups, _ = Encoder(lopsided).groups(lopsided, Gap("width", side))
        assert all(len(group) <= 0.6 * len(lopsided) for group in groups)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 512), st.integers(1, 64)), min_size=1, max_size=20))
def test_every_row_is_among_the_rows_and_has_finite_features(places: list[tuple[int, int]]) -> None:
    specs = [MB4D.spec(*place) for place in places]
    encoder = Encoder(specs)
    assert np.isfinite(encoder.encode(specs)).all() and encoder.encode(specs).shape == (len(specs), encoder.width)
    assert all(encoder.gaps(spec) == [] for spec in specs)
