"""DBOS's logger made ours: warnings go through `edgelut.jobs`, nothing is printed, and what is no fault is not told as one."""

from __future__ import annotations

import logging

LOG = logging.getLogger("edgelut.jobs.engine")
# Said by design, each with a traceback or as a warning: a workflow that was cancelled, or that another process took over.
NO_FAULTS = ("was cancelled during execution", "no longer owned by this execution", "Asyncio task cancelled")


class _Forward(logging.Handler):
    """Hands records on to our logger: errors with their cause in one line, the traceback at level debug."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on."""
        text = record.getMessage()
        if any(known in text for known in NO_FAULTS):
            LOG.debug(text)
            return
        cause = record.exc_info[1] if record.exc_info else None
        if cause is not None and type(cause).__name__ in ("CancelledError", "DBOSWorkflowCancelledError"):
            LOG.debug(text)
            return
        said = f"{text} {type(cause).__name__}: {cause}" if cause is not None else text
        LOG.log(record.levelno, said.splitlines()[0])
        if record.exc_info:
            LOG.debug(text, exc_info=record.exc_info)


def quieten() -> None:
    """Replace what DBOS prints; call it before DBOS is made, which adds a handler of its own where there is none."""
    logger = logging.getLogger("dbos")
    logger.handlers[:] = [_Forward(logging.WARNING)]
    logger.propagate = False
