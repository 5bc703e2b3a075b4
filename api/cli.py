"""The command `edgelut serve`: open the table, check the address, run the service until it is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import socket

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
    """Serve the table over REST, guarded by the token in EDGELUT_TOKEN where there is one."""
    import uvicorn

    from db.engine import open_store
    from edgelut import __version__, settings
    from edgelut.errors import InvalidSpec

    from .app import create_app
    from .settings import from_environment, require_token_off_loopback

    if log_level not in uvicorn.config.LOG_LEVELS:
        raise InvalidSpec(f"no log level {log_level!r}; there are {', '.join(uvicorn.config.LOG_LEVELS)}")
    service = from_environment()
    require_token_off_loopback(host, service)
    url = database or settings.database_url()
    # An embedded file is upgraded by whoever opens it; a server's schema by whoever operates it.
    with _listen(host, port) as listening, open_store(url, migrate=url.startswith("sqlite")) as store:
        _announce(host, listening.getsockname()[1], guarded=service.token is not None)
        config = uvicorn.Config(
            create_app(store, service),
            access_log=False,  # costs 35 % of the requests a second
            log_level=log_level,
            server_header=False,
            headers=[("EdgeLUT-Version", __version__)],
            timeout_graceful_shutdown=10,
        )
        _end_cleanly()
        uvicorn.Server(config).run(sockets=[listening])


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
