from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelut import MB3D, MB4D, BlockSpec, Entry, Latency, MemoryTable, Target
from edgelut import estimate as module
from edgelut.blocks import STEM
from edgelut.errors import InvalidSpec, LatencyNotFound, NotEstimable, OtherUnit, UnlikeMeasures
from edgelut.estimate import Estimator, KindEstimator
from edgelut.estimated import EstimatedSource, estimates_of, like_target, rows_of, spec_of, spelled
from edgelut.features import Gap, Side
from edgelut.sequences import chain, network_spec
from edgelut.transfer import Transfer
from edgelut.types import NetworkSpec, Params
from tests.client.estimate_data import HOST, PHONE, blocks, measured, table, true_ns

ODD = [MB4D.spec(width, resolution) for width in (48, 200, 330) for resolution in (7, 14, 28)]


def off(found: Sequence[Entry | None], target: Target = HOST) -> list[float]:
    """How far estimates are from the truth, relative."""
    assert all(entry is not None for entry in found)
    return [abs(entry.latency.p10_ns / true_ns(entry.spec, target) - 1) for entry in found if entry is not None]


def holds(entry: Entry, target: Target = HOST) -> bool:
    return entry.latency.low_ns <= true_ns(entry.spec, target) <= entry.latency.high_ns


def test_widths_between_those_measured_are_interpolated_to_a_few_percent() -> None:
    found = Estimator(table(), HOST).find_many(ODD)
    assert max(off(found)) < 0.03
    assert {entry.kind for entry in found if entry} == {"interpolated"}
    assert all(holds(entry) for entry in found if entry)
    assert all(entry.latency.half_width < 0.1 for entry in found if entry)


def test_a_map_between_those_measured_is_interpolated_and_said_less_surely() -> None:
    known = Estimator(table(resolutions=(5, 7, 10, 14, 20, 28)), HOST)
    on, between = known.estimate(MB4D.spec(200, 14)), known.estimate(MB4D.spec(200, 12))
    assert between.kind == "interpolated" and holds(between)
    assert between.latency.half_width > on.latency.half_width


def test_beyond_the_rows_it_is_predicted_and_wider_the_farther() -> None:
    known = Estimator(table(), HOST)
    near, far = known.estimate(MB4D.spec(480, 14)), known.estimate(MB4D.spec(640, 14))
    assert (near.kind, far.kind) == ("predicted", "predicted")
    assert holds(near) and holds(far)
    assert far.latency.half_width > near.latency.half_width > known.estimate(MB4D.spec(400, 14)).latency.half_width


def test_a_row_that_was_measured_is_never_smoothed() -> None:
    rows = [*table(), measured(MB4D.spec(72, 14), noise=0.5, seed=3)]
    assert Estimator(rows, HOST).estimate(rows[-1].spec) is rows[-1]


def test_what_sums_go_by_is_estimated_too() -> None:
    latency = Estimator(table(), HOST).estimate(ODD[0]).latency
    assert latency.slope_ns == pytest.approx(1.1 * latency.p10_ns, rel=0.02)
    assert latency.cold_ns == pytest.approx(1.4 * latency.p10_ns, rel=0.02)
    assert latency.p10_ns < latency.p50_ns < latency.p90_ns
    assert latency.context_ns is None and (latency.runs, latency.samples) == (0, 0)


def test_it_says_by_what_it_was_made() -> None:
    provenance = Estimator(table(), HOST).estimate(ODD[0]).provenance
    assert provenance["method"] == f"gp-{module.VERSION}" and provenance["rows"] == 42
    assert provenance["conditions"] == "c1" and provenance["ran_on"] == "cpu"
    assert 0 < float(provenance["median_error"]) < 0.05
    assert provenance["basis"] == Estimator(reversed(table()), HOST).estimate(ODD[0]).provenance["basis"]
    assert provenance["basis"] != Estimator(table(noise=0.02), HOST).estimate(ODD[0]).provenance["basis"]


def test_rows_under_several_conditions_give_estimates_under_none() -> None:
    rows = [*table(), measured(MB4D.spec(40, 14), provenance=Params({"conditions": "c2", "ran_on": "ne"}))]
    found = Estimator(rows, HOST).estimate(ODD[0])
    assert "conditions" not in found.provenance and "ran_on" not in found.provenance


def test_the_order_of_rows_changes_nothing() -> None:
    one, other = (Estimator(rows, HOST).estimate(ODD[0]).latency for rows in (table(), reversed(table())))
    assert one == other


