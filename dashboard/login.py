"""Logging in and out: plain forms, so that a token is in one request's body and in no address, and password managers know them."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import FastAPI
from nicegui import ui
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from edgelut.errors import EdgelutError, InvalidSpec
from edgelut.rest import checked_token

from .address import link
from .layout import Home, NeedsLogin, text, theme
from .session import SESSION, Session, set_cookie

LARGEST = 10_000  # bytes of a form
WRONG = "The service does not know this token: is it whole, and has it ended or been revoked?"


def install(app: FastAPI, home: Home) -> None:
    """Add the login page and what its forms send."""

    @ui.page("/login", title="Log in · EdgeLUT")
    async def show(request: Request) -> Response | None:
        to = local(request.query_params.get("to", "/"))
        session: Session = request.scope[SESSION]
        try:
            await home.caller(session.token)
        except NeedsLogin:
            pass
        except EdgelutError as error:
            _form(to, str(error), request)
            return None
        else:
            return RedirectResponse(to, 303)
        _form(to, WRONG if request.query_params.get("wrong") else "", request)
        return None

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        if not _is_same_site(request.headers):
            return PlainTextResponse("another site's page may not log in here", 403)
        sent = parse_qs((await _body(request)).decode("utf-8", "replace"))
        to = local(sent.get("to", ["/"])[0])
        try:
            token = checked_token(sent.get("token", [""])[0].strip())
            if token is None:
                raise NeedsLogin
            await home.caller(token, 0.0)
        except (NeedsLogin, InvalidSpec):
            return RedirectResponse(link("/login", to=to, wrong=1), 303)
        except EdgelutError as error:
            return PlainTextResponse(str(error), 503)
        home.sessions.log_out(request.scope[SESSION])
        made = home.sessions.log_in(token)
        return RedirectResponse(to, 303, headers={"set-cookie": set_cookie(made.id, dict(request.scope))})

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        if not _is_same_site(request.headers):
            return PlainTextResponse("another site's page may not log out here", 403)
        home.sessions.log_out(request.scope[SESSION])
        return RedirectResponse("/login", 303)


def local(to: str) -> str:
    """Return an address of this dashboard; anything else is its first page."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"


def _form(to: str, problem: str, request: Request) -> None:
    with ui.element("div").classes("el-main").props("id=main").style("max-width: 460px; padding-top: 8vh"):
        with ui.element("section").classes("el-card"):
            text("EdgeLUT", "h1")
            with ui.element("form").props('method=post action="/login"'):
                if problem:
                    with ui.element("div").classes("el-bad").props("role=alert"):
                        text(problem)
                ui.element("input").props(f'type=hidden name=to value="{to.replace(chr(34), "%22")}"')
                with ui.element("label").props("for=token"):
                    text("Token of the service")
                ui.element("input").classes("el-input").props(
                    'id=token name=token type=password required autofocus autocomplete="current-password" aria-describedby=why'
                )
                with ui.element("button").props("type=submit").classes("q-btn el-button primary"):
                    text("Log in")
            with ui.element("p").props("id=why").classes("el-soft el-small"):
                text(
                    "It stays in this dashboard's memory until you log out or it ends. The scope read is enough to look."
                )
        theme(request.cookies.get("edgelut-theme", "auto"))


def _is_same_site(headers: Headers) -> bool:
    """Say whether a form was sent from a page of ours; browsers name the origin of every POST."""
    return headers.get("origin") is not None or headers.get("sec-fetch-site") in ("same-origin", None)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            return b""
    return bytes(body)
