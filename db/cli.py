"""`edgelut db`: bring the database up to date, check it, say where it is; SQL is loaded when a command runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgelut import settings, wire
from edgelut.cli import Json
from edgelut.cli_tokens import Devices, ExpiresIn, Scopes, parse_span, told_once
from edgelut.errors import EdgelutError
from edgelut.jobs import NewToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

app = typer.Typer(
    name="db", help="The database: EDGELUT_DATABASE_URL, or a file in EDGELUT_HOME.", no_args_is_help=True
)

Url = Annotated[
    str,
    typer.Option(
        "--url", envvar="EDGELUT_DATABASE_URL", show_default=False, show_envvar=True, help="Another database."
    ),
]


@app.command()
def upgrade(url: Url = "") -> None:
    """Create the tables, or bring them to this version's revision."""
    from . import engine as engines

    _bring(url, engines.upgrade)


@app.command()
def check(url: Url = "") -> None:
    """Exit with 1 unless the database can be reached and is at this version's revision."""
    from . import engine as engines

    _bring(url, engines.require_current)


@app.command()
def path(url: Url = "") -> None:
    """Print the database's URL, without its password."""
    from . import engine as engines

    typer.echo(engines.shown(_engine(url).url))


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Name of the token.")],
    scope: Scopes,
    device: Devices = None,
    expires_in: ExpiresIn = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Create a token in the database itself and print it, this once: the first one, before a service has any."""
    from . import engine as engines

    target = url or settings.database_url()
    seconds = parse_span(expires_in)
    expires = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    # As `edgelut serve` does: a file is upgraded by whoever opens it, a server's schema by whoever operates it.
    with engines.open_store(target, migrate=target.startswith("sqlite")) as store:
        secret, info = store.create_token(name, scope, device or (), expires)
    if as_json:
        typer.echo(wire.encode(NewToken(secret, info)))
    else:
        typer.echo(secret)
        typer.echo(told_once(name), err=True)


def _engine(url: str) -> Engine:
    from . import engine as engines

    try:
        return engines.create(url or settings.database_url())
    except EdgelutError as error:
        _fail(error)


def _bring(url: str, act: Callable[[Engine], object]) -> None:
    """Do something with the database and say its revision; what is wrong with it ends the command with 1."""
    from . import engine as engines

    engine = _engine(url)
    try:
        act(engine)
    except EdgelutError as error:
        _fail(error)
    finally:
        engine.dispose()
    typer.echo(f"{engines.shown(engine.url)} is at revision {engines.head_revision()}")


def _fail(error: EdgelutError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(1)
