"""How an endpoint is described in the OpenAPI: schemas from the types that are really read and written, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
from starlette.responses import Response

from edgelut import wire
from edgelut.blocks import MB3D, MB4D
from edgelut.check import Conditions, Doubtful, TableCheck
from edgelut.coverage import ColumnPage, Coverage
from edgelut.efficientformer import CONFIGS, network
from edgelut.jobs import Claim, Job, Mark, NewToken, Pulse, Standing, TokenInfo, Welcome
from edgelut.notation import format_blocks
from edgelut.quality import NetworkLatency, PartLatency, Quality
from edgelut.query import BlockListing, Row
from edgelut.searches import SearchRun
from edgelut.types import Entry, Latency, Params, Run, Target

from . import bodies, estimate_bodies, job_bodies, search_bodies
from .auth import OPEN, declared
from .problems import MEDIA_TYPE, STATUS, TYPE

REF = "#/components/schemas/{name}"
TYPES = (
    bodies.BatchRequest,
    bodies.HistoryRequest,
    bodies.EntryIn,
    bodies.PageOut,
    bodies.BatchOut,
    bodies.HistoryOut,
    bodies.StoredOut,
    bodies.RunsOut,
    bodies.RunOut,
    bodies.BlocksOut,
    bodies.DevicesOut,
    bodies.TargetsOut,
    estimate_bodies.EstimatesRequest,
    estimate_bodies.EstimatesOut,
    estimate_bodies.EstimateOut,
    bodies.NetworkRequest,
    bodies.NetworksOut,
    NetworkLatency,
    bodies.ChecksOut,
    bodies.HealthOut,
    bodies.IndexOut,
    job_bodies.JobIn,
    Job,
    job_bodies.JobsOut,
    job_bodies.PointsOut,
    job_bodies.JobRunsOut,
    job_bodies.LogOut,
    job_bodies.AnnouncementIn,
    Welcome,
    job_bodies.PulseIn,
    Pulse,
    job_bodies.ClaimIn,
    Claim,
    job_bodies.AgentsOut,
    job_bodies.FleetOut,
    job_bodies.BatchRunsIn,
    job_bodies.BatchEntriesIn,
    job_bodies.BatchClosedIn,
    job_bodies.BatchArtifactsIn,
    job_bodies.BatchProgressIn,
    job_bodies.FinishIn,
    Standing,
    Mark,
    job_bodies.MarksOut,
    job_bodies.TokenIn,
    NewToken,
    TokenInfo,
    job_bodies.TokensOut,
    search_bodies.SearchIn,
    search_bodies.SearchEventsIn,
    search_bodies.SearchEndIn,
    search_bodies.SearchesOut,
    search_bodies.SearchEventsOut,
    SearchRun,
)


def endpoint(
    type_: type[Any],
    example: Any,
    *problems: str,
    scope: str = "read",
    status: int = 200,
    takes: Any = None,
    sends: Any = None,
    parameters: Sequence[dict[str, Any]] = (),
    responses: Mapping[int, dict[str, Any]] = MappingProxyType({}),
    open_to_all: bool = False,
) -> dict[str, Any]:
    """Return the arguments of a route's decorator: the scope it needs, its answer, its problems, and what it takes.

    `responses` are other answers than the good one and problems.
    """
    refused = refusals(*problems, open_to_all=open_to_all)
    extra: dict[str, Any] = {"security": OPEN if open_to_all else declared(scope)}
    if takes is not None:
        body = {"application/json": {"schema": schema(takes), "example": wire.dump(sends)}}
        extra["requestBody"] = {"required": True, "content": body}
    if parameters:
        extra["parameters"] = list(parameters)
    return {
        "response_class": Response,
        "response_model": None,
        "status_code": status,
        "responses": {status: content(type_, example), **responses, **refused},
        "openapi_extra": extra,
    }


def content(type_: type[Any], example: Any) -> dict[str, Any]:
    """Return the description of a good answer: the type's own first line and its schema."""
    described = {"schema": schema(type_), "example": wire.dump(example)}
    return {"description": _first_line(type_), "content": {"application/json": described}}


