from __future__ import annotations

from collections.abc import Mapping

import pytest

from edgelut import EMBEDDING, FLAT, HEAD, IDENTITY, MB3D, MB4D, STEM, BlockSpec, Entry, MemoryTable, Target
from edgelut.efficientformer import CONFIGS, network
from edgelut.sequences import CALL, SEQUENCES, chain, cold, in_context, network_spec
from edgelut.slopes import complete, context_ns, needs, with_needs
from edgelut.testing import make_entry

TARGET = Target("host", "onnxruntime-cpu")
MIXER, AFTER = MB4D.spec(48, 56), MB4D.spec(96, 28)
EMBED, STEM48, HEAD10 = EMBEDDING.spec(48, 56, width_out=96), STEM.spec(48, 224), HEAD.spec(448, 7, width_out=10)

AROUND = {  # slopes of 120 and 100, a call of 5
    EMBED: 70.0,
    in_context(EMBED): 320.0,
    MIXER: 100.0,
    chain(MIXER): 580.0,
    AFTER: 80.0,
    chain(AFTER): 480.0,
    CALL: 5.0,
}


def table(times: Mapping[BlockSpec, float], doubts: tuple[str, ...] = ()) -> MemoryTable:
    return MemoryTable(make_entry(ns, spec, TARGET, doubts=doubts) for spec, ns in times.items())


def completed(spec: BlockSpec, rows: MemoryTable) -> Entry:
    return complete(rows.get(spec, TARGET), lambda wanted: rows.find(wanted, TARGET))


def test_a_slope_is_what_one_more_copy_adds() -> None:
    latency = completed(MIXER, table({MIXER: 100.0, chain(MIXER): 580.0, cold(MIXER): 150.0})).latency
    assert (latency.chain_ns, latency.slope_ns, latency.cold_ns, latency.context_ns) == (580, 120, 150, None)
    assert latency.p10_ns == 100


def test_a_chain_of_three_copies_of_mb3d_adds_three_slopes() -> None:
    spec = MB3D.spec(448, 7)
    assert completed(spec, table({spec: 100.0, chain(spec): 460.0})).latency.slope_ns == 120


def test_a_context_is_what_a_block_adds_between_its_neighbours() -> None:
    latency = completed(EMBED, table({**AROUND, cold(EMBED): 99.0})).latency
    assert latency.context_ns == 320 - 120 - 100 - 5
    assert (latency.cold_ns, latency.slope_ns, latency.chain_ns) == (99, None, None)


def test_a_stem_has_nothing_before_it_and_a_head_nothing_after() -> None:
    times = {STEM48: 50.0, in_context(STEM48): 170.0, MIXER: 100.0, chain(MIXER): 580.0}
    assert completed(STEM48, table(times)).latency.context_ns == 170 - 120
    last = MB3D.spec(448, 7)
    times = {HEAD10: 50.0, in_context(HEAD10): 130.0, last: 100.0, chain(last): 370.0, CALL: 5.0}
    assert completed(HEAD10, table(times)).latency.context_ns == 130 - 90 - 5


def test_a_flat_that_costs_less_than_nothing_is_written_down_as_it_was_measured() -> None:
    spec = FLAT.spec(448, 7)
    before, after = MB4D.spec(448, 7), MB3D.spec(448, 7)
    times = {
        spec: 10.0,
        in_context(spec): 195.0,
        before: 100.0,
        chain(before): 500.0,
        after: 100.0,
        chain(after): 400.0,
    }
    assert completed(spec, table({**times, CALL: 0.0})).latency.context_ns == -5


@pytest.mark.parametrize(
    "lacking",
    [spec for spec in AROUND if spec != EMBED],
    ids=["whole", "before", "chain", "after", "next-chain", "call"],
)
def test_a_row_that_is_missing_leaves_the_context_open(lacking: BlockSpec) -> None:
    rows = table({spec: ns for spec, ns in AROUND.items() if spec != lacking})
    assert context_ns(EMBED, lambda spec: rows.find(spec, TARGET)) is None
    latency = completed(EMBED, rows).latency
    assert (latency.context_ns, latency.cold_ns, latency.p10_ns) == (None, None, 70)


def test_without_any_other_row_an_entry_stays_as_it_is() -> None:
    entry = make_entry(1.0, MIXER, TARGET)
    assert complete(entry, lambda _: None) == entry


def test_doubts_of_what_a_slope_was_read_from_are_the_rows_own() -> None:
    rows = table({MIXER: 100.0, chain(MIXER): 580.0}, doubts=("noisy",))
    latency = completed(MIXER, rows).latency
    assert latency.doubts == ("noisy", "chain 5*MB4D:48@56: noisy") and not latency.stable
    flushed = MemoryTable([make_entry(1.0, MIXER, TARGET), make_entry(2.0, cold(MIXER), TARGET, doubts=("noisy",))])
    assert completed(MIXER, flushed).latency.stable  # a cold row only bounds


def test_counts_of_instructions_complete_counts_and_no_times() -> None:
    counts = [
        make_entry(ns, one, TARGET, clock="instructions") for ns, one in ((20.0, chain(MIXER)), (7.0, cold(MIXER)))
    ]
    table = MemoryTable([make_entry(10.0, MIXER, TARGET), *counts])
    assert completed(MIXER, table).latency == make_entry(10.0, MIXER, TARGET).latency
    emulated = MemoryTable([make_entry(10.0, MIXER, TARGET, clock="instructions"), *counts])
    latency = completed(MIXER, emulated).latency
    assert (latency.slope_ns, latency.cold_ns, latency.measure) == (2.5, 7.0, "instructions")


@pytest.mark.parametrize(
    "spec", [IDENTITY.spec(48, 56), chain(MIXER), cold(MIXER), BlockSpec("mine", 8, 8, 4)], ids=str
)
def test_what_has_no_companions_is_complete(spec: BlockSpec) -> None:
    entry = make_entry(1.0, spec, TARGET)
    assert complete(entry, lambda wanted: make_entry(2.0, wanted, TARGET)) is entry and needs(spec) == []


def test_needs_follow_from_needs_so_that_every_block_measured_on_the_way_is_complete_too() -> None:
    found = with_needs([HEAD10])
    assert found[0] == HEAD10 and len(found) == len(set(found))
    assert set(found) == {HEAD10, in_context(HEAD10), cold(HEAD10), CALL, *with_needs([MB3D.spec(448, 7)])}
    for config in CONFIGS.values():
        blocks = network(config).blocks
        every = with_needs([*blocks, network_spec(network(config))])
        assert set(every) >= {need for spec in every for need in needs(spec)}
        assert len(every) < 5 * len(set(blocks)) and all(
            spec.kind in SEQUENCES or spec == CALL or needs(spec) for spec in every
        )
