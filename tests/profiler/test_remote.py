"""A claimed batch as a store of runs, against the real service: names, order, absence, loss, cancellation, refusal."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edgelut.errors import LatencyNotFound
from edgelut.jobs import Announcement, Claim, Closed, DeviceInfo, JobRequest, Progress, RuntimeInfo
from edgelut.rest import Connection
from edgelut.runs import Failure, RunStore
from edgelut.sequences import REFERENCE
from edgelut.testing import SPEC, START, RunStoreContract, make_entry, make_run
from edgelut.types import Artifact, BlockSpec, Entry, Params, Run, Target
from profiler import remote, uplink
from profiler.remote import BatchCancelled, BatchEnded, BatchInterrupted, BatchLost, BatchRefused, BatchStore
from profiler.uplink import Message, Reach, ServiceAway, Spool, Uplink, read_spool, spool_folder
from tests.profiler.lab import URL, Lab

LOCAL = Target("phone", "onnxruntime-cpu")  # by its backend's name; in the fleet it is `lab-1`
OTHER = replace(SPEC, width_in=112, width_out=112)
RUNTIME = RuntimeInfo("onnxruntime-cpu", "1", ("onnx",), ("fp32",))


@pytest.fixture
def batch(lab: Lab) -> Callable[..., BatchStore]:
    """Claim a batch of two points and return its store; each call is another agent's life."""
    lives: list[str] = []

    def claim(again: bool = False) -> BatchStore:
        if not lives or again:
            lives.append(f"session-{len(lives)}")
            device = DeviceInfo("lab-1", Params(), (RUNTIME,))
            lab.jobs.announce(Announcement("lab", "here", lives[-1], "0.1.0", devices=(device,)))
        if len(lives) == 1:
            lab.jobs.submit(JobRequest(specs=(SPEC, OTHER), alone=True, devices=("lab-1",)))
        claimed = lab.jobs.claim("lab", lives[-1], ["lab-1"])
        assert claimed is not None
        return store_of(lab, claimed)

    return claim


def store_of(lab: Lab, claim: Claim) -> BatchStore:
    connection = Connection(URL, retries=0, transport=lab.line)
    return BatchStore(claim, LOCAL.device, Uplink(connection, Reach()), lab.home)


def run(store: BatchStore, number: int = 0, spec: BlockSpec = SPEC, process: str = "w1") -> Run:
    return make_run(store.claim.sweep, number, process, spec=spec, target=LOCAL)


def row(store: BatchStore, ns: float = 1.0, spec: BlockSpec = SPEC, **changes: object) -> Entry:
    return make_entry(ns, spec, LOCAL, provenance=Params({"sweep": store.claim.sweep}), **changes)  # type: ignore[arg-type]


def away(store: BatchStore, lab: Lab) -> None:
    """Let the service be away, and the store know it."""
    lab.line.down = True
    store._uplink.reach.lost("the network is cut")


def back(store: BatchStore, lab: Lab) -> None:
    lab.line.down = False
    store._uplink.reach.heard()


class TestBatchStore(RunStoreContract):
    """The contract, as far as one sweep that was started elsewhere and two points on one device can show it."""

    @pytest.fixture
    def make_store(self, batch: Callable[..., BatchStore], lab: Lab) -> Callable[[], RunStore]:
        claim = batch().claim
        return lambda: store_of(lab, claim)

    # Not of a claimed batch: who starts, ends and knows sweeps is the service; it takes what the batch has points of, and of
    # these it gives back those that are open.
    test_an_unfinished_sweep_goes_on = None
    test_what_was_put_is_there_for_another_holder = None
    test_a_sweep_starts_and_its_time_is_aware = None
    test_an_interrupted_sweep_goes_on_and_a_finished_one_does_not = None
    test_sweeps_of_other_plans_are_other_sweeps = None
    test_a_sweep_that_never_started_has_nothing_and_takes_nothing = None
    test_runs_are_of_one_spec_and_one_sweep_where_named = None
    test_all_or_no_runs_are_put = None
    test_any_run_comes_back_exactly = None
    test_failures_are_kept_once_with_their_reason = None


