"""The loop on a phone: queues, their order and pauses, and what happens when app or phone go away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.apple import app as loop
from backends.apple.app import PhoneModel, Queue, _in_order
from backends.apple.remote import Answer
from backends.devices.iphone import IPhone
from backends.runtimes.coreml import CoreML
from edgelut.errors import ArtifactCorrupted, BackendMissing, DeviceUnusable, Unsupported
from tests.apple.support import IDENTIFIER, TEAM, Mac

X = {"x": np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)}
FAST_NS = 250_000  # of CPU_AND_NE in the fake app


def opened(iphone: IPhone, packages: dict[str, Path], unit: str = "cpu_and_ne") -> Any:
    return CoreML().open(packages["identity"], iphone, "fp16", 1, unit)


def test_a_model_is_loaded_run_and_timed_on_the_phone(mac: Mac, iphone: IPhone, packages: dict[str, Path]) -> None:
    with opened(iphone, packages) as session:
        loaded = session.loaded
        assert (loaded.load_ns, loaded.compile_ns) == (31_000_000, None)
        assert (loaded.ran_on, loaded.facts["share_ne"]) == ("ne+cpu", 0.97)
        np.testing.assert_array_equal(session.run(X)[0], X["x"])
        session.prepare(X)
        before = len(mac.calls())
        timing = session.begin(2, 7, 2)()
        assert len(timing.wall_ns) == 7 and timing.cpu_ns == ()
        assert all(round(sample / FAST_NS, 1) == 2.0 for sample in timing.wall_ns)
        made = mac.calls()[before:]
        assert made.count("device copy to") == 2  # the inputs, and sixteen requests
        assert set(made) == {"device copy to", "device copy from"}
        before = len(mac.calls())
        session.time(7, 2)
        assert mac.calls()[before:].count("device copy to") == 1  # the inputs are there
    assert mac.launches() == 1 and mac.calls().count("xcodebuild") == 1
    observed = iphone.state().observed
    assert observed["observed_loop"] == "queued" and 0 < float(observed["observed_pause_ms"]) < 5_000
    assert "observed_pause_ms" not in iphone.state().observed  # since it was last asked


def test_bursts_lie_before_the_phone_at_once_and_are_told_apart(
    mac: Mac, iphone: IPhone, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MOST_AHEAD", 12)
    with opened(iphone, packages, "cpu_only") as slow, opened(iphone, packages) as fast:
        waits = []
        for session in (slow, fast) * 3:
            session.prepare(X)
            waits.append((session, session.begin(1, 4)))
        app = iphone.app()
        assert len(app._flying) == 2 and len(app._pending) == 4
        for session, wait in waits:
            each = 1_000_000 if session is slow else FAST_NS
            assert [round(ns / each, 1) for ns in wait().wall_ns] == [1.0] * 4
        assert not app._flying and not app._pending and len(app._free) <= 15


def test_what_the_app_refuses_ends_that_burst_and_no_other(mac: Mac, iphone: IPhone, packages: dict[str, Path]) -> None:
    with opened(iphone, packages) as session:
        session.prepare(X)
        session.time(2)
        app = iphone.app()
        lost = PhoneModel(
            session._model.compiled, "CPU_ONLY", service=session._model.service, launch=session._model.launch
        )
        lost.service._model_id, kept = "lost", lost.service._model_id
        lost.inputs = X
        with pytest.raises(Unsupported, match="not currently loaded"):
            app.wait(app.begin(lost, 0, 2))
        session._model.service._model_id = kept
        assert len(session.time(3).wall_ns) == 3
        with pytest.raises(Unsupported, match="no cold row"):
            session.begin(0, 1, cold=True)


def test_an_app_that_crashed_is_launched_again_and_models_are_loaded_into_it(
    mac: Mac, iphone: IPhone, packages: dict[str, Path]
) -> None:
    with opened(iphone, packages) as one, opened(iphone, packages, "cpu_only") as other:
        for session in (one, other):
            session.prepare(X)
            session.time(2)
        mac.kill_app()
        iphone.app()._session._process.wait(10)
        assert len(one.time(2).wall_ns) == len(other.time(2).wall_ns) == 2
    assert mac.launches() == 2


def test_an_app_that_was_asked_often_is_launched_again_with_nothing_left(
    mac: Mac, iphone: IPhone, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MOST_REQUESTS", 6)
    with opened(iphone, packages) as session:
        session.prepare(X)
        for _ in range(3):
            session.time(4)
        (messages,) = mac.phone.rglob("requests/messages")
        assert mac.launches() == 2 and len(list(messages.iterdir())) < 10


def test_a_phone_that_is_unplugged_while_it_is_timed_is_unusable(
    mac: Mac, iphone: IPhone, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(iphone, packages) as session:
        session.prepare(X)
        session.time(2)
        wait = session.begin(0, 40)
        mac.now(unplugged=True)
        with pytest.raises(DeviceUnusable, match=r"not attached.*cable"):
            wait()
        with pytest.raises(DeviceUnusable, match="not attached"):
            session.time(2)
        mac.now()
        assert len(session.time(2).wall_ns) == 2  # plugged in again


def test_a_phone_that_is_locked_launches_nothing(mac: Mac, iphone: IPhone, packages: dict[str, Path]) -> None:
    mac.now(locked=True)
    with pytest.raises(DeviceUnusable, match=r"is locked.*Auto-Lock"), opened(iphone, packages):
        pass


def test_folders_that_arrive_elsewhere_mean_one_request_after_the_other(
    mac: Mac, iphone: IPhone, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a devicectl put a folder into the one that is named, and not what it holds, nothing of a queue is ever seen."""
    mac.now(nests_folders=True)
    monkeypatch.setattr(loop, "FIRST_S", 0.5)
    with opened(iphone, packages) as session:
        session.prepare(X)
        assert [round(ns / FAST_NS, 1) for ns in session.begin(1, 3)().wall_ns] == [1.0] * 3
    observed = iphone.state().observed
    assert observed["observed_loop"] == "one by one" and float(observed["observed_pause_ms"]) > 20


