"""The table and the raw runs in one database: what the service and a local profiler hold."""

from __future__ import annotations

from .runs import SqlRuns
from .table import SqlTable


class SqlStore(SqlTable, SqlRuns):
    """A `LatencyTable` and a `RunStore`, both. Safe for threads and processes; get one from `db.engine.open_store`."""