def test_a_batch_has_its_points_by_the_names_of_this_host_and_the_service_by_those_of_the_fleet(
    batch: Callable[..., BatchStore], lab: Lab
) -> None:
    held = batch()
    assert {one.point.target for one in held.points()} == {LOCAL}
    assert {one.point.spec for one in held.points()} == {SPEC, OTHER}
    held.put_runs([run(held)])
    assert held.sweep_runs(held.claim.sweep) == [run(held)] == held.runs(SPEC, LOCAL)
    (kept,) = lab.store.sweep_runs(held.claim.sweep)
    assert kept.target == replace(LOCAL, device="lab-1")
    assert held.put_many([row(held)]) == [True] and held.find_many([SPEC, OTHER], LOCAL) == [row(held), None]
    assert lab.store.get(SPEC, kept.target) == replace(row(held), target=kept.target)
    with pytest.raises(ValueError, match="is not on phone"):
        held.put_runs([replace(run(held), target=Target("tablet", "onnxruntime-cpu"))])


def test_rows_are_asked_for_once_and_are_this_batchs_own_after_that(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    for _ in range(2):
        assert held.find_many([SPEC, OTHER], LOCAL) == [None, None]
    held.put_many([row(held, 5.0)])
    assert held.find_many([OTHER, SPEC], LOCAL) == [None, row(held, 5.0)]
    assert len(lab.line.sent("/latency/batch")) == 1


def test_artifacts_and_known_points_go_with_the_next_message(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    artifact = Artifact(SPEC, "onnx", "fp32", "ab" * 32, "1", 0.0, 7)
    for _ in range(2):
        held.put_artifact(artifact)
    assert held.find_artifact(artifact.sha256) == artifact and held.find_artifact("no") is None
    held.put_many([row(held)])
    held.known(SPEC, LOCAL)
    assert len(lab.line.sent("/artifacts")) == 1 and not lab.line.sent("/closed")
    held.put_runs([run(held, spec=OTHER)])
    assert lab.store.find_artifact(artifact.sha256) == artifact and len(lab.line.sent("/closed")) == 1


def test_what_is_put_while_the_service_is_away_is_sent_in_order_when_it_is_back(
    batch: Callable[..., BatchStore], lab: Lab
) -> None:
    held = batch()
    held.find_many([SPEC], LOCAL)
    away(held, lab)
    held.put_runs([run(held, 0)])
    held.put_runs([run(held, 1)])
    assert held.put_many([row(held)]) == [True]  # as far as can be told
    assert not lab.store.sweep_runs(held.claim.sweep)
    back(held, lab)
    held.put_runs([run(held, 0, OTHER)])
    assert len(lab.store.sweep_runs(held.claim.sweep)) == 3
    assert lab.store.get(SPEC, replace(LOCAL, device="lab-1")).provenance["sweep"] == held.claim.sweep
    assert [path.rpartition("/")[2] for _, path, _ in lab.line.seen[-4:]] == ["runs", "runs", "entries", "runs"]


def test_the_first_round_that_is_not_answered_costs_one_try_and_later_ones_none(
    batch: Callable[..., BatchStore], lab: Lab
) -> None:
    held, tries = batch(), []
    lab.line.down = True
    lab.line.on_request = tries.append
    for number in range(5):
        held.put_runs([run(held, number)])
    assert len(tries) == 1 and held._uplink.reach.away


def test_reading_waits_for_a_service_that_is_away(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    away(held, lab)
    held.put_runs([run(held)])
    timer = threading.Timer(0.3, lambda: back(held, lab))
    timer.start()
    assert held.sweep_runs(held.claim.sweep) == [run(held)]  # what was put before is there
    timer.join()


def test_waiting_ends_with_the_agent(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    away(held, lab)
    held.interrupt(0.0)
    with pytest.raises(BatchInterrupted):
        held.find_many([SPEC], LOCAL)
    assert not held.finish(True, "stopped")


def test_measuring_waits_when_too_much_waits_to_be_sent(
    batch: Callable[..., BatchStore], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink, "MOST_BYTES", 2000)
    held = batch()
    away(held, lab)
    timer = threading.Timer(0.5, lambda: back(held, lab))
    timer.start()
    for number in range(5):
        held.put_runs([run(held, number)])
    assert not timer.is_alive() and len(lab.store.sweep_runs(held.claim.sweep)) == 5


def test_a_batch_that_was_lost_ends_and_what_was_measured_is_kept_while_its_points_are_open(
    batch: Callable[..., BatchStore], lab: Lab
) -> None:
    held = batch()
    held.put_runs([run(held, 0)])
    taken = batch(again=True)
    with pytest.raises(BatchLost):
        held.put_runs([run(held, 1)])
    assert held.ended and taken.claim.sweep == held.claim.sweep
    assert taken.sweep_runs(taken.claim.sweep) == [run(held, 0), run(held, 1)]
    taken.put_many([row(taken)])
    with pytest.raises(BatchLost):
        held.put_runs([run(held, 2)])
    with pytest.raises(BatchLost):
        held.put_failure(Failure(held.claim.sweep, SPEC, LOCAL, "its worker was ended", START))
    assert len(lab.store.sweep_runs(held.claim.sweep)) == 2
    assert lab.store.get(SPEC, replace(LOCAL, device="lab-1")) is not None


def test_a_batch_of_a_cancelled_job_ends_at_its_next_message(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    lab.jobs.cancel(held.claim.job)
    with pytest.raises(BatchCancelled):
        held.put_runs([run(held)])
    with pytest.raises(BatchCancelled):
        held.check(in_round=True)
    assert held.finish(True, "cancelled") and lab.jobs.fleet()[0].state == "idle"


def test_progress_tells_of_a_cancelled_job_too(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    lab.jobs.cancel(held.claim.job)
    held.progress(Progress(1, 2, 3, 4.0))
    with pytest.raises(BatchCancelled):
        held.check(in_round=True)


def test_a_batch_that_a_heartbeat_says_to_stop_ends_between_two_bursts(
    batch: Callable[..., BatchStore], lab: Lab
) -> None:
    held = batch()
    held.unwanted()
    with pytest.raises(BatchEnded):
        held.check(in_round=True)


def test_a_round_in_hand_may_end_when_the_agent_stops(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    held.interrupt(60.0)
    held.check(in_round=True)
    with pytest.raises(BatchInterrupted):
        held.check()
    with pytest.raises(BatchInterrupted):
        held.put_runs([run(held)])
    assert len(lab.store.sweep_runs(held.claim.sweep)) == 1  # the round is kept
    held.interrupt(0.0)
    with pytest.raises(BatchInterrupted):
        held.check(in_round=True)


def test_what_the_service_refuses_ends_the_batch_and_is_no_points_failure(
    batch: Callable[..., BatchStore], lab: Lab
) -> None:
    held = batch()
    with pytest.raises(BatchRefused, match="the service refused entries: "):
        held.put_many([row(held, spec=replace(SPEC, batch=7))])
    with pytest.raises(BatchRefused, match="of sweep 'another'"):
        held.put_runs([replace(run(held), sweep="another")])
    assert held.finish(True, "refused") and not lab.line.sent("/closed")


def test_a_batch_that_the_service_does_not_know_is_lost(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    held.path = "/batches/none"
    with pytest.raises(BatchLost):
        held.put_runs([run(held)])


def test_a_reference_is_stored_on_the_fleets_name(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    spec, target = BlockSpec(REFERENCE, 1, 1, 1), Target("phone", REFERENCE)
    assert held.find_many([spec], target) == [None]
    entry = make_entry(3.0, spec, target, provenance=Params({"sweep": held.claim.sweep}))
    held.put_many([entry])
    assert held.find_many([spec], target) == [entry]
    assert lab.store.get(spec, replace(target, device="lab-1")).latency.p10_ns == 3.0


def test_a_comparing_batch_sends_both_sides_of_a_round_in_one_message(
    batch: Callable[..., BatchStore], lab: Lab
) -> None:
    plain = batch()
    held = store_of(lab, replace(plain.claim, baseline_sweep="older"))
    away(held, lab)
    held.put_runs([run(held), replace(run(held), sweep="older")])
    (message,) = held._outbox._waiting
    told = msgspec.json.decode(message.body)
    assert [one["sweep"] for one in told["runs"]] == [held.claim.sweep]
    assert [one["sweep"] for one in told["baseline_runs"]] == ["older"]


def test_reasons_that_are_too_long_are_cut(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    held.put_failure(Failure(held.claim.sweep, SPEC, LOCAL, "x" * 50_000, START))
    held.close_points([Closed(held.points()[1].number, "failed", "y" * 50_000)])
    assert [len(failure.reason) for failure in lab.store.failures(held.claim.sweep)] == [remote.LONGEST_REASON] * 2


# Messages that wait on disk


def test_a_message_is_on_disk_until_it_is_answered(batch: Callable[..., BatchStore], lab: Lab) -> None:
    held = batch()
    held.put_runs([run(held, 0)])
    file = spool_folder(lab.home, URL) / f"{held.claim.batch}.jsonl"
    assert file.read_bytes() == b"" and file.stat().st_mode & 0o777 == 0o600
    away(held, lab)
    held.put_runs([run(held, 1)])
    held.put_many([row(held)])
    messages = list(read_spool(file))
    assert [message.path.rpartition("/")[2] for message in messages] == ["runs", "entries"]
    back(held, lab)
    for message in messages:
        uplink.post(held._uplink, message)
    assert [one.round for one in lab.store.sweep_runs(held.claim.sweep)] == [0, 1]
    held.finish(True)
    assert not file.exists()


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "spool.jsonl"
    spool = Spool(file)
    messages = [Message("/a", b'{"n": 1}'), Message("/b", b'{"n": 2}')]
    for message in messages:
        spool.append(message)
    spool.close()
    assert list(read_spool(file)) == messages
    for cut in range(1, len(messages[1].line())):
        file.write_bytes(file.read_bytes()[: len(messages[0].line())] + messages[1].line()[:-cut])
        assert list(read_spool(file)) == messages[:1]


def test_a_disk_that_is_full_is_no_error_while_the_service_answers(
    batch: Callable[..., BatchStore], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = batch()
    real = os.write
    full = [OSError(errno.ENOSPC, "no space left"), 10]

    def write(descriptor: int, data: bytes) -> int:
        if not full:
            return real(descriptor, data)
        fails = full.pop(0)
        if isinstance(fails, OSError):
            raise fails
        return real(descriptor, data[:fails])

    monkeypatch.setattr(uplink.os, "write", write)
    for number in range(3):
        held.put_runs([run(held, number)])
    away(held, lab)
    held.put_runs([run(held, 3)])
    file = spool_folder(lab.home, URL) / f"{held.claim.batch}.jsonl"
    assert len(lab.store.sweep_runs(held.claim.sweep)) == 3 and len(list(read_spool(file))) == 1


def test_messages_to_one_service_are_not_sent_to_another(tmp_path: Path) -> None:
    assert spool_folder(tmp_path, "https://a") != spool_folder(tmp_path, "https://b")


# Whether the service is there


def test_who_waits_is_woken_when_the_service_is_heard_again() -> None:
    reach, woken = Reach(), []
    reach.lost("gone")
    thread = threading.Thread(target=lambda: woken.append(reach.wait(30.0)))
    thread.start()
    assert not reach.wait(0.01)
    assert reach.heard() and not reach.heard()
    thread.join(10)
    assert woken == [True]


def test_an_uplink_tells_a_service_that_is_away_from_one_that_refuses(lab: Lab) -> None:
    line = Uplink(Connection(URL, retries=0, transport=lab.line), Reach())
    with pytest.raises(LatencyNotFound):
        line.call(dict, "GET", "/batches/none/runs")
    assert not line.reach.away
    lab.line.down = True
    with pytest.raises(ServiceAway, match="cannot reach"):
        line.call(dict, "GET", "/fleet")
    assert line.reach.away and "cannot reach" in line.reach.why
