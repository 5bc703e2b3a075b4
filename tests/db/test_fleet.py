"""A device is held by one agent at a time, a name is one agent's, and the next batch is the most urgent."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from db import job_rows
from db.engine import SqlStore
from db.fleet import LIVE_S, Lease
from db.jobs import PlannedBatch
from db.schema import agents, batches, job_events, leases
from edgelut.errors import Conflict, Forbidden, InvalidSpec
from edgelut.jobs import Claim, Closed, DeviceInfo, FleetDevice, RuntimeInfo
from edgelut.testing import widths
from edgelut.types import Artifact, Params
from tests.db.support import (
    AGENT,
    DEVICE,
    SESSION,
    announcement,
    devices,
    found,
    hold,
    plan,
    point,
    request,
    said,
    start,
    submit,
)

NULL = RuntimeInfo("null", "1", ("null", "onnx"), ("fp32",), ("cpu", "gpu"))


def device(store: SqlStore, name: str = DEVICE) -> FleetDevice:
    return next(one for one in store.fleet() if one.info.name == name)


def silence(store: SqlStore, seconds: float = LIVE_S + 1) -> None:
    """Have all agents been heard of that long ago."""
    with store.engine.begin() as connection:
        connection.execute(agents.update().values(seen_at=datetime.now(UTC) - timedelta(seconds=seconds)))


def test_what_an_agent_announces_is_told_of_it(store: SqlStore) -> None:
    info = DeviceInfo("phone 8", Params({"device_model": "Pixel 8", "cores": 9}), (NULL,), False, "locked: unlock it")
    said_ = announcement(facts=Params({"os": "linux"}), environments=("old", "new"))
    assert store.announce(replace(said_, devices=(*devices(DEVICE), info))) == []
    (agent,) = store.agents()
    assert (agent.name, agent.version, agent.live, agent.devices) == (AGENT, "1.0", True, (DEVICE, "phone 8"))
    assert (agent.facts, agent.environments) == ({"os": "linux"}, ("old", "new"))
    assert device(store, "phone 8").info == info
    assert [(one.agent, one.state) for one in store.fleet()] == [(AGENT, "idle"), (AGENT, "unusable")]


def test_a_device_is_idle_measuring_unusable_or_away(store: SqlStore) -> None:
    job, holder = start(store, 3, 2)
    assert (device(store).state, device(store).job, device(store).waiting) == ("measuring", job.id, 5)
    holder.put_entries(0, 1)
    assert device(store).waiting == 3
    holder.finish(interrupted=True)
    assert (device(store).state, device(store).job) == ("idle", "")
    store.pulse(AGENT, SESSION, [DeviceInfo(DEVICE, usable=False, reason="too hot")])
    assert device(store).state == "unusable" and not store.has_work([DEVICE])
    assert store.claim(AGENT, SESSION, [DEVICE]) is None
    silence(store)
    assert device(store).state == "away" and not store.agents()[0].live
    store.pulse(AGENT, SESSION, devices(DEVICE))
    assert device(store).state == "idle" and store.has_work([DEVICE])


def test_a_new_session_of_an_installation_frees_what_the_old_one_held_at_once(store: SqlStore) -> None:
    job, holder = start(store, 2)
    holder.put_round()
    assert store.announce(announcement()) == []  # the same session again changes nothing
    assert holder.put_round().state == "held"
    assert store.announce(announcement(session="new")) == [holder.claim.batch]
    assert holder.put_round(1).state == "lost"
    with pytest.raises(Conflict, match="announce it again") as caught:
        store.pulse(AGENT, SESSION)
    assert caught.value.problem == "session"
    again = hold(store, session="new")
    assert again.claim.batch == holder.claim.batch and again.claim.sweep == holder.claim.sweep
    assert again.claim.lease != holder.claim.lease
    assert len(store.batch_runs(again.claim.batch)) == 4
    assert said(store, job)[-2:] == [
        f"batch 0 on {DEVICE} is left by agent {AGENT}: agent {AGENT} was started again",
        f"batch 0 on {DEVICE} taken up again by agent {AGENT}",
    ]


def test_a_name_of_a_live_agent_is_not_taken_and_that_of_a_lost_one_is(store: SqlStore) -> None:
    _, holder = start(store, 2)
    other = announcement("lab-9", installation="another", session="s2")
    with pytest.raises(Conflict, match="another name") as caught:
        store.announce(other)
    assert caught.value.problem == "conflict" and store.agents()[0].devices == (DEVICE,)
    silence(store)
    assert store.announce(other) == []  # what the other holds may still be measured: only its lease says when it is not
    assert [agent.name for agent in store.agents()] == [AGENT] and holder.put_round().state == "held"
    with pytest.raises(Conflict):
        store.pulse(AGENT, SESSION)
    assert device(store).state == "measuring"
    assert holder.lose() == [holder.claim.batch]
    assert (device(store).state, device(store).info.reason) == ("unusable", "its agent does not announce it any more")


def test_a_clock_that_was_set_back_keeps_no_name_from_anybody(store: SqlStore) -> None:
    store.announce(announcement())
    silence(store, -7 * 86400)
    store.announce(announcement(installation="another", session="s2"))
    assert store.agents()[0].live


def test_an_installation_that_is_renamed_keeps_its_devices_and_loses_its_leases(store: SqlStore) -> None:
    _, holder = start(store, 2)
    renamed = announcement(name="new name", session="s2", installation=f"of {AGENT}")
    assert store.announce(renamed) == [holder.claim.batch]
    assert [agent.name for agent in store.agents()] == ["new name"]
    assert device(store).agent == "new name"
    assert hold(store, name="new name", session="s2").claim.batch == holder.claim.batch


def test_an_installation_may_take_the_name_of_one_that_is_away(store: SqlStore) -> None:
    store.announce(announcement("lab-1", name="a"))
    store.announce(announcement("lab-2", name="b"))
    with pytest.raises(Conflict):
        store.announce(announcement("lab-2", name="a", installation="of b", session="s2"))
    silence(store)
    store.announce(announcement("lab-1", "lab-2", name="a", installation="of b", session="s2"))
    assert [(agent.name, agent.devices) for agent in store.agents()] == [("a", ("lab-1", "lab-2"))]


def test_a_device_of_a_live_agent_is_not_taken_and_that_of_a_lost_one_is(store: SqlStore) -> None:
    store.announce(announcement("lab-1", "lab-2"))
    other = announcement("lab-3", "lab-2", name="other")
    with pytest.raises(Conflict, match=rf"'lab-2' is agent {AGENT}'s.*--device LOCAL=NAME"):
        store.announce(other)
    assert [agent.name for agent in store.agents()] == [AGENT]  # nothing of the other one is stored
    silence(store)
    store.announce(other)
    assert [agent.devices for agent in store.agents()] == [("lab-1",), ("lab-2", "lab-3")]
    with pytest.raises(Conflict, match="is agent other's"):
        store.pulse(AGENT, SESSION, devices("lab-1", "lab-2"))


def test_a_device_that_is_announced_no_more_is_forgotten_unless_points_wait_for_it(store: SqlStore) -> None:
    submit(store, 1)
    store.announce(announcement("lab-1", "lab-2", "lab-3"))
    store.announce(announcement("lab-3"))
    assert [one.info.name for one in store.fleet()] == ["lab-1", "lab-3"]
    assert (device(store).state, device(store).waiting) == ("unusable", 1)
    assert not store.has_work(["lab-1"]) and store.claim(AGENT, SESSION, ["lab-1"]) is None
    store.pulse(AGENT, SESSION, devices("lab-1"))
    assert store.has_work(["lab-1"])


def test_a_token_bound_to_devices_is_for_no_other(store: SqlStore) -> None:
    with pytest.raises(Forbidden, match="is for lab-7, lab-8 and not for lab-1"):
        store.announce(announcement("lab-1", "lab-7"), ("lab-7", "lab-8"))
    assert store.agents() == []
    store.announce(announcement("lab-7"), ("lab-7", "lab-8"))
    store.pulse(AGENT, SESSION, devices("lab-8"))
    with pytest.raises(Forbidden, match="not for lab-9"):
        store.pulse(AGENT, SESSION, devices("lab-9"))
    assert [one.info.name for one in store.fleet()] == ["lab-8"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"session": "x" * 300},
        {"installation": "\ud800"},
        {"devices": devices("a/b")},
        {"devices": devices("a", "a")},
        {"devices": devices("a\0b")},
    ],
)
def test_names_that_are_none_are_refused(store: SqlStore, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        store.announce(replace(announcement(), **change))
    assert store.agents() == []


def test_a_claim_says_all_that_is_needed_to_measure(store: SqlStore) -> None:
    job = submit(store, 2, 1, again=True, half_width=0.05, environment="")
    store.announce(announcement())
    claim = hold(store).claim
    assert (claim.job, claim.device, claim.again, claim.baseline_sweep) == (job.id, DEVICE, True, "")
    assert claim.points == tuple(plan(2, 1)[0].points) and claim.policy == job.request.policy()
    sweep = store.find_sweep(claim.sweep)
    assert sweep is not None and sweep.state == "running" and sweep.plan["job"] == job.id
    assert store.start_sweep("plan", {}).id != claim.sweep


def test_a_comparing_job_has_a_sweep_for_each_side(store: SqlStore) -> None:
    _, holder = start(store, 2, baseline="previous", name="ci", environment="old")
    claim = holder.claim
    assert claim.baseline_sweep not in ("", claim.sweep) and claim.environment == "old"
    assert claim.points == tuple(plan(2, baseline=claim.points[0].baseline)[0].points)
    assert claim.points[0].baseline is not None
    holder.finish(interrupted=True)
    again = hold(store).claim
    assert (again.sweep, again.baseline_sweep) == (claim.sweep, claim.baseline_sweep)


def test_the_most_urgent_batch_comes_first_then_the_oldest_job_then_the_first_batch(store: SqlStore) -> None:
    low = submit(store, 1, priority=-5)
    first = submit(store, 1, 1)
    second = submit(store, 1)
    high = submit(store, 1, priority=7)
    store.announce(announcement())
    order = []
    while (claim := store.claim(AGENT, SESSION, [DEVICE])) is not None:
        order.append((claim.job, claim.points[0].number))
        store.finish_batch(claim.batch, claim.lease, False, "")
    assert order == [(high.id, 0), (first.id, 0), (first.id, 1), (second.id, 0), (low.id, 0)]


def test_the_most_urgent_batch_of_all_free_devices_comes_first(store: SqlStore) -> None:
    submit(store, 1, device="lab-1")
    urgent = submit(store, 1, device="lab-2", priority=1)
    store.announce(announcement("lab-1", "lab-2"))
    assert hold(store, "lab-1", "lab-2").claim.job == urgent.id
    assert hold(store, "lab-1").claim.device == "lab-1"


def test_an_agent_gets_batches_of_its_own_devices_alone(store: SqlStore) -> None:
    submit(store, 1)
    store.announce(announcement())
    store.announce(announcement("lab-9", name="other"))
    assert store.claim("other", SESSION, [DEVICE, "lab-9", "no such"]) is None
    assert store.claim(AGENT, SESSION, []) is None
    assert store.has_work([DEVICE]) and not store.has_work(["lab-9", "no such"]) and not store.has_work([])
    with pytest.raises(Conflict) as caught:
        store.claim(AGENT, "an old session", [DEVICE])
    assert caught.value.problem == "session"
    with pytest.raises(Conflict):
        store.claim("nobody", SESSION, [DEVICE])


def test_twenty_threads_claim_two_hundred_batches_and_no_device_has_two_holders(
    make_store: Callable[[], SqlStore],
) -> None:
    stores = [make_store(), make_store()]  # as two processes would
    names = [f"lab-{n}" for n in range(8)]
    made = [submit(stores[0], *([1] * 25), device=name) for name in names]
    stores[0].announce(announcement(*names))
    held: dict[str, str] = {}
    doubles: list[Claim] = []
    claimed: list[Claim] = []
    ended: set[str] = set()
    lock = threading.Lock()

    def work(number: int) -> None:
        mine = stores[number % 2]
        while len(ended) < 200:
            with lock:
                free = [name for name in names if name not in held]
            claim = mine.claim(AGENT, SESSION, random.sample(free, min(2, len(free)))) if free else None
            if claim is None:
                time.sleep(0.01)
                continue
            with lock:
                if (known := held.setdefault(claim.device, claim.lease)) == claim.lease:
                    claimed.append(claim)
                else:  # two asked for it when it was free: the second to hear has the answer of one that has ended since
                    doubles.append(claim)
                    assert known in {one.lease for one in claimed}
            mine.finish_batch(claim.batch, claim.lease, False, "")
            with lock:
                ended.add(claim.batch)
                if held.get(claim.device) == claim.lease:
                    del held[claim.device]

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))
    leased = {claim.batch: claim.lease for claim in [*claimed, *doubles]}
    assert len(leased) == 200 == len({claim.lease for claim in [*claimed, *doubles]})  # each batch under one lease
    assert stores[0].leases() == [] and all(stores[0].is_complete(job.id) for job in made)
    with stores[0].engine.connect() as connection:
        events = sa.select(job_events.c.text).where(job_events.c.text.contains(" taken"))
        taken = connection.execute(events).scalars().all()
        assert len(taken) == len(set(taken)) == 200 and all("(1 points) taken" in text for text in taken)


def test_an_agent_that_never_got_the_answer_to_its_claim_is_given_the_same_again(store: SqlStore) -> None:
    job, holder = start(store, 2, 1, baseline="previous", name="ci")
    assert hold(store) == holder and len(store.leases()) == 1
    holder.put_round()
    holder.close(Closed(0, "compared"))
    again = hold(store).claim
    assert again == replace(holder.claim, points=holder.claim.points[1:])
    assert said(store, job)[-1] == f"batch 0 on {DEVICE} (2 points) taken by agent {AGENT}"


def test_a_device_is_free_when_its_agent_says_so_of_a_batch_that_nobody_wants(store: SqlStore) -> None:
    job, holder = start(store, 1, 1)
    holder.put_entries(0)  # and the word that it finished was never heard
    second = hold(store)
    assert second.claim.points[0].number == 1 and [lease.token for lease in store.leases()] == [second.claim.lease]
    store.cancel_job(job.id)
    assert store.claim(AGENT, SESSION, [DEVICE]) is None and store.leases() == []
    sweeps = [store.find_sweep(one.claim.sweep) for one in (holder, second)]
    assert [sweep and sweep.state for sweep in sweeps] == ["done", "interrupted"]


def test_an_agent_that_fails_over_a_claim_each_time_gives_up(store: SqlStore) -> None:
    job, _ = start(store, 1, 1)
    numbers = [hold(store).claim.points[0].number for _ in range(30)]
    assert numbers == [0] * 24 + [1] * 6
    (failed,) = store.job_points(job.id, state="failed")
    assert failed.reason.startswith("given up after 25 attempts that stored nothing")


def test_a_session_is_given_nothing_that_another_holds(store: SqlStore) -> None:
    _, holder = start(store, 1, 1)
    silence(store)
    store.announce(announcement(installation="another", session="s2"))  # the old one may still be measuring
    assert store.claim(AGENT, "s2", [DEVICE]) is None
    assert holder.put_round().state == "held"


def test_the_database_refuses_a_second_holder(store: SqlStore) -> None:
    submit(store, 1, 1)
    submit(store, 1, device="lab-2")
    store.announce(announcement(DEVICE, "lab-2"))
    hold(store, DEVICE), hold(store, "lab-2")
    for column in (leases.c.device, leases.c.batch_id, leases.c.token):
        with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
            first = connection.execute(sa.select(sa.func.min(column))).scalar_one()
            connection.execute(leases.update().values({column.name: first}))


def test_every_sign_of_life_moves_the_beats_of_all_leases_of_the_session(store: SqlStore) -> None:
    submit(store, 2, device="lab-1"), submit(store, 2, device="lab-2"), submit(store, 1, device="lab-3")
    store.announce(announcement("lab-1", "lab-2"))
    store.announce(announcement("lab-3", name="other", session="other"))
    holder, second = hold(store, "lab-1"), hold(store, "lab-2")
    store.claim("other", "other", ["lab-3"])
    at = count(1)
    signs: list[Callable[[], object]] = [
        lambda: store.pulse(AGENT, SESSION),
        holder.put_round,
        lambda: holder.put_entries(0),
        lambda: holder.progress(1, 1.0),
        lambda: store.put_batch_artifacts(holder.claim.batch, holder.claim.lease, []),
        lambda: holder.close(),
    ]
    for sign in signs:
        sign()
        beat = next(at)
        assert {lease.device: lease.beat for lease in store.leases()} == {"lab-1": beat, "lab-2": beat, "lab-3": 0}
    mine = store.leases()[0]
    assert mine == Lease("lab-1", holder.claim.lease, SESSION, holder.claim.batch, len(signs))
    second.lose()
    second.put_round()  # who lost its lease is not one of the living
    assert store.leases()[0].beat == len(signs)


def test_a_lease_is_freed_only_if_its_beat_stood_still(store: SqlStore) -> None:
    job, holder = start(store, 2)
    (seen,) = store.leases()
    store.pulse(AGENT, SESSION)
    assert store.free_leases([(seen.token, seen.beat)]) == []
    assert holder.put_round().state == "held"
    (seen,) = store.leases()
    assert store.free_leases([(seen.token, seen.beat), ("no such", 0)], "nothing was heard for 30 s") == [seen.batch]
    assert store.free_leases([(seen.token, seen.beat)]) == store.free_leases([]) == store.leases() == []
    assert store.has_work([DEVICE]) and said(store, job)[-1].endswith("nothing was heard for 30 s")
    sweep = store.find_sweep(holder.claim.sweep)
    assert sweep is not None and sweep.state == "interrupted"


def test_a_pulse_names_a_batch_that_was_lost_until_somebody_takes_it_up(store: SqlStore) -> None:
    _, holder = start(store, 2)
    holder.lose()
    assert store.pulse(AGENT, SESSION).stop == (holder.claim.batch,)
    again = hold(store)
    assert store.pulse(AGENT, SESSION).stop == () and again.claim.batch == holder.claim.batch


def test_what_the_clock_says_frees_no_lease_and_keeps_none(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _, holder = start(store, 2)
    later = datetime.now(UTC) + timedelta(days=400)
    for module in ("db.job_rows", "db.batches", "db.fleet"):
        monkeypatch.setattr(f"{module}.now", lambda: later)
    assert job_rows.now() == later
    assert not store.has_work([DEVICE]) and holder.put_round().state == "held"
    (seen,) = store.leases()
    assert store.free_leases([(seen.token, seen.beat)]) == [seen.batch]


def test_a_batch_is_given_up_after_twenty_five_attempts_that_stored_nothing(store: SqlStore) -> None:
    job, holder = start(store, 2, 1)
    for attempt in range(24):
        assert holder.lose()
        holder = hold(store)
        assert holder.claim.points[0].number == 0, attempt
        if attempt == 9:
            holder.put_round()  # it went on: count anew
    assert found(store, job).points.failed == 0
    for _ in range(12):  # 14 of the attempts above came after that round
        assert holder.claim.points[0].number == 0
        holder.finish(interrupted=True, reason="the phone is locked")
        holder = hold(store)
    assert holder.claim.points[0].number == 2
    reasons = {one.reason for one in store.job_points(job.id, state="failed")}
    assert reasons == {"given up after 25 attempts that stored nothing: the phone is locked"}
    assert found(store, job).points.failed == 2
    assert [failure.reason for failure in store.failures(store.job_points(job.id)[0].sweep)] == [*reasons] * 2
    with store.engine.connect() as connection:
        assert connection.execute(sa.select(batches.c.state).order_by(batches.c.number)).scalars().all() == [
            "closed",
            "claimed",
        ]


@pytest.mark.parametrize("thing", ["run", "entry", "failure", "artifact"])
def test_whatever_is_stored_counts_against_giving_up(store: SqlStore, thing: str) -> None:
    _, holder = start(store, 40)

    def store_one(number: int) -> None:
        if thing == "run":
            holder.put_round(number, [39])
        elif thing == "entry":
            holder.put_entries(number)
        elif thing == "failure":
            holder.close(Closed(number, "failed", "why"))
        else:
            artifact = Artifact(widths(1)[0], "null", "fp32", f"sha {number}", "1", 0.0, 1)
            store.put_batch_artifacts(holder.claim.batch, holder.claim.lease, [artifact])

    for number in range(30):
        store_one(number)
        holder.lose()
        holder = hold(store)


def test_a_claim_and_a_round_of_many_points_take_few_statements(
    store: SqlStore, statements: list[tuple[str, object]]
) -> None:
    points = [point(number, spec) for number, spec in enumerate(widths(100))]
    store.submit_job(request(), [PlannedBatch(DEVICE, points)])
    store.announce(announcement())
    statements.clear()
    holder = hold(store)
    assert len(holder.claim.points) == 100
    assert len(statements) < 14, [text for text, _ in statements]
    holder.put_round(0)
    statements.clear()
    holder.put_round(1)
    assert len(statements) < 14, [text for text, _ in statements]
