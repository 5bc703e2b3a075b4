"""Who may ask: one bearer token for the whole service."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from .problems import Problem

OPEN_PATHS = ("/healthz", "/openapi.json")


class RequireToken:
    """Middleware that lets a request through with `Authorization: Bearer <token>`, or to a path that is open to all."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or answer 401."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._knows(scope):
            await self._app(scope, receive, send)
            return
        detail = "send the header 'Authorization: Bearer <token>' with the service's EDGELUT_TOKEN"
        problem = Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="edgelut"'})
        await problem.response()(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(_bearer(given[0]), self._expected)


def _bearer(value: bytes) -> bytes:
    """Return the header with its scheme as we write it: schemes match whatever their case (RFC 9110, 11.1)."""
    scheme, _, token = value.partition(b" ")
    return b"Bearer " + token.strip() if scheme.lower() == b"bearer" else value
