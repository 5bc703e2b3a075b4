"""The exceptions of EdgeLUT; each is also the builtin that a caller would expect.

EdgelutError
├── InvalidSpec (ValueError)         a block, network or target that cannot exist
│   ├── UnknownKind                  no block kind of that name
│   └── UnlikeMeasures               counts of instructions are asked for as times, or mixed with times
├── LatencyNotFound (LookupError)    no row for that spec on that target
│   ├── NotEstimable (LookupError)   it was neither measured nor can be estimated
│   └── OtherUnit (LookupError)      there is a row, but it ran on another compute unit than the one required
├── UnlikeRuns (ValueError)          runs of unlike conditions are not pooled
├── Unsupported (ValueError)         this backend cannot do that; a sweep stores why and goes on
├── BackendMissing (ImportError)     no such backend, or its toolchain is not installed
├── DeviceBusy (RuntimeError)        the device did not come to rest in time
├── DeviceUnusable (RuntimeError)    the device is not attached, not authorised, or gone
├── ArtifactCorrupted (ValueError)   a stored file is not what was written
├── ParityFailed (ArithmeticError)   an artifact's outputs are not its module's
├── SnapshotCorrupted (ValueError)   a snapshot file is not what was written
├── StorageError (RuntimeError)      the database cannot be opened, read or written
├── Conflict (RuntimeError)          a name, a key or a device is taken by something else
├── Forbidden (PermissionError)      that token may not do this
└── ServiceError (RuntimeError)      the service refused, failed or could not be reached
"""

from __future__ import annotations

from collections.abc import Sequence


class EdgelutError(Exception):
    """Base of everything that EdgeLUT raises on purpose."""


class InvalidSpec(EdgelutError, ValueError):
    """A block, network or target that cannot exist: says what was asked and what would be accepted."""


class UnknownKind(InvalidSpec):
    """No block kind of that name: lists those there are."""


class UnlikeMeasures(InvalidSpec):
    """Counts of instructions were asked for as times, or to be added to times or compared with them."""


class LatencyNotFound(EdgelutError, LookupError):
    """No row for that spec on that target."""


class NotEstimable(LatencyNotFound):
    """A latency was neither measured nor can be estimated: says why, and what to measure."""


class OtherUnit(LatencyNotFound):
    """There is a row, but it did not run on the compute unit that was required.

    `ran_on` are the units that such rows ran on, in order; those of which it is not known are not among them.
    """

    def __init__(self, message: str = "", ran_on: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ran_on = tuple(ran_on)


class UnlikeRuns(EdgelutError, ValueError):
    """Runs measured under unlike conditions were asked to be pooled."""


class Unsupported(EdgelutError, ValueError):
    """This backend cannot handle that block, precision, unit or device; a sweep stores the reason and goes on."""


class BackendMissing(EdgelutError, ImportError):
    """No backend of that name, or its toolchain is not installed: gives the exact install line."""


class DeviceBusy(EdgelutError, RuntimeError):
    """The device did not become cool and idle in the time it was given."""


class DeviceUnusable(EdgelutError, RuntimeError):
    """The device is not attached, not authorised, or went away: says which, and the remedy."""


class ArtifactCorrupted(EdgelutError, ValueError):
    """A stored artifact's content does not match its hash."""


class ParityFailed(EdgelutError, ArithmeticError):
    """An artifact's outputs differ from its module's by more than its precision explains."""


class SnapshotCorrupted(EdgelutError, ValueError):
    """A snapshot file does not match its hash, or is of a format that this version does not read."""


class StorageError(EdgelutError, RuntimeError):
    """The database cannot be opened, read or written: says which file or server, and what to do."""


class Conflict(EdgelutError, RuntimeError):
    """A name, a key or a device is taken by something else, or a job's state does not allow what was asked.

    `problem` is the name that a service answers it under: `conflict`, `session` (announce the agent again), `protocol`.
    """

    def __init__(self, message: str = "", *, problem: str = "conflict") -> None:
        super().__init__(message)
        self.problem = problem


class Forbidden(EdgelutError, PermissionError):
    """The token does not allow this: says what it allows."""


class ServiceError(EdgelutError, RuntimeError):
    """The service refused a request, failed, or could not be reached in time.

    `problem` is the name of the refusal (`conflict`, `forbidden`, ...), empty where the service said nothing.
    """

    def __init__(self, message: str = "", *, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem
