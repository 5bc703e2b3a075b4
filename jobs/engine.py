"""The durable engine: one workflow for each job, which waits until nothing of it is open and then closes it."""

from __future__ import annotations

import sqlalchemy as sa


class Engine:
    """DBOS over the service's own database. One in a process; a process that dies takes its workflows up when it is back."""

    def __init__(self, engine: sa.Engine, executor_id: str) -> None:
        self._database, self.executor_id = engine, executor_id

    def start(self) -> None:
        """Make DBOS's tables and take up what this executor left."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it; what waits goes on when it starts again."""
        raise NotImplementedError

    def open(self, job: str) -> None:
        """Give a job its workflow, if it has none that runs."""
        raise NotImplementedError

    def changed(self, job: str) -> None:
        """Tell a job's workflow to look."""
        raise NotImplementedError

    def cancel(self, job: str) -> None:
        """End a job's workflow."""
        raise NotImplementedError
