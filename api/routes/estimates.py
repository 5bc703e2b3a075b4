"""Estimates: what blocks take that were not measured, by the rows that were."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import describe
from api.auth import Guarded
from api.deps import Body, Service, ServiceDep, answer
from api.estimate_bodies import EstimateOut, EstimatesOut, EstimatesRequest, estimate_out
from api.openapi import like_parameter, parameter
from api.parameters import pairs, parse_query, text_of
from api.problems import Problem
from edgelut import wire
from edgelut.check import profile_commands
from edgelut.errors import NotEstimable
from edgelut.estimated import like_target, spec_of
from edgelut.placement import placed, require
from edgelut.query import Query
from edgelut.types import Target

router = APIRouter(tags=["estimates"], route_class=Guarded)
LIKE = "like"
BLOCK = ("block", "width", "width_out", "resolution", "batch")
ASKED = (*BLOCK, "device", "runtime", "precision", "threads", "unit", "require_unit")
NEEDED = ("block", "width", "resolution", "device", "runtime")


@router.get(
    "/estimates",
    summary="Estimate a block",
    **describe.endpoint(
        EstimateOut,
        estimate_out(describe.ESTIMATE),
        "no-estimate",
        "other-unit",
        "invalid",
        "storage",
        parameters=[*(parameter(name, needed=name in NEEDED) for name in ASKED), like_parameter()],
    ),
)
async def get_estimate(service: ServiceDep, request: Request) -> Response:
    """Return a block's row where it was measured, else what rows of its target say of it, with an interval.

    Parameters of the block are given as in GET /latency, `param.<name>=<value>`, and are the kind's defaults otherwise. `like`
    names another target whose table is to help, such as `pixel4/tflite-cpu`.
    """
    asked: bytes = request.scope["query_string"]
    query, like = _parse(asked)
    body = await service.answers.get(b"GET /estimates?" + asked, lambda: service.call(_one, service, query, like))
    return Response(body, media_type="application/json")


@router.post(
    "/estimates",
    summary="Estimate many blocks on one target",
    **describe.endpoint(
        EstimatesOut,
        EstimatesOut([describe.ESTIMATE, None], [None, "0 rows of MB4D were measured there, and 5 are needed"]),
        "no-estimate",
        "too-large",
        "invalid",
        "storage",
        takes=EstimatesRequest,
        sends={"specs": [describe.SPEC, describe.OTHER_SPEC], "target": describe.TARGET},
    ),
)
async def find_estimates(service: ServiceDep, body: Body) -> Response:
    """Return the row or the estimate of each spec in order, null where there can be none; at most 10,000 specs."""

    def find() -> Response:
        asked: EstimatesRequest = wire.decode(EstimatesRequest, body)
        specs, target = [spec.value() for spec in asked.specs], asked.target.value()
        known = service.learnt.get(service.store, target, None if asked.like is None else asked.like.value())
        found = known.find_many(specs)
        why = [known.why_not(spec) if entry is None else None for spec, entry in zip(specs, found, strict=True)]
        served = placed(found, asked.require_unit)
        for place, (entry, kept) in enumerate(zip(found, served, strict=True)):
            if entry is not None and kept is None:
                why[place] = (
                    f"it ran on {entry.ran_on or 'a unit that is not known'}, not on {asked.require_unit} alone"
                )
        return answer(EstimatesOut(served, why))

    try:
        return await service.call(find)
    except NotEstimable as error:
        raise Problem("no-estimate", str(error)) from error


def _parse(raw: bytes) -> tuple[Query, str | None]:
    """Return what a query string asks and which target is to help; raise the 422 problem."""
    given = pairs(raw)
    likes = [text_of(LIKE, value) for name, value in given if name == LIKE]
    if len(likes) > 1:
        raise Problem("invalid", f"{LIKE} is given twice; give it once")
    query = parse_query(urlencode([pair for pair in given if pair[0] != LIKE]).encode())
    lacking = [name for name in NEEDED if getattr(query, name) is None]
    if lacking:
        raise Problem("invalid", f"an estimate needs {', '.join(NEEDED)}; {', '.join(lacking)} is missing")
    if query != Query(**{name: getattr(query, name) for name in ASKED}, params=query.params):
        known = [*ASKED, LIKE, "param.<name>"]
        raise Problem("invalid", f"an estimate takes {', '.join(known)} alone", members={"known": known})
    return query, likes[0] if likes else None


def _one(service: Service, query: Query, like: str | None) -> bytes:
    assert query.block and query.width and query.resolution and query.device and query.runtime
    target = Target(query.device, query.runtime, query.precision or "fp32", query.threads or 1, query.unit or "cpu")
    spec = spec_of(query.block, query.width, query.resolution, query.width_out, query.batch or 1, query.params)
    try:
        entry = service.learnt.get(service.store, target, like_target(like, target)).estimate(spec)
    except NotEstimable as error:
        commands = profile_commands([spec], target, "")
        raise Problem("no-estimate", str(error), members={"commands": list(commands)}) from error
    require([entry], query.require_unit)
    return wire.encode(estimate_out(entry))
