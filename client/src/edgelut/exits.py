"""The exit codes of the command line, and which error ends in which."""

from __future__ import annotations

from . import errors

OK = 0
FAILED = 1  # the command ran, and something that it was asked for failed
USAGE = 2  # what was asked cannot be: unknown name, bad value
STORAGE = 3  # database, artifact or snapshot cannot be read or written
SERVICE = 4  # service unreachable or refusing; port in use
NOT_FOUND = 5  # nothing matches
BACKEND = 6  # a toolchain or device is missing, busy or cannot do that
INTERRUPTED = 130  # Ctrl-C

_CODES: tuple[tuple[type[Exception], int], ...] = (
    (errors.LatencyNotFound, NOT_FOUND),
    (errors.BackendMissing, BACKEND),
    (errors.Unsupported, BACKEND),
    (errors.DeviceBusy, BACKEND),
    (errors.DeviceUnusable, BACKEND),
    (errors.StorageError, STORAGE),
    (errors.ArtifactCorrupted, STORAGE),
    (errors.SnapshotCorrupted, STORAGE),
    (errors.ServiceError, SERVICE),
    (errors.Conflict, USAGE),
    (errors.Forbidden, USAGE),
    (errors.InvalidSpec, USAGE),
)


def code_of(error: Exception) -> int:
    """Return the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
