from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from dashboard.fleets import measurable, why_not
from dashboard.jobs_view import Asked, JobView, PointView, duration, percent, progress, reasons, shares, what
from edgelut import wire
from edgelut.blocks import MB4D
from edgelut.jobs import DeviceInfo, FleetDevice, Job, JobCounts, JobRequest, RuntimeInfo
from edgelut.types import Target

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
ONNX = RuntimeInfo("onnxruntime-cpu", "1", ("onnx",), ("fp32", "fp16"))


def job(**points: int) -> JobView:
    return JobView("7f3a", "running", Asked(), JobCounts(**points), AT, seconds_left=125.0)


def test_a_job_is_read_without_its_specs() -> None:
    request = JobRequest(specs=(MB4D.spec(48, 56),), devices=("lab",), name="nightly")
    whole = Job("7f3a", "queued", request, JobCounts(open=3), AT)
    found = wire.decode(JobView, wire.encode(whole))
    assert (found.name, found.points.open, found.request.devices) == ("nightly", 3, ("lab",))
    assert what(found.request) == "blocks by their specs"


def test_progress_is_said_in_a_sentence() -> None:
    assert (
        progress(job(open=50, measured=40, failed=10))
        == "running: 50 of 100 points closed, 10 failed, about 2 min left"
    )
    assert percent(job(open=1, measured=999)) == 99
    assert shares(JobCounts(open=1, failed=3)) == [("failed", 3, 75.0), ("open", 1, 25.0)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "not known yet"),
        (0.2, "about 1 s"),
        (300, "about 5 min"),
        (9000, "about 2.5 h"),
        (200_000, "about 2.3 days"),
    ],
)
def test_time_left_is_in_fitting_units(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_reasons_come_by_how_many_points_they_cost() -> None:
    def point(number: int, reason: str) -> PointView:
        spec = wire.dump(MB4D.spec(16 * (number + 1), 56))
        at = {"spec": spec, "target": wire.dump(Target("lab", "null"))}
        return msgspec.convert({"number": number, "point": at, "state": "failed", "reason": reason}, PointView)

    found = reasons([point(0, "hot"), point(1, "cold"), point(2, "cold"), point(3, "")])
    assert [(reason, count) for reason, count, _ in found] == [("cold", 2), ("hot", 1), ("no reason was given", 1)]
    assert found[0][2] == "MB4D 32 @56 on lab, MB4D 48 @56 on lab"


def test_what_no_agent_can_measure_says_why() -> None:
    info = DeviceInfo("lab", runtimes=(ONNX,))
    fleet = [FleetDevice(info, "agent", "idle", AT)]
    assert why_not(Target("lab", "onnxruntime-cpu", "fp16"), fleet) == ""
    assert "edgelut agent" in why_not(Target("other", "onnxruntime-cpu"), fleet)
    assert "onnxruntime-cpu" in why_not(Target("lab", "torch"), fleet)
    assert "fp32, fp16" in why_not(Target("lab", "onnxruntime-cpu", "int8"), fleet)
    assert "cpu, not gpu" in why_not(Target("lab", "onnxruntime-cpu", unit="gpu"), fleet)
    assert list(measurable(fleet)) == [Target("lab", "onnxruntime-cpu", name) for name in ("fp32", "fp16")]
