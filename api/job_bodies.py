"""What requests and answers about jobs, agents, marks and tokens hold, in bounds, as `bodies` does for the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edgelut.jobs import (
    PRIORITIES,
    Agent,
    Announcement,
    Closed,
    DeviceInfo,
    FleetDevice,
    Job,
    JobEvent,
    JobPoint,
    JobRequest,
    Mark,
    Progress,
    RuntimeInfo,
    TokenInfo,
)
from edgelut.plan import Policy
from edgelut.types import Artifact, Params, Run

from .bodies import (
    LIMIT,
    Amount,
    Count,
    EntryIn,
    Moment,
    Name,
    Nanoseconds,
    SpecIn,
    TargetIn,
    Text,
    Values,
    Whole,
    Word,
)

LONGEST_WAIT_S = 30  # of a claim
POINTS_OF_RUNS = 128  # points whose runs may be asked for at once
LONGEST_LIFE_S = 10 * 366 * 86_400  # of a token

Secret = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$(?!\n)")]  # a lease, a session
Names = Annotated[tuple[Name, ...], Meta(max_length=100)]
DeviceNames = Annotated[tuple[Name, ...], Meta(max_length=1000)]
Numbers = Annotated[tuple[Whole, ...], Meta(max_length=1000)]
Label = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f]*$(?!\n)")]  # may be empty
Reason = Annotated[str, Meta(max_length=20_000)]  # a toolchain's own words may be many
Sha256 = Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]*$(?!\n)")]
Nanosamples = Annotated[tuple[Amount, ...], Meta(max_length=LIMIT)]
ScopeName = Literal["read", "submit", "agent", "admin"]


class JobIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What to measure, and where: every combination of blocks and targets, at most 50,000 points.

    Blocks are `presets`, or `blocks` (kinds) with `widths` and `resolutions`, or whole `specs`, or `networks` as wholes. Devices
    are named, or chosen by facts: `"selector": {"device_model": "Pixel 8"}` takes every device whose facts say so.
    """

    presets: Names = ()
    blocks: Names = ()
    widths: Numbers = ()
    widths_out: Numbers = ()
    resolutions: Numbers = ()
    batches: Numbers = (1,)
    params: Values = msgspec.field(default_factory=dict)
    specs: Annotated[tuple[SpecIn, ...], Meta(max_length=LIMIT)] = ()
    networks: Names = ()
    alone: bool = False
    devices: DeviceNames = ()
    selector: Values = msgspec.field(default_factory=dict)
    runtimes: Names = ("onnxruntime-cpu",)
    precisions: Names = ("fp32",)
    threads: Numbers = (1,)
    unit: Name = "cpu"
    formats: Names = ()
    options: Values = msgspec.field(default_factory=dict)
    half_width: Annotated[float, Meta(ge=0.001, le=0.5)] = Policy().half_width
    max_rounds: Annotated[int, Meta(ge=2, le=1000)] = Policy().max_rounds
    seed: Annotated[int, Meta(ge=-(2**53), le=2**53)] = 0
    again: bool = False
    priority: Annotated[int, Meta(ge=PRIORITIES[0], le=PRIORITIES[1])] = 0
    name: Label = ""
    labels: Values = msgspec.field(default_factory=dict)
    baseline: Label = ""
    environment: Label = ""

    def value(self) -> JobRequest:
        """Return the request; raise InvalidSpec. How many points it makes is counted where it is planned."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return JobRequest(**given | {"specs": tuple(spec.value() for spec in self.specs)})


class RunIn(Struct, frozen=True, forbid_unknown_fields=True):
    """One round's raw timings of one spec on one target in one process."""

    spec: SpecIn
    target: TargetIn
    sweep: Word
    process: Word
    round: Count
    wall_ns: Nanosamples
    cpu_ns: Nanosamples
    inner: Whole
    warmups: Count
    reference_ns: Nanoseconds
    started_at: Moment
    facts: Values = msgspec.field(default_factory=dict)
    artifact_sha256: Sha256 = ""
    load_ns: Amount | None = None
    compile_ns: Amount | None = None
    peak_memory_bytes: Amount | None = None

    def value(self) -> Run:
        """Return the run; raise InvalidSpec."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        own = {"spec": self.spec.value(), "target": self.target.value(), "facts": Params(self.facts)}
        return Run(**given | own)


class ArtifactIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of an exported file; the file itself stays where it was exported."""

    spec: SpecIn
    format: Name
    precision: Name
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    exporter_version: Text
    parity_error: Annotated[float, Meta(ge=0)]
    size_bytes: Amount

    def value(self) -> Artifact:
        """Return the artifact; raise InvalidSpec."""
        return Artifact(
            self.spec.value(),
            self.format,
            self.precision,
            self.sha256,
            self.exporter_version,
            self.parity_error,
            self.size_bytes,
        )


