"""DBOS's logger made ours: warnings go through `edgelut.jobs.engine`, nothing is printed, and what is no fault is not told."""

from __future__ import annotations

import logging
import time

LOG = logging.getLogger("edgelut.jobs.engine")
# Said by design, some with a traceback: a workflow was cancelled, taken over by another process, or ended with this one.
NO_FAULTS = (
    "was cancelled during execution",
    "no longer owned by this execution",
    "Asyncio task cancelled",
    "Cannot schedule new futures after shutdown",
)
QUIET_S = 10.0  # a line of its code speaks so often at most: with the database away it would speak ten times a second
_ENDINGS = ("CancelledError", "DBOSWorkflowCancelledError")


class _Reroute(logging.Filter):
    """Hands each record on to our logger, an error with its cause in one line, and lets none through to other handlers."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Hand a record on."""
        text = record.getMessage()
        cause = record.exc_info[1] if record.exc_info else None
        harmless = any(known in text for known in NO_FAULTS) or type(cause).__name__ in _ENDINGS
        said = (text if cause is None else f"{text} {type(cause).__name__}: {cause}").strip()
        place, now = (record.pathname, record.lineno), time.monotonic()
        if harmless or now - self._said_at.get(place, now - QUIET_S) < QUIET_S:
            LOG.debug("%s", said)
        else:
            self._said_at[place] = now
            LOG.log(record.levelno, "%s", said.splitlines()[0] if said else "")
        if record.exc_info:
            LOG.debug("%s", text, exc_info=record.exc_info)
        return False


_reroute = _Reroute()


def quieten() -> None:
    """Reroute what DBOS says, from now on. Idempotent."""
    logger = logging.getLogger("dbos")
    if _reroute not in logger.filters:
        logger.addFilter(_reroute)