def refusals(*names: str, open_to_all: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of problems by status; those that every endpoint may answer are added."""
    by_status: dict[int | str, list[str]] = {}
    for name in (*names, "internal") if open_to_all else (*names, "unauthorized", "forbidden", "internal"):
        by_status.setdefault(STATUS[name][0], []).append(name)
    return {status: _refusal(names) for status, names in sorted(by_status.items(), key=lambda item: str(item[0]))}


def schema(type_: Any) -> dict[str, Any]:
    """Return a type's schema with its parts by reference."""
    (described,), _ = msgspec.json.schema_components((type_,), schema_hook=_hook, ref_template=REF)
    return described


def components() -> dict[str, Any]:
    """Return the schemas that are referred to, by name."""
    _, parts = msgspec.json.schema_components(TYPES, schema_hook=_hook, ref_template=REF)
    return {**parts, "Problem": PROBLEM}


def _hook(type_: type[Any]) -> dict[str, Any]:
    if type_ is Params:
        return {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
    raise NotImplementedError(type_)


def _first_line(type_: type[Any]) -> str:
    return (type_.__doc__ or "").strip().partition("\n")[0]


def _refusal(names: list[str]) -> dict[str, Any]:
    titles = [STATUS[name][1] for name in names]
    status = STATUS[names[0]][0]
    examples = {
        name: {"value": {"type": TYPE + name, "title": title, "status": status, "detail": DETAILS[name]}}
        for name, title in zip(names, titles, strict=True)
    }
    described = {"schema": {"$ref": REF.format(name="Problem")}, "examples": examples}
    return {"description": "; or: ".join(titles), "content": {MEDIA_TYPE: described}}


PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "A refusal (RFC 9457). `known` lists what there is (of `other-unit`: the units that rows ran on), "
    "`nearest` the nearest values that have rows, "
    "`missing` the rows that a sum lacks, `commands` what measures them.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": [TYPE + name for name in STATUS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "known": {"type": "array", "items": {"type": "string"}},
        "nearest": {"type": "object", "additionalProperties": {"type": "array"}},
        "missing": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"block": {"type": "string"}, "spec": {"$ref": REF.format(name="BlockSpec")}},
                "required": ["block", "spec"],
            },
        },
        "commands": {"type": "array", "items": {"type": "string"}},
        "limit_bytes": {"type": "integer"},
        "needs": {"type": "string", "description": "The scope that a token must have"},
        "has": {"type": "array", "items": {"type": "string"}, "description": "The scopes that the token has"},
    },
    "required": ["type", "title", "status", "detail"],
}
DETAILS = {
    "unauthorized": "send the header 'Authorization: Bearer <token>' with a token of this service that is valid",
    "forbidden": "this needs a token with the scope submit; the token 'reader' has read",
    "no-match": "no row of MB3D has width 225; the nearest widths with rows: 224, 232, 216",
    "unknown-name": "no device 'pixel-9' in the table; there are host, null",
    "empty-table": "the table is empty; fill it with 'edgelut profile'",
    "incomplete-network": "efficientformer-l1 on host/onnxruntime-cpu/fp32/1/cpu: the table lacks 1 of 14 rows: MB3D 448 @7; "
    "'edgelut profile efficientformer-l1 --device host --runtime onnxruntime-cpu --precision fp32 --threads 1' measures them",
    "no-estimate": "no estimate of MB3D 232 @14 on host/onnxruntime-cpu/fp32/1/cpu: 2 rows of MB3D were measured there, and 5 are "
    "needed; measure it with 'edgelut profile'",
    "other-unit": "3 matching rows ran on ne+cpu, not on ne alone: require ne+cpu, or no unit",
    "no-such-entry": "there is no entry 7",
    "no-such-run": "there is no run 7",
    "no-such-job": "there is no job 7f3a; GET /jobs lists them",
    "no-such-batch": "there is no batch b41c",
    "no-baseline": "no job 'nightly' with branch=main has ended before; run one without a baseline first",
    "no-such-mark": "there is no mark 'v1'; GET /marks lists them",
    "no-such-search": "no search '7f3a'; the newest are 6b0f2c (small)",
    "no-such-token": "there is no token 'ci'; GET /tokens lists them",
    "conflict": "the idempotency key was used with another request before; give this one another key",
    "protocol": "the agent speaks protocol 1 and the service 2; upgrade the agent: pip install -U edgelut-service",
    "session": "the agent 'lab' is not known by that session; announce it again",
    "too-large": "a body may have 16,777,216 bytes; send fewer rows at once",
    "invalid": "width must be a whole number from 1 to 2147483647, not 'wide'",
    "internal": "the service failed on this request; the reason is in its log",
    "storage": "the database cannot be read or written now; try again shortly (the reason is in the service's log)",
}