def test_intervals_hold_as_often_as_they_say_where_rows_are_noisy() -> None:
    held = []
    for seed in range(6):
        rows = table(noise=0.04, seed=seed)
        chosen = np.random.default_rng(seed).permutation(len(rows))
        found = Estimator([rows[place] for place in chosen[:45]], HOST).find_many(
            [rows[place].spec for place in chosen[45:]]
        )
        held += [holds(entry) for entry in found if entry is not None]
    assert len(held) > 100
    assert np.mean(held) > 0.9


def test_few_rows_left_out_are_said() -> None:
    found = Estimator([measured(MB4D.spec(width, 7)) for width in range(32, 225, 32)], HOST).estimate(MB4D.spec(48, 7))
    assert any("could be left out" in doubt for doubt in found.latency.doubts)
    assert Estimator(table(), HOST).estimate(ODD[0]).latency.doubts == ()


def test_a_wide_interval_is_a_doubt_and_a_useless_one_no_answer() -> None:
    noisy = Estimator(table(noise=0.1), HOST)
    assert any("only" in doubt for doubt in noisy.estimate(ODD[0]).latency.doubts)
    with pytest.raises(NotEstimable, match=r"MB4D 64 @224 on host.*off by up to .*edgelut profile"):
        Estimator(table(), HOST).estimate(MB4D.spec(64, 224))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (STEM.spec(48, 224), "0 rows of stem were measured there, and 5 are needed"),
        (MB4D.spec(64, 7, batch=4), "all rows have batch 1"),
        (MB4D.spec(64, 7, params={"activation": "relu"}), "no row has activation relu"),
        (MB3D.spec(64, 7, params={"heads": 4}), "all rows have heads 8"),
    ],
)
def test_what_rows_say_nothing_of_is_refused_with_the_reason(spec: BlockSpec, why: str) -> None:
    known = Estimator(table(), HOST)
    assert known.find_many([spec]) == [None] and why in known.why_not(spec)
    with pytest.raises(NotEstimable, match=why) as caught:
        known.estimate(spec)
    assert isinstance(caught.value, LatencyNotFound)


def test_only_measured_times_of_single_blocks_on_the_target_are_learnt_from() -> None:
    rows = table()
    (spec, *_), odd = blocks(), replace(rows[0].latency, p10_ns=1.0)
    sequence = chain(spec, 2)
    others = [
        replace(rows[0], latency=odd, kind="predicted"),
        replace(rows[0], latency=odd, target=PHONE),
        replace(rows[0], latency=odd, spec=sequence),
        replace(rows[0], latency=odd, spec=network_spec(NetworkSpec((spec,)))),
        replace(rows[0], latency=replace(odd, clock="instructions"), kind="emulated", spec=ODD[0]),
    ]
    assert Estimator([*others, *rows], HOST).estimate(ODD[1]).latency == Estimator(rows, HOST).estimate(ODD[1]).latency


def test_counts_of_instructions_are_not_estimated() -> None:
    count = Latency(1e6, 1e6, 1e6, 1e6, 1e6, 1, 1, "instructions")
    rows = [Entry(spec, HOST, count, "emulated") for spec in blocks()]
    with pytest.raises(UnlikeMeasures, match="count instructions"):
        Estimator(rows, HOST)


def test_an_estimate_is_the_same_alone_and_among_others() -> None:
    known = Estimator(table(), HOST)
    together = known.find_many([*ODD, MB4D.spec(640, 14)])
    assert [known.find_many([entry.spec])[0].latency for entry in together if entry] == [  # type: ignore[union-attr]
        entry.latency for entry in together if entry
    ]


def test_a_kind_with_too_few_rows_is_not_estimated() -> None:
    rows = [measured(MB4D.spec(width, 7)) for width in (32, 64, 96, 128)]
    assert "4 rows of MB4D were measured there" in Estimator(rows, HOST).why_not(MB4D.spec(48, 7))
    with pytest.raises(InvalidSpec, match="4 rows of a kind"):
        KindEstimator(rows)


def test_trials_say_how_far_off_rows_left_out_were() -> None:
    kind = Estimator(table(noise=0.02), HOST).kinds["MB4D"]
    said = dict(kind.all_trials())
    assert {"one by one", "a width between", "above in width", "below in resolution"} <= set(said)
    assert said["one by one"].rows == 42 and 0.005 < said["one by one"].median_error < 0.04
    assert said["above in width"].median_error > 0 and said["one by one"].within_10 > 0.95
    assert kind.tried(Gap("width", Side.ABOVE)) is kind.tried(Gap("width", Side.ABOVE))


