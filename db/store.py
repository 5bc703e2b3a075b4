"""The table, the raw runs, the jobs, the fleet and the searches in one database: what the service and a local profiler hold."""

from __future__ import annotations

from .batches import SqlBatches
from .coverage import SqlCoverage
from .current import SqlCurrent
from .fleet import SqlFleet
from .jobs import SqlJobs
from .marks import SqlMarks
from .runs import SqlRuns
from .searches import SqlSearches
from .table import SqlTable
from .tokens import SqlTokens


class SqlStore(
    SqlTable, SqlRuns, SqlJobs, SqlBatches, SqlFleet, SqlTokens, SqlMarks, SqlCoverage, SqlSearches, SqlCurrent
):
    """A `LatencyTable`, a `RunStore`, a `SearchLog`, and all of jobs. Safe for threads and processes; get one from
    `db.engine.open_store`.
    """
