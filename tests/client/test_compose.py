from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.testing import InProcess
from edgelut import (
    EMBEDDING,
    IDENTITY,
    MB4D,
    BlockSpec,
    Entry,
    InvalidSpec,
    Latency,
    LatencyNotFound,
    MemoryTable,
    NetworkSpec,
    Params,
    Target,
    wire,
)
from edgelut.compose import ALONE_ERROR, ASSUMED_ERROR, IncompleteNetwork, compose, count_instructions, kendall_tau
from edgelut.efficientformer import CONFIGS, Config, network
from edgelut.errors import OtherUnit, UnlikeMeasures
from edgelut.estimated import EstimatedSource
from edgelut.http import HttpTable
from edgelut.quality import NetworkLatency, estimate, network_latency, quality
from edgelut.sequences import network_spec, repeats
from edgelut.snapshot import Snapshot, write
from edgelut.table import Searchable
from edgelut.types import EntryKind
from tests.api.support import new_store

TARGET = Target("host", "onnxruntime-cpu")
A, B, C = MB4D.spec(48, 56), EMBEDDING.spec(48, 56, width_out=96), MB4D.spec(96, 28)
ABC = NetworkSpec((A, A, B, C))
L1 = network(CONFIGS["efficientformer-l1"])


def row(
    spec: BlockSpec,
    ns: float = 100.0,
    *,
    slope: float | None = 120.0,
    context: float | None = None,
    cold: float | None = 150.0,
    half: float = 0.01,
    doubts: tuple[str, ...] = (),
    kind: EntryKind = "measured",
    target: Target = TARGET,
    sweep: str = "s1",
    conditions: str = "c1",
    day: int = 1,
) -> Entry:
    """A row with all that a sum reads."""
    latency = Latency(
        *(ns, 1.1 * ns, 1.2 * ns, (1 - half) * ns, (1 + half) * ns),
        runs=8,
        samples=24,
        slope_ns=slope,
        context_ns=context,
        cold_ns=cold,
        doubts=doubts,
    )
    facts = {"sweep": sweep, "conditions": conditions, "measured_at": f"2026-01-{day:02}T00:00:00+00:00"}
    return Entry(spec, target, latency, kind, Params(facts))


def whole(spec: NetworkSpec, ns: float, **changes: Any) -> Entry:
    """The row of a whole network."""
    return row(network_spec(spec), ns, slope=None, cold=None, **changes)


def rows_of(spec: NetworkSpec, **changes: Any) -> list[Entry]:
    """A row for each distinct block: hot 100, slope or context 120, cold 150."""
    return [
        row(one, **({"slope": 120.0} if repeats(one) else {"slope": None, "context": 120.0}) | changes)
        for one in dict.fromkeys(spec.blocks)
    ]


def test_a_sum_counts_each_block_with_its_slope_or_its_context() -> None:
    source = MemoryTable([row(A, 100, slope=120), row(B, 90, slope=None, context=70), row(C, 50, slope=None, cold=60)])
    found = compose(ABC, TARGET, source)
    assert [(part.spec, part.copies, part.each_ns, part.basis) for part in found.parts] == [
        (A, 2, 120, "slope"),
        (B, 1, 70, "context"),
        (C, 1, 50, "alone"),
    ]
    assert found.total_ns == 2 * 120 + 70 + 50 and found.ms == found.total_ns / 1e6
    assert found.hot_ns == 2 * 100 + 90 + 50
    assert (
        found.low_ns == pytest.approx(0.99 * found.hot_ns) == pytest.approx(336.6)
    )  # the lower ends of the rows' intervals
    assert found.high_ns == 2 * 150 + 150 + 60
    assert any("measured alone" in doubt and "MB4D 96 @28" in doubt for doubt in found.doubts)


def test_the_bracket_holds_the_sum_even_where_hot_is_above_and_cold_below_it() -> None:
    below = compose(NetworkSpec((A,)), TARGET, MemoryTable([row(A, 100, slope=90, cold=95)]))
    assert (below.low_ns, below.total_ns, below.high_ns) == (90, 90, 100)
    above = compose(NetworkSpec((A,)), TARGET, MemoryTable([row(A, 100, slope=200, cold=150)]))
    assert (above.low_ns, above.total_ns, above.high_ns) == (99, 200, 200)


