"""Jobs are submitted once, counted, cancelled in each state, tried again, ended and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import jobs as module
from db.engine import SqlStore
from db.jobs import PlannedBatch
from db.schema import batches, job_events, points
from edgelut.errors import Conflict, InvalidSpec, LatencyNotFound
from edgelut.jobs import Closed, JobCounts
from edgelut.testing import widths
from edgelut.types import Params
from tests.db.support import (
    DEVICE,
    announcement,
    found,
    hold,
    plan,
    point,
    request,
    said,
    start,
    states,
    submit,
)


def test_a_job_comes_back_as_it_was_asked_for(store: SqlStore) -> None:
    asked = request(specs=tuple(widths(2)), labels=Params({"branch": "main", "n": 1}), name="nightly", half_width=0.031)
    job, new = store.submit_job(asked, plan(2, 1), submitter="ci", idempotency_key="build 7")
    assert new and job == store.find_job(job.id)
    assert (job.state, job.request, job.points) == ("queued", asked, JobCounts(open=3))
    assert (job.submitter, job.devices, job.rounds, job.seconds_left) == ("ci", (DEVICE,), 0, None)
    assert job.created_at.utcoffset() == timedelta(0) and job.started_at is job.finished_at is None
    first, *_, last = store.job_points(job.id)
    assert first.point == plan(2, 1)[0].points[0].point and first.batch != last.batch
    assert (last.number, last.state, last.sweep, last.reason, last.entry) == (2, "open", "", "", None)
    assert said(store, job) == ["submitted by ci: 3 points in 2 batches"]


def test_a_job_that_is_not_there_is_none_or_not_found(store: SqlStore) -> None:
    assert store.find_job("no") is None
    missing: list[Callable[[str], Any]] = [store.job_points, store.job_events, store.cancel_job, store.retry_job]
    missing += [store.close_job, store.is_complete, store.job_runs, lambda id: store.log_job(id, "info", "words")]
    missing += [lambda id: store.jobs(before=id)]
    for ask in missing:
        with pytest.raises(LatencyNotFound, match="no job 'no'"):
            ask("no")


def test_the_same_key_gives_the_same_job_and_another_request_is_refused(store: SqlStore) -> None:
    job, _ = store.submit_job(request(), plan(3), idempotency_key="k")
    assert store.submit_job(request(), plan(3), idempotency_key="k") == (job, False)
    assert store.find_keyed(request(), "k") == job and store.find_keyed(request(), "other") is None
    for ask in (store.find_keyed, lambda asked, key: store.submit_job(asked, plan(3), idempotency_key=key)):
        with pytest.raises(Conflict, match=f"another request before, for job {job.id}"):
            ask(request(priority=1), "k")
    assert len(store.jobs()) == 1
    assert (
        store.submit_job(request(), plan(3))[1] and store.submit_job(request(), plan(3))[1]
    )  # without a key: a new one


def test_one_key_from_many_at_once_is_one_job(make_store: Callable[[], SqlStore]) -> None:
    stores = [make_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(lambda store: store.submit_job(request(), plan(3), idempotency_key="k"), [*stores, *stores])
        )
    assert len({job.id for job, _ in made}) == 1 and sum(new for _, new in made) == 1


@pytest.mark.parametrize("key", ["x" * 201, "a\nb", "a\0b"])
def test_a_key_that_is_none_is_refused(store: SqlStore, key: str) -> None:
    with pytest.raises(InvalidSpec, match="printable"):
        store.submit_job(request(), plan(1), idempotency_key=key)


def test_a_plan_that_is_none_is_refused_and_leaves_nothing(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = point(0, widths(2)[0]), point(1, widths(2)[1])
    wrong = [
        [],
        [PlannedBatch(DEVICE, [])],
        [PlannedBatch(DEVICE, [one]), PlannedBatch(DEVICE, [])],
        [PlannedBatch(DEVICE, [one, replace(one, number=1)])],
        [PlannedBatch(DEVICE, [one]), PlannedBatch(DEVICE, [replace(other, number=0)])],
        [PlannedBatch("elsewhere", [one])],
    ]
    for bad in wrong:
        with pytest.raises(InvalidSpec):
            store.submit_job(request(), bad)
    monkeypatch.setattr(module, "MOST_POINTS", 2)
    with pytest.raises(InvalidSpec, match="at most 2 points, not 3"):
        store.submit_job(request(), plan(3))
    with pytest.raises(InvalidSpec, match="half_width"):
        store.submit_job(request(half_width=9.0), plan(1))
    assert store.jobs() == []


def test_the_database_refuses_a_point_twice(store: SqlStore) -> None:
    submit(store, 2)
    with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
        connection.execute(points.update().values(spec_id=1))
    with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
        connection.execute(points.update().values(number=1))


def test_jobs_are_listed_newest_first_by_state_name_and_page(store: SqlStore) -> None:
    made = [submit(store, 1, name=name) for name in ("a", "b", "a", "b")]
    store.cancel_job(made[2].id)
    ids = [job.id for job in made]
    assert [job.id for job in store.jobs()] == ids[::-1]
    assert [job.id for job in store.jobs(name="a")] == [ids[2], ids[0]]
    assert [job.id for job in store.jobs(state="queued", name="a")] == [ids[0]]
    assert [job.id for job in store.jobs(limit=2)] == [ids[3], ids[2]]
    assert [job.id for job in store.jobs(limit=2, before=ids[2])] == [ids[1], ids[0]]
    assert store.unfinished_jobs() == [ids[0], ids[1], ids[3]]


def test_a_list_takes_as_many_statements_as_one_job(store: SqlStore, statements: list[tuple[str, object]]) -> None:
    for _ in range(20):
        submit(store, 2, 2)
    statements.clear()
    assert len(store.jobs()) == 20
    selects = [text for text, _ in statements if text.startswith("SELECT")]
    assert len(selects) == 3


def test_points_come_by_state_and_page(store: SqlStore) -> None:
    job, holder = start(store, 5)
    holder.close(Closed(1, "failed", "why"), Closed(3, "failed", "why"))
    assert [one.number for one in store.job_points(job.id, state="failed")] == [1, 3]
    assert [one.number for one in store.job_points(job.id, state="failed", after=1)] == [3]
    assert [one.number for one in store.job_points(job.id, limit=2)] == [0, 1]
    assert [one.number for one in store.job_points(job.id, after=1, limit=2)] == [2, 3]


def test_a_log_grows_at_its_end_and_takes_any_words(store: SqlStore) -> None:
    job, other = submit(store), submit(store)
    store.log_job(job.id, "warning", "a\0b \ud800 日本")
    store.log_job(other.id, "info", "not this one's")
    first, second = store.job_events(job.id)
    assert (second.level, second.text) == ("warning", "a\\0b \\ud800 日本") and second.id > first.id
    assert store.job_events(job.id, after=first.id) == [second]
    assert store.job_events(job.id, limit=1) == [first]


def test_a_job_is_done_when_nothing_of_it_is_open(store: SqlStore) -> None:
    job, holder = start(store, 2)
    assert found(store, job).state == "running" and found(store, job).started_at is not None
    holder.put_entries(0)
    assert store.close_job(job.id).state == "running"  # too early: nothing happens
    assert not store.is_complete(job.id) and store.complete_jobs() == []
    holder.close(Closed(1, "failed", "why"))
    assert store.is_complete(job.id) and store.complete_jobs() == [job.id]
    done = store.close_job(job.id)
    assert (done.state, done.points) == ("done", JobCounts(measured=1, failed=1))
    assert store.close_job(job.id) == done and done.finished_at is not None
    assert store.complete_jobs() == store.unfinished_jobs() == []
    assert said(store, job)[-1] == "done: 1 measured, 1 failed" and said(store, job).count(said(store, job)[-1]) == 1


def test_a_queued_job_is_cancelled(store: SqlStore) -> None:
    job = submit(store, 2, 1)
    store.announce(announcement())
    cancelled = store.cancel_job(job.id)
    assert (cancelled.state, cancelled.points) == ("cancelled", JobCounts(cancelled=3))
    assert cancelled.finished_at is not None and store.cancel_job(job.id) == cancelled
    assert not store.has_work([DEVICE]) and store.claim("agent", "session", [DEVICE]) is None
    assert said(store, job)[-1] == "cancelled with 3 points open"


def test_a_running_job_is_cancelled_and_its_device_is_free_when_the_agent_has_stopped(store: SqlStore) -> None:
    job, holder = start(store, 2, 1)
    next_job = submit(store, 1)
    holder.put_round()
    holder.put_entries(0)
    assert store.cancel_job(job.id).points == JobCounts(measured=1, cancelled=2)
    assert store.pulse("agent", "session").stop == (holder.claim.batch,)
    assert not store.has_work([DEVICE]) and len(store.leases()) == 1  # still measuring
    assert holder.put_round(1).state == holder.progress(1, 9.0).state == "cancelled"
    assert holder.put_entries(1).state == "cancelled" and states(store, job) == ["measured", "cancelled", "cancelled"]
    assert holder.finish(interrupted=True).state == "cancelled"
    assert store.pulse("agent", "session").stop == ()
    assert hold(store).claim.job == next_job.id
    assert store.close_job(job.id).state == "cancelled"


def test_an_agent_that_dies_after_a_cancel_frees_its_device_and_nothing_more(store: SqlStore) -> None:
    job, holder = start(store, 2)
    store.cancel_job(job.id)
    assert holder.lose() == [holder.claim.batch] and store.leases() == []
    assert found(store, job).state == "cancelled" and not store.has_work([DEVICE])
    assert holder.put_round().state == "lost"


def test_a_job_that_is_done_stays_done(store: SqlStore) -> None:
    job, holder = start(store, 1)
    holder.put_entries(0)
    done = store.close_job(job.id)
    assert store.cancel_job(job.id) == done


def test_what_failed_is_tried_again_in_new_batches_and_may_fail_again(store: SqlStore) -> None:
    job, holder = start(store, 2, 2)
    holder.close(Closed(0, "failed", "too hot"))
    with pytest.raises(Conflict, match="is running"):
        store.retry_job(job.id)
    holder.put_entries(1)
    holder.finish()
    second = hold(store)
    second.finish(reason="no such runtime")
    store.close_job(job.id)
    again, count = store.retry_job(job.id)
    assert (again.state, again.finished_at, count) == ("queued", None, 3)
    assert again.points == JobCounts(open=3, measured=1)
    opened = store.job_points(job.id, state="open")
    assert [one.reason for one in opened] == [""] * 3 and len(
        {one.batch for one in opened}
    ) == 1  # what is left fits one
    third = hold(store)
    assert [one.number for one in third.claim.points] == [0, 2, 3]
    assert third.claim.sweep not in (holder.claim.sweep, second.claim.sweep)
    third.put_entries(0, 2)
    third.close(Closed(3, "failed", "again"))
    done = store.close_job(job.id)
    assert done.points == JobCounts(measured=3, failed=1)
    assert done.started_at == again.started_at is not None  # when it was first begun
    assert store.retry_job(job.id)[1] == 1


def test_nothing_to_try_again_is_a_conflict(store: SqlStore) -> None:
    job, holder = start(store, 1)
    holder.put_entries(0)
    store.close_job(job.id)
    with pytest.raises(Conflict, match="nothing of job"):
        store.retry_job(job.id)


def test_a_cancelled_job_is_tried_again_while_its_agent_still_stops(store: SqlStore) -> None:
    job, holder = start(store, 2)
    store.cancel_job(job.id)
    assert store.retry_job(job.id)[0].state == "queued"
    assert not store.has_work([DEVICE])
    assert holder.put_round().state == "cancelled"  # of this batch nothing is wanted
    holder.finish(interrupted=True)
    assert [one.number for one in hold(store).claim.points] == [0, 1]


def test_families_stay_together_when_what_is_left_is_put_together(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IN_BATCH", 4)
    job = submit(store, 2, 1, 3, 2)
    store.cancel_job(job.id)
    store.retry_job(job.id)
    by_batch: dict[str, list[int]] = {}
    for one in store.job_points(job.id):
        by_batch.setdefault(one.batch, []).append(one.number)
    assert list(by_batch.values()) == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_old_jobs_are_forgotten_and_what_they_measured_is_kept(store: SqlStore) -> None:
    old, holder = start(store, 1)
    holder.put_round()
    holder.put_entries(0)
    holder.finish()
    store.close_job(old.id)
    unfinished = submit(store, 1)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert store.forget_jobs(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert store.forget_jobs(later) == 1
    assert store.find_job(old.id) is None and [job.id for job in store.jobs()] == [unfinished.id]
    assert len(store.sweep_runs(holder.claim.sweep)) == 1 and len(list(store.entries())) == 1
    with store.engine.connect() as connection:
        for table in (points, batches, job_events):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 1


def test_a_job_is_not_forgotten_while_an_agent_holds_a_batch_of_it(store: SqlStore) -> None:
    job, holder = start(store, 1)
    store.cancel_job(job.id)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert store.forget_jobs(later) == 0
    holder.finish(interrupted=True)
    assert store.forget_jobs(later) == 1 and store.leases() == []


def test_the_time_left_is_that_of_the_slowest_device(store: SqlStore) -> None:
    other = [PlannedBatch("lab-2", [point(n + 10, spec, "lab-2") for n, spec in enumerate(widths(2))])]
    job, _ = store.submit_job(request(devices=(DEVICE, "lab-2")), [*plan(4, 2), *other])
    store.announce(announcement(DEVICE, "lab-2"))
    assert found(store, job).seconds_left is None
    first = hold(store, DEVICE)
    assert found(store, job).seconds_left is None
    first.progress(1, 40.0)
    left = found(store, job).seconds_left
    assert left == pytest.approx(40.0 + 20.0, abs=5.0)  # 10 s a point, and two more wait for this device
    second = hold(store, "lab-2")
    second.progress(0, 500.0)
    assert found(store, job).seconds_left == pytest.approx(500.0, abs=1.0)
    store.cancel_job(job.id)
    assert found(store, job).seconds_left is None


def test_rounds_are_counted_as_they_are_stored(store: SqlStore) -> None:
    job, holder = start(store, 3)
    for round in (0, 1, 1):
        holder.put_round(round)
    assert found(store, job).rounds == 6