class ProgressIn(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a batch is, as its agent judges."""

    done: Count
    total: Count
    round: Count
    seconds_left: Annotated[float, Meta(ge=0, le=1e9)]
    step: Literal["export", "measure"] = "measure"

    def value(self) -> Progress:
        """Return the progress."""
        return Progress(self.done, self.total, self.round, self.seconds_left, self.step)


class RuntimeIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What a runtime on an agent's host can do."""

    name: Name
    version: Text
    formats: Names
    precisions: Names
    units: Names = ("cpu",)


class DeviceIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A device that an agent announces, by a name that no other device of the service has."""

    name: Name
    facts: Values = msgspec.field(default_factory=dict)
    runtimes: Annotated[tuple[RuntimeIn, ...], Meta(max_length=100)] = ()
    usable: bool = True
    reason: Reason = ""

    def value(self) -> DeviceInfo:
        """Return the device."""
        runtimes = tuple(RuntimeInfo(**_fields(runtime)) for runtime in self.runtimes)
        return DeviceInfo(self.name, Params(self.facts), runtimes, self.usable, self.reason)


Devices = Annotated[tuple[DeviceIn, ...], Meta(max_length=1000)]


class AnnouncementIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent says of itself: who it is, what it speaks, its devices.

    `installation` is a random name that its host keeps; `session` is new whenever the agent starts.
    """

    name: Name
    installation: Secret
    session: Secret
    version: Word
    protocols: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=100)]
    facts: Values = msgspec.field(default_factory=dict)
    devices: Devices = ()
    environments: Names = ()

    def value(self) -> Announcement:
        """Return the announcement."""
        own = {"facts": Params(self.facts), "devices": tuple(device.value() for device in self.devices)}
        return Announcement(**_fields(self) | own)


class PulseIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A heartbeat; `devices` where something about them changed."""

    session: Secret
    devices: Devices | None = None


class ClaimIn(Struct, frozen=True, forbid_unknown_fields=True):
    """An agent's question for work on those of its devices that are free; it is answered when there is some, or after `wait_s`."""

    session: Secret
    devices: DeviceNames
    wait_s: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_S)] = 0.0


class BatchRunsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A round's runs; a comparing batch has its baseline's apart."""

    lease: Secret
    runs: Annotated[tuple[RunIn, ...], Meta(max_length=1000)]
    baseline_runs: Annotated[tuple[RunIn, ...], Meta(max_length=1000)] = ()
    progress: ProgressIn | None = None


class BatchEntriesIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of a batch that are done."""

    lease: Secret
    entries: Annotated[tuple[EntryIn, ...], Meta(max_length=1000)]


class ClosedIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A point that ended without a row of its own."""

    number: Count
    state: Literal["known", "compared", "failed"]
    reason: Reason = ""

    def value(self) -> Closed:
        """Return the point's end."""
        return Closed(self.number, self.state, self.reason)


class BatchClosedIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Points of a batch that ended without rows of their own."""

    lease: Secret
    closed: Annotated[tuple[ClosedIn, ...], Meta(max_length=1000)]


class BatchArtifactsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a batch's exported files."""

    lease: Secret
    artifacts: Annotated[tuple[ArtifactIn, ...], Meta(max_length=1000)]


class BatchProgressIn(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a batch is."""

    lease: Secret
    progress: ProgressIn


class FinishIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A batch is given back: with what is open failed by `reason`, or open again where it was interrupted."""

    lease: Secret
    interrupted: bool = False
    reason: Reason = ""


class TokenIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be made. `devices` are the only ones that an agent's token may announce; none: any."""

    name: Name
    scopes: Annotated[tuple[ScopeName, ...], Meta(min_length=1, max_length=4)]
    devices: DeviceNames = ()
    expires_in_s: Annotated[float, Meta(ge=1, le=LONGEST_LIFE_S)] | None = None


class JobsOut(Struct, frozen=True):
    """Jobs, newest first; `next_cursor` goes into `cursor` for the next page and is null on the last."""

    jobs: Sequence[Job]
    next_cursor: str | None


class PointsOut(Struct, frozen=True):
    """A job's points, in order; `next_cursor` goes into `cursor` for the next page and is null on the last."""

    points: Sequence[JobPoint]
    next_cursor: str | None


class JobRunsOut(Struct, frozen=True):
    """Raw runs with every sample and fact, oldest first."""

    runs: Sequence[Run]


class LogOut(Struct, frozen=True):
    """Lines of a job's log, oldest first."""

    events: Sequence[JobEvent]


class AgentsOut(Struct, frozen=True):
    """The agents that ever announced themselves."""

    agents: Sequence[Agent]


class FleetOut(Struct, frozen=True):
    """The agents' devices, and what each is doing."""

    devices: Sequence[FleetDevice]


class MarksOut(Struct, frozen=True):
    """The named states of the table."""

    marks: Sequence[Mark]


class TokensOut(Struct, frozen=True):
    """What may be told of every token."""

    tokens: Sequence[TokenInfo]


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
