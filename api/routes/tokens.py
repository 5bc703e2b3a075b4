"""Tokens: created, listed and revoked by who may do everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from starlette.responses import Response

from api import describe, job_bodies, job_examples
from api.auth import Guarded
from api.deps import Body, Named, ServiceDep, answer
from api.problems import missing
from edgelut import wire
from edgelut.jobs import NewToken, TokenInfo

router = APIRouter(tags=["tokens"], route_class=Guarded)


@router.get(
    "/tokens",
    summary="List the tokens",
    **describe.endpoint(job_bodies.TokensOut, job_bodies.TokensOut([job_examples.TOKEN]), "storage", scope="admin"),
)
async def get_tokens(service: ServiceDep) -> Response:
    """Return every token that was created, without its secret, which is not kept."""
    return await service.work(lambda: answer(job_bodies.TokensOut(service.store.tokens())))


@router.post(
    "/tokens",
    summary="Create a token",
    **describe.endpoint(
        NewToken,
        job_examples.NEW_TOKEN,
        "conflict",
        "too-large",
        "invalid",
        "storage",
        scope="admin",
        status=201,
        takes=job_bodies.TokenIn,
        sends={"name": "lab", "scopes": ["agent"], "devices": ["lab-1"], "expires_in_s": 7776000},
    ),
)
async def create_token(service: ServiceDep, body: Body) -> Response:
    """Create a token and return its secret, which is told this once. From the first one on every request needs a token."""

    def create() -> Response:
        asked: job_bodies.TokenIn = wire.decode(job_bodies.TokenIn, body)
        expires = None if asked.expires_in_s is None else datetime.now(UTC) + timedelta(seconds=asked.expires_in_s)
        secret, info = service.store.create_token(asked.name, asked.scopes, asked.devices, expires)
        created = answer(NewToken(secret, info), 201)
        created.headers["Cache-Control"] = "no-store"
        return created

    created = await service.work(create)
    service.guard.forget()
    return created


@router.delete(
    "/tokens/{name}",
    summary="Revoke a token",
    **describe.endpoint(TokenInfo, job_examples.TOKEN, "no-such-token", "invalid", "storage", scope="admin"),
)
async def revoke_token(service: ServiceDep, name: Named) -> Response:
    """Revoke a token: it opens nothing any more, here at once and in other processes of the service within 5 s."""

    def revoke() -> Response:
        with missing("no-such-token"):
            return answer(service.store.revoke_token(name))

    revoked = await service.work(revoke)
    service.guard.forget()
    return revoked
