from __future__ import annotations

import random
from itertools import pairwise

import pytest

from edgelut import (
    EMBEDDING,
    FLAT,
    HEAD,
    IDENTITY,
    KINDS,
    MB3D,
    MB4D,
    STEM,
    BlockSpec,
    InvalidSpec,
    NetworkSpec,
    Params,
)
from edgelut.efficientformer import CONFIGS, Config, network
from edgelut.sequences import (
    CALL,
    CHAIN,
    COLD,
    NETWORK,
    blocks_of,
    chain,
    cold,
    companions,
    context,
    has_companions,
    in_context,
    label,
    network_spec,
    repeats,
)

L1 = network(CONFIGS["efficientformer-l1"])


def states() -> list[Config]:
    """Search states: every published network, and depths, widths and MB3D counts of all sorts, back through stage 3."""
    draw = random.Random(7)
    found = list(CONFIGS.values())
    for _ in range(150):
        depths = (draw.randint(1, 3), draw.randint(1, 3), draw.randint(1, 4), draw.randint(1, 4))
        widths = (draw.choice((16, 48)), draw.choice((64, 96)), draw.choice((160, 224)), draw.choice((320, 448)))
        found.append(Config(widths, depths, draw.randint(0, depths[2] + depths[3]), batch=draw.choice((1, 4))))
    return found


def test_the_context_of_every_block_of_every_state_fits_and_is_its_neighbours_where_those_are_mixers() -> None:
    seen: set[tuple[str, str | int | float | None, str | None, str | None]] = set()
    for config in states():
        blocks = network(config).blocks
        around = [None, *blocks, None]
        for before, spec, after in zip(around, blocks, around[2:], strict=False):
            if repeats(spec):
                continue
            found = context(spec)
            assert blocks_of(in_context(spec)) == tuple(block for block in (found[0], spec, found[1]) if block)
            for real, usual in zip((before, after), found, strict=True):
                assert (real is None) == (usual is None)
                if real is not None and repeats(real):
                    assert usual == real
            kinds = [usual.kind if usual is not None else None for usual in found]
            seen.add((spec.kind, spec.params.get("layout"), *kinds))  # type: ignore[arg-type]
    assert seen == {
        ("stem", None, None, "MB4D"),
        ("embedding", "4d", "MB4D", "MB4D"),
        ("embedding", "3d", "MB3D", "MB3D"),
        ("flat", None, "MB4D", "MB3D"),
        ("head", "3d", "MB3D", None),
        ("head", "4d", "MB4D", None),
    }


def test_a_chain_repeats_what_can_follow_itself() -> None:
    spec = MB4D.spec(48, 56)
    assert blocks_of(chain(spec)) == (spec,) * 5
    assert len(blocks_of(chain(MB3D.spec(448, 7)))) == 4
    assert len(blocks_of(chain(spec, 3))) == 3
    with pytest.raises(InvalidSpec, match=r"gives .* reads"):
        chain(EMBEDDING.spec(48, 56, width_out=96))


def test_companions_are_what_a_slope_or_a_context_is_computed_from() -> None:
    spec, before, after = EMBEDDING.spec(48, 56, width_out=96), MB4D.spec(48, 56), MB4D.spec(96, 28)
    assert companions(MB4D.spec(48, 56)) == [chain(MB4D.spec(48, 56))]
    assert companions(spec) == [
        CHAIN.of((before, spec, after)),
        CALL,
        before,
        chain(before),
        after,
        chain(after),
    ]
    assert companions(STEM.spec(48, 224)) == [
        in_context(STEM.spec(48, 224)),
        MB4D.spec(48, 56),
        chain(MB4D.spec(48, 56)),
    ]
    assert companions(HEAD.spec(448, 7, width_out=10)) == [
        in_context(HEAD.spec(448, 7, width_out=10)),
        CALL,
        MB3D.spec(448, 7),
        chain(MB3D.spec(448, 7)),
    ]


@pytest.mark.parametrize(
    "spec",
    [
        IDENTITY.spec(48, 56),
        BlockSpec("mine", 48, 48, 56),
        BlockSpec("MB4D", 48, 48, 56),  # lacks its parameters: nobody can build it
        BlockSpec("mb4d", 48, 48, 56, params=MB4D.fill(None)),
        chain(MB4D.spec(48, 56)),
        cold(MB4D.spec(48, 56)),
        network_spec(L1),
    ],
    ids=str,
)
def test_what_costs_nothing_cannot_be_built_or_is_a_sequence_has_no_companions(spec: BlockSpec) -> None:
    assert companions(spec) == [] and not has_companions(spec)


