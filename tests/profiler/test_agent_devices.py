"""An agent whose phone goes and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelut.jobs import ENDED
from edgelut.plan import Policy
from profiler import agent as agents
from profiler.fleet import DeviceChoice, trouble
from tests.profiler.lab import Lab, wait_until


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "LOOK_S", 0.05)
    monkeypatch.setattr(agents, "BUSY_S", 0.05)
    monkeypatch.setattr(Policy, "pause_s", lambda policy, round_s: 0.0)


def device(lab: Lab) -> tuple[bool, str]:
    """Whether the service takes the phone for usable, and why not."""
    (found,) = lab.jobs.fleet()
    return found.info.usable, found.info.reason


def test_a_phone_that_goes_is_announced_gives_its_batch_back_and_is_measured_when_it_is_there_again(
    lab: Lab, phone: Path
) -> None:
    lab.register("phone:one=shelf")
    (phone / "gone-after").write_text("20")
    job = lab.submit(8, 16, devices=("shelf",), runtimes=("phone",), formats=("null",))
    with lab.running(lab.agent("phone:one=shelf")):
        wait_until(lambda: (phone / "gone").exists())
        wait_until(lambda: device(lab) == (False, "phone:one is not attached: plug it in"))
        assert lab.job(job).state not in ENDED and lab.job(job).points.failed == 0
        (phone / "gone").unlink()
        assert lab.wait(job).points.measured == 2
        wait_until(lambda: device(lab)[0])
    assert "not attached: plug it in" in lab.said.getvalue() and "free again" in lab.said.getvalue()


def test_a_phone_that_was_never_there_is_announced_with_the_remedy_and_an_agent_that_works_once_ends(
    lab: Lab, phone: Path
) -> None:
    (phone / "gone").touch()
    lab.work("phone:one=shelf")
    assert device(lab) == (False, "phone:one is not attached: plug it in")


def test_only_runtimes_that_reach_a_device_are_announced(lab: Lab, phone: Path) -> None:
    lab.register("phone:one=shelf")
    (found,) = lab.jobs.fleet()
    assert {runtime.name for runtime in found.info.runtimes} == {"null", "phone"}


def test_what_is_wrong_with_a_device_is_said_in_its_own_words(phone: Path) -> None:
    assert trouble(DeviceChoice("phone:one", "shelf")) == ""
    (phone / "gone").touch()
    assert "plug it in" in trouble(DeviceChoice("phone:one", "shelf"))
