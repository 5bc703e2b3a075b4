"""Who may ask what: bearer tokens with scopes, from the environment and from the database, and routes that each need one.

The token of the environment may do everything. Stored ones are looked up by their hash and remembered for FRESH_S, so that a
request costs a look in a dictionary, and one that was revoked, here or in another process, opens nothing 5 s later.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from edgelut.errors import StorageError
from edgelut.jobs import SCOPES, TokenInfo

from .problems import Problem, storage

OPEN_PATHS = ("/healthz", "/openapi.json")
FRESH_S = 4.0  # how long what is known of a token is believed; with the reading itself less than 5 s
USED_EVERY_S = 60.0  # how often a token's last use is noted: a heartbeat each 5 s must not be a write
MOST_KNOWN = 10_000  # tokens remembered, wrong ones too
INCLUDED = {"read": {"read"}, "submit": {"submit", "read"}, "agent": {"agent", "read"}, "admin": set(SCOPES)}
CALLER = "edgelut.caller"

T = TypeVar("T")
log = logging.getLogger("edgelut.api")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token's name and scopes, all that these include, and the devices that it is bound to (none: any)."""

    name: str
    scopes: tuple[str, ...]
    allowed: frozenset[str]
    devices: tuple[str, ...] = ()

    def require(self, needed: str) -> None:
        """Raise the 403 problem where the token lacks a scope; it says which is needed and which there are."""
        if needed not in self.allowed:
            has = " and ".join(self.scopes) or "none"
            detail = f"this needs a token with the scope {needed}; the token {self.name!r} has {has}"
            raise Problem("forbidden", detail, members={"needs": needed, "has": list(self.scopes)})

    def require_devices(self, names: list[str]) -> None:
        """Raise the 403 problem for a device that the token is not bound to."""
        others = sorted(set(names) - set(self.devices))
        if self.devices and others:
            bound = ", ".join(self.devices)
            detail = f"the token {self.name!r} is bound to {bound} and may not announce {', '.join(others)}"
            raise Problem("forbidden", detail, members={"known": list(self.devices)})


ANYBODY = Caller("", ("admin",), frozenset(SCOPES))  # where there is no token at all
OPERATOR = Caller("EDGELUT_TOKEN", ("admin",), frozenset(SCOPES))  # the environment's
LOCAL = Caller("local", ("submit", "agent"), frozenset(("submit", "agent", "read")))  # of this machine and this run


class TokenStore(Protocol):
    """What of the store this needs."""

    def find_token(self, secret: str) -> TokenInfo | None:
        """Return a valid token's info."""

    def tokens(self) -> list[TokenInfo]:
        """Return all tokens, revoked and ended ones too."""

    def token_used(self, name: str) -> None:
        """Note that a token was used."""


