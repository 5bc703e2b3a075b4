"""The command `edgelut serve`: open the table, check the address, run the service until it is told to stop."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgelut import local_service

from . import local_dashboard
from .local_agent import INSTALL, LocalAgent, missing
from .local_dashboard import LocalDashboard

if TYPE_CHECKING:
    import socket

    import uvicorn
    from fastapi import FastAPI

app = typer.Typer()
LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")  # uvicorn's


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(envvar="EDGELUT_HOST", help="Address; any but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="EDGELUT_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8321,
    database: Annotated[
        str | None,
        typer.Option(envvar="EDGELUT_DATABASE_URL", metavar="URL", help="Database.  [default: the local SQLite file]"),
    ] = None,
    agent: Annotated[
        bool | None,
        typer.Option(
            "--agent/--no-agent",
            help="Measure on this machine too.  [default: with the local SQLite file, if torch and onnxruntime are there]",
            show_default=False,
        ),
    ] = None,
    dashboard: Annotated[
        bool | None,
        typer.Option(
            "--dashboard/--no-dashboard",
            envvar="EDGELUT_DASHBOARD",
            help="Serve pages on this machine too.  [default: if nicegui is there]",
            show_default=False,
        ),
    ] = None,
    dashboard_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.  [default: --port + 1, else a free one]"),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM): serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key (PEM).")] = None,
    log_level: Annotated[
        str, typer.Option(envvar="EDGELUT_LOG_LEVEL", help="critical, error, warning, info or debug.")
    ] = "warning",
) -> None:
    """Serve the table and its jobs over REST, guarded by the token in EDGELUT_TOKEN and those that are stored.

    With the local SQLite file it is all that is needed: service, job engine, and an agent that measures on this machine.
    """
    from edgelut import settings
    from edgelut.errors import InvalidSpec

    if log_level not in LOG_LEVELS:
        raise InvalidSpec(f"no log level {log_level!r}; there are {', '.join(LOG_LEVELS)}")
    tls = _tls(tls_cert, tls_key)
    url = database or settings.database_url()
    is_embedded = url == settings.database_url(settings.home()) and url.startswith("sqlite")
    measures = _measures(agent, is_embedded, tls)
    has_pages = _has_pages(dashboard, tls)
    with _listen(host, port) as listening, ExitStack() as ending:
        port = listening.getsockname()[1]
        here, local = _url(_reachable(host), port, bool(tls)), secrets.token_urlsafe(32)
        measuring = LocalAgent(here, local, settings.home()) if measures else None
        if measuring is not None:
            ending.callback(measuring.stop)
            measuring.start()  # first: it loads as long as we do, and what it asks waits at the socket
        pages = _pages(here, host, port, dashboard_port) if has_pages else None
        application, guards = _open(ending, url, host, local)
        if is_embedded and measures:  # without an agent, commands here measure by themselves
            ending.enter_context(local_service.announce(settings.home(), here, local))
        _announce(_url(host, port, bool(tls)), guarded=guards, measures=measures)
        _end_cleanly()
        if pages is not None:
            ending.callback(pages.stop)
            pages.start()
        _server(application, log_level, tls, measuring).run(sockets=[listening])


def _open(ending: ExitStack, url: str, host: str, local: str) -> tuple[FastAPI, bool]:
    """Return the application over its database, started, and whether a token guards it. Raises StorageError, InvalidSpec."""
    from db.engine import open_store
    from jobs.engine import Engine
    from jobs.service import Jobs

    from .app import create_app
    from .deps import Service
    from .settings import from_environment, require_token_off_loopback

    # An embedded file is upgraded by whoever opens it; a server's schema by whoever operates it.
    store = ending.enter_context(open_store(url, migrate=url.startswith("sqlite")))
    settings = require_token_off_loopback(host, replace(from_environment(), local_token=local), store.has_tokens)
    application = create_app(store, settings, Jobs(store, Engine(store)))
    service: Service = application.state.service
    service.start()  # here, where an error is one line
    ending.callback(service.close)
    return application, settings.token is not None or bool(store.tokens())  # ended ones guard too


def _measures(agent: bool | None, is_embedded: bool, tls: Mapping[str, str]) -> bool:
    """Say whether an agent is started; raise BackendMissing or InvalidSpec where one is asked for that cannot be."""
    from edgelut.errors import BackendMissing, InvalidSpec

    lacks = missing()
    if agent and tls:
        raise InvalidSpec(
            "--agent with --tls-cert: the certificate is not for 127.0.0.1; start 'edgelut agent --url https://NAME:PORT' beside it"
        )
    if agent and lacks:
        raise BackendMissing(f"no {' and no '.join(lacks)} to measure with: {INSTALL}, or take --no-agent")
    return is_embedded and not lacks and not tls if agent is None else agent


def _has_pages(dashboard: bool | None, tls: Mapping[str, str]) -> bool:
    """Say whether a dashboard is started; raise BackendMissing or InvalidSpec where one is asked for that cannot be."""
    from edgelut.errors import BackendMissing, InvalidSpec

    lacks = local_dashboard.missing()
    if dashboard and tls:
        raise InvalidSpec(
            "--dashboard with --tls-cert: the certificate is not for 127.0.0.1; start 'edgelut dashboard --url https://NAME:PORT' "
            "beside it"
        )
    if dashboard and lacks:
        raise BackendMissing(f"no nicegui to show pages with: {local_dashboard.INSTALL}, or take --no-dashboard")
    return not lacks and not tls if dashboard is None else dashboard


def _pages(here: str, host: str, port: int, asked: int | None) -> LocalDashboard:
    """Return the dashboard of the service at `here`, on this machine alone: others reach it by a proxy that speaks TLS."""
    from .settings import is_loopback

    def told(address: str | None, why: str) -> None:
        said = f"dashboard: {address}" if address else f"no dashboard: {why}; give another --dashboard-port"
        typer.echo(said, err=address is None)

    where = (host.strip("[]") if is_loopback(host) else "127.0.0.1").replace("localhost", "127.0.0.1")
    beside = port + 1 if port < 65535 else 0
    return LocalDashboard(here, where, beside if asked is None else asked, fixed=asked is not None, told=told)


def _tls(certificate: Path | None, key: Path | None) -> dict[str, str]:
    """Return uvicorn's settings for TLS; raise InvalidSpec for a file that is missing or does not fit."""
    import ssl

    from edgelut.errors import InvalidSpec

    if certificate is None and key is None:
        return {}
    if certificate is None or key is None:
        raise InvalidSpec("give both --tls-cert and --tls-key, or neither")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSpec(f"--tls-cert {certificate} and --tls-key {key}: {error}") from None
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def _server(
    application: FastAPI, log_level: str, tls: Mapping[str, str], measuring: LocalAgent | None
) -> uvicorn.Server:
    """Return a server that, before it ends, lets its agent hand in its round, and ends what waits for long."""
    import asyncio

    import uvicorn

    from edgelut import __version__

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if measuring is not None:
                await asyncio.to_thread(measuring.stop)
            application.state.service.end()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application,
        access_log=False,  # costs 35 % of the requests a second
        log_level=log_level,
        server_header=False,
        headers=[("EdgeLUT-Version", __version__)],
        timeout_graceful_shutdown=10,
        ssl_certfile=tls.get("ssl_certfile"),
        ssl_keyfile=tls.get("ssl_keyfile"),
    )
    return Server(config)


def _listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; raise ServiceError where the port is taken or the address is not ours."""
    import errno
    import socket

    from edgelut.errors import ServiceError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServiceError(f"port {port} on {host} is in use; stop what uses it or give another --port") from None
        raise ServiceError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


def _end_cleanly() -> None:
    """Make SIGTERM and Ctrl-C end with code 0: uvicorn raises the signal again once it has answered what it had begun."""
    import signal

    def end(*_: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _reachable(host: str) -> str:
    """Return an address of this machine at which a service bound to `host` answers."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host.strip("[]"), host)


def _url(host: str, port: int, tls: bool) -> str:
    plain = host.strip("[]")
    return f"{'https' if tls else 'http'}://{f'[{plain}]' if ':' in plain else plain}:{port}"


def _announce(url: str, *, guarded: bool, measures: bool) -> None:
    header = ' -H "Authorization: Bearer $EDGELUT_TOKEN"' if guarded else ""
    typer.echo(
        f"EdgeLUT serves {url} (Ctrl-C stops it)" + ("; jobs for device host run on this machine" if measures else "")
    )
    typer.echo(f'curl{header} "{url}/latency?block=MB3D&width=224"')
