"""The command `edgelut serve`: open the table, check the address, run the service until it is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import socket

    import uvicorn
    from fastapi import FastAPI

app = typer.Typer()


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
    log_level: Annotated[
        str, typer.Option(envvar="EDGELUT_LOG_LEVEL", help="critical, error, warning, info or debug.")
    ] = "warning",
) -> None:
    """Serve the table and its jobs over REST, guarded by the token in EDGELUT_TOKEN and those that are stored."""
    import uvicorn

    from db.engine import open_store
    from edgelut import settings
    from edgelut.errors import InvalidSpec
    from jobs.engine import Engine
    from jobs.service import Jobs

    from .app import create_app
    from .deps import Service
    from .settings import from_environment, require_token_off_loopback

    if log_level not in uvicorn.config.LOG_LEVELS:
        raise InvalidSpec(f"no log level {log_level!r}; there are {', '.join(uvicorn.config.LOG_LEVELS)}")
    url = database or settings.database_url()
    # An embedded file is upgraded by whoever opens it; a server's schema by whoever operates it.
    with _listen(host, port) as listening, open_store(url, migrate=url.startswith("sqlite")) as store:
        guarded = require_token_off_loopback(host, from_environment(), store.has_tokens)
        application = create_app(store, guarded, Jobs(store, Engine(store)))
        service: Service = application.state.service
        service.start()  # here, where an error is one line
        try:
            _announce(host, listening.getsockname()[1], guarded=guarded.token is not None or store.has_tokens())
            _end_cleanly()
            _server(application, log_level).run(sockets=[listening])
        finally:
            service.close()


def _server(application: FastAPI, log_level: str) -> uvicorn.Server:
    """Return a server that ends what waits for long before it waits for it."""
    import uvicorn

    from edgelut import __version__

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.state.service.end()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application,
        access_log=False,  # costs 35 % of the requests a second
        log_level=log_level,
        server_header=False,
        headers=[("EdgeLUT-Version", __version__)],
        timeout_graceful_shutdown=10,
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


def _announce(host: str, port: int, *, guarded: bool) -> None:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    header = ' -H "Authorization: Bearer $EDGELUT_TOKEN"' if guarded else ""
    typer.echo(f"EdgeLUT serves {url} (Ctrl-C stops it)")
    typer.echo(f'curl{header} "{url}/latency?block=MB3D&width=224"')