def test_a_sequence_has_the_ends_of_its_blocks_and_a_key_of_its_own() -> None:
    spec = network_spec(L1)
    assert (spec.width_in, spec.width_out, spec.resolution, spec.batch) == (3, 1000, 224, 1)
    assert blocks_of(spec) == L1.blocks and NETWORK.check(spec) is spec
    assert NETWORK.input_shape(spec) == (1, 3, 224, 224) and NETWORK.output_shape(spec) == (1, 1000)
    assert NETWORK.layouts(spec) == ("4d", "4d") and CHAIN.layouts(chain(MB3D.spec(448, 7))) == ("3d", "3d")
    same = (MB4D.spec(48, 56),)
    assert len({CHAIN.of(same).key, COLD.of(same).key, NETWORK.of(same).key, same[0].key}) == 4


def test_the_keys_of_sequences_are_for_ever() -> None:
    assert chain(MB4D.spec(48, 56)).key == "d16a857e218be38b49418bc38b0ce135"
    assert cold(MB3D.spec(448, 7)).key == "c71f5719d8b6646fc3f0c210804df3fb"
    assert network_spec(L1).key == "53fb419829d09f39341293beabc350b6"


def test_neighbours_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"MB4D 48 @56 gives .* but MB4D 96 @56 reads"):
        CHAIN.of((MB4D.spec(48, 56), MB4D.spec(96, 56)))
    with pytest.raises(InvalidSpec, match="gives"):
        CHAIN.of((MB4D.spec(48, 56), MB4D.spec(48, 56, batch=2)))
    with pytest.raises(InvalidSpec, match="gives"):
        CHAIN.of((HEAD.spec(448, 7, width_out=448), MB3D.spec(448, 7)))
    assert CHAIN.of((BlockSpec("mine", 1, 1, 1), MB4D.spec(48, 56)))  # shapes of other kinds are not known here


@pytest.mark.parametrize("blocks", [[], [MB4D.spec(48, 56)] * 2])
def test_a_cold_spec_is_of_one_block(blocks: list[BlockSpec]) -> None:
    with pytest.raises(InvalidSpec, match="give one block"):
        COLD.of(blocks)


@pytest.mark.parametrize(
    "spec",
    [
        BlockSpec("chain", 48, 48, 56),
        BlockSpec("chain", 48, 48, 56, params=Params({"blocks": "nonsense"})),
        BlockSpec("chain", 48, 48, 56, params=Params({"blocks": 4})),
        BlockSpec("chain", 48, 48, 56, params=Params({"blocks": "2*MB4D:48@56"})),  # not as it is written
        BlockSpec("chain", 48, 96, 56, params=chain(MB4D.spec(48, 56)).params),
        BlockSpec("network", 48, 48, 56, params=chain(MB4D.spec(48, 56)).params),
    ],
    ids=lambda spec: str(dict(spec.params))[:40],
)
def test_a_sequence_whose_parts_do_not_agree_is_refused_and_still_has_a_label(spec: BlockSpec) -> None:
    with pytest.raises(InvalidSpec):
        CHAIN.check(spec)
    assert label(spec)


def test_a_sequence_is_no_block_of_a_sequence() -> None:
    with pytest.raises(InvalidSpec, match="cannot be written"):
        NETWORK.of((chain(MB4D.spec(48, 56)),))


def test_a_label_is_short() -> None:
    assert label(in_context(FLAT.spec(448, 7))) == "chain MB4D:448@7 + flat:448@7 + MB3D:448@7"
    assert label(MB4D.spec(48, 56)) == "MB4D 48 @56"


def test_every_pair_of_neighbours_of_the_published_networks_fits() -> None:
    for config in CONFIGS.values():
        for one, other in pairwise(network(config).blocks):
            assert KINDS[one.kind].output_shape(one) == KINDS[other.kind].input_shape(other)
        assert NetworkSpec(blocks_of(network_spec(network(config)))) == network(config)