def test_more_rows_than_a_process_holds_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 30)
    known = Estimator(table(), HOST)
    assert known.kinds["MB4D"].trial.rows == 30
    assert max(off(known.find_many(ODD))) < 0.1
    assert known.find_many(blocks()) == table(), "rows that were not learnt from are handed on all the same"


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(blocks()), min_size=5, max_size=40, unique=True), st.integers(1, 600), st.integers(1, 64)
)
def test_whatever_the_rows_an_answer_is_finite_positive_and_within_its_interval(
    specs: list[BlockSpec], width: int, resolution: int
) -> None:
    asked = [MB4D.spec(width, resolution), MB3D.spec(width, resolution)]
    for entry in Estimator([measured(spec, noise=0.1) for spec in specs], HOST).find_many(asked):
        if entry is not None:
            latency = entry.latency
            assert 0 < latency.low_ns <= latency.p10_ns <= latency.high_ns < np.inf
            assert latency.p10_ns <= latency.p50_ns <= latency.p90_ns
            assert latency.high_ns <= (1 + module.WIDEST) * latency.p10_ns * 1.000001 or entry.kind == "measured"


def test_what_goes_by_rows_in_doubt_is_in_doubt() -> None:
    rows = [replace(row, latency=replace(row.latency, doubts=("noisy",))) for row in table()]
    some = [*rows[:10], *table()[10:]]
    assert any("42 of the 42 rows" in doubt for doubt in Estimator(rows, HOST).estimate(ODD[0]).latency.doubts)
    assert Estimator(some, HOST).estimate(ODD[0]).latency.doubts == ()


