from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from api.app import create_app
from api.testing import InProcess
from edgelut import MB4D, BlockSpec, Entry, InvalidSpec, LatencyTable, MemoryTable, NetworkSpec, Params, Query, Target
from edgelut.compose import compose
from edgelut.drift import ENOUGH, AlignedSource, divide_out, drifts, estimate
from edgelut.errors import UnlikeMeasures
from edgelut.http import HttpTable
from edgelut.quality import quality
from edgelut.snapshot import Snapshot, write
from edgelut.types import Latency
from tests.api.support import new_store
from tests.client.test_compose import TARGET, row, whole

SPECS = [MB4D.spec(width, 28) for width in range(16, 16 * 11, 16)]
ONLY_OLD = MB4D.spec(512, 28)


def swept(specs: Iterable[BlockSpec], sweep: str, day: int, factor: float = 1.0, **changes: str) -> list[Entry]:
    """A sweep's rows on a host that is slower by a factor."""
    found = []
    for spec in specs:
        ns = 1000.0 * spec.width_in * factor
        entry = row(spec, ns, slope=1.2 * ns, cold=1.5 * ns, sweep=sweep, day=day, **changes)  # type: ignore[arg-type]
        wall = replace(entry.latency, wall_p10_ns=1.01 * ns, wall_p50_ns=1.1 * ns, chain_ns=5.8 * ns, load_ns=7)
        found.append(replace(entry, latency=wall))
    return found


def two_sweeps(factor: float = 1.05, old: Iterable[BlockSpec] = (), **changes: str) -> MemoryTable:
    """An old sweep of the specs and one more, and a newer one of the specs alone."""
    table = MemoryTable(swept([*(old or SPECS), ONLY_OLD], "old", 1, factor, **changes))
    table.put_many(swept(SPECS, "new", 2))
    return table


def test_counts_of_instructions_drift_with_counts_alone() -> None:
    def counted(entries: list[Entry]) -> list[Entry]:
        return [replace(one, kind="emulated", latency=replace(one.latency, clock="instructions")) for one in entries]

    new, old = swept(SPECS, "new", 2), swept(SPECS, "old", 1, 1.05)
    drift = estimate(TARGET, counted(old), counted(new))
    assert drift is not None and drift.factor == pytest.approx(1.05)
    with pytest.raises(UnlikeMeasures, match="not compared with rows that are times"):
        estimate(TARGET, counted(old), new)


def test_the_factor_common_to_two_sweeps_is_recovered_and_divided_out() -> None:
    source = AlignedSource(two_sweeps(), TARGET)
    (drift,) = source.drifts.values()
    assert (drift.sweep, drift.against, drift.rows) == ("old", "new", len(SPECS))
    assert drift.factor == pytest.approx(1.05) and drift.spread == pytest.approx(0, abs=1e-12)
    latency = source.get(ONLY_OLD, TARGET).latency
    ns = 1000.0 * ONLY_OLD.width_in
    expected = swept([ONLY_OLD], "old", 1)[0].latency
    assert latency.p10_ns == pytest.approx(ns)
    for field in Latency.__dataclass_fields__:
        assert getattr(latency, field) == pytest.approx(getattr(expected, field)), field
    assert source.get(SPECS[0], TARGET) == two_sweeps().get(SPECS[0], TARGET)


def test_every_scaled_row_says_so() -> None:
    raw = two_sweeps().get(ONLY_OLD, TARGET)
    said = AlignedSource(two_sweeps(), TARGET).get(ONLY_OLD, TARGET).provenance
    assert said["drift_factor"] == pytest.approx(1.05) and said["drift_rows"] == len(SPECS)
    assert said["drift_against"] == "new" and said["drift_raw_p10_ns"] == raw.latency.p10_ns
    assert {name: said[name] for name in raw.provenance} == dict(raw.provenance)


def test_a_row_that_really_changed_does_not_move_the_factor() -> None:
    table = MemoryTable(swept([*SPECS, ONLY_OLD], "old", 1, 1.05))
    changed = swept(SPECS[:1], "new", 2, 3.0)
    table.put_many([*changed, *swept(SPECS[1:], "new", 2)])
    source = AlignedSource(table, TARGET)
    assert source.drifts["old"].factor == pytest.approx(1.05)
    assert source.get(SPECS[0], TARGET) == changed[0]


def test_rows_under_other_conditions_are_untouched() -> None:
    table = two_sweeps(conditions="another kernel")
    source = AlignedSource(table, TARGET)
    assert source.drifts == {} and source.get(ONLY_OLD, TARGET) == table.get(ONLY_OLD, TARGET)
    alike = two_sweeps()
    odd = swept([MB4D.spec(640, 28)], "old", 1, conditions="another kernel")
    alike.put_many(odd)
    assert AlignedSource(alike, TARGET).get(odd[0].spec, TARGET) == odd[0]


