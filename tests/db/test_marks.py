"""A mark is the table as it was; a comparing job finds what it is compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.engine import SqlStore
from edgelut.errors import InvalidSpec, LatencyNotFound
from edgelut.jobs import Baseline, Closed, Job, JobRequest, Mark
from edgelut.testing import SPEC, TARGET, make_entry, widths
from edgelut.types import Params, Run, digest
from tests.db.support import announcement, hold, request, start, submit, target


def done(store: SqlStore, *, measured: bool = True, **changes: object) -> Job:
    """A job of two points of which the first was measured, if any."""
    job = submit(store, 2, **changes)
    store.announce(announcement())
    holder = hold(store)
    if measured:
        holder.put_round()
        holder.put_entries(0)
    holder.finish(reason="why")
    return store.close_job(job.id)


def asking(baseline: str, name: str = "ci") -> JobRequest:
    return request(baseline=baseline, name=name)


def test_a_mark_holds_the_table_as_it_was(store: SqlStore) -> None:
    specs = widths(3)
    empty = store.put_mark("empty")
    store.put_many([make_entry(1.0, specs[0]), make_entry(1.0, specs[1], doubts=("hot",))])
    mark = store.put_mark("release 1")
    store.put_many([make_entry(2.0, specs[0]), make_entry(2.0, specs[1]), make_entry(2.0, specs[2])])
    now = store.put_mark("now")
    asked = [specs[2], specs[0], specs[1], specs[0]]

    def p10(mark: Mark) -> list[float | None]:
        return [entry and entry.latency.p10_ns for entry in store.entries_at(mark, asked, TARGET)]

    assert p10(empty) == [None] * 4
    assert p10(mark) == [None, 1.0, 1.0, 1.0]
    assert p10(now) == [2.0] * 4 and store.entries_at(now, asked, TARGET) == store.get_many(asked, TARGET)
    assert store.entries_at(now, asked, target("no")) == [None] * 4 and store.entries_at(now, [], TARGET) == []


def test_a_mark_holds_what_was_current_and_not_what_came_last(store: SqlStore) -> None:
    store.put_many([make_entry(1.0), make_entry(2.0, doubts=("hot",)), make_entry(3.0, kind="predicted")])
    mark = store.put_mark("m")
    store.put(make_entry(4.0))
    assert store.entries_at(mark, [SPEC], TARGET) == [make_entry(1.0)]


def test_marks_are_listed_moved_and_deleted(store: SqlStore) -> None:
    first = store.put_mark("b")
    store.put(make_entry())
    other = store.put_mark("a")
    assert store.marks() == [other, first] and store.find_mark("b") == first and store.find_mark("c") is None
    moved = store.put_mark("b")
    assert moved.last_entry > first.last_entry and store.marks() == [other, moved]
    assert store.delete_mark("b") == moved and store.marks() == [other]
    with pytest.raises(LatencyNotFound, match="no mark 'b'"):
        store.delete_mark("b")


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101, "a\nb", "\ud800"])
def test_a_name_that_is_none_is_refused(store: SqlStore, name: str) -> None:
    with pytest.raises(InvalidSpec, match="a mark's name"):
        store.put_mark(name)


def test_the_previous_job_is_the_newest_of_the_same_name_that_measured_something(store: SqlStore) -> None:
    first = done(store, name="ci")
    second = done(store, name="ci")
    done(store, name="other"), done(store, name="ci", measured=False)
    running = submit(store, name="ci")
    assert store.find_baseline(asking("previous")) == second.id
    assert store.find_baseline(asking("previous"), second.id) == first.id
    assert store.find_baseline(asking("previous"), first.id) is None
    assert store.find_baseline(asking("previous", "new")) is None
    assert store.find_baseline(asking(f"job:{running.id}")) == running.id
    assert store.find_baseline(asking("job:no")) is None
    with pytest.raises(InvalidSpec, match="give the job a name"):
        store.find_baseline(asking("previous", ""))


def test_a_branch_is_found_by_its_label(store: SqlStore) -> None:
    main = done(store, name="ci", labels=Params({"branch": "main"}))
    done(store, name="ci", labels=Params({"branch": "feature", "base": "main"}))
    done(store, name="other", labels=Params({"branch": "main"}))
    done(store, name="ci")
    assert store.find_baseline(asking("branch:main")) == main.id
    assert store.find_baseline(asking("branch:mai")) is None


def test_a_jobs_rows_are_baselines(store: SqlStore) -> None:
    job = done(store, name="ci")
    one, failed = store.job_points(job.id)
    places = [(one.point.spec, one.point.target), (failed.point.spec, failed.point.target), (SPEC, TARGET)]
    baseline = Baseline("sha", one.sweep, "facts")
    assert store.baselines(job.id, places) == {places[0]: baseline}
    assert store.baselines(job.id, places[1:]) == store.baselines(job.id, []) == {}
    store.put(make_entry(9.0, one.point.spec, one.point.target))  # newer rows do not change what a job was
    assert store.baselines(job.id, places) == {places[0]: baseline}
    known, holder = start(store, 2, name="ci")
    holder.close(Closed(0, "known"))
    assert store.baselines(known.id, places) == {}  # known by a row that no sweep made
    with pytest.raises(LatencyNotFound):
        store.baselines("no", places)


def test_a_known_points_row_is_its_baseline(store: SqlStore) -> None:
    first = done(store)
    again, holder = start(store, 2)
    holder.close(Closed(0, "known"))
    place = [(one.point.spec, one.point.target) for one in store.job_points(again.id)]
    assert store.baselines(again.id, place) == store.baselines(first.id, place) != {}
    assert [run.sweep for run in store.job_runs(again.id)] == [store.job_points(first.id)[0].sweep]


def test_what_a_comparing_job_measured_is_a_baseline(store: SqlStore) -> None:
    job, holder = start(store, 2, baseline="previous", name="ci")
    claim = holder.claim

    def run(number: int, round: int, sha: str, baseline: bool = False) -> Run:
        return replace(holder.run(number, round, baseline=baseline), artifact_sha256=sha)

    runs = [run(0, 0, "stale"), run(0, 1, "new"), run(1, 0, "failed later")]
    store.put_batch_runs(claim.batch, claim.lease, runs, [run(0, 0, "old", baseline=True)])
    holder.close(Closed(0, "compared"), Closed(1, "failed", "why"))
    assert store.close_job(job.id).state == "done"
    assert store.find_baseline(asking("previous")) == job.id
    places = [(one.point.spec, one.point.target) for one in claim.points]
    conditions = digest(dict(runs[0].conditions))
    assert store.baselines(job.id, places) == {places[0]: Baseline("new", claim.sweep, conditions)}


def test_a_marks_rows_are_baselines(store: SqlStore) -> None:
    job = done(store)
    one, _ = store.job_points(job.id)
    place = (one.point.spec, one.point.target)
    store.put(make_entry(provenance=Params({"measured_at": "then"})))  # of no sweep
    store.put_mark("m")
    assert store.find_baseline(asking("mark:m")) == "mark:m" and store.find_baseline(asking("mark:x")) is None
    assert store.baselines("mark:m", [place, (SPEC, TARGET)]) == {place: Baseline("sha", one.sweep, "facts")}
    with pytest.raises(LatencyNotFound, match="no mark 'x'"):
        store.baselines("mark:x", [place])