def test_the_interval_is_the_wider_of_the_rows_own_and_what_sums_are_known_to_be_off_by() -> None:
    source = MemoryTable(rows_of(ABC, half=0.02))
    narrow, wide = compose(ABC, TARGET, source, error=0.001), compose(ABC, TARGET, source, error=0.1)
    assert narrow.interval_high_ns - narrow.total_ns == pytest.approx(4 * 100 * 0.02)
    assert wide.interval_high_ns - wide.total_ns == pytest.approx(0.1 * wide.total_ns)
    assert wide.total_ns - wide.interval_low_ns == pytest.approx(0.1 * wide.total_ns)
    unknown = compose(ABC, TARGET, source)
    assert unknown.interval_high_ns == pytest.approx(unknown.total_ns * (1 + ASSUMED_ERROR))


def test_a_block_measured_alone_widens_the_interval_and_never_makes_it_narrower_than_what_is_known() -> None:
    source = MemoryTable([row(A, 100, slope=None), row(B, 90, slope=None, context=70), row(C, 50)])
    found = compose(ABC, TARGET, source, error=0.01)
    assert found.interval_high_ns - found.total_ns == pytest.approx(200 * ALONE_ERROR + (70 + 120) * 0.01)
    assert compose(ABC, TARGET, source, error=9.0).interval_low_ns == 0


def test_rows_that_have_a_p10_and_nothing_else_are_added_up_with_doubts_that_say_so() -> None:
    source = MemoryTable(rows_of(ABC, slope=None, context=None, cold=None))
    found = compose(ABC, TARGET, source)
    assert found.total_ns == found.hot_ns == found.high_ns == 400 and found.low_ns == 396
    assert found.doubts == (
        "measured alone, without chain or context: MB4D 48 @56, embedding 48->96 @56, MB4D 96 @28",
        "never measured cold, so that the upper side may be higher: MB4D 48 @56, embedding 48->96 @56, MB4D 96 @28",
    )


def test_identity_costs_nothing_and_needs_no_row() -> None:
    free = IDENTITY.spec(48, 56)
    source = MemoryTable([row(A)])
    assert compose(NetworkSpec((A, free, A)), TARGET, source).total_ns == 240
    nothing = compose(NetworkSpec((free,)), TARGET, source)
    assert (nothing.total_ns, nothing.low_ns, nothing.high_ns, nothing.parts) == (0, 0, 0, ())


def test_a_missing_row_is_never_a_zero() -> None:
    source = MemoryTable([row(A)])
    with pytest.raises(IncompleteNetwork) as caught:
        compose(ABC, TARGET, source)
    error = caught.value
    assert isinstance(error, LatencyNotFound) and error.missing == (B, C)
    assert "lacks 2 of 3 rows: embedding 48->96 @56, MB4D 96 @28" in str(error)
    assert f"'{error.commands[0]}' measures them, and 1 more for the other blocks" in str(error)
    assert error.commands[1].startswith("edgelut profile --block embedding --width 48 --resolution 56 --width-out 96 ")


def test_a_published_network_is_measured_by_its_name_and_one_that_only_has_the_name_is_not() -> None:
    with pytest.raises(IncompleteNetwork) as caught:
        compose(L1, TARGET, MemoryTable())
    assert len(caught.value.missing) == len(set(L1.blocks)) and "more; " in str(caught.value)
    (command,) = caught.value.commands
    assert command.startswith("edgelut profile efficientformer-l1 --device host --runtime onnxruntime-cpu")
    with pytest.raises(IncompleteNetwork) as other:
        compose(replace(ABC, name="efficientformer-l1"), TARGET, MemoryTable())
    assert "--block" in other.value.commands[0]


def test_another_targets_rows_are_never_used() -> None:
    with pytest.raises(IncompleteNetwork):
        compose(ABC, replace(TARGET, threads=2), MemoryTable(rows_of(ABC)))


def counted(spec: BlockSpec, count: float = 100.0) -> Entry:
    """The row of a block whose instructions were counted."""
    entry = row(spec, count, kind="emulated")
    return replace(entry, latency=replace(entry.latency, clock="instructions"))


@pytest.mark.parametrize("kind", ["emulated", "predicted"])
def test_counts_of_instructions_are_never_added_to_milliseconds_whatever_their_kind(kind: EntryKind) -> None:
    source = MemoryTable([*rows_of(ABC)[:2], replace(counted(C), kind=kind)])
    with pytest.raises(UnlikeMeasures, match=r"rows count instructions \(MB4D 96 @28\).*never added to milliseconds"):
        compose(ABC, TARGET, source)
    with pytest.raises(UnlikeMeasures, match="rows are times and no counts of instructions: MB4D 48 @56"):
        count_instructions(ABC, TARGET, source)
    assert quality(source, TARGET) is None


def test_counts_of_instructions_are_added_where_that_is_asked_for() -> None:
    source = MemoryTable(
        [
            counted(A),
            counted(B, 200.0),
            replace(counted(C), latency=Latency(*(7.0,) * 5, runs=1, samples=1, clock="instructions")),
        ]
    )
    assert count_instructions(ABC, TARGET, source) == 3 * 120 + 7
    with pytest.raises(IncompleteNetwork, match="lacks 1 of 3 rows"):
        count_instructions(ABC, TARGET, MemoryTable([counted(A), counted(B)]))


def test_a_sum_that_must_run_on_a_unit_is_refused_where_a_row_ran_elsewhere() -> None:
    target = replace(TARGET, unit="all")

    def on(unit: str | None, spec: BlockSpec, **changes: Any) -> Entry:
        entry = row(spec, target=target, **changes)
        return replace(entry, provenance=Params({**entry.provenance, **({"ran_on": unit} if unit else {})}))

    own = network_spec(ABC)
    source = MemoryTable([on("ne", A), on("ne", B), on("ne", C), on("ne+cpu", own)])
    found = compose(ABC, target, source, require_unit="NE")
    assert found.total_ns == compose(ABC, target, source).total_ns and found.measured is None
    assert compose(ABC, target, source).measured is not None and not found.doubts
    mixed = MemoryTable([on("ne", A), on("ne+cpu", B), on(None, C)])
    with pytest.raises(
        OtherUnit, match=r"embedding 48->96 @56 on .* and 1 more rows ran on .*ne\+cpu.*, not on ne alone"
    ):
        compose(ABC, target, mixed, require_unit="ne")
    (doubt,) = compose(ABC, target, mixed).doubts
    assert doubt.startswith("rows ran on other units than one and the same: ") and "1 on ne+cpu" in doubt


def test_a_sum_of_rows_that_fell_back_says_so() -> None:
    target = replace(TARGET, unit="gpu")
    rows = [replace(row(spec, target=target), provenance=Params({"ran_on": "cpu"})) for spec in (A, B, C)]
    assert compose(ABC, target, MemoryTable(rows)).doubts == ("rows ran elsewhere: 3 on cpu",)


def test_emulated_rows_are_never_added_to_milliseconds() -> None:
    source = MemoryTable([*rows_of(ABC)[:2], row(C, kind="emulated")])
    with pytest.raises(InvalidSpec, match=r"is emulated: its rows \(MB4D 96 @28\) .* never added up"):
        compose(ABC, TARGET, source)


@pytest.mark.parametrize("kind", ["predicted", "interpolated", "transferred"])
def test_rows_that_were_not_measured_are_counted_and_named(kind: EntryKind) -> None:
    found = compose(ABC, TARGET, MemoryTable(rows_of(ABC, kind=kind, conditions=kind)))
    assert found.doubts == (f"3 rows are {kind}, not measured",)


def mb4d(width: int, **changes: Any) -> Entry:
    """A row of a device on which an MB4D's time goes by its width alone."""
    return row(MB4D.spec(width, 56), 100.0 * width, **{"slope": 120.0 * width} | changes)


def test_an_estimate_s_own_half_width_comes_on_top_of_what_sums_are_off_by_once_for_each_copy() -> None:
    measured, guess = row(A), row(C, kind="interpolated", half=0.2)
    said = replace(guess, provenance=Params({**guess.provenance, "slope_half_ns": 7.0, "context_half_ns": 99.0}))
    deep = NetworkSpec((A, A, B, C, C, C))
    found = compose(deep, TARGET, MemoryTable([measured, row(B, slope=None, context=70), said]), error=0.01)
    assert found.guessed_ns == 3 * 7
    assert found.interval_high_ns - found.total_ns == pytest.approx(0.01 * found.total_ns + 3 * 7)
    assert compose(ABC, TARGET, MemoryTable(rows_of(ABC))).guessed_ns == 0


