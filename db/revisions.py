"""The schema's revision: bring it up to date, or say that it is not. `migrations/` alone brings tables to be."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from edgelut.errors import StorageError

from .connect import UPGRADE, file_of, reading, shown, writing

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to this version's revision, creating the SQLite file and its folder where there is none."""
    _make_folder(engine.url)
    with writing(engine) as connection:
        known = _revision(connection)
        if known is not None and known not in _known_revisions():
            raise StorageError(_newer(engine, known))
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))  # a migration may rewrite a large table
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(engine: sa.Engine) -> None:
    """Raise StorageError unless the schema is at this version's revision."""
    path = file_of(engine.url)
    if path is not None and not path.exists():
        raise StorageError(f"there is no database {path}: {UPGRADE}, or name another in EDGELUT_DATABASE_URL")
    with reading(engine) as connection:
        found = _revision(connection)
    head = head_revision()
    if found == head:
        return
    if found is not None and found not in _known_revisions():
        raise StorageError(_newer(engine, found))
    state = "has no EdgeLUT tables yet" if found is None else f"is at revision {found}, this version needs {head}"
    raise StorageError(f"{shown(engine.url)} {state}: {UPGRADE}")


def alembic_config() -> Config:
    """Return alembic's configuration, the same from whatever directory."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


@cache
def head_revision() -> str:
    """Return the revision that this version works with."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None
    return head


def _known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _newer(engine: sa.Engine, revision: str) -> str:
    return (
        f"{shown(engine.url)} is at revision {revision}, which this version does not know: it was upgraded by a newer one. "
        f"Install that version (pip install -U edgelut-service), then {UPGRADE}"
    )


def _make_folder(url: sa.URL) -> None:
    path = file_of(url)
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create the folder {path.parent if path else ''}: {error.strerror}") from error
