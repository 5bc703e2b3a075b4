"""The current rows as the database holds them, whole or what is new of them: for a service that keeps them in memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import sqlalchemy as sa

from .connect import Database, file_of, reading
from .rows import LATENCY, TARGET, batches
from .schema import entries, is_current, specs, targets


class SpecData(NamedTuple):
    """A spec; `params` are JSON."""

    id: int
    key: str
    kind: str
    width_in: int
    width_out: int
    resolution: int
    batch: int
    params: str


class TargetData(NamedTuple):
    """A target."""

    id: int
    key: str
    device: str
    runtime: str
    precision: str
    threads: int
    unit: str


class CurrentRows(NamedTuple):
    """Current rows, with the specs and targets of theirs that the reader does not know; `newest` is the id they go up to.

    A row is its id, its spec's, its target's, its kind, its provenance and the values of LATENCY; JSON is text, as whoever sends it
    on need not read it. `rows` is None where there are more than were asked for.
    """

    newest: int
    rows: Sequence[Sequence[Any]] | None
    specs: Sequence[SpecData] = ()
    targets: Sequence[TargetData] = ()


class SqlCurrent(Database):
    """Reads what is current, and says cheaply whether anything was written."""

    _ticking: sqlite3.Connection | None = None
    _lock = threading.Lock()  # one for all stores: it is held for microseconds

    def tick(self) -> int | None:
        """Return a number that is another one after any commit of anybody's; None where only a reading can tell.

        SQLite's `data_version` on a connection that never writes: 5 µs, and it waits for nobody.
        """
        path = file_of(self.engine.url)
        if path is None:
            return None
        try:
            with self._lock:
                if self._ticking is None:
                    uri = f"file:{quote(str(path))}?mode=rw"
                    self._ticking = sqlite3.connect(uri, timeout=0, uri=True, check_same_thread=False)
                found: int = self._ticking.execute("PRAGMA data_version").fetchone()[0]
                return found
        except sqlite3.Error:
            self._end_ticking()
            return None

    def close(self) -> None:
        """Close the pooled connections."""
        self._end_ticking()
        super().close()

    def current_since(
        self, since: int, most: int, known_specs: Collection[int] = (), known_targets: Collection[int] = ()
    ) -> CurrentRows:
        """Return the rows that became current after an id was the newest, at most so many; all for 0.

        Rows never leave the table and one ceases to be current only when a newer one of its spec and target is stored, so who
        has the current rows up to `since` and puts these in their places has those up to `newest`.
        """
        with reading(self.engine) as connection:
            newest = connection.execute(_NEWEST).scalar_one() or 0
            if newest <= since:
                return CurrentRows(newest, ())
            some = _NEW.where(entries.c.id > since) if since else _NEW
            rows = connection.execute(some.limit(most + 1)).all()
            if len(rows) > most:
                return CurrentRows(newest, None)
            new_specs = sorted({row.spec_id for row in rows}.difference(known_specs))
            new_targets = sorted({row.target_id for row in rows}.difference(known_targets))
            found_specs = [
                SpecData._make(row)
                for batch in batches(new_specs)
                for row in connection.execute(_SPECS.where(specs.c.id.in_(batch)))
            ]
            found_targets = [
                TargetData._make(row)
                for batch in batches(new_targets)
                for row in connection.execute(_TARGETS.where(targets.c.id.in_(batch)))
            ]
        return CurrentRows(newest, rows, found_specs, found_targets)

    def _end_ticking(self) -> None:
        with self._lock:
            if self._ticking is not None:
                self._ticking.close()
            self._ticking = None


def _text(column: sa.Column[Any]) -> sa.ColumnElement[str]:
    return sa.type_coerce(column, sa.Text)


_NEWEST = sa.select(sa.func.max(entries.c.id))
_NEW = sa.select(
    entries.c.id,
    entries.c.spec_id,
    entries.c.target_id,
    entries.c.kind.label("entry_kind"),
    _text(entries.c.provenance).label("provenance_text"),
    *(_text(entries.c[name]).label("doubts_text") if name == "doubts" else entries.c[name] for name in LATENCY),
).where(is_current)
_SPECS = sa.select(
    specs.c.id,
    specs.c.key,
    *(specs.c[name] for name in ("kind", "width_in", "width_out", "resolution", "batch")),
    _text(specs.c.params),
)
_TARGETS = sa.select(targets.c.id, targets.c.key, *TARGET)

__all__ = ["CurrentRows", "SpecData", "SqlCurrent", "TargetData"]
