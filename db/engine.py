"""The way in: an engine, its schema's revision, and the store on top."""

from __future__ import annotations

from .connect import create, shown
from .revisions import head_revision, require_current, upgrade
from .store import SqlStore

__all__ = ["SqlStore", "create", "head_revision", "open_store", "require_current", "shown", "upgrade"]


def open_store(url: str, *, migrate: bool = False) -> SqlStore:
    """Return the store of that database; raise StorageError where its schema is not current and `migrate` is false."""
    engine = create(url)
    try:
        if migrate:
            upgrade(engine)
        require_current(engine)
    except BaseException:
        engine.dispose()
        raise
    return SqlStore(engine)
