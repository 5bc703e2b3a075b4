"""What can go wrong between a sweep and its workers."""

from __future__ import annotations

from edgelut.errors import EdgelutError


class WorkerDied(EdgelutError, RuntimeError):
    """A child process ended or did not answer in time."""


class TaskFailed(EdgelutError, RuntimeError):
    """A library raised something in a worker; the text names it."""