@pytest.mark.parametrize(
    ("slope", "half"), [(240.0, 48.0), (60.0, 20.0), (None, 20.0)], ids=["dearer", "cheaper", "alone"]
)
def test_an_estimate_that_does_not_say_how_far_off_its_slope_is_counts_as_its_p10(
    slope: float | None, half: float
) -> None:
    guess = row(A, 100, slope=slope, half=0.2, kind="predicted")
    found = compose(NetworkSpec((A, A)), TARGET, MemoryTable([guess]), error=0.0)
    assert found.guessed_ns == pytest.approx(2 * half)
    alone = 2 * 100 * ALONE_ERROR if slope is None else 0.0
    assert found.interval_high_ns - found.total_ns == pytest.approx(2 * half + alone)


def test_the_bracket_s_upper_side_holds_an_estimate_s_upper_end() -> None:
    found = compose(NetworkSpec((A,)), TARGET, MemoryTable([row(A, 100, cold=150, half=0.2, kind="interpolated")]))
    assert (found.low_ns, found.high_ns) == (80, pytest.approx(180))


def test_a_source_that_estimates_fills_gaps_and_a_sum_says_how_far_off_they_may_be() -> None:
    rows = MemoryTable([mb4d(width) for width in (16, 32, 64, 96, 128, 192)])
    asked = NetworkSpec(tuple(MB4D.spec(48, 56) for _ in range(3)))
    with pytest.raises(IncompleteNetwork):
        compose(asked, TARGET, rows)
    found = compose(asked, TARGET, EstimatedSource(rows))
    (part,) = found.parts
    assert (part.entry.kind, part.basis) == ("interpolated", "slope")
    assert found.total_ns == pytest.approx(3 * 120 * 48, rel=0.02)
    assert found.guessed_ns == pytest.approx(3 * part.entry.provenance["slope_half_ns"])
    assert "1 rows are interpolated, not measured" in found.doubts
    assert quality(rows, TARGET) is None


def test_what_could_not_be_estimated_either_is_missing_and_says_why() -> None:
    source = EstimatedSource(MemoryTable([*(mb4d(width) for width in (16, 32, 64, 96, 128)), row(A)]))
    with pytest.raises(IncompleteNetwork) as caught:
        compose(ABC, TARGET, source)
    assert caught.value.missing == (B, C)
    assert (
        "lacks 2 of 3 rows: embedding 48->96 @56, MB4D 96 @28 (not estimated: 0 rows of embedding were measured there, "
        "and 5 are needed; all rows have resolution 56, which says nothing of 28); 'edgelut profile"
        in str(caught.value)
    )


def test_doubts_of_rows_and_unlike_conditions_are_the_sums_doubts() -> None:
    rows = [row(A, doubts=("noisy",)), *rows_of(ABC, conditions="c2")[1:]]
    doubts = compose(ABC, TARGET, MemoryTable(rows)).doubts
    assert doubts[0] == "MB4D 48 @56: noisy" and "2 different conditions" in doubts[1]


def test_a_batch_is_part_of_the_blocks_and_all_must_agree() -> None:
    four = network(replace(CONFIGS["efficientformer-l1"], batch=4))
    assert compose(four, TARGET, MemoryTable(rows_of(four))).total_ns == pytest.approx(120 * len(four.blocks))
    with pytest.raises(IncompleteNetwork):
        compose(four, TARGET, MemoryTable(rows_of(L1)))
    with pytest.raises(InvalidSpec, match="gives"):
        compose(NetworkSpec((A, replace(A, batch=4))), TARGET, MemoryTable())


def test_blocks_that_do_not_fit_are_refused_before_anything_is_looked_up() -> None:
    with pytest.raises(InvalidSpec, match="gives"):
        compose(NetworkSpec((A, C)), TARGET, MemoryTable())


def test_a_block_of_a_kind_from_elsewhere_is_added_up_like_any_other() -> None:
    mine = BlockSpec("mine", 48, 48, 56, params=Params({"rank": 2}))
    assert compose(NetworkSpec((A, mine)), TARGET, MemoryTable([row(A), row(mine, slope=None)])).total_ns == 220


