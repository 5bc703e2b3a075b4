"""Rows that complete each other: chains, contexts and cold rows beside blocks, with times that are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from backends.base import Timing
from backends.runtimes.null import NullSession
from db.engine import SqlStore
from edgelut import EMBEDDING, FLAT, HEAD, IDENTITY, MB3D, MB4D, STEM, BlockSpec, Entry, Params, Target
from edgelut.blocks import KINDS
from edgelut.errors import Unsupported
from edgelut.plan import Point, Policy
from edgelut.sequences import CALL, SEQUENCES, blocks_of, chain, cold, in_context
from edgelut.slopes import with_needs
from edgelut.testing import make_entry
from profiler import sweep as sweep_module
from profiler import timing
from profiler.sweep import SweepResult, run_sweep
from tests.fakes import Watcher
from tests.profiler.outside import exporting

pytestmark = pytest.mark.usefixtures("quick_exports", "inline", "known_times")

NULL = Target("null", "null")
POLICY = Policy(drift=1e9, min_rounds=2, max_rounds=2)
MIXER, ATTENTION = MB4D.spec(8, 4), MB3D.spec(8, 2)
EMBED = EMBEDDING.spec(8, 4, width_out=16)


class Summed:
    """A kind whose artifact has the inputs of all blocks of a sequence, so that each block adds its own time."""

    def __init__(self, refused: set[BlockSpec]) -> None:
        self._refused = refused

    def input_shape(self, spec: BlockSpec) -> tuple[int, ...]:
        """Return as many elements as all blocks read."""
        if spec in self._refused:
            raise Unsupported("told to refuse it")
        return (sum(map(elements, blocks_of(spec))),)


def elements(spec: BlockSpec) -> int:
    return prod(KINDS[spec.kind].input_shape(spec))


@pytest.fixture
def refused() -> set[BlockSpec]:
    """Specs that cannot be exported."""
    return set()


@pytest.fixture
def flushes() -> list[str]:
    """What cold rows did, in order."""
    return []


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch, refused: set[BlockSpec], flushes: list[str]) -> None:
    """A call takes 1000 ns and one more for each element that any of its blocks reads; flushing takes no time."""
    monkeypatch.setattr(exporting, "get_kind", lambda _: Summed(refused))
    monkeypatch.setattr(timing, "_flush", lambda: lambda: flushes.append("flush"))


def points(specs: Iterable[BlockSpec]) -> list[Point]:
    return [Point(spec, NULL, "null") for spec in specs]


def sweep(store: SqlStore, home: Path, specs: Iterable[BlockSpec], *, again: bool = False) -> SweepResult:
    return run_sweep(points(specs), store, home, POLICY, again=again)


def put_under_other_conditions(store: SqlStore, spec: BlockSpec) -> Entry:
    entry = store.get(spec, NULL)
    other = replace(entry, provenance=Params({**entry.provenance, "conditions": "another machine"}))
    assert store.put(other)
    return other


@pytest.mark.parametrize("spec", [MIXER, ATTENTION], ids=str)
def test_a_block_that_repeats_is_stored_once_with_chain_slope_and_cold_time(
    store: SqlStore, home: Path, spec: BlockSpec
) -> None:
    result = sweep(store, home, with_needs([spec]))
    assert not result.failures and len(result.measured) == 3
    latency, copies = store.get(spec, NULL).latency, len(blocks_of(chain(spec)))
    assert latency.p10_ns == latency.cold_ns == 1000 + elements(spec)
    assert latency.chain_ns == 1000 + copies * elements(spec) == store.get(chain(spec), NULL).latency.p10_ns
    assert latency.slope_ns == elements(spec) and latency.context_ns is None
    assert len(store.history(spec, NULL)) == 1


@pytest.mark.parametrize(
    "spec",
    [STEM.spec(8, 16), EMBED, FLAT.spec(8, 2), HEAD.spec(8, 2, width_out=10)],
    ids=str,
)
def test_a_block_that_cannot_repeat_is_stored_with_what_it_adds_in_its_context(
    store: SqlStore, home: Path, spec: BlockSpec
) -> None:
    wanted = with_needs([spec])
    assert not sweep(store, home, wanted).failures
    latency = store.get(spec, NULL).latency
    call = 0 if spec.kind == "stem" else 1000 + elements(CALL)  # a network pays for one call: its stem does
    assert latency.context_ns == 1000 + elements(spec) - call and latency.slope_ns is None
    assert latency.cold_ns == 1000 + elements(spec)
    for other in (other for other in wanted if other.kind not in SEQUENCES and other not in (spec, CALL)):
        assert store.get(other, NULL).latency.slope_ns == elements(other)


def test_times_that_do_not_grow_with_a_chain_give_a_slope_of_zero(
    store: SqlStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {**KINDS, **SEQUENCES}
    monkeypatch.setattr(exporting, "get_kind", kinds.__getitem__)
    sweep(store, home, with_needs([MIXER]))
    latency = store.get(MIXER, NULL).latency
    assert latency.chain_ns == latency.p10_ns == 1000 + elements(MIXER) and latency.slope_ns == 0


def test_identity_and_sequences_are_stored_as_they_are(store: SqlStore, home: Path) -> None:
    specs = [IDENTITY.spec(8, 4), chain(MIXER)]
    assert with_needs(specs) == specs
    sweep(store, home, specs)
    for spec in specs:
        latency = store.get(spec, NULL).latency
        assert (latency.slope_ns, latency.context_ns, latency.chain_ns, latency.cold_ns) == (None,) * 4


def test_a_companion_that_failed_leaves_its_figures_open_and_the_row_stored(
    store: SqlStore, home: Path, refused: set[BlockSpec]
) -> None:
    refused |= {chain(MIXER), in_context(EMBED)}
    result = sweep(store, home, with_needs([MIXER, EMBED]))
    assert {failure.spec for failure in result.failures} == refused
    for spec in (MIXER, EMBED):
        latency = store.get(spec, NULL).latency
        assert (latency.slope_ns, latency.chain_ns, latency.context_ns) == (None, None, None)
        assert latency.cold_ns == latency.p10_ns == 1000 + elements(spec) and latency.stable


def test_a_companion_known_from_the_table_is_used(store: SqlStore, home: Path) -> None:
    sweep(store, home, [chain(MIXER), cold(MIXER)])
    result = sweep(store, home, [MIXER])
    assert [entry.spec for entry in result.measured] == [MIXER]
    latency = store.get(MIXER, NULL).latency
    assert latency.slope_ns == elements(MIXER) and latency.cold_ns == 1000 + elements(MIXER)


def test_a_companion_of_other_conditions_is_not_used(store: SqlStore, home: Path) -> None:
    sweep(store, home, [chain(MIXER), cold(MIXER)])
    put_under_other_conditions(store, chain(MIXER))
    sweep(store, home, [MIXER])
    latency = store.get(MIXER, NULL).latency
    assert (latency.slope_ns, latency.chain_ns, latency.cold_ns) == (None, None, 1000 + elements(MIXER))


def test_a_known_row_that_lacks_its_slope_is_measured_again_with_its_chain_and_then_known(
    store: SqlStore, home: Path
) -> None:
    sweep(store, home, [MIXER])
    assert store.get(MIXER, NULL).latency.slope_ns is None
    assert sweep(store, home, [MIXER]).known == [store.get(MIXER, NULL)]  # nothing here could complete it
    result = sweep(store, home, with_needs([MIXER]))
    assert MIXER in {entry.spec for entry in result.measured} and not result.known
    assert store.get(MIXER, NULL).latency.slope_ns == elements(MIXER)
    assert len(sweep(store, home, with_needs([MIXER])).known) == 3


def test_known_rows_complete_new_ones(store: SqlStore, home: Path) -> None:
    sweep(store, home, with_needs([MIXER, MB4D.spec(16, 2)]))
    result = sweep(store, home, with_needs([EMBED]))
    assert {entry.spec for entry in result.measured} == {EMBED, in_context(EMBED), cold(EMBED), CALL}
    assert store.get(EMBED, NULL).latency.context_ns == elements(EMBED) - elements(CALL)


def test_a_row_waits_for_its_companions_over_groups(
    store: SqlStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "GROUP_BYTES", 1)  # each row in a group of its own
    sweep(store, home, with_needs([MIXER, EMBED]))
    assert store.get(MIXER, NULL).latency.slope_ns == elements(MIXER)
    assert store.get(EMBED, NULL).latency.context_ns == elements(EMBED) - elements(CALL)


def test_rows_in_doubt_are_measured_first(store: SqlStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "GROUP_BYTES", 1)
    specs = [IDENTITY.spec(width, 4) for width in (8, 16, 24, 32)]
    store.put_many(
        [
            make_entry(1.0, specs[0], NULL),
            make_entry(1.0, specs[2], NULL, doubts=("noisy",)),
            make_entry(1.0, specs[3], Target("null", "null", threads=2), doubts=("another target's",)),
        ]
    )
    watcher = Watcher()
    run_sweep(points(specs), store, home, POLICY, observer=watcher)
    assert [point.spec for point, _ in watcher.rows] == [specs[2], specs[0], specs[1], specs[3]]
    assert store.get(specs[2], NULL).latency.stable


def test_a_cold_row_flushes_before_each_of_its_single_calls_and_no_other_row_does(
    store: SqlStore, home: Path, flushes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = NullSession.time

    def time(self: NullSession, iterations: int, inner: int = 1) -> Timing:
        if flushes and flushes[-1] == "flush":
            flushes.append(f"{iterations}x{inner}")
        return timed(self, iterations, inner)

    monkeypatch.setattr(NullSession, "time", time)
    sweep(store, home, [cold(MIXER)])
    runs = store.runs(cold(MIXER), NULL)
    assert flushes == ["flush", "1x1"] * (len(runs) * POLICY.cold_samples) != []
    assert [(run.inner, run.warmups, len(run.wall_ns)) for run in runs] == [(1, 0, POLICY.cold_samples)] * len(runs)
    entry = store.get(cold(MIXER), NULL)
    artifact = store.find_artifact(str(entry.provenance["artifact_sha256"]))
    assert artifact is not None and artifact.spec == MIXER  # it is the block's own file
    flushes.clear()
    sweep(store, home, [MIXER, chain(MIXER)])
    assert flushes == []
