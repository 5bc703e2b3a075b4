"""Examples of jobs, agents, marks and tokens for the OpenAPI: each is what would be sent or answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from edgelut import wire
from edgelut.blocks import MB3D
from edgelut.jobs import (
    Agent,
    Announcement,
    BatchPoint,
    Claim,
    DeviceInfo,
    FleetDevice,
    Job,
    JobCounts,
    JobEvent,
    JobPoint,
    JobRequest,
    Mark,
    NewToken,
    Progress,
    Pulse,
    RuntimeInfo,
    Standing,
    TokenInfo,
    Welcome,
)
from edgelut.plan import Point, Policy
from edgelut.types import Artifact, Params, Target

from .describe import ENTRY, RUN

AT = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
LEASE = "5f0c9a"
JOB_ID = "0198f3a2c1d27c0e"
BATCH = "7b21"
REQUEST = JobRequest(
    blocks=("MB3D",),
    widths=(208, 224),
    resolutions=(7,),
    devices=("lab-1",),
    name="nightly",
    labels=Params({"branch": "main", "commit": "4f2a91c"}),
)
SUBMITTED: dict[str, Any] = {
    "blocks": ["MB3D"],
    "widths": [208, 224],
    "resolutions": [7],
    "devices": ["lab-1"],
    "name": "nightly",
    "labels": {"branch": "main", "commit": "4f2a91c"},
}
JOB = Job(JOB_ID, "running", REQUEST, JobCounts(open=5, measured=3), AT, AT, None, "ci", 12, 95.0, ("lab-1",))
POINT = Point(MB3D.spec(width=224, resolution=7), Target("lab-1", "onnxruntime-cpu"), "onnx")
JOB_POINT = JobPoint(0, POINT, "measured", BATCH, "2f1c", entry=7, closed_at=AT)
EVENT = JobEvent(12, AT, "info", "batch 7b21 was claimed by lab: 8 points on lab-1")
RUNTIME = RuntimeInfo("onnxruntime-cpu", "1.22.1", ("onnx",), ("fp32", "int8"))
DEVICE = DeviceInfo("lab-1", Params({"device_model": "Pixel 8", "cores": 8}), (RUNTIME,))
ANNOUNCEMENT = Announcement("lab", "c0ffee01", "a1b2c3", "0.1.0", facts=Params({"os": "Linux 6.1"}), devices=(DEVICE,))
WELCOME = Welcome(1, "0.1.0", lease_s=30.0, heartbeat_s=5.0)
AGENT = Agent("lab", "0.1.0", True, AT, Params({"os": "Linux 6.1"}), ("lab-1",))
FLEET_DEVICE = FleetDevice(DEVICE, "lab", "measuring", AT, JOB_ID, waiting=5)
CLAIM = Claim(BATCH, JOB_ID, "lab-1", LEASE, "2f1c", (BatchPoint(0, POINT),), Policy())
PROGRESS = Progress(done=3, total=8, round=12, seconds_left=95.0)
STANDING = Standing("held")
STORED = Standing("held", (True,))
PULSE = Pulse()
ARTIFACT = Artifact(POINT.spec, "onnx", "fp32", "ab" * 32, "1 onnx 1.18", 1.5e-7, 1_204_112)
MARK = Mark("v1", AT, 1204)
TOKEN = TokenInfo("lab", ("agent",), AT, ("lab-1",), AT.replace(month=4))
NEW_TOKEN = NewToken("edl_3q2-7wAbCdEfGhIjKlMnOpQrStUvWxYz0123456789ab", TOKEN)


def message(**parts: Any) -> dict[str, Any]:
    """Return a message about a batch as it is sent."""
    return {"lease": LEASE, **wire.dump(parts)}


RUNS = message(runs=[RUN], progress=PROGRESS)
ENTRIES = message(entries=[ENTRY])
CLOSED = message(closed=[{"number": 3, "state": "failed", "reason": "Unsupported: no int8 on this unit"}])
ARTIFACTS = message(artifacts=[ARTIFACT])
