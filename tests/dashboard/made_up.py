"""A database of made-up rows that look real: three devices, two dates, doubts, counts of instructions, and jobs in every state.

Pictures and tests of the dashboard show it. No figure in it was measured; the same call makes the same rows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

import sqlalchemy as sa

from db.schema import entries as entries_table
from db.store import SqlStore
from edgelut import presets
from edgelut.efficientformer import CONFIGS, network
from edgelut.jobs import BatchPoint, Claim, DeviceInfo, JobRequest, Progress, RuntimeInfo
from edgelut.query import Query
from edgelut.sequences import blocks_of, network_spec, repeats
from edgelut.types import BlockSpec, Entry, Latency, NetworkSpec, Params, Target
from jobs.service import Jobs
from tests.jobs.support import TinyAgent

FIRST, SECOND = datetime(2026, 9, 14, 9, 30, tzinfo=UTC), datetime(2026, 11, 2, 14, 5, tzinfo=UTC)
ONNX = RuntimeInfo("onnxruntime-cpu", "1.22.0", ("onnx",), ("fp32", "fp16", "int8"))
SCRIPT = RuntimeInfo("torchscript-cpu", "2.13.0", ("torchscript",), ("fp32",))
PHONE = Target("pixel-8", "onnxruntime-cpu")
BOARD = Target("raspberry-pi-5", "onnxruntime-cpu")
COUNTED = Target("cortex-a76", "onnxruntime-cpu")


@dataclass(frozen=True)
class Machine:
    """How fast a made-up target is: multiply-adds a nanosecond, a call's cost, and what attention costs beside convolution."""

    target: Target
    speed: float
    call_ns: float = 9_000.0
    attention: float = 1.35
    noise: float = 0.012


PHONE_FP32 = Machine(PHONE, 21.0)
PHONE_FP16 = Machine(Target("pixel-8", "onnxruntime-cpu", "fp16"), 37.0, attention=1.6)
BOARD_FP32 = Machine(BOARD, 13.5, 21_000.0, 1.5, 0.02)
BOARD_SCRIPT = Machine(Target("raspberry-pi-5", "torchscript-cpu"), 10.5, 52_000.0, 1.2, 0.02)
MACHINES = (PHONE_FP32, PHONE_FP16, BOARD_FP32, BOARD_SCRIPT)


def fill(store: SqlStore) -> None:
    """Put the rows, each as if it had been stored when it was measured."""
    space = [*presets.get("efficientformer-l1-space"), *presets.get("efficientformer-l1"), *presets.get("demo")]
    wide = list(dict.fromkeys([*space, *presets.get("efficientformer-l3")]))
    _put(store, rows(PHONE_FP32, wide, "phone-1", FIRST), FIRST)
    later = Machine(PHONE, 21.0 / 1.026)
    _put(store, rows(later, wide[:-4], "phone-2", SECOND, slower={("MB3D", 14): 1.14, ("stem", 224): 0.86}), SECOND)
    _put(store, rows(PHONE_FP16, wide, "phone-fp16", SECOND), SECOND)
    _put(store, rows(BOARD_FP32, [spec for spec in wide if _draw(spec, "board") > 0.06], "board-1", SECOND), SECOND)
    _put(store, rows(BOARD_SCRIPT, space[::2], "board-2", SECOND), SECOND)
    _put(store, counted(space), SECOND)
    _put(store, whole(PHONE_FP32, [network(config) for config in islice(CONFIGS.values(), 2)]), SECOND)


def rows(
    machine: Machine,
    specs: Iterable[BlockSpec],
    sweep: str,
    at: datetime,
    slower: dict[tuple[str, int], float] | None = None,
) -> list[Entry]:
    """Return a row for each spec; one in 25 is in doubt."""
    found = []
    for spec in dict.fromkeys(specs):
        ns = _ns(spec, machine) * (slower or {}).get((spec.kind, spec.resolution), 1.0)
        ns *= math.exp(random.Random(spec.key + sweep).gauss(0, machine.noise))
        half = 0.004 + 0.012 * _draw(spec, sweep)
        doubts = (
            ("its rounds differ by 9 % between the first and the second half",)
            if _draw(spec, f"?{sweep}") < 0.04
            else ()
        )
        latency = Latency(
            ns, 1.02 * ns, 1.09 * ns, ns * (1 - half), ns * (1 + half), runs=16, samples=192, doubts=doubts,
            wall_p10_ns=1.004 * ns, wall_p50_ns=1.03 * ns, cold_ns=ns * 1.35,
            slope_ns=ns * 1.05 if repeats(spec) else None, context_ns=None if repeats(spec) else ns * 0.97,
        )  # fmt: skip
        said = {"sweep": sweep, "conditions": f"{machine.target.device}-1", "measured_at": at.isoformat()}
        found.append(Entry(spec, machine.target, latency, provenance=Params(said)))
    return found


def counted(specs: Iterable[BlockSpec]) -> list[Entry]:
    """Return counts of instructions on an emulated processor."""
    found = []
    for spec in dict.fromkeys(specs):
        count = round(_macs(spec) * 0.31 + 40_000)
        latency = Latency(count, count, count, count, count, runs=2, samples=2, clock="instructions")
        said = Params({"sweep": "emulator-1", "measured_at": SECOND.isoformat()})
        found.append(Entry(spec, COUNTED, latency, "emulated", said))
    return found


def whole(machine: Machine, networks: Sequence[NetworkSpec]) -> list[Entry]:
    """Return networks that were measured as wholes."""
    found = []
    for net in networks:
        ns = 1.012 * sum(_ns(spec, machine) for spec in net.blocks)
        latency = Latency(ns, 1.02 * ns, 1.1 * ns, 0.99 * ns, 1.01 * ns, runs=16, samples=64)
        said = Params({"sweep": "phone-2", "conditions": "pixel-8-1", "measured_at": SECOND.isoformat()})
        found.append(Entry(network_spec(net), machine.target, latency, provenance=said))
    return found


