"""Jobs: what a caller asks to be measured, what came of it, and what an agent and a service say to each other.

A job is a plan of points. Points that are measured interleaved on one device are a batch; an agent claims a batch, measures it
as `edgelut profile` would, and sends each round as it is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from . import presets
from .errors import InvalidSpec
from .plan import Point, Policy
from .request import BlockRequest
from .sequences import network_spec, repeats
from .slopes import needs, with_needs
from .types import BlockSpec, Params, digest

PROTOCOL = 1  # of agents and services; raised when an old agent could not do what a service asks

JobState: TypeAlias = Literal["queued", "running", "done", "cancelled"]
PointState: TypeAlias = Literal["open", "measured", "known", "compared", "failed", "cancelled"]
BatchState: TypeAlias = Literal["open", "claimed", "closed"]
CLOSED: tuple[PointState, ...] = ("measured", "known", "compared", "failed", "cancelled")
ENDED: tuple[JobState, ...] = ("done", "cancelled")
PRIORITIES = (-100, 100)
MOST_POINTS = 50_000  # of one job


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What to measure, and where: every combination of blocks and targets.

    Blocks are given by presets, by kinds with widths and resolutions, as whole specs, or as networks (measured as wholes).
    Devices are named, or chosen by facts (`{"device_model": "Pixel 8"}` takes every device whose facts say so).
    """

    presets: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    widths_out: tuple[int, ...] = ()
    resolutions: tuple[int, ...] = ()
    batches: tuple[int, ...] = (1,)
    params: Params = field(default_factory=Params)
    specs: tuple[BlockSpec, ...] = ()
    networks: tuple[str, ...] = ()
    alone: bool = False  # without the chains, contexts and cold runs that make sums hold
    devices: tuple[str, ...] = ()
    selector: Params = field(default_factory=Params)
    runtimes: tuple[str, ...] = ("onnxruntime-cpu",)
    precisions: tuple[str, ...] = ("fp32",)
    threads: tuple[int, ...] = (1,)
    unit: str = "cpu"
    formats: tuple[str, ...] = ()  # empty: the first that each runtime reads
    options: Params = field(default_factory=Params)  # of the exporter
    half_width: float = Policy().half_width
    max_rounds: int = Policy().max_rounds
    seed: int = 0
    again: bool = False  # measure known rows again
    priority: int = 0  # higher first
    name: str = ""  # of a series of jobs, such as a CI configuration
    labels: Params = field(default_factory=Params)  # branch, commit, ...
    baseline: str = ""  # compare instead of filling the table: previous, job:ID, branch:NAME, mark:NAME
    environment: str = ""  # of the agent, in which a baseline is run: docs/ci.md

    def __post_init__(self) -> None:
        for name in ("params", "selector", "options", "labels"):
            object.__setattr__(self, name, Params(getattr(self, name)))
        for name in _SEQUENCES:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        low, high = PRIORITIES
        if not low <= self.priority <= high:
            raise InvalidSpec(f"priority must be from {low} to {high}, not {self.priority}")
        if not self.devices and not self.selector:
            raise InvalidSpec('name devices, or choose them by facts: "selector": {"device_model": "..."}')
        if self.baseline and self.baseline != "previous" and not self.baseline.startswith(("job:", "branch:", "mark:")):
            raise InvalidSpec(f"baseline must be previous, job:ID, branch:NAME or mark:NAME, not {self.baseline!r}")

    @property
    def key(self) -> str:
        """The hash of what is asked: an idempotency key that comes again with another one is refused."""
        return digest(_plain(asdict(self)))

    def policy(self) -> Policy:
        """Return how the points are measured; raise InvalidSpec."""
        if not 0.001 <= self.half_width <= 0.5:
            raise InvalidSpec(f"half_width must be from 0.001 to 0.5, not {self.half_width}")
        if not 2 <= self.max_rounds <= 1000:
            raise InvalidSpec(f"max_rounds must be from 2 to 1000, not {self.max_rounds}")
        least = min(Policy().min_rounds, self.max_rounds)
        return Policy(half_width=self.half_width, max_rounds=self.max_rounds, min_rounds=least, seed=self.seed)

    def blocks_asked(self) -> list[BlockSpec]:
        """Return the distinct specs, with what their sums need unless `alone`; raise InvalidSpec or UnknownKind."""
        found: list[BlockSpec] = []
        if self.presets or self.blocks or not (self.specs or self.networks):
            asked = BlockRequest(
                self.presets, self.blocks, self.widths, self.widths_out, self.resolutions, self.batches, self.params
            )
            found += asked.specs()
        found += self.specs
        found += [network_spec(presets.whole(name)) for name in self.networks]
        found = list(dict.fromkeys(found))
        return found if self.alone else with_needs(found)


