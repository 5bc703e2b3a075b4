"""The life of jobs, driven through the facade without an engine: what each call does, and what is heard of it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from db.engine import SqlStore
from edgelut.errors import Conflict, Forbidden, InvalidSpec, LatencyNotFound, StorageError
from edgelut.jobs import Announcement, Claim, DeviceInfo, Progress
from jobs.leases import LEASE_S
from jobs.service import Jobs
from tests.jobs.support import BOTH, SPECS, TinyAgent, counts, request_for
from tests.jobs.test_leases import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(store: SqlStore, clock: Clock) -> Jobs:
    return Jobs(store, clock=clock)


@pytest.fixture
def agent(jobs: Jobs) -> TinyAgent:
    agent = TinyAgent(jobs, devices=("a", "b"))
    agent.announce()
    return agent


def pass_time(jobs: Jobs, clock: Clock, seconds: float) -> None:
    jobs.tick()
    for _ in range(round(seconds / 2)):
        clock.now += 2
        jobs.tick()


@BOTH
def test_a_job_is_queued_then_running_then_done(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a", "b"), submitter="ci")
    assert (job.state, counts(job), job.devices, job.submitter) == ("queued", {"open": 8}, ("a", "b"), "ci")
    claim = agent.claim()
    assert jobs.find_job(job.id).state == "running"  # type: ignore[union-attr]
    agent.measure(claim, claim.points)
    jobs.finish(claim.batch, claim.lease)
    assert agent.work() == 4
    done = jobs.find_job(job.id)
    assert done is not None and (done.state, counts(done), done.rounds) == ("done", {"measured": 8}, 8)
    assert [point.state for point in jobs.points(job.id)] == ["measured"] * 8
    assert len(jobs.runs(job.id)) == 8 and len(jobs.runs(job.id, [0, 1])) == 2
    assert "done: 8 measured" in jobs.events(job.id)[-1].text


def test_a_job_is_done_at_the_very_call_that_closes_its_last_point(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    agent.measure(claim, claim.points[:-1])
    assert jobs.find_job(job.id).state == "running"  # type: ignore[union-attr]
    agent.measure(claim, claim.points[-1:])
    assert jobs.find_job(job.id).state == "done"  # type: ignore[union-attr]


def test_points_that_fail_are_stored_reasons_and_do_not_end_the_job(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    agent.fail(claim, claim.points[:2], "no such operator")
    agent.measure(claim, claim.points[2:])
    assert counts(jobs.find_job(job.id)) == {"measured": 2, "failed": 2}
    assert {point.reason for point in jobs.points(job.id, state="failed")} == {"no such operator"}


def test_what_is_left_when_an_agent_finishes_fails_with_its_words(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    jobs.finish(claim.batch, claim.lease, reason="the phone was unplugged")
    done = jobs.find_job(job.id)
    assert done is not None and (done.state, counts(done)) == ("done", {"failed": 4})


def test_an_interrupted_batch_is_claimed_again_with_what_is_open(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    agent.measure(claim, claim.points[:1])
    jobs.finish(claim.batch, claim.lease, interrupted=True)
    again = agent.claim()
    assert (again.batch, again.sweep, len(again.points)) == (claim.batch, claim.sweep, 3)
    agent.measure(again, again.points)
    assert counts(jobs.find_job(job.id)) == {"measured": 4}


def test_the_same_key_and_request_give_the_same_job_even_when_the_fleet_has_changed(
    jobs: Jobs, agent: TinyAgent
) -> None:
    job = jobs.submit(request_for("a"), key="build 7")
    agent.devices = ("c",)
    agent.announce()
    agent.work()
    assert jobs.submit(request_for("a"), key="build 7").id == job.id
    with pytest.raises(Conflict, match="build 7"):
        jobs.submit(request_for("b"), key="build 7")
    assert len(jobs.jobs()) == 1


@BOTH
def test_a_key_that_comes_at_once_from_many_gives_one_job(jobs: Jobs, agent: TinyAgent) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(jobs.submit(request_for("a"), key="k").id)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_what_cannot_be_planned_is_refused_and_nothing_is_stored(jobs: Jobs, agent: TinyAgent) -> None:
    for request in (request_for("c"), request_for("a", runtimes=("x",)), request_for("a", environment="old")):
        with pytest.raises(InvalidSpec):
            jobs.submit(request)
    assert jobs.jobs() == []


def test_an_environment_is_asked_of_the_devices_agent(jobs: Jobs, agent: TinyAgent) -> None:
    agent.announce(environments=("old",))
    assert jobs.submit(request_for("a", environment="old")).state == "queued"


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ("previous", "no job 'nightly' has been done before; run one without a baseline first"),
        ("branch:main", "no job 'nightly' with branch=main"),
        ("job:0123", "no job '0123' to compare with"),
        ("mark:gold", "no mark 'gold' to compare with; `PUT /marks/gold` makes one"),
    ],
)
def test_nothing_to_compare_with_is_said(jobs: Jobs, agent: TinyAgent, baseline: str, said: str) -> None:
    with pytest.raises(LatencyNotFound, match=said):
        jobs.submit(request_for("a", name="nightly", baseline=baseline))


@BOTH
def test_a_comparing_job_knows_what_each_point_is_compared_with(jobs: Jobs, agent: TinyAgent) -> None:
    first = jobs.submit(request_for("a", name="nightly", specs=SPECS[:2], labels={"branch": "main"}))
    claim = agent.claim()
    rows = [agent.row(claim, one) for one in claim.points]
    rows = [
        dataclasses.replace(row, provenance={**row.provenance, "artifact_sha256": "ab" * 32})
        for row in rows  # type: ignore[arg-type]
    ]
    jobs.put_entries(claim.batch, claim.lease, rows)
    jobs.finish(claim.batch, claim.lease)
    for baseline in ("previous", "branch:main", f"job:{first.id}"):
        job = jobs.submit(request_for("a", name="nightly", baseline=baseline))
        assert job.baseline_job == first.id
        baselines = [point.baseline for point in jobs.points(job.id)]
        assert [one is not None for one in baselines] == [
            point.point.spec in SPECS[:2] for point in jobs.points(job.id)
        ]
        jobs.cancel(job.id)


def test_a_job_is_compared_with_a_mark(jobs: Jobs, agent: TinyAgent) -> None:
    jobs.submit(request_for("a"))
    agent.work()
    jobs.store.put_mark("gold")
    job = jobs.submit(request_for("a", baseline="mark:gold"))
    assert (job.baseline_job, job.state) == ("", "queued")


def test_a_queued_job_is_cancelled_at_once(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    assert jobs.cancel(job.id).state == "cancelled"
    assert counts(jobs.find_job(job.id)) == {"cancelled": 4}
    assert jobs.claim(agent.name, agent.session, agent.devices) is None


def test_a_running_job_is_cancelled_and_its_device_is_held_until_its_agent_has_stopped(
    jobs: Jobs, agent: TinyAgent
) -> None:
    job, other = jobs.submit(request_for("a")), jobs.submit(request_for("a", name="next"))
    claim = agent.claim()
    agent.measure(claim, claim.points[:1])
    assert jobs.cancel(job.id).state == "cancelled"
    assert jobs.pulse(agent.name, agent.session).stop == (claim.batch,)
    assert not jobs.has_work(agent.devices)  # and the agent does not ask before it has stopped
    assert agent.measure(claim, claim.points).state == "cancelled"
    assert jobs.finish(claim.batch, claim.lease, interrupted=True).state == "cancelled"
    assert agent.claim().job == other.id
    assert counts(jobs.find_job(job.id)) == {"measured": 1, "cancelled": 3}


def test_a_job_that_has_ended_stays_as_it_is_when_it_is_cancelled(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    agent.work()
    assert jobs.cancel(job.id).state == "done"
    other = jobs.submit(request_for("a"))
    jobs.cancel(other.id)
    assert jobs.cancel(other.id).state == "cancelled"


@BOTH
def test_what_failed_is_tried_again_and_nothing_else(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    agent.fail(claim, claim.points[:1])
    agent.measure(claim, claim.points[1:])
    again, count = jobs.retry(job.id)
    assert (again.state, count) == ("queued", 1)
    with pytest.raises(Conflict, match="is queued"):
        jobs.retry(job.id)
    jobs.finish(claim.batch, claim.lease)
    assert agent.work() == 1
    assert counts(jobs.find_job(job.id)) == {"measured": 4}


def test_a_job_of_which_nothing_failed_is_not_tried_again(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    agent.work()
    with pytest.raises(Conflict, match="nothing of job"):
        jobs.retry(job.id)


def test_a_cancelled_job_is_tried_again(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))
    jobs.cancel(job.id)
    assert jobs.retry(job.id)[1] == 4
    assert agent.work() == 4
    assert jobs.find_job(job.id).state == "done"  # type: ignore[union-attr]


@BOTH
def test_a_batch_whose_agent_is_silent_goes_to_another_and_its_late_words_are_taken_for_open_points(
    jobs: Jobs, agent: TinyAgent, clock: Clock
) -> None:
    job = jobs.submit(request_for("a"))
    lost = agent.claim()
    agent.measure(lost, lost.points[:1])
    pass_time(jobs, clock, LEASE_S - 2)
    assert not jobs.has_work(["a"])
    pass_time(jobs, clock, 2)
    again = agent.claim()
    assert (again.batch, len(again.points)) == (lost.batch, 3) and again.lease != lost.lease
    assert agent.measure(lost, lost.points[:2]).state == "lost"
    assert agent.measure(again, again.points).state == "held"
    done = jobs.find_job(job.id)
    assert done is not None and (done.state, counts(done)) == ("done", {"measured": 4})


def test_an_agent_that_pulses_keeps_its_batch_for_ever(jobs: Jobs, agent: TinyAgent, clock: Clock) -> None:
    jobs.submit(request_for("a"))
    claim = agent.claim()
    for _ in range(20):
        pass_time(jobs, clock, LEASE_S - 4)
        assert jobs.pulse(agent.name, agent.session).stop == ()
    assert agent.measure(claim, claim.points).state == "held"


def test_an_agent_that_was_started_again_gets_its_batch_back_at_once(jobs: Jobs, agent: TinyAgent) -> None:
    jobs.submit(request_for("a"))
    lost = agent.claim()
    agent.restart()
    assert agent.claim().batch == lost.batch


def test_agent_and_service_agree_on_a_protocol_or_say_what_to_upgrade(jobs: Jobs) -> None:
    agent = TinyAgent(jobs)
    agent.announce(protocols=(1, 2))
    for protocols, which in (((0,), "upgrade the agent"), ((2, 3), "speaks protocol 2 or 3.*upgrade the service")):
        with pytest.raises(Conflict, match=which) as told:
            agent.announce(protocols=protocols)
        assert told.value.problem == "protocol"


def test_an_agent_is_welcomed_with_how_often_to_be_heard(jobs: Jobs, agent: TinyAgent) -> None:
    welcome = jobs.announce(Announcement("other", "i", "s", "1"))
    assert (welcome.protocol, welcome.lease_s, welcome.heartbeat_s) == (1, 30.0, 5.0)
    with pytest.raises(Forbidden):
        jobs.announce(Announcement("lab", agent.installation, agent.session, "1", devices=(DeviceInfo("a"),)), ("b",))


def test_agents_and_devices_are_listed(jobs: Jobs, agent: TinyAgent) -> None:
    jobs.submit(request_for("a"))
    agent.claim()
    assert [(one.name, one.live, one.devices) for one in jobs.agents()] == [("lab", True, ("a", "b"))]
    assert [(one.info.name, one.state, one.waiting) for one in jobs.fleet()] == [
        ("a", "measuring", 4),
        ("b", "idle", 0),
    ]


def test_a_crash_between_the_last_point_and_the_end_of_the_job_is_made_good_by_the_tick(
    jobs: Jobs, agent: TinyAgent, store: SqlStore
) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    store.put_batch_entries(claim.batch, claim.lease, [agent.row(claim, one) for one in claim.points])
    assert jobs.find_job(job.id).state == "running"  # type: ignore[union-attr]
    jobs.tick()
    jobs.tick()
    assert jobs.find_job(job.id).state == "done"  # type: ignore[union-attr]


def test_a_message_for_a_batch_that_another_process_gave_away_closes_its_job(
    jobs: Jobs, agent: TinyAgent, make_store: Callable[[], SqlStore]
) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    agent.jobs = Jobs(make_store())
    agent.measure(claim, claim.points)
    assert jobs.find_job(job.id).state == "done"  # type: ignore[union-attr]


@BOTH
def test_two_facades_on_one_database_give_each_batch_away_once(
    jobs: Jobs, agent: TinyAgent, make_store: Callable[[], SqlStore]
) -> None:
    for _ in range(10):
        jobs.submit(request_for("a", "b"))
    facades = [jobs, Jobs(make_store()), jobs, Jobs(make_store())]
    claims: list[Claim] = []

    def work(facade: Jobs) -> None:
        mine = dataclasses.replace(agent, jobs=facade)
        while jobs.has_work(agent.devices) or any(job.state != "done" for job in jobs.jobs()):
            claim = facade.claim(agent.name, agent.session, agent.devices)
            if claim is not None:
                claims.append(claim)
                mine.measure(claim, claim.points)
                facade.finish(claim.batch, claim.lease)

    threads = [threading.Thread(target=work, args=(facade,)) for facade in facades]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Two may ask for a device at once, which an agent does not: then both are told of the same lease.
    assert len({claim.batch for claim in claims}) == len({claim.lease for claim in claims}) == 20
    assert all(counts(job) == {"measured": 8} for job in jobs.jobs())


def test_every_change_of_a_job_is_heard_by_who_listens_to_it(jobs: Jobs, agent: TinyAgent) -> None:
    job, other = jobs.submit(request_for("a")), jobs.submit(request_for("b"))
    with jobs.changed.listen(job.id) as mine, jobs.changed.listen(other.id) as theirs:
        claim = agent.claim()
        assert mine.block(0)
        jobs.put_progress(claim.batch, claim.lease, Progress(1, 4, 1, 60.0))
        assert mine.block(0)
        agent.measure(claim, claim.points)
        assert mine.block(0)
        jobs.finish(claim.batch, claim.lease)
        assert mine.block(0)
        assert not theirs.block(0)
        jobs.cancel(other.id)
        assert theirs.block(0)


def test_long_polls_are_woken_by_what_may_be_claimed(jobs: Jobs, agent: TinyAgent, clock: Clock) -> None:
    with jobs.work.listen() as bell:
        job = jobs.submit(request_for("a"))
        assert bell.block(0)
        claim = agent.claim()
        jobs.put_progress(claim.batch, claim.lease, Progress(1, 4, 1, 60.0))
        assert not bell.block(0)
        pass_time(jobs, clock, LEASE_S)
        assert bell.block(0)  # the lease was freed
        jobs.cancel(job.id)
        jobs.retry(job.id)
        assert bell.block(0)
        claim = agent.claim()
        jobs.finish(claim.batch, claim.lease, interrupted=True)
        assert bell.block(0)


def test_jobs_that_ended_long_ago_are_forgotten(store: SqlStore, agent: TinyAgent) -> None:
    jobs = Jobs(store, keep=timedelta(0))
    agent.jobs = jobs
    old = jobs.submit(request_for("a"))
    claim = agent.claim()
    agent.measure(claim, claim.points)
    jobs.finish(claim.batch, claim.lease)
    young = jobs.submit(request_for("b"))
    jobs.tick()
    assert jobs.find_job(old.id) is None
    assert [job.id for job in jobs.jobs()] == [young.id]
    assert len(store.sweep_runs(claim.sweep)) == 4  # runs and rows stay


def test_a_database_that_is_away_is_a_storage_error_and_the_next_tick_goes_on(jobs: Jobs, agent: TinyAgent) -> None:
    job = jobs.submit(request_for("a"))

    def fail(*_: object) -> None:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("disk I/O error"))

    sa.event.listen(jobs.store.engine, "begin", fail)
    for call in (jobs.tick, jobs.jobs, agent.work, lambda: jobs.cancel(job.id)):
        with pytest.raises(StorageError, match="disk I/O error"):
            call()
    sa.event.remove(jobs.store.engine, "begin", fail)
    jobs.tick()
    assert agent.work() == 4


def test_the_watch_ticks_by_itself_and_stops(jobs: Jobs, agent: TinyAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.service.WATCH_S", 0.01)
    ticked = threading.Event()
    calls = iter([StorageError("away"), ValueError("a fault of ours"), None])

    def tick() -> None:
        fault = next(calls, None)
        if fault is not None:
            raise fault
        ticked.set()

    monkeypatch.setattr(jobs, "tick", tick)
    jobs.start()
    jobs.start()
    assert ticked.wait(10)
    jobs.stop()
    jobs.stop()
    assert not any(thread.name == "edgelut-watch" for thread in threading.enumerate())
