"""Networks: the sum of a network's blocks on a target, and the networks that have names."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter
from starlette.responses import Response

from api import bodies, describe
from api.auth import Guarded
from api.deps import Body, Service, ServiceDep, answer
from api.problems import Problem
from edgelut import wire
from edgelut.compose import IncompleteNetwork
from edgelut.drift import AlignedSource
from edgelut.efficientformer import CONFIGS, get_config, network
from edgelut.errors import InvalidSpec, NotEstimable
from edgelut.estimated import EstimatedSource
from edgelut.notation import parse_blocks
from edgelut.quality import NetworkLatency, Quality, estimate, network_latency, quality
from edgelut.sequences import label
from edgelut.types import NetworkSpec, Target

router = APIRouter(tags=["networks"], route_class=Guarded)


@router.get(
    "/networks",
    summary="List the networks that have names",
    **describe.endpoint(bodies.NetworksOut, describe.NETWORKS),
)
async def get_networks() -> Response:
    """Return the published networks with their blocks: what `network` may name in POST /networks/latency."""
    return answer(describe.NETWORKS)


@router.post(
    "/networks/latency",
    summary="Add up a network's blocks",
    **describe.endpoint(
        NetworkLatency,
        describe.NETWORK,
        "unknown-name",
        "incomplete-network",
        "no-estimate",
        "other-unit",
        "too-large",
        "invalid",
        "storage",
        takes=bodies.NetworkRequest,
        sends={"blocks": "4*MB3D:224@7", "target": describe.TARGET},
    ),
)
async def find_network_latency(service: ServiceDep, body: Body) -> Response:
    """Return a network's latency with its bracket, its interval and its parts.

    Give a name (`{"network": "efficientformer-l1"}`, or `"L1"`), a line of blocks or their specs. A row that the table lacks
    is a 404 that lists it in `missing`, never a zero; with `"estimate": true` it is estimated where that is possible, and its part
    says so in `kind`.
    """
    key = b"POST /networks/latency " + hashlib.sha256(body).digest()
    return Response(await service.answers.get(key, lambda: _answer(service, body)), media_type="application/json")


async def _answer(service: Service, body: bytes) -> bytes:
    asked = await service.call(wire.decode, bodies.NetworkRequest, body)
    wanted, target = _network(asked), asked.target.value()
    if asked.like is not None and not asked.estimate:
        raise InvalidSpec("`like` helps estimates: give `estimate` too")
    try:
        if asked.align:
            return await service.call(_aligned, service, wanted, target, asked)
        return await service.call(_sum, service, wanted, target, await _quality(service, target), asked)
    except NotEstimable as error:
        raise Problem("no-estimate", str(error)) from error
    except IncompleteNetwork as error:
        missing = [{"block": label(spec), "spec": wire.dump(spec)} for spec in error.missing]
        members = {"missing": missing, "commands": error.commands}
        raise Problem("incomplete-network", str(error), members=members) from error


def _network(asked: bodies.NetworkRequest) -> NetworkSpec:
    """Return the network that a request names or spells out."""
    if (asked.network is None) == (asked.blocks is None):
        raise InvalidSpec(
            "give `network`, a name that GET /networks lists, or `blocks`, a line of blocks or their specs"
        )
    if asked.network is not None:
        try:
            return network(get_config(asked.network))
        except InvalidSpec as error:
            raise Problem("unknown-name", str(error), members={"known": list(CONFIGS)}) from error
    if isinstance(asked.blocks, str):
        return NetworkSpec(parse_blocks(asked.blocks))
    return NetworkSpec(tuple(spec.value() for spec in asked.blocks or ()))


def _sum(
    service: Service, wanted: NetworkSpec, target: Target, known: Quality | None, asked: bodies.NetworkRequest
) -> bytes:
    source = service.learnt.source(service.store, _like(asked)) if asked.estimate else service.store
    return wire.encode(network_latency(estimate(wanted, target, source, known, require_unit=asked.require_unit), known))


def _aligned(service: Service, wanted: NetworkSpec, target: Target, asked: bodies.NetworkRequest) -> bytes:
    aligned = AlignedSource(service.store, target)
    known = quality(aligned, target)
    source = EstimatedSource(aligned, like=_like(asked)) if asked.estimate else aligned
    found = estimate(wanted, target, source, known, require_unit=asked.require_unit)
    return wire.encode(network_latency(found, known, aligned=True))


def _like(asked: bodies.NetworkRequest) -> Target | None:
    return None if asked.like is None else asked.like.value()


async def _quality(service: Service, target: Target) -> Quality | None:
    """Return a target's quality, computed once for each version of the table."""

    def make() -> bytes:
        return wire.encode(quality(service.store, target))

    body = await service.answers.get(b"quality " + target.key.encode(), lambda: service.call(make))
    return None if body == b"null" else wire.decode(Quality, body)