_SEQUENCES = (
    "presets",
    "blocks",
    "widths",
    "widths_out",
    "resolutions",
    "batches",
    "specs",
    "networks",
    "devices",
    "runtimes",
    "precisions",
    "threads",
    "formats",
)


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a request's fields."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Params):
        return value.as_dict()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many of a job's points are in which state."""

    open: int = 0
    measured: int = 0
    known: int = 0
    compared: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All points."""
        return self.open + self.closed

    @property
    def closed(self) -> int:
        """Points that need no more work."""
        return self.measured + self.known + self.compared + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the service knows it."""

    id: str
    state: JobState
    request: JobRequest
    points: JobCounts
    created_at: datetime
    started_at: datetime | None = None  # the first batch was claimed
    finished_at: datetime | None = None
    submitter: str = ""  # the token's name
    rounds: int = 0  # stored so far
    seconds_left: float | None = None  # None: nothing is known yet
    devices: tuple[str, ...] = ()
    baseline_job: str = ""  # what `baseline` was resolved to, where that is a job


@dataclass(frozen=True, slots=True)
class JobPoint:
    """One point of a job."""

    number: int
    point: Point
    state: PointState
    batch: str
    sweep: str  # where its runs are
    reason: str = ""  # of a failure
    entry: int | None = None  # id of the row that it became, or is known by
    closed_at: datetime | None = None
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line of a job's log; `id` grows."""

    id: int
    at: datetime
    level: Literal["info", "warning", "error"]
    text: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a point is compared with: an earlier artifact, and the sweep that its runs are in.

    Where the agent still has the artifact it is measured again beside the new one, into the batch's `baseline_sweep`.
    """

    artifact_sha256: str
    sweep: str
    conditions: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What a runtime on an agent's host can do."""

    name: str
    version: str
    formats: tuple[str, ...]
    precisions: tuple[str, ...]
    units: tuple[str, ...] = ("cpu",)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device that an agent announces. `name` is its name in the table, unlike any other device's of the service."""

    name: str
    facts: Params = field(default_factory=Params)
    runtimes: tuple[RuntimeInfo, ...] = ()
    usable: bool = True
    reason: str = ""  # why it is not usable, and what to do

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", Params(self.facts))
        object.__setattr__(self, "runtimes", tuple(self.runtimes))


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an agent says of itself when it starts, and again whenever its session is not known any more.

    `installation` is a random name that is kept in the agent's data folder, where a lock lets one agent run at a time: a new
    session of the same installation means that the old one is dead.
    """

    name: str
    installation: str
    session: str
    version: str
    protocols: tuple[int, ...] = (PROTOCOL,)
    facts: Params = field(default_factory=Params)
    devices: tuple[DeviceInfo, ...] = ()
    environments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the service answers to an announcement."""

    protocol: int
    version: str
    lease_s: float  # a batch whose lease was not renewed for so long goes to somebody else
    heartbeat_s: float  # how often to say that one lives


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as the service knows it."""

    name: str
    version: str
    live: bool
    seen_at: datetime
    facts: Params
    devices: tuple[str, ...]
    environments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """A device of some agent, and what it is doing. `state`: idle, measuring, unusable, or away (its agent is not heard of)."""

    info: DeviceInfo
    agent: str
    state: Literal["idle", "measuring", "unusable", "away"]
    seen_at: datetime
    job: str = ""  # that it is measuring
    waiting: int = 0  # open points that wait for it


@dataclass(frozen=True, slots=True)
class BatchPoint:
    """One point of a claimed batch."""

    number: int
    point: Point
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch that an agent holds. Every message about it carries `lease`; a batch that went to another agent has another one."""

    batch: str
    job: str
    device: str
    lease: str
    sweep: str
    points: tuple[BatchPoint, ...]
    policy: Policy
    again: bool = False
    baseline_sweep: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is, as its agent judges."""

    done: int
    total: int
    round: int
    seconds_left: float
    step: Literal["export", "measure"] = "measure"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the service says to each message about a batch.

    `held`: the sender holds the batch. `lost`: it does not any more; what it sent was taken for points that were still open.
    `cancelled`: nobody wants the batch; stop, and finish it.
    """

    state: Literal["held", "lost", "cancelled"]
    current: tuple[bool, ...] = ()  # for entries: whether each is now the current row


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the service says to a heartbeat: which of the batches that the agent holds are not its own any more."""

    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Closed:
    """A point that ended without a row of its own."""

    number: int
    state: Literal["known", "compared", "failed"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A named state of the table: all rows that were stored up to a moment."""

    name: str
    made_at: datetime
    last_entry: int


SCOPES = ("read", "submit", "agent", "admin")  # submit and agent include read; admin includes all


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What may be told of a token."""

    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    devices: tuple[str, ...] = ()  # an agent's: the only ones it may announce; empty = any
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just created. The secret is told this once and kept nowhere; it is in no repr."""

    token: str = field(repr=False)
    info: TokenInfo


def families(specs: Sequence[BlockSpec]) -> list[list[BlockSpec]]:
    """Return specs in groups that must not be parted: a block with the sequences that complete its row.

    Blocks that others are timed between come first: their rows are needed for what a block adds in its context.
    """
    left = dict.fromkeys(sorted(specs, key=lambda spec: not repeats(spec)))
    found = []
    for spec in list(left):
        if spec in left:
            family = [spec, *(other for other in needs(spec) if other in left and other != spec)]
            for other in family:
                del left[other]
            found.append(family)
    return found
