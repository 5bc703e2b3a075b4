"""Each point closes once, whoever sends what how often, and what was measured late is neither lost nor doubled."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from db.engine import SqlStore, open_store
from db.schema import entries, failures, points
from edgelut.errors import InvalidSpec, LatencyNotFound, StorageError
from edgelut.jobs import Closed, JobCounts, Progress, Standing
from edgelut.query import Query
from edgelut.sequences import REFERENCE
from edgelut.testing import make_entry, make_run, widths
from edgelut.types import Artifact, BlockSpec, Entry, Params, Target
from tests.db.support import (
    AGENT,
    DEVICE,
    SESSION,
    Holder,
    announcement,
    found,
    hold,
    said,
    start,
    states,
    submit,
    target,
)

NOMINAL = BlockSpec(REFERENCE, 1, 1, 1, params=Params({"machine": "m", "clock": "cpu", "version": 1}))


def reference(p10_ns: float = 1e5, device: str = DEVICE) -> Entry:
    return make_entry(p10_ns, NOMINAL, Target(device, REFERENCE))


def rows(store: SqlStore) -> int:
    with store.engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(entries)).scalar_one())


def test_a_job_is_measured_from_the_first_round_to_the_last_row(store: SqlStore) -> None:
    job, holder = start(store, 3)
    for round in range(3):
        assert holder.put_round(round) == Standing("held")
    assert store.sweep_runs(holder.claim.sweep) == store.batch_runs(holder.claim.batch)
    assert len(store.batch_runs(holder.claim.batch)) == 9
    assert holder.put_entries(0, 1) == Standing("held", (True, True))
    assert len(store.batch_runs(holder.claim.batch)) == 3  # of points that are still open
    assert holder.put_entries(2).current == (True,)
    assert holder.finish() == Standing("held")
    measured = store.job_points(job.id)
    assert [one.state for one in measured] == ["measured"] * 3
    for one in measured:
        assert one.entry is not None and one.closed_at is not None and one.sweep == holder.claim.sweep
        assert store.get_row(one.entry).entry == store.find(one.point.spec, one.point.target)
        assert [run.round for _, run in store.runs_of(one.entry)] == [0, 1, 2]
    assert len(store.job_runs(job.id)) == 9
    assert {run.spec for run in store.job_runs(job.id, [1])} == {measured[1].point.spec}
    assert store.job_runs(job.id, []) == store.job_runs(job.id, baseline=True) == []
    sweep = store.find_sweep(holder.claim.sweep)
    assert sweep is not None and sweep.state == "done"
    assert store.close_job(job.id).points == JobCounts(measured=3)


def test_every_message_may_come_twice(store: SqlStore) -> None:
    job, holder = start(store, 4)
    artifact = Artifact(widths(1)[0], "null", "fp32", "sha", "1", 0.0, 1)
    messages: list[Callable[[], Standing]] = [
        lambda: holder.put_round(0),
        lambda: holder.put_entries(0, 1),
        lambda: holder.close(Closed(2, "failed", "why"), Closed(2, "failed", "why")),
        lambda: store.put_batch_artifacts(holder.claim.batch, holder.claim.lease, [artifact, artifact]),
        lambda: holder.progress(3, 1.0),
    ]
    for message in messages:
        assert message() == message()
    assert found(store, job).rounds == 4 and rows(store) == 2
    assert states(store, job) == ["measured", "measured", "failed", "open"]
    assert len(store.failures(holder.claim.sweep)) == 1
    assert len([text for text in said(store, job) if "failed: why" in text]) == 1
    assert holder.finish().state == "held" and holder.finish().state == "lost"
    assert states(store, job) == ["measured", "measured", "failed", "failed"]
    assert holder.put_round(0).state == "lost" and found(store, job).rounds == 4


def test_a_point_that_is_closed_is_not_stored_again_whoever_sends_it(store: SqlStore) -> None:
    job, holder = start(store, 2)
    holder.put_entries(0)
    assert holder.put_entries(0, p10_ns=9e6).current == (False,)  # another row of the same point
    sent = [holder.entry(0), holder.entry(0, 9e6), holder.entry(1, 2e6), holder.entry(1, 3e6)]
    assert store.put_batch_entries(holder.claim.batch, holder.claim.lease, sent).current == (True, False, True, False)
    assert rows(store) == 2 and states(store, job) == ["measured"] * 2
    assert holder.close(Closed(0, "failed", "late"), Closed(1, "known")).state == "held"
    assert states(store, job) == ["measured"] * 2 and store.failures(holder.claim.sweep) == []


def test_doubles_from_many_at_once_are_one_row(make_store: Callable[[], SqlStore]) -> None:
    store = make_store()
    stores = [store, make_store(), make_store()]
    job, holder = start(store, 8)

    def send(turn: int) -> None:
        mine = Holder(stores[turn % 3], holder.claim)
        mine.put_round(turn % 2)
        mine.put_entries(*range(8), p10_ns=1e6 + turn)
        mine.close(Closed(turn % 8, "failed", "too late"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(24)))
    assert rows(store) == 8 and found(store, job).points == JobCounts(measured=8)
    assert found(store, job).rounds == len(store.sweep_runs(holder.claim.sweep)) <= 16
    assert store.failures(holder.claim.sweep) == []


def test_a_late_result_is_taken_where_the_point_is_open_and_dropped_where_not(store: SqlStore) -> None:
    job, late = start(store, 3)
    late.put_round(0)
    late.lose()
    assert late.put_round(1) == Standing("lost") and found(store, job).rounds == 6  # nobody else has it yet
    taken = hold(store)
    assert len(store.batch_runs(taken.claim.batch)) == 6
    assert late.put_entries(0) == Standing("lost", (True,))  # while another measures it
    assert taken.put_entries(0, p10_ns=2e6) == Standing("held", (False,))
    assert taken.put_entries(1) == Standing("held", (True,))
    assert late.put_entries(1, p10_ns=3e6) == Standing("lost", (False,))
    assert late.put_round(2, [1]).state == "lost" and found(store, job).rounds == 6
    assert states(store, job) == ["measured", "measured", "open"] and rows(store) == 2
    late.put_entries(2)
    assert taken.put_round(3).state == "cancelled"  # nothing is left of it: stop
    assert taken.finish().state == "held" and states(store, job) == ["measured"] * 3
    assert store.is_complete(job.id)


def test_a_round_that_two_agents_measured_is_kept_of_both_and_makes_one_row(store: SqlStore) -> None:
    job, late = start(store, 1)
    late.put_round(0, process="w1")
    late.lose()
    taken = hold(store)
    taken.put_round(1, process="w2")
    late.put_round(1, process="w1")
    resumed = store.batch_runs(taken.claim.batch)
    assert sorted((run.round, run.process) for run in resumed) == [(0, "w1"), (1, "w1"), (1, "w2")]
    taken.put_entries(0)
    late.put_entries(0, p10_ns=2e6)
    late.put_round(2, process="w1")  # what a row was made of does not grow
    (one,) = store.job_points(job.id)
    assert one.entry is not None and rows(store) == 1
    assert [run for _, run in store.runs_of(one.entry)] == resumed


def test_who_lost_a_batch_fails_none_of_its_points(store: SqlStore) -> None:
    job, late = start(store, 2)
    store.put(make_entry(1.0, late.claim.points[1].point.spec, target()))
    late.lose()
    assert late.close(Closed(0, "failed", "the cable was pulled"), Closed(1, "known")).state == "lost"
    assert states(store, job) == ["open", "known"]
    assert late.finish(reason="the cable was pulled").state == "lost" and states(store, job) == ["open", "known"]


def test_a_late_result_is_taken_for_a_point_that_is_tried_again(store: SqlStore) -> None:
    job, late = start(store, 2)
    late.put_round(0)
    store.cancel_job(job.id)
    assert late.put_entries(0).current == (False,) and rows(store) == 0
    store.retry_job(job.id)
    late.lose()
    assert late.put_entries(0) == Standing("lost", (True,))
    again = hold(store)
    assert [one.number for one in again.claim.points] == [1]
    (first, _) = store.job_points(job.id)
    assert first.sweep == late.claim.sweep != again.claim.sweep and first.batch == again.claim.batch
    assert [run.sweep for run in store.job_runs(job.id, [0])] == [late.claim.sweep]


def test_an_interrupted_batch_goes_on_with_what_it_has(store: SqlStore) -> None:
    job, holder = start(store, 3)
    holder.put_round(0)
    holder.put_entries(1)
    holder.finish(interrupted=True, reason="Ctrl-C")
    assert states(store, job) == ["open", "measured", "open"] and store.has_work([DEVICE])
    assert said(store, job)[-1] == f"batch 0 on {DEVICE} is left by agent {AGENT}: Ctrl-C"
    again = hold(store)
    assert again.claim.sweep == holder.claim.sweep and [one.number for one in again.claim.points] == [0, 2]
    assert len(store.batch_runs(again.claim.batch)) == 2
    again.finish(reason="")
    assert [one.reason for one in store.job_points(job.id, state="failed")] == [
        "the agent finished the batch without this point"
    ] * 2


def test_points_close_as_known_with_the_row_that_is_current(store: SqlStore) -> None:
    job, holder = start(store, 2)
    known = make_entry(5.0, holder.claim.points[0].point.spec, target(), provenance=Params({"sweep": "an earlier one"}))
    store.put(replace(known, latency=make_entry(4.0).latency))
    store.put(known)
    with pytest.raises(InvalidSpec, match="the table has no row of it"):
        holder.close(Closed(0, "known"), Closed(1, "known"))
    assert states(store, job) == ["open"] * 2  # all or none
    holder.close(Closed(0, "known"))
    point = store.job_points(job.id)[0]
    assert (point.state, point.sweep) == ("known", "an earlier one")
    assert point.entry == store.search(Query()).rows[0].id


def test_a_failure_is_kept_with_its_reason_and_said(store: SqlStore) -> None:
    job, holder = start(store, 2)
    holder.close(Closed(1, "failed", "Unsupported: no\0such op \ud800"))
    (failed,) = store.job_points(job.id, state="failed")
    assert failed.reason == "Unsupported: no\\0such op \\ud800" and failed.closed_at is not None
    (failure,) = store.failures(holder.claim.sweep)
    assert (failure.spec, failure.target, failure.reason) == (failed.point.spec, failed.point.target, failed.reason)
    assert said(store, job)[-1] == f"point 1 ({failed.point.spec}) failed: {failed.reason}"


def test_a_comparing_job_keeps_runs_of_both_sides_and_fills_no_table(store: SqlStore) -> None:
    job, holder = start(store, 2, baseline="previous", name="ci")
    claim = holder.claim
    both = [holder.run(number, baseline=True) for number in (0, 1)]
    new = [holder.run(number) for number in (0, 1)]
    assert store.put_batch_runs(claim.batch, claim.lease, new, both, Progress(0, 2, 1, 9.0)).state == "held"
    assert store.batch_runs(claim.batch, baseline=True) == both and store.batch_runs(claim.batch) == new
    with pytest.raises(InvalidSpec, match="compares and fills no table"):
        holder.put_entries(0)
    with pytest.raises(InvalidSpec, match="cannot be known"):
        holder.close(Closed(0, "known"))
    assert store.put_batch_entries(claim.batch, claim.lease, [reference()]).current == (True,)
    holder.close(Closed(0, "compared"), Closed(1, "failed", "why"))
    assert found(store, job).points == JobCounts(compared=1, failed=1) and found(store, job).rounds == 4
    assert store.job_runs(job.id) == new and store.job_runs(job.id, [0], baseline=True) == both[:1]


def test_earlier_runs_of_the_same_artifact_stand_in_for_a_baseline_that_was_not_measured(store: SqlStore) -> None:
    from db.jobs import PlannedBatch
    from edgelut.jobs import Baseline
    from tests.db.support import point, request

    old = store.start_sweep("old", {}).id
    specs = widths(2)
    store.put_runs(
        [
            make_run(old, round, spec=spec, target=target(), artifact_sha256=sha)
            for spec in specs
            for round, sha in enumerate(("sha", "another", "sha"))
        ]
    )
    baseline = Baseline("sha", old)
    points_ = [point(number, spec, baseline=baseline) for number, spec in enumerate(specs)]
    job, _ = store.submit_job(request(baseline="previous", name="ci"), [PlannedBatch(DEVICE, points_)])
    assert [run.round for run in store.job_runs(job.id, [0], baseline=True)] == [0, 2]
    store.announce(announcement())
    holder = hold(store)
    beside = holder.run(0, 7, baseline=True)
    store.put_batch_runs(holder.claim.batch, holder.claim.lease, [], [beside])
    assert store.job_runs(job.id, [0], baseline=True) == [beside]
    assert {run.sweep for run in store.job_runs(job.id, baseline=True)} == {old, holder.claim.baseline_sweep}


def test_a_job_that_compares_nothing_closes_no_point_as_compared(store: SqlStore) -> None:
    _, holder = start(store, 1)
    with pytest.raises(InvalidSpec, match="cannot be compared"):
        holder.close(Closed(0, "compared"))
    with pytest.raises(InvalidSpec, match="whose sweep is None"):
        store.put_batch_runs(holder.claim.batch, holder.claim.lease, [], [holder.run(0)])


def test_a_machine_keeps_the_reference_that_was_stored_first(store: SqlStore) -> None:
    job, holder = start(store, 1)
    batch, lease = holder.claim.batch, holder.claim.lease
    sent = [reference(1e5), holder.entry(0)]
    assert store.put_batch_entries(batch, lease, sent).current == (True, True)
    assert store.put_batch_entries(batch, lease, sent).current == (True, True)
    assert store.put_batch_entries(batch, lease, [reference(2e5)]).current == (False,)
    assert store.get(NOMINAL, Target(DEVICE, REFERENCE)) == reference(1e5)
    assert found(store, job).points == JobCounts(measured=1)
    with pytest.raises(InvalidSpec, match=f"one of {DEVICE}"):
        store.put_batch_entries(batch, lease, [reference(device="lab-2")])


def test_what_is_no_point_of_the_batch_is_refused_and_nothing_of_the_message_is_stored(store: SqlStore) -> None:
    job, holder = start(store, 2)
    submit(store, 2, device="lab-2")
    batch, lease = holder.claim.batch, holder.claim.lease
    good = holder.run(0)
    wrong = [
        replace(good, sweep="another"),
        replace(good, target=target("lab-2")),
        replace(good, spec=widths(9)[8]),
        replace(good, target=replace(target(), threads=2)),
    ]
    for bad in wrong:
        with pytest.raises(InvalidSpec):
            store.put_batch_runs(batch, lease, [good, bad])
    row = holder.entry(0)
    for entry in (
        replace(row, spec=widths(9)[8]),
        replace(row, target=target("lab-2")),
        replace(row, provenance=Params({"sweep": "another"})),
    ):
        with pytest.raises(InvalidSpec):
            store.put_batch_entries(batch, lease, [row, entry])
    with pytest.raises(InvalidSpec, match="no point 7 of this batch"):
        holder.close(Closed(0, "failed"), Closed(7, "failed"))
    assert found(store, job).rounds == 0 and states(store, job) == ["open"] * 2 and rows(store) == 0
    assert store.sweep_runs(holder.claim.sweep) == []


def test_a_batch_that_was_never_claimed_takes_no_runs(store: SqlStore) -> None:
    job = submit(store, 1)
    (one,) = store.job_points(job.id)
    run = make_run("", 0, spec=one.point.spec, target=target())
    with pytest.raises(InvalidSpec):
        store.put_batch_runs(one.batch, "lease", [run])
    assert store.batch_runs(one.batch) == [] and store.batch_job(one.batch) == job.id


def test_a_batch_that_is_not_there_is_not_found(store: SqlStore) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: store.put_batch_runs("no", "lease", []),
        lambda: store.put_batch_entries("no", "lease", []),
        lambda: store.close_points("no", "lease", []),
        lambda: store.put_batch_artifacts("no", "lease", []),
        lambda: store.put_batch_progress("no", "lease", Progress(0, 1, 0, 1.0)),
        lambda: store.finish_batch("no", "lease", True),
        lambda: store.batch_runs("no"),
        lambda: store.batch_job("no"),
    ]
    for ask in asks:
        with pytest.raises(LatencyNotFound, match="no batch 'no'"):
            ask()


def test_artifacts_are_kept_once(store: SqlStore) -> None:
    _, holder = start(store, 1)
    artifact = Artifact(widths(1)[0], "null", "fp32", "sha", "1", 1e-7, 10)
    for sent in ([artifact], [artifact, replace(artifact, sha256="other"), replace(artifact, size_bytes=11)]):
        assert store.put_batch_artifacts(holder.claim.batch, holder.claim.lease, sent).state == "held"
    assert store.find_artifact("sha") == artifact
    assert store.find_artifact("other") == replace(artifact, sha256="other")


def test_a_message_that_could_not_be_stored_whole_is_not_stored_in_part(store: SqlStore, url: str) -> None:
    job, holder = start(store, 2)
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE batches RENAME TO away"))
    with pytest.raises(StorageError):
        holder.put_entries(0)
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO batches"))
    with open_store(url) as again:
        assert rows(again) == 0 and states(again, job) == ["open"] * 2
        assert Holder(again, holder.claim).put_entries(0).current == (True,)


def test_a_full_table_of_points_keeps_its_words(store: SqlStore) -> None:
    """Everything that a point says of itself after it closed is read back, whatever its state."""
    job, holder = start(store, 3)
    holder.put_entries(0)
    holder.close(Closed(1, "failed", "why"))
    store.cancel_job(job.id)
    with store.engine.connect() as connection:
        times = connection.execute(sa.select(points.c.closed_at)).scalars().all()
        assert all(time is not None and time.utcoffset() is not None for time in times)
        assert connection.execute(sa.select(sa.func.count()).select_from(failures)).scalar() == 1
    assert [one.reason for one in store.job_points(job.id)] == ["", "why", ""]
    assert store.pulse(AGENT, SESSION).stop == (holder.claim.batch,)