def entry_id(store: SqlStore) -> str:
    """Return the id of a row that has a past."""
    page = store.search(Query(block="MB3D", width=208, resolution=14, device=PHONE.device, precision="fp32"))
    return str(page.rows[0].id)


class Lab(TinyAgent):
    """An agent whose rows are made up as all others."""

    def row(self, claim: Claim, one: BatchPoint) -> Entry:
        """Return the row of a point; what completes a block takes a little more than it."""
        target, spec = one.point.target, blocks_of(one.point.spec)[0]
        machine = next((one for one in MACHINES if one.target == target), Machine(target, 12.0))
        (row,) = rows(machine, [spec], "lab-1", datetime.now(UTC))
        said = Params(
            {**row.provenance, "sweep": claim.sweep}
        )  # the figures are the same in every run of this, its ids not
        return replace(row, spec=one.point.spec, provenance=said)


def claim_on(lab: Lab, device: str) -> Claim:
    """Return a batch of one device: an agent that asks for all of its own is given those that it holds."""
    claim = lab.jobs.claim(lab.name, lab.session, [device])
    assert claim is not None
    return claim


def agent(jobs: Jobs, name: str = "lab", devices: Sequence[str] = ("pixel-8", "raspberry-pi-5")) -> Lab:
    """Return an agent with these devices that has announced itself."""
    made = Lab(jobs, name, tuple(devices))
    models = {"pixel-8": "Google Pixel 8", "raspberry-pi-5": "Raspberry Pi 5 Model B"}
    infos = [
        DeviceInfo(device, Params({"device_model": models.get(device, device)}), (ONNX, SCRIPT)) for device in devices
    ]
    made.announce(devices=tuple(infos))
    return made


def add_jobs(jobs: Jobs, lab: Lab) -> dict[str, str]:
    """Submit jobs and bring each into another state; return their ids by what they are."""
    nightly = JobRequest(
        presets=("efficientformer-l1",), devices=("pixel-8",), name="nightly", labels=Params({"branch": "main"})
    )
    done = jobs.submit(nightly, submitter="ci")
    for claim in _claims(lab):
        lab.measure(claim, claim.points)
        lab.jobs.finish(claim.batch, claim.lease)
    board = JobRequest(
        blocks=("MB3D",),
        widths=tuple(range(16, 257, 16)),
        resolutions=(7, 14),
        devices=("raspberry-pi-5",),
        name="attention",
    )
    failed = jobs.submit(board, submitter="maria")
    for claim in _claims(lab):
        lab.measure(claim, claim.points[5:])
        lab.fail(claim, claim.points[:3], "the worker was killed by the kernel: out of memory at 7.9 GiB")
        lab.fail(claim, claim.points[3:5], "the device did not become cool within 600 s: 71 °C, at most 45 °C")
        lab.jobs.finish(claim.batch, claim.lease)
    running = jobs.submit(
        JobRequest(presets=("efficientformer-l3-space",), devices=("pixel-8",), name="slimming", priority=10),
        submitter="maria",
    )
    claim = lab.claim()
    part = len(claim.points) * 3 // 5
    lab.measure(claim, claim.points[:part])
    lab.jobs.put_progress(claim.batch, claim.lease, Progress(part, len(claim.points), 12, 415.0))
    waiting = jobs.submit(
        JobRequest(
            presets=("efficientformer-l1",), devices=("raspberry-pi-5",), precisions=("fp16",), name="half precision"
        ),
        submitter="ci",
    )
    cancelled = jobs.submit(
        JobRequest(presets=("efficientformer-l7-space",), devices=("raspberry-pi-5",), name="too much"),
        submitter="maria",
    )
    jobs.cancel(cancelled.id)
    return {
        "done": done.id, "failed": failed.id, "running": running.id, "queued": waiting.id, "cancelled": cancelled.id,
    }  # fmt: skip


def _claims(lab: Lab) -> Iterator[Claim]:
    while (claim := lab.jobs.claim(lab.name, lab.session, lab.devices)) is not None:
        yield claim


def _put(store: SqlStore, put: Sequence[Entry], at: datetime) -> None:
    store.put_many(put)
    with store.engine.begin() as connection:
        last = connection.execute(sa.select(sa.func.max(entries_table.c.id))).scalar_one()
        newest = entries_table.c.id > last - len(put)
        connection.execute(entries_table.update().where(newest).values(created_at=at))


def _draw(spec: BlockSpec, salt: str) -> float:
    return random.Random(f"{spec.key}{salt}").random()


def _ns(spec: BlockSpec, machine: Machine) -> float:
    """Return a time that grows with the work, with a step where a width is no multiple of 32, as real ones have."""
    slow = 1.0 if spec.width_out % 32 == 0 else 1.13
    attention = machine.attention if spec.kind == "MB3D" else 1.0
    return machine.call_ns + _macs(spec) * slow * attention / machine.speed


def _macs(spec: BlockSpec) -> float:
    side, one, other = spec.resolution, spec.width_in, spec.width_out
    pixels = side * side
    if spec.kind == "MB4D":
        return 8.0 * one * one * pixels
    if spec.kind == "MB3D":
        return pixels * (8.0 * one * one + 1536 * one + 1024 * one) + 1280.0 * pixels * pixels
    if spec.kind == "stem":
        return 9 * pixels / 4 * (3 * other / 2 + other * other / 8)
    if spec.kind == "embedding":
        return 9.0 * one * other * pixels / 4
    return float(one * other) if spec.kind == "head" else 500.0
