"""`edgelut db`: bring the database up to date, check it, say where it is."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer
from sqlalchemy import Engine

from edgelut import settings
from edgelut.errors import EdgelutError

from . import engine as engines

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
    engine = _engine(url)
    try:
        engines.upgrade(engine)
    except EdgelutError as error:
        _fail(error)
    finally:
        engine.dispose()
    typer.echo(f"{engines.shown(engine.url)} is at revision {engines.head_revision()}")


@app.command()
def check(url: Url = "") -> None:
    """Exit with 1 unless the database can be reached and is at this version's revision."""
    engine = _engine(url)
    try:
        engines.require_current(engine)
    except EdgelutError as error:
        _fail(error)
    finally:
        engine.dispose()
    typer.echo(f"{engines.shown(engine.url)} is at revision {engines.head_revision()}")


@app.command()
def path(url: Url = "") -> None:
    """Print the database's URL, without its password."""
    typer.echo(engines.shown(_engine(url).url))


def _engine(url: str) -> Engine:
    try:
        return engines.create(url or settings.database_url())
    except EdgelutError as error:
        _fail(error)


def _fail(error: EdgelutError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(1)
