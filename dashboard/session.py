"""Who looks: a browser's session with its own token, kept in this process alone; and the door that every request goes through.

The cookie holds 256 random bits and nothing more. The token is sent to the service for the calls of its own session; it is in no
page, address, log or storage of the browser. A restart of the dashboard forgets all of it.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from nicegui import Client
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .settings import Settings

COOKIE = "edgelut-dashboard"
SESSION = "edgelut.session"  # in a request's scope
IDLE_S = 12 * 3600.0
MOST = 10_000
SOCKET = "/_nicegui_ws/"
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


@dataclass(slots=True)
class Session:
    """A browser's. `token` is None until somebody logs in."""

    id: str
    token: str | None = field(default=None, repr=False)
    used: float = 0.0


class Sessions:
    """The sessions that are logged in; of the others there is nothing to keep."""

    def __init__(self) -> None:
        self._known: dict[str, Session] = {}

    def of(self, id: str) -> Session:
        """Return the session of a cookie; an unknown one is of nobody."""
        now = time.monotonic()
        found = self._known.get(id)
        if found is not None and now - found.used > IDLE_S:
            del self._known[id]
            found = None
        if found is None:
            return Session(id)
        found.used = now
        return found

    def log_in(self, token: str) -> Session:
        """Return a new session with that token: who knew the old cookie is not logged in."""
        if len(self._known) >= MOST:
            oldest = min(self._known.values(), key=lambda one: one.used)
            del self._known[oldest.id]
        made = Session(new_id(), token, time.monotonic())
        self._known[made.id] = made
        return made

    def log_out(self, session: Session) -> None:
        """Forget a session's token."""
        session.token = None
        self._known.pop(session.id, None)


def new_id() -> str:
    """Return a session's name that nobody guesses."""
    return secrets.token_urlsafe(32)


class Door:
    """Middleware: knows the session, refuses what other sites send, and keeps a page's socket to the browser that opened it."""

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions) -> None:
        self._app, self._settings, self._sessions = app, settings, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its session, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = cookie_of(headers)
        scope[SESSION] = self._sessions.of(given or new_id())
        if (why := self._refusal(scope, headers, given)) is not None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 4403, "reason": why})
            else:
                await PlainTextResponse(why, 403)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    sent.setdefault(name, value)
                if given is None and sent.get("content-type", "").startswith("text/html") and "set-cookie" not in sent:
                    sent.append("set-cookie", set_cookie(scope[SESSION].id, scope))
            await send(message)

        await self._app(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: Headers, cookie: str | None) -> str | None:
        """Return why a request is not let in."""
        host = _name(f"//{headers.get('host', '')}")
        if not self._settings.allows(host):
            return f"this dashboard is not called {host!r}; start it with --allow-host {host}"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
            return "another site's page may not ask this"
        path = scope["path"]
        if scope["type"] == "websocket" or path.startswith(SOCKET):
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("client_id", [""])[0]
            client = Client.instances.get(asked)
            opener: Session | None = client.request.scope[SESSION] if client is not None else None
            if opener is not None and opener.token is not None and opener.id != cookie:
                return "this page was opened by another browser"
        return None


def cookie_of(headers: Headers) -> str | None:
    """Return the session's name that a request brings."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None and len(morsel.value) == 43 else None


def set_cookie(id: str, scope: Scope) -> str:
    """Return the header that keeps a session in a browser until it is closed; scripts cannot read it."""
    secure = "; Secure" if scope.get("scheme") in ("https", "wss") else ""
    return f"{COOKIE}={id}; Path=/; HttpOnly; SameSite=Lax{secure}"


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