def test_a_sweep_with_too_few_rows_in_common_is_untouched() -> None:
    few, enough = two_sweeps(old=SPECS[: ENOUGH - 1]), two_sweeps(old=SPECS[:ENOUGH])
    assert AlignedSource(few, TARGET).get(ONLY_OLD, TARGET) == few.get(ONLY_OLD, TARGET)
    assert AlignedSource(enough, TARGET).get(ONLY_OLD, TARGET) != enough.get(ONLY_OLD, TARGET)


def test_rows_without_a_sweep_other_targets_and_other_kinds_are_untouched() -> None:
    other = replace(TARGET, threads=2)
    guess = row(MB4D.spec(640, 28), kind="predicted", sweep="old")
    bare = replace(row(MB4D.spec(656, 28)), provenance=Params({}))
    theirs = row(ONLY_OLD, target=other, sweep="old")
    table = two_sweeps()
    table.put_many([guess, bare, theirs])
    source = AlignedSource(table, TARGET)
    assert source.find_many([guess.spec, bare.spec, MB4D.spec(8, 8)], TARGET) == [guess, bare, None]
    assert source.get(ONLY_OLD, other) == theirs
    assert AlignedSource(MemoryTable([guess, bare]), TARGET).get(bare.spec, TARGET) == bare
    assert AlignedSource(MemoryTable(), TARGET).find(ONLY_OLD, TARGET) is None


def test_a_sum_over_aligned_rows_is_the_newest_sweeps() -> None:
    spec = NetworkSpec((ONLY_OLD, ONLY_OLD))
    table = two_sweeps()
    table.put(whole(spec, 2.4 * 512_000, sweep="new", day=2))
    source = AlignedSource(table, TARGET)
    found = compose(spec, TARGET, source)
    assert found.total_ns == pytest.approx(2.4 * 512_000) and found.error == pytest.approx(0)
    assert compose(spec, TARGET, table).error == pytest.approx(0.05)
    known = quality(source, TARGET)
    assert known is not None and known.largest == pytest.approx(0, abs=1e-9)


def test_a_search_of_aligned_rows_is_aligned() -> None:
    page = AlignedSource(two_sweeps(), TARGET).search(Query(width=512))
    assert page.rows[0].entry.provenance["drift_against"] == "new"


@pytest.mark.parametrize("holder", ["sql", "rest"])
def test_a_database_and_a_service_keep_the_history_that_it_takes(holder: str, tmp_path: Path) -> None:
    with new_store(tmp_path) as store, HttpTable("http://service", transport=InProcess(create_app(store))) as table:
        store.put_many(swept([*SPECS, ONLY_OLD], "old", 1, 1.05))
        store.put_many(swept(SPECS, "new", 2))
        source: LatencyTable = store if holder == "sql" else table
        expected = AlignedSource(two_sweeps(), TARGET).find_many([*SPECS, ONLY_OLD], TARGET)
        assert AlignedSource(source, TARGET).find_many([*SPECS, ONLY_OLD], TARGET) == expected


def test_a_snapshot_has_no_history_and_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows.json", swept(SPECS, "new", 2))
    with pytest.raises(InvalidSpec, match="keeps no history"):
        AlignedSource(Snapshot(tmp_path / "rows.json"), TARGET)


def test_a_target_with_too_many_rows_to_look_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelut.drift.MOST_ROWS", 1000)
    specs = [MB4D.spec(width, 7) for width in range(1, 1100)]
    source = AlignedSource(MemoryTable(swept(specs, "new", 1)), TARGET)
    with pytest.raises(InvalidSpec, match="more than 1,000 rows"):
        source.get(specs[0], TARGET)


def test_the_past_of_only_so_many_rows_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelut.drift.MOST_HISTORIES", 6)
    assert AlignedSource(two_sweeps(), TARGET).drifts["old"].rows == 6


def test_times_of_zero_say_nothing_of_drift() -> None:
    zero = [row(spec, 0.0, sweep="old") for spec in SPECS]
    assert estimate(TARGET, zero, swept(SPECS, "new", 2)) is None
    assert estimate(TARGET, swept(SPECS, "new", 2), zero) is None
    newest = swept(SPECS, "new", 2)
    assert drifts(TARGET, [], newest[0]) == {}


def test_drift_is_divided_out_of_what_is_there() -> None:
    (drift,) = AlignedSource(two_sweeps(), TARGET).drifts.values()
    bare = row(ONLY_OLD, slope=None, cold=None, target=Target("host", "x"))
    latency = divide_out(bare, drift).latency
    assert (latency.slope_ns, latency.cold_ns, latency.chain_ns, latency.wall_p10_ns) == (None,) * 4
