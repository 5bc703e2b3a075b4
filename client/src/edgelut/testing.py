"""The suites that every table and every store of runs passes, for those written elsewhere too; needs pytest and hypothesis.

class TestMine(TableContract):
    @pytest.fixture
    def make_table(self): return MyTable
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .errors import LatencyNotFound
from .runs import Failure, RunStore
from .table import LatencyTable
from .types import Artifact, BlockSpec, Clock, Entry, EntryKind, Latency, Params, Run, Target

TARGET = Target("phone", "onnxruntime-cpu", "fp32", 1, "cpu")
SPEC = BlockSpec("MB4D", 96, 96, 14, params=Params({"expansion": 4, "activation": "gelu"}))
START = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)

# Text as it may be measured and named: any letter, none of the control characters that no device name has.
_words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
_names = _words.filter(lambda name: "/" not in name)
_counts = st.integers(1, 2**31 - 1)
_big = st.integers(0, 2**63 - 1)
_times = st.floats(0, 1e15, allow_nan=False)
_numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_params = st.dictionaries(_words, st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | _numbers, max_size=5)
_moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))

specs: st.SearchStrategy[BlockSpec] = st.builds(
    BlockSpec, _names, _counts, _counts, _counts, _counts, _params.map(Params)
)
targets: st.SearchStrategy[Target] = st.builds(Target, _names, _names, _names, _counts, _names)
latencies: st.SearchStrategy[Latency] = st.builds(
    Latency,
    *(_times,) * 5,
    runs=_counts,
    samples=_counts,
    clock=st.sampled_from(get_args(Clock)),
    wall_p10_ns=st.none() | _times,
    wall_p50_ns=st.none() | _times,
    chain_ns=st.none() | _times,
    slope_ns=st.none() | _times,
    context_ns=st.none() | _times,
    cold_ns=st.none() | _times,
    load_ns=st.none() | _big,
    compile_ns=st.none() | _big,
    peak_memory_bytes=st.none() | _big,
    doubts=st.lists(_words, max_size=3).map(tuple),
)
_ran_on: st.SearchStrategy[dict[str, str]] = st.just({}) | st.fixed_dictionaries(
    {"ran_on": st.sampled_from(("cpu", "NE", "ne+cpu")) | _words}
)


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    latency = draw(latencies)
    kinds = [kind for kind in get_args(EntryKind) if (kind, latency.clock) != ("measured", "instructions")]
    provenance = Params({**draw(_params), **draw(_ran_on)})
    return Entry(draw(specs), draw(targets), latency, draw(st.sampled_from(kinds)), provenance)


entries: st.SearchStrategy[Entry] = _entries()

# The fixture is one table for all examples, which is what a table must bear; a database may be slow on a busy machine.
_thorough = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def make_entry(p10_ns: float = 1e6, spec: BlockSpec = SPEC, target: Target = TARGET, **changes: Any) -> Entry:
    """Return an entry; `doubts`, `clock`, `kind`, `provenance` and `ran_on` as asked. One that counts instructions is emulated."""
    doubts, clock, ran_on = changes.pop("doubts", ()), changes.pop("clock", "cpu"), changes.pop("ran_on", None)
    latency = Latency(p10_ns, p10_ns * 1.1, p10_ns * 1.3, p10_ns * 0.99, p10_ns * 1.01, 20, 600, clock, doubts=doubts)
    if clock == "instructions":
        changes.setdefault("kind", "emulated")
    if ran_on is not None:
        changes["provenance"] = Params({**changes.get("provenance", {}), "ran_on": ran_on})
    return Entry(spec, target, latency, **changes)


def make_run(sweep: str, round: int = 0, process: str = "w1", spec: BlockSpec = SPEC, **changes: Any) -> Run:
    """Return a run of one round."""
    samples = tuple(1_000_000 + 37 * number for number in range(8))
    run = Run(
        spec,
        TARGET,
        sweep,
        process,
        round,
        wall_ns=tuple(sample + 500 for sample in samples),
        cpu_ns=samples,
        inner=4,
        warmups=3,
        reference_ns=123456.789,
        started_at=START + timedelta(seconds=round),
        facts=Params({"cpu": "Cortex-A76", "governor": "performance", "observed_load": 0.25 + round}),
    )
    return replace(run, **changes)


def widths(count: int, spec: BlockSpec = SPEC) -> list[BlockSpec]:
    """Return specs that differ in their width."""
    return [replace(spec, width_in=8 * (n + 1), width_out=8 * (n + 1)) for n in range(count)]


def same(found: Entry | None, put: Entry) -> bool:
    """Compare everything, keys and the types of parameters too (4 == 4.0 in Python)."""
    return (
        found == put
        and (found.spec.key, found.target.key) == (put.spec.key, put.target.key)
        and repr(found.provenance) == repr(put.provenance)
        and isinstance(found.latency.doubts, tuple)
    )


class TableContract:
    """What every LatencyTable does. A subclass gives the fixture `make_table`: a function that returns an empty table."""

    @pytest.fixture
    def make_table(self) -> Callable[[], LatencyTable]:
        """Return what makes an empty table."""
        raise NotImplementedError("a subclass of TableContract gives the fixture make_table")

    @pytest.fixture
    def table(self, make_table: Callable[[], LatencyTable]) -> LatencyTable:
        """An empty table."""
        return make_table()

    def test_gives_back_what_was_put(self, table: LatencyTable) -> None:
        full = Latency(
            0.1, 1 / 3, 1e15 / 7, 5e-324, 2.0**53, 3, 9, "wall", 0.2, 0.3, 1e-7, 1, 2, 2**40, ("hot", "few runs")
        )
        put = Entry(SPEC, TARGET, full, "emulated", Params({"sweep": "s1", "parity_error": 1e-7, "n": 4.0, "é": "ü"}))
        assert table.put(put)
        assert same(table.get(SPEC, TARGET), put)
        assert [same(found, put) for found in table.entries()] == [True]

    def test_gives_back_none_where_none_was_put(self, table: LatencyTable) -> None:
        table.put(make_entry())
        latency = table.get(SPEC, TARGET).latency
        optional = [field.name for field in fields(Latency) if field.default is None]
        assert {name: getattr(latency, name) for name in optional} == dict.fromkeys(optional)
        assert latency.doubts == ()
        assert table.get(SPEC, TARGET).provenance == Params()

    def test_finds_none_and_gets_an_error_that_names_what_is_missing(self, table: LatencyTable) -> None:
        assert table.find(SPEC, TARGET) is None
        with pytest.raises(LatencyNotFound, match=r"MB4D 96 @14") as caught:
            table.get(SPEC, TARGET)
        assert str(TARGET) in str(caught.value)
        assert isinstance(caught.value, LookupError)

    def test_an_error_names_every_missing_spec(self, table: LatencyTable) -> None:
        known, *missing = widths(3)
        table.put(make_entry(spec=known))
        with pytest.raises(LatencyNotFound) as caught:
            table.get_many([missing[0], known, missing[1]], TARGET)
        assert str(missing[0]) in str(caught.value) and str(missing[1]) in str(caught.value)
        assert f" {known}," not in str(caught.value)

    def test_the_order_of_parameters_does_not_matter(self, table: LatencyTable) -> None:
        table.put(make_entry(spec=replace(SPEC, params=Params({"a": 1, "b": 2.0}))))
        assert table.find(replace(SPEC, params=Params({"b": 2, "a": True})), TARGET) is not None

    def test_every_field_of_spec_and_target_tells_rows_apart(self, table: LatencyTable) -> None:
        specs_ = [SPEC, replace(SPEC, kind="mb4d"), replace(SPEC, batch=2), replace(SPEC, resolution=7)]
        specs_ += [
            replace(SPEC, width_out=97),
            replace(SPEC, width_in=95),
            replace(SPEC, params=Params({"expansion": 3})),
        ]
        targets_ = [
            TARGET,
            replace(TARGET, device="Phone"),
            replace(TARGET, runtime="x"),
            replace(TARGET, precision="int8"),
        ]
        targets_ += [replace(TARGET, threads=2), replace(TARGET, unit="gpu")]
        put = [make_entry(1.0 + n, SPEC, target) for n, target in enumerate(targets_)]
        put += [make_entry(100.0 + n, spec) for n, spec in enumerate(specs_[1:])]
        assert all(table.put_many(put))
        assert [table.get(entry.spec, entry.target) for entry in put] == put
        assert len(list(table.entries())) == len(put)

    def test_many_come_in_the_order_asked_for_and_as_often(self, table: LatencyTable) -> None:
        first, second, third = widths(3)
        table.put_many([make_entry(1.0, first), make_entry(2.0, second)])
        found = table.find_many([second, third, first, second], TARGET)
        assert [entry and entry.latency.p10_ns for entry in found] == [2.0, None, 1.0, 2.0]
        assert [entry.latency.p10_ns for entry in table.get_many([second, first, second], TARGET)] == [2.0, 1.0, 2.0]
        assert table.find_many([], TARGET) == [] and table.get_many([], TARGET) == [] and table.put_many([]) == []

    def test_a_newer_row_replaces_an_older_one(self, table: LatencyTable) -> None:
        assert table.put_many([make_entry(1.0), make_entry(2.0)]) == [False, True]
        assert table.put(make_entry(3.0))
        assert table.get(SPEC, TARGET) == make_entry(3.0)

    def test_history_has_all_that_was_put_oldest_first(self, table: LatencyTable) -> None:
        put = [make_entry(3.0), make_entry(1.0), make_entry(2.0, doubts=("hot",)), make_entry(0.5, kind="predicted")]
        for entry in put:
            table.put(entry)
        assert table.history(SPEC, TARGET) == put
        assert table.get(SPEC, TARGET) == put[1]
        assert table.history(replace(SPEC, batch=9), TARGET) == table.history(SPEC, replace(TARGET, device="no")) == []

    def test_a_doubtful_row_does_not_replace_a_stable_one(self, table: LatencyTable) -> None:
        table.put(make_entry(1.0))
        assert not table.put(make_entry(2.0, doubts=("device was hot",)))
        assert table.get(SPEC, TARGET) == make_entry(1.0)

    def test_a_stable_row_replaces_a_doubtful_one(self, table: LatencyTable) -> None:
        assert table.put(make_entry(1.0, doubts=("device was hot",)))
        assert table.put(make_entry(2.0, doubts=("device was hotter",)))
        assert table.put(make_entry(3.0))
        assert table.get(SPEC, TARGET) == make_entry(3.0)

    def test_what_was_not_measured_does_not_replace_what_was(self, table: LatencyTable) -> None:
        assert table.put(make_entry(1.0, kind="predicted"))
        assert table.put(make_entry(2.0, doubts=("device was hot",)))
        assert not table.put(make_entry(3.0, kind="predicted"))
        assert table.get(SPEC, TARGET).latency.p10_ns == 2.0

    def test_putting_the_same_again_changes_nothing(self, table: LatencyTable) -> None:
        old, new = make_entry(1.0), make_entry(2.0)
        assert table.put(old) and table.put(old) and table.put(new)
        assert not table.put(old)
        assert table.put(new)
        assert table.put_many([new, new]) == [True, True]
        assert table.history(SPEC, TARGET) == [old, new]
        assert list(table.entries()) == [new]

    def test_the_same_latency_of_other_provenance_is_another_entry(self, table: LatencyTable) -> None:
        table.put_many([make_entry(provenance=Params({"sweep": sweep})) for sweep in ("a", "b")])
        assert len(table.history(SPEC, TARGET)) == 2
        assert table.get(SPEC, TARGET).provenance == {"sweep": "b"}

    def test_all_or_none_are_put(self, table: LatencyTable) -> None:
        table.put(make_entry(1.0))
        unlike: Any = "no entry"
        with pytest.raises(Exception):  # noqa: B017 - what is raised is the holder's affair, what is kept is not
            table.put_many([make_entry(2.0), make_entry(spec=replace(SPEC, batch=2)), unlike])
        assert list(table.entries()) == table.history(SPEC, TARGET) == [make_entry(1.0)]

    def test_entries_are_the_current_rows_alone(self, table: LatencyTable) -> None:
        put = [make_entry(float(n + 1), spec) for n, spec in enumerate(widths(3))]
        table.put_many(put)
        newer = make_entry(9.0, put[0].spec)
        table.put(newer)
        table.put(make_entry(8.0, put[1].spec, doubts=("hot",)))
        assert sorted(entry.latency.p10_ns for entry in table.entries()) == [2.0, 3.0, 9.0]

    def test_thousands_are_put_and_found_at_once(self, table: LatencyTable) -> None:
        put = [make_entry(float(n + 1), spec) for n, spec in enumerate(widths(2000))]
        assert table.put_many(put) == [True] * 2000
        asked = [entry.spec for entry in put]
        assert table.get_many(asked[::-1], TARGET) == put[::-1]
        assert sum(1 for _ in table.entries()) == 2000

    def test_parameters_may_be_fractions_and_any_text(self, table: LatencyTable) -> None:
        odd = Params({"ratio": 0.1 + 0.2, "tiny": 5e-324, "large": 1e300, "naïve": "日本 🎉 \"'\\%_", "null": "\0"})
        put = make_entry(spec=replace(SPEC, kind="Блок'; --", params=odd), provenance=odd)
        table.put(put)
        assert same(table.find(put.spec, TARGET), put)
        assert same(next(iter(table.entries())), put)

    @_thorough
    @given(put=st.lists(entries, min_size=1, max_size=4))
    def test_any_entries_come_back_exactly(self, table: LatencyTable, put: list[Entry]) -> None:
        now = table.put_many(put)
        for entry, is_current in zip(put, now, strict=True):
            assert any(same(kept, entry) for kept in table.history(entry.spec, entry.target))
            assert (table.get(entry.spec, entry.target) == entry) == is_current


class RunStoreContract:
    """What every RunStore does. A subclass gives the fixture `make_store`, whose calls return stores of the same data."""

    @pytest.fixture
    def make_store(self) -> Callable[[], RunStore]:
        """Return what opens the store."""
        raise NotImplementedError("a subclass of RunStoreContract gives the fixture make_store")

    @pytest.fixture
    def store(self, make_store: Callable[[], RunStore]) -> RunStore:
        """A store."""
        return make_store()

    @pytest.fixture
    def sweep(self, store: RunStore) -> str:
        """A sweep that was started."""
        return store.start_sweep("plan", {"blocks": ["MB4D"], "widths": [96]}).id

    def test_a_sweep_starts_and_its_time_is_aware(self, store: RunStore) -> None:
        sweep = store.start_sweep("plan", {"widths": [96, 0.5], "why": "é"})
        assert (sweep.plan_key, sweep.state, sweep.finished_at) == ("plan", "running", None)
        assert dict(sweep.plan) == {"widths": [96, 0.5], "why": "é"}
        assert sweep.started_at.utcoffset() == timedelta(0)

    def test_an_unfinished_sweep_goes_on(self, make_store: Callable[[], RunStore]) -> None:
        first = make_store().start_sweep("plan", {})
        make_store().put_runs([make_run(first.id)])
        again = make_store().start_sweep("plan", {})
        assert (again.id, again.started_at, again.state) == (first.id, first.started_at, "running")
        assert make_store().sweep_runs(again.id) == [make_run(first.id)]

    def test_an_interrupted_sweep_goes_on_and_a_finished_one_does_not(self, store: RunStore) -> None:
        first = store.start_sweep("plan", {})
        store.finish_sweep(first.id, "interrupted")
        again = store.start_sweep("plan", {})
        assert (again.id, again.state, again.finished_at) == (first.id, "running", None)
        store.finish_sweep(first.id, "done")
        assert store.start_sweep("plan", {}).id != first.id

    def test_sweeps_of_other_plans_are_other_sweeps(self, store: RunStore) -> None:
        assert store.start_sweep("plan", {}).id != store.start_sweep("another", {}).id

    def test_a_sweep_that_never_started_has_nothing_and_takes_nothing(self, store: RunStore) -> None:
        assert store.sweep_runs("no") == [] and store.failures("no") == []
        with pytest.raises(ValueError, match="no sweep 'no'"):
            store.put_runs([make_run("no")])
        with pytest.raises(ValueError, match="no sweep 'no'"):
            store.finish_sweep("no", "done")

    def test_runs_come_back_exactly_and_oldest_first(self, store: RunStore, sweep: str) -> None:
        full = make_run(sweep, 3, load_ns=2**40, compile_ns=1, peak_memory_bytes=2**33, artifact_sha256="ab" * 32)
        bare = make_run(sweep, 1, wall_ns=(), cpu_ns=(), facts=Params())
        store.put_runs([full, bare])
        store.put_runs([make_run(sweep, 2)])
        assert store.runs(SPEC, TARGET) == [bare, make_run(sweep, 2), full] == store.sweep_runs(sweep)
        assert all(run.started_at.utcoffset() == timedelta(0) for run in store.runs(SPEC, TARGET))

    def test_a_time_of_another_zone_is_the_same_moment(self, store: RunStore, sweep: str) -> None:
        put = make_run(sweep, started_at=START.astimezone(timezone(timedelta(hours=5, minutes=30))))
        store.put_runs([put])
        assert store.sweep_runs(sweep)[0].started_at == START

    def test_runs_are_of_one_spec_and_one_sweep_where_named(self, store: RunStore, sweep: str) -> None:
        other, wide = store.start_sweep("another", {}).id, replace(SPEC, width_in=112, width_out=112)
        mine, theirs, unlike = make_run(sweep), make_run(other, 1), make_run(sweep, spec=wide)
        store.put_runs([mine, theirs, unlike])
        assert store.runs(SPEC, TARGET) == [mine, theirs]
        assert store.runs(SPEC, TARGET, sweep) == [mine]
        assert store.runs(SPEC, TARGET, "no") == store.runs(SPEC, replace(TARGET, threads=2)) == []
        assert len(store.sweep_runs(sweep)) == 2

    def test_putting_the_same_run_again_changes_nothing(self, store: RunStore, sweep: str) -> None:
        run = make_run(sweep)
        store.put_runs([run, run])
        store.put_runs([run, replace(run, inner=99, reference_ns=1.0)])
        assert store.sweep_runs(sweep) == [run]

    def test_process_and_round_tell_runs_apart(self, store: RunStore, sweep: str) -> None:
        put = [make_run(sweep, round, process) for round in (0, 1) for process in ("w1", "w2")]
        store.put_runs(put)
        assert len(store.sweep_runs(sweep)) == 4

    def test_runs_of_one_process_under_other_conditions_keep_their_own(self, store: RunStore, sweep: str) -> None:
        put = [make_run(sweep, n, facts=Params({"governor": name, "observed_c": n})) for n, name in enumerate("ab")]
        store.put_runs(put)
        assert [run.facts for run in store.sweep_runs(sweep)] == [run.facts for run in put]

    def test_all_or_no_runs_are_put(self, store: RunStore, sweep: str) -> None:
        with pytest.raises(ValueError, match="no sweep 'no'"):
            store.put_runs([make_run(sweep), make_run("no")])
        assert store.sweep_runs(sweep) == []

    def test_what_was_put_is_there_for_another_holder(self, make_store: Callable[[], RunStore]) -> None:
        mine, theirs = make_store(), make_store()
        sweep = mine.start_sweep("plan", {}).id
        mine.put_runs([make_run(sweep)])
        mine.put_many([make_entry()])
        assert theirs.sweep_runs(sweep) == [make_run(sweep)]
        assert theirs.find_many([SPEC], TARGET) == [make_entry()]

    def test_failures_are_kept_once_with_their_reason(self, store: RunStore, sweep: str) -> None:
        first = Failure(sweep, SPEC, TARGET, "Unsupported: no int8 on this unit — 'ü'", START)
        second = Failure(sweep, replace(SPEC, batch=2), TARGET, "it was killed\nwith signal 9", START + timedelta(1))
        for failure in (first, second, replace(first, at=START + timedelta(2))):
            store.put_failure(failure)
        assert store.failures(sweep) == [first, second]
        assert [failure.at for failure in store.failures(sweep)] == [START, START + timedelta(1)]

    def test_artifacts_are_found_by_their_hash(self, store: RunStore) -> None:
        put = Artifact(SPEC, "onnx", "fp32", "ab" * 32, "1.2", 1.5e-7, 123_456_789_012)
        assert store.find_artifact(put.sha256) is None
        store.put_artifact(put)
        store.put_artifact(replace(put, parity_error=1.0))
        assert store.find_artifact(put.sha256) == put

    @_thorough
    @given(
        wall=st.lists(st.integers(0, 2**63 - 1), max_size=20),
        cpu=st.lists(st.integers(0, 10**7), max_size=20),
        reference=_times,
        facts=_params,
        at=_moments,
        spec=specs,
    )
    def test_any_run_comes_back_exactly(
        self, store: RunStore, sweep: str, wall: list[int], cpu: list[int], reference: float, **rest: Any
    ) -> None:
        number = len(store.sweep_runs(sweep))
        put = make_run(sweep, number, wall_ns=tuple(wall), cpu_ns=tuple(cpu), reference_ns=reference)
        put = replace(put, spec=rest["spec"], facts=Params(rest["facts"]), started_at=rest["at"])
        store.put_runs([put])
        assert put in store.runs(put.spec, TARGET, sweep)