class Call(Protocol):
    """Runs a function in a thread."""

    def __call__(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Return what it returns."""


class Guard:
    """Knows who asks. `known` is for every request and reads a dictionary; `caller` asks the database where that has nothing."""

    def __init__(
        self, store: TokenStore, call: Call, token: str | None, *, closed: bool, local: str | None = None
    ) -> None:
        self._store, self._call = store, call
        self._closed = closed or token is not None  # never open, whatever the database says
        self._open_until = self._guarded_until = 0.0
        built_in = ((token, OPERATOR), (local, LOCAL))
        self._built_in = {_digest(secret.encode()): caller for secret, caller in built_in if secret is not None}
        self._known: dict[bytes, tuple[Caller | None, float]] = {}
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._used: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()
        self.forget()

    def forget(self) -> None:
        """Believe nothing any more: a token was made or revoked here."""
        self._open_until = self._guarded_until = 0.0
        self._known = {digest: (caller, float("inf")) for digest, caller in self._built_in.items()}

    def known(self, scope: Scope) -> Caller | None:
        """Return who asks if that is known and fresh."""
        now = time.monotonic()
        if now < self._open_until:
            return ANYBODY
        secret = _secret(scope)
        found = None if secret is None else self._known.get(_digest(secret))
        return found[0] if found is not None and now < found[1] else None

    async def caller(self, scope: Scope) -> Caller:
        """Return who asks; raise the 401 problem for nobody that is known, StorageError where that cannot be told."""
        found = self.known(scope)
        secret = _secret(scope)
        if found is None and secret is not None:
            found = await self._shared(secret)
        if found is None and await self._is_open():
            return ANYBODY
        if found is None:
            detail = "send the header 'Authorization: Bearer <token>' with a token of this service that is valid"
            raise Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="edgelut"'})
        self._note_use(found)
        return found

    async def still(self, request: Request, needed: str) -> Caller:
        """Return who asks, for a request that has been open for long: raise as at its beginning where that is over."""
        found = self.known(request.scope) or await self.caller(request.scope)
        found.require(needed)
        return found

    async def _is_open(self) -> bool:
        asked = time.monotonic()
        if self._closed or asked < self._guarded_until:
            return False
        if await self._call(self._store.tokens):  # ended ones too: the end of the last must not open the service to all
            self._guarded_until = asked + FRESH_S
            return False
        self._open_until = asked + FRESH_S
        return True

    async def _shared(self, secret: bytes) -> Caller | None:
        """Return whose token it is, asked once for all who wait; None for an unknown one."""
        digest = _digest(secret)
        asking = self._asking.get(digest)
        if asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():
            asking = self._asking[digest] = asyncio.ensure_future(self._ask(digest, secret))
            asking.add_done_callback(lambda done: self._asked(digest, done))
        return await asyncio.shield(asking)  # one who goes away must not end the others' question

    async def _ask(self, digest: bytes, secret: bytes) -> Caller | None:
        known = self._known.get(digest)
        asked = time.monotonic()
        if known is not None and asked < known[1]:
            return known[0]
        info = await self._call(self._store.find_token, secret.decode("latin-1"))
        found = None if info is None else Caller(info.name, info.scopes, _allowed(info.scopes), info.devices)
        if len(self._known) >= MOST_KNOWN:
            self.forget()
        self._known[digest] = (found, asked + FRESH_S)
        return found

    def _asked(self, digest: bytes, done: asyncio.Task[Caller | None]) -> None:
        if self._asking.get(digest) is done:
            del self._asking[digest]
        if not done.cancelled():
            done.exception()  # who waited has it; where all went away nobody needs it

    def _note_use(self, caller: Caller) -> None:
        """Note the last use of a stored token, now and then and behind the request's back."""
        now = time.monotonic()
        if caller in (ANYBODY, OPERATOR, LOCAL) or now < self._used.get(caller.name, 0.0):
            return
        self._used[caller.name] = now + USED_EVERY_S
        noting = asyncio.ensure_future(self._note(caller.name))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _note(self, name: str) -> None:
        try:
            await self._call(self._store.token_used, name)
        except (StorageError, RuntimeError) as error:  # RuntimeError: the service is ending
            log.info("the use of a token was not noted: %s", error)


class Authenticate:
    """Middleware that says who asks, or answers 401. A path that is open to all passes."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            caller = self._guard.known(scope)
            if caller is None:
                try:
                    caller = await self._guard.caller(scope)
                except Problem as problem:
                    await problem.response()(scope, receive, send)
                    return
                except StorageError as error:
                    await storage(error).response()(scope, receive, send)
                    return
            scope[CALLER] = caller
        await self._app(scope, receive, send)


Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class Guarded(APIRoute):
    """A route that needs a scope, which its description declares: `describe.endpoint(..., scope=...)`."""

    def get_route_handler(self) -> Endpoint:
        """Return the handler behind the check; raise TypeError for a route that declares no scope."""
        handler = super().get_route_handler()
        security = (self.openapi_extra or {}).get("security")
        if security is None:
            raise TypeError(f"{self.path} declares no scope: give describe.endpoint one")
        return handler if security == OPEN else needing(security[0]["token"][0], handler)


OPEN: list[dict[str, list[str]]] = [{}]  # what an endpoint that is open to all declares


def declared(scope: str) -> list[dict[str, list[str]]]:
    """Return how an OpenAPI operation declares its scope; the empty alternative is a service without any token."""
    return [{"token": [scope]}, {}]


def needing(scope: str, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers 403 to who lacks the scope."""

    async def guarded(request: Request) -> Response:
        caller_of(request).require(scope)
        return await endpoint(request)

    return guarded


def caller_of(request: Request) -> Caller:
    """Return who asks."""
    caller: Caller = request.scope[CALLER]
    return caller


def _allowed(scopes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(one for scope in scopes for one in INCLUDED.get(scope, ()))


def _digest(secret: bytes) -> bytes:
    """Return a token's hash: what is compared is never the token itself, so that no time that it takes tells of it."""
    return hashlib.sha256(secret).digest()


def _secret(scope: Scope) -> bytes | None:
    """Return the token of the one Authorization header, whatever its scheme's case (RFC 9110, 11.1); None for none or several."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None