class TestTransfer:
    PROBES = (
        MB4D.spec(64, 7),
        MB4D.spec(384, 7),
        MB4D.spec(160, 14),
        MB4D.spec(96, 28),
        MB3D.spec(96, 7),
        MB3D.spec(320, 14),
    )

    def known(self, *more: Entry, seed: int = 0) -> Transfer:
        probes = [measured(spec, PHONE, 0.01, seed) for spec in self.PROBES]
        return Transfer(Estimator(table(), HOST), [*probes, *more], PHONE)

    def test_six_blocks_carry_a_table_over(self) -> None:
        asked = [spec for spec in blocks() if spec not in self.PROBES]
        known = self.known()
        found = [entry for entry in known.find_many(asked) if entry is not None]
        errors = off(found, PHONE)
        assert len(found) > 0.8 * len(asked)
        assert float(np.median(errors)) < 0.05 and max(errors) < 0.3
        assert {entry.kind for entry in found} == {"transferred"}
        assert np.mean([holds(entry, PHONE) for entry in found]) > 0.9

    def test_its_own_rows_are_handed_on_and_what_is_carried_says_from_where(self) -> None:
        known = self.known()
        assert known.estimate(self.PROBES[0]).kind == "measured"
        found = known.estimate(MB4D.spec(128, 14))
        assert found.target == PHONE and found.provenance["from"] == str(HOST) and found.provenance["rows"] == 6
        assert "6 blocks that both devices have" in found.latency.doubts[0]
        slope = found.latency.slope_ns
        assert slope is not None and slope == pytest.approx(1.1 * found.latency.p10_ns, rel=0.05)

    def test_a_block_that_neither_measured_is_estimated_there_and_carried(self) -> None:
        found, there = self.known().estimate(MB4D.spec(200, 14)), Estimator(table(), HOST).estimate(MB4D.spec(200, 14))
        assert found.kind == "transferred" and off([found], PHONE)[0] < 0.1
        assert found.latency.half_width > there.latency.half_width

    def test_with_many_rows_of_its_own_a_kind_goes_by_those(self) -> None:
        def rough(spec: BlockSpec) -> Entry:  # another device that has little to do with this one
            row = measured(spec)
            factor = 3.0 if (spec.width_in // 32) % 2 else 0.7
            return replace(row, latency=replace(row.latency, p10_ns=row.latency.p10_ns * factor))

        source = Estimator([rough(spec) for spec in blocks()], HOST)
        own = [measured(spec, PHONE, 0.005) for spec in blocks() if spec.kind == "MB4D" or spec.width_in == 96]
        known = Transfer(source, own, PHONE)
        assert (known.by("MB4D"), known.by("MB3D"), known.by("stem")) == ("own", "transfer", "")
        assert known.estimate(MB4D.spec(200, 14)).kind == "interpolated"

    def test_it_is_on_the_clock_of_its_own_rows_and_takes_doubts_over(self) -> None:
        there = [replace(row, latency=replace(row.latency, clock="wall", doubts=("published",))) for row in table()]
        known = Transfer(Estimator(there, HOST), [measured(spec, PHONE, 0.01) for spec in self.PROBES], PHONE)
        found = known.estimate(MB4D.spec(128, 14)).latency
        assert found.clock == "cpu" and any("is in doubt" in doubt for doubt in found.doubts)

    def test_a_batch_that_no_probe_has_is_refused(self) -> None:
        spec = MB4D.spec(128, 14, batch=4)
        source = Estimator([*table(), measured(spec)], HOST)
        known = Transfer(source, [measured(probe, PHONE) for probe in self.PROBES], PHONE)
        assert known.find_many([spec]) == [None] and "all rows have batch 1" in known.why_not(spec)

    def test_a_kind_of_which_nothing_was_measured_there_is_refused(self) -> None:
        source = Estimator([*table(), *(measured(STEM.spec(w, 224)) for w in range(16, 97, 16))], HOST)
        known = Transfer(source, [measured(spec, PHONE) for spec in self.PROBES], PHONE)
        with pytest.raises(NotEstimable, match="no stem was measured there"):
            known.estimate(STEM.spec(48, 224))

    @pytest.mark.parametrize("own", [0, 2])
    def test_too_few_blocks_in_common_are_refused(self, own: int) -> None:
        rows = [measured(spec, PHONE) for spec in self.PROBES[:own]]
        with pytest.raises(NotEstimable, match="3 are needed: measure some blocks of MB3D, MB4D"):
            Transfer(Estimator(table(), HOST), rows, PHONE)
        with pytest.raises(NotEstimable, match="no block was measured"):
            Transfer(Estimator([], HOST), rows, PHONE)


class TestSource:
    def source(self) -> MemoryTable:
        return MemoryTable([*table(), *(measured(spec, PHONE) for spec in TestTransfer.PROBES)])

    def test_gaps_are_filled_and_rows_handed_on(self) -> None:
        filled = EstimatedSource(self.source())
        first, gap, none = filled.find_many([blocks()[0], ODD[0], STEM.spec(48, 224)], HOST)
        assert first is not None and first.kind == "measured"
        assert gap is not None and gap.kind == "interpolated" and none is None
        with pytest.raises(LatencyNotFound, match="stem"):
            filled.get(STEM.spec(48, 224), HOST)
        assert filled.get(ODD[0], HOST) == gap, "learnt once"

    def test_estimates_ran_where_all_their_rows_did(self) -> None:
        filled = EstimatedSource(self.source())
        assert filled.get(ODD[0], HOST, require_unit="cpu").kind == "interpolated"
        with pytest.raises(OtherUnit):
            filled.get(ODD[0], HOST, require_unit="ne")

    def test_another_target_s_table_helps(self) -> None:
        assert EstimatedSource(self.source(), like=HOST).get(ODD[0], PHONE).kind == "transferred"
        assert EstimatedSource(self.source(), like=HOST).get(ODD[0], HOST).kind == "interpolated"
        assert EstimatedSource(self.source()).find(ODD[0], PHONE) is None

    def test_targets_are_found_whatever_their_case(self) -> None:
        assert spelled(self.source(), Target("HOST", "onnxruntime-CPU")) == HOST
        assert estimates_of(self.source(), Target("Host", "onnxruntime-cpu")).estimate(ODD[0]).target == HOST
        assert spelled(self.source(), Target("none", "none")) == Target("none", "none")

    def test_rows_are_read_page_by_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edgelut.estimated.PAGE", 7)
        assert len(list(rows_of(self.source(), HOST))) == len(table())


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("pixel4", Target("pixel4", "onnxruntime-cpu", "fp16", 2, "gpu")),
        ("pixel4/tflite", Target("pixel4", "tflite", "fp16", 2, "gpu")),
        ("pixel4/tflite/fp32/1/cpu", Target("pixel4", "tflite")),
    ],
)
def test_a_target_is_named_as_far_as_it_differs(text: str, target: Target) -> None:
    assert like_target(text, Target("host", "onnxruntime-cpu", "fp16", 2, "gpu")) == target


@pytest.mark.parametrize("text", ["", "a//b", "a/b/c/d/e", "a/b/c/1/e/f"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is no target: write DEVICE"):
        like_target(text, HOST)


def test_a_block_of_a_kind_that_nobody_knows_is_taken_as_it_is_given() -> None:
    assert spec_of("mb4d", 48, 56, None, 1, Params()) == MB4D.spec(48, 56)
    assert spec_of("theirs", 48, 56, 96, 2, Params({"k": 3})) == BlockSpec("theirs", 48, 96, 56, 2, Params({"k": 3}))