def test_a_team_that_xcode_does_not_know_is_named(
    mac: Mac, iphone: IPhone, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELUT_APPLE_TEAM", "BADTEAM000")
    with (
        pytest.raises(Unsupported, match=r"xcodebuild ended with 65.*BADTEAM000.*docs/apple.md"),
        opened(iphone, packages),
    ):
        pass


def test_without_xcodebuild_it_says_what_is_missing(mac: Mac, iphone: IPhone, packages: dict[str, Path]) -> None:
    (mac.folder / "bin" / "xcodebuild").unlink()
    with pytest.raises(BackendMissing, match="xcodebuild"), opened(iphone, packages):
        pass


def test_a_folder_with_a_space_is_refused_before_a_shell_sees_it(
    mac: Mac, iphone: IPhone, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGELUT_HOME", str(tmp_path / "my home"))
    with pytest.raises(Unsupported, match="space"), opened(iphone, packages):
        pass


def test_what_is_wrong_with_a_package_is_said_before_the_phone_is_reached(
    mac: Mac, iphone: IPhone, packages: dict[str, Path], tmp_path: Path
) -> None:
    with (
        pytest.raises(Unsupported, match="computes in fp32"),
        CoreML().open(packages["block"], iphone, "fp16", 1, "all"),
    ):
        pass
    with (
        pytest.raises(ArtifactCorrupted, match="nowhere"),
        CoreML().open(tmp_path / "nowhere", iphone, "fp16", 1, "all"),
    ):
        pass
    assert mac.launches() == 0


def test_the_app_is_signed_by_the_team_under_a_name_of_its_own(
    mac: Mac, iphone: IPhone, packages: dict[str, Path]
) -> None:
    with opened(iphone, packages):
        assert [one.name for one in (mac.phone / "data").iterdir()] == [f"org.edgelut.modelrunner.{TEAM.lower()}"]
    assert iphone._identifier == IDENTIFIER


def _queue(warmups: int, *answers: tuple[int, int]) -> Queue:
    made = Queue(PhoneModel(Path("model.mlmodelc"), "ALL"), warmups, len(answers) - warmups)
    for number, (written_ns, duration) in enumerate(answers):
        made.answers[str(number)] = Answer({"result": {"duration": duration}}, written_ns)
    return made


def test_answers_are_put_in_the_order_of_their_dates_and_the_first_warmed_up() -> None:
    burst = _in_order(_queue(1, (9_000, 30), (1_000, 900), (2_000, 40), (4_000, 50)))
    assert burst.durations_ns == (40, 50, 30) and burst.pause_ns == 4_970
    assert _in_order(_queue(0, (1_000, 7))).pause_ns == 0


def test_dates_between_which_no_prediction_fits_tell_no_pause() -> None:
    burst = _in_order(_queue(0, (1_000, 500), (1_010, 500), (1_020, 500)))
    assert burst.durations_ns == (500, 500, 500) and burst.pause_ns is None