def test_the_networks_own_row_is_beside_the_sum_and_gives_its_error() -> None:
    rows = rows_of(ABC)
    found = compose(ABC, TARGET, MemoryTable([*rows, whole(ABC, 500)]))
    assert found.measured is not None and found.error == pytest.approx(480 / 500 - 1)
    assert compose(ABC, TARGET, MemoryTable(rows)).error is None
    guess = compose(ABC, TARGET, MemoryTable([*rows, whole(ABC, 500, kind="predicted")]))
    assert guess.measured is None and guess.error is None
    assert compose(ABC, TARGET, MemoryTable([*rows, whole(ABC, 0)])).error is None


def test_kendalls_tau_ranks() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [30, 20, 10]) == -1
    assert kendall_tau([1, 2, 3], [1, 1, 1]) == 0 and kendall_tau([1], [2]) == 1


@pytest.fixture(params=["memory", "sql", "rest", "snapshot"])
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[Entry]], Searchable]:
    """Something that holds rows."""

    def hold(rows: list[Entry]) -> Searchable:
        if request.param == "memory":
            return MemoryTable(rows)
        if request.param == "snapshot":
            write(tmp_path / "rows.json", rows)
            return Snapshot(tmp_path / "rows.json")
        opened = new_store(tmp_path)
        store = opened.__enter__()
        request.addfinalizer(lambda: opened.__exit__(None, None, None))
        store.put_many(rows)
        if request.param == "sql":
            return store
        table = HttpTable("http://service", transport=InProcess(create_app(store)))
        request.addfinalizer(table.close)
        return table

    return hold


def rich_table() -> list[Entry]:
    """L1's rows, odd in their last digits, and three measured networks."""
    others = [network(Config((48, 96, 224, 448), (depth, 2, 2, 2), 1)) for depth in (1, 2)]
    blocks = dict.fromkeys(block for one in (L1, *others) for block in one.blocks)
    rows = []
    for number, spec in enumerate(blocks):
        ns, own = 1e5 * (number + 1) / 3, 1.2e5 * (number + 1) / 3
        part = {"slope": own} if repeats(spec) else {"slope": None, "context": own}
        rows.append(row(spec, ns, cold=1.5 * ns, **part))  # type: ignore[arg-type]
    wholes = [whole(one, compose(one, TARGET, MemoryTable(rows)).total_ns * 1.01) for one in (L1, *others)]
    return [*rows, *wholes]


def test_every_holder_gives_the_same_numbers(holder: Callable[[list[Entry]], Searchable]) -> None:
    rows = rich_table()
    source, reference = holder(rows), MemoryTable(rows)
    known = quality(source, TARGET)
    assert known == quality(reference, TARGET) and known is not None and known.networks == 3
    answer = network_latency(estimate(L1, TARGET, source, known), known)
    assert answer == network_latency(estimate(L1, TARGET, reference, known), known)
    assert wire.decode(NetworkLatency, wire.encode(answer)) == answer
    if isinstance(source, HttpTable):
        assert source.network_latency(L1, TARGET) == answer
        assert source.network_latency("L1", TARGET) == answer
        unnamed = source.network_latency(str(network_spec(L1).params["blocks"]), TARGET)
        assert unnamed == replace(answer, network=None)


def test_over_rest_a_missing_row_is_the_same_error(holder: Callable[[list[Entry]], Searchable]) -> None:
    source = holder([row(A)])
    errors = []
    for ask in (lambda: compose(ABC, TARGET, source), lambda: getattr(source, "network_latency", compose)(ABC, TARGET)):
        if isinstance(source, HttpTable) or not errors:
            with pytest.raises(IncompleteNetwork) as caught:
                ask()
            errors.append((str(caught.value), caught.value.missing, caught.value.commands))
    assert errors[0][1] == (B, C) and len(set(errors)) == 1


def test_every_holder_s_gaps_are_estimated_alike_and_one_without_rows_says_so(
    holder: Callable[[list[Entry]], Searchable],
) -> None:
    rows = [mb4d(width) for width in (16, 32, 64, 96, 128, 192)]
    asked, elsewhere = NetworkSpec((MB4D.spec(48, 56),) * 2), replace(TARGET, device="phone")
    source = EstimatedSource(holder(rows))
    expected = compose(asked, TARGET, EstimatedSource(MemoryTable(rows)))
    found = compose(asked, TARGET, source)
    assert (found.total_ns, found.guessed_ns) == (expected.total_ns, expected.guessed_ns) and found.guessed_ns > 0
    with pytest.raises(IncompleteNetwork, match="0 rows of MB4D were measured there, and 5 are needed"):
        compose(asked, elsewhere, source)