SPEC = MB3D.spec(width=224, resolution=7)
OTHER_SPEC = MB4D.spec(width=96, resolution=28)
TARGET = Target("host", "onnxruntime-cpu")
ENTRY = Entry(
    SPEC,
    TARGET,
    Latency(1_204_000.0, 1_231_000.0, 1_302_000.0, 1_198_000.0, 1_211_000.0, runs=10, samples=1000),
    provenance=Params({"measured_at": "2026-01-05T10:00:00+00:00", "sweep": "2f1c"}),
)
ROW = bodies.row_out(Row(7, ENTRY))
ESTIMATE = Entry(
    SPEC,
    TARGET,
    Latency(1_204_000.0, 1_231_000.0, 1_302_000.0, 1_168_000.0, 1_241_000.0, runs=0, samples=0),
    "interpolated",
    Params(
        {"method": "gp-1", "rows": 40, "tried": 38, "median_error": 0.011, "estimated_at": "2026-01-05T10:00:00+00:00"}
    ),
)
RUN = Run(
    SPEC,
    TARGET,
    sweep="2f1c",
    process="8d0e",
    round=0,
    wall_ns=(1_260_000, 1_240_000, 1_251_000),
    cpu_ns=(1_210_000, 1_204_000, 1_207_000),
    inner=1,
    warmups=5,
    reference_ns=801_000.0,
    started_at=datetime(2026, 1, 5, 10, 0, tzinfo=UTC),
    facts=Params({"cpu": "Cortex-A76", "observed_load": 0.02}),
)
RUN_SUMMARY = bodies.run_summary(31, RUN)
BLOCKS = bodies.BlocksOut([BlockListing("MB3D", (208, 224), (208, 224), (7,), (1,), {"expansion": (3, 4)})])
COVERAGE = Coverage(TARGET, "MB3D", "measured", 30, 2, 1204, datetime(2026, 1, 5, 10, tzinfo=UTC))
COLUMNS = ColumnPage(
    TARGET, ("id", "block", "width_in", "p10_ns"), ((7, 8), ("MB3D", "MB3D"), (208, 224), (1_210_000.0, 1_402_000.0))
)
QUALITY = Quality(TARGET, 32, 0.011, 0.031, 0.004, 0.99, 1.0, "2026-01-05T10:00:00+00:00")
NETWORK = NetworkLatency(
    None,
    TARGET,
    4.92,
    bracket_ms=(4.816, 5.4),
    interval_ms=(4.767, 5.073),
    hot_sum_ms=4.816,
    measured_ms=4.95,
    error=4.92 / 4.95 - 1,
    aligned=False,
    doubts=(),
    parts=(PartLatency(SPEC, 4, 1.23, "slope", "measured", stable=True),),
    quality=QUALITY,
)
NETWORKS = bodies.NetworksOut(
    [bodies.NetworkOut(name, format_blocks(network(CONFIGS[name]).blocks)) for name in CONFIGS]
)
CHECKS = bodies.ChecksOut(
    [
        TableCheck(
            TARGET,
            rows=40,
            good=False,
            doubtful=(Doubtful(SPEC, ("half-width 3.1% not down to 2% after 30 rounds",)),),
            conditions=(Conditions("2f1c0d", 39, "2026-01-05T10:00:00+00:00"), Conditions("77aa01", 1, "2025-12-01")),
            unlike=(OTHER_SPEC,),
            incomplete=(),
            commands=(
                "edgelut profile --block MB3D --width 224 --resolution 7 "
                "--device host --runtime onnxruntime-cpu --precision fp32 --threads 1",
            ),
        )
    ],
    rows=40,
    complete=True,
)
