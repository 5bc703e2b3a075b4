"""Run by alembic: where the migrations go (a connection handed over by `db.revisions.upgrade`, else the configured URL)."""

from __future__ import annotations

from typing import Any

from alembic import context

from db import connect
from db.schema import metadata
from edgelut import settings


def include_object(thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Leave alone the tables of others that share the database (a job engine, a user's own): those our schema does not name."""
    return not (kind == "table" and reflected and compare_to is None)


OPTIONS: dict[str, Any] = {
    "target_metadata": metadata,
    "include_object": include_object,
    "compare_type": True,
    "render_as_batch": True,  # SQLite alters a table by copying it
}

if context.is_offline_mode():
    context.configure(url=connect.create(settings.database_url()).url, literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
elif (handed := context.config.attributes.get("connection")) is not None:
    context.configure(connection=handed, **OPTIONS)
    context.run_migrations()
else:
    engine = connect.create(settings.database_url())
    with connect.writing(engine) as connection:
        context.configure(connection=connection, **OPTIONS)
        context.run_migrations()
    engine.dispose()
