"""The command `edgelut dashboard`: pages over a service, in a process of its own."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import socket

app = typer.Typer()
INSTALL = "pip install 'edgelut-service[dashboard]'"


@app.command()
def dashboard(
    url: Annotated[
        str, typer.Option(envvar="EDGELUT_URL", help="The service that it shows.")
    ] = "http://127.0.0.1:8321",
    host: Annotated[str, typer.Option(help="Address; on any but loopback give the service tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8322,
    public_url: Annotated[
        str,
        typer.Option(metavar="URL", help="The service's address as people reach it, for the calls that pages show."),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name that it is reached by, as behind a proxy; may be repeated."),
    ] = None,
    poll: Annotated[float, typer.Option(metavar="SECONDS", help="How often it looks for what changed.")] = 2.0,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    until_stdin_ends: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve pages that show a service's table, devices and jobs.

    It is a client like any other: it has no token of its own, and asks each person for theirs where the service wants one.
    """
    if until_stdin_ends:
        _end_with_stdin()
    from edgelut.errors import BackendMissing

    try:
        import nicegui  # noqa: F401
    except ImportError as error:
        raise BackendMissing(f"the dashboard's library is not here ({error}): {INSTALL}") from error
    from .settings import Settings

    settings = Settings(url, public_url, host, tuple(allow_host or ()), poll_s=poll)
    with _inherited(fd) if fd is not None else listen(host, port) as listening:
        if fd is None:
            typer.echo(f"EdgeLUT's dashboard is at {address(host, listening.getsockname()[1])} (Ctrl-C stops it)")
        _serve(settings, listening)


def _serve(settings: object, listening: socket.socket) -> None:
    import gc
    import signal

    import uvicorn

    from .app import create_app
    from .settings import Settings

    assert isinstance(settings, Settings)

    def end(*_: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # what is there now stays: walked at each collection it doubled the time that 12,000 rows take
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
        ws_max_size=2**20,
    )
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; raise ServiceError where the port is taken or the address is not ours."""
    import errno
    import socket

    from edgelut.errors import ServiceError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServiceError(f"port {port} on {host} is in use; stop what uses it or give another --port") from None
        raise ServiceError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


def _inherited(fd: int) -> socket.socket:
    """Return the socket that whoever started this process listens on."""
    import socket

    return socket.socket(fileno=fd)


def address(host: str, port: int) -> str:
    """Return the dashboard's URL."""
    plain = host.strip("[]")
    return f"http://{f'[{plain}]' if ':' in plain else plain}:{port}"


def _end_with_stdin() -> None:
    """End this process when the pipe to its standard input closes: whoever started it is gone, however it ended."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="edgelut-parent", daemon=True).start()
