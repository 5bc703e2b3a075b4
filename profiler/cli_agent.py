"""The command `edgelut agent`."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgelut import exits

if TYPE_CHECKING:
    from .agent import Agent
    from .agent_report import Report
    from .phones import Phones

app = typer.Typer()


@app.command()
def agent(
    url: Annotated[str | None, typer.Option(metavar="URL", help="The service.  [default: $EDGELUT_URL]")] = None,
    name: Annotated[str | None, typer.Option(help="Name of this agent.  [default: the host's]")] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BACKEND[=NAME]", help="Device, and its name in the fleet; may be repeated.  [default: host]"
        ),
    ] = None,
    apple: Annotated[
        bool, typer.Option("--apple", help="This Mac, and every iPhone that is attached to it, now or later.")
    ] = False,
    environment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PYTHON", help="Another interpreter to measure baselines in; may be repeated."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File that holds the token.  [default: $EDGELUT_TOKEN]")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="The token itself; everybody on this host can see it.", show_default=False)
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Where artifacts and locks lie.  [default: $EDGELUT_HOME]")] = None,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is to be had.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let the token travel over http to another host.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what went wrong.")] = False,
    until_stdin_ends: Annotated[
        bool, typer.Option("--until-stdin-ends", help="End with the process that holds our standard input.")
    ] = False,
) -> None:
    """Measure on this host's devices for a service: `edgelut agent --url https://lab.example --device host=lab-1`.

    Ctrl-C or SIGTERM ends it after the round in hand; what it was measuring goes on when it starts again.
    """
    from edgelut import settings
    from edgelut.errors import InvalidSpec

    from .agent import Agent
    from .agent_report import Report
    from .fleet import parse_devices, parse_environments
    from .phones import require_xcode
    from .session import Options

    address = url or os.environ.get("EDGELUT_URL")
    if not address:
        raise InvalidSpec("which service? give --url URL, or set EDGELUT_URL")
    own_name = name or socket.gethostname()
    report = Report(quiet)
    if apple:
        require_xcode()
    options = Options(
        url=address,
        name=own_name,
        devices=parse_devices(device or [_default_device(address, own_name)]),
        home=(home or settings.home()).resolve(),
        environments=parse_environments(environment or ()),
        token=_token(token, token_file, report),
        once=once,
    )
    _require_secure(address, options.token, insecure)
    served = Agent(options, report, look=_phones(options.home).look) if apple else Agent(options, report)
    if until_stdin_ends:
        threading.Thread(target=_end_with_stdin, args=(served,), name="edgelut-stdin", daemon=True).start()
    with _stopped_by_signals(served) as told:
        served.run()
    raise typer.Exit(exits.INTERRUPTED if told == [signal.SIGINT] else exits.OK)


def _phones(home: Path) -> Phones:
    """Return the phones of this Mac; workers find the app that was built for one where this process has its data."""
    from .phones import Phones

    os.environ["EDGELUT_HOME"] = str(home)
    return Phones()


def _end_with_stdin(served: Agent) -> None:
    """Stop an agent whose parent has gone: there is nobody to serve, and another agent may wait for this home."""
    while os.read(0, 4096):
        pass
    served.stop(within_s=1.0)


def _default_device(url: str, name: str) -> str:
    """Return the device of an agent that was told none: this host, by a name that no other host's agent gives its own."""
    return "host" if is_loopback(url) else f"host={name.replace('/', '_')}"


def _token(given: str | None, file: Path | None, report: Report) -> str | None:
    from edgelut.errors import InvalidSpec

    if given is not None:
        report.warn("anybody on this host can read --token in the list of processes: use EDGELUT_TOKEN or --token-file")
        return given
    if file is None:
        return os.environ.get("EDGELUT_TOKEN") or None
    try:
        found = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(
            f"the token's file {file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not found:
        raise InvalidSpec(f"the token's file {file} is empty")
    return found


def _require_secure(url: str, token: str | None, insecure: bool) -> None:
    """Raise InvalidSpec where a token, or what is measured, would travel in the clear to another host."""
    from edgelut.errors import InvalidSpec

    if url.lower().startswith("http://") and not is_loopback(url) and not insecure:
        what = "the token" if token else "all that is said"
        raise InvalidSpec(
            f"over http:// {what} can be read on the way to {_host(url)}: use https://, or type --insecure"
        )


def is_loopback(url: str) -> bool:
    """Say whether a URL is of this machine alone."""
    import ipaddress

    host = _host(url)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@contextmanager
def _stopped_by_signals(served: Agent) -> Iterator[list[signal.Signals]]:
    """Stop an agent by SIGTERM and Ctrl-C; yield a list of the first that came."""
    told: list[signal.Signals] = []

    def stop(number: int, _: object) -> None:
        if not told:
            told.append(signal.Signals(number))
        served.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
