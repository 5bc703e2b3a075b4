"""One point while it is measured: its session, its bursts, its runs, and the entry that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backends.base import Timing
from edgelut.plan import Point, Policy
from edgelut.types import Clock, Entry, EntryKind, Params, Run, Scalar

from .artifacts import Stored
from .hosting import is_local
from .lanes import Key, Lane
from .nominal import at_nominal
from .stats import COUNT_ROUNDS, Floats, Summary, calls_ns, clock_of, half_width, is_done
from .timing import Burst, Opened


@dataclass(eq=False, slots=True)
class Row:
    """One point being measured."""

    number: int
    point: Point
    stored: Stored
    opened: Opened | None = None
    inner: int = 1
    runs: list[Run] = field(default_factory=list)
    pending: Run | None = None
    parity_error: float | None = None  # on a device that is not this machine

    @property
    def lane(self) -> Key:
        """The worker that has it."""
        return self.point.target.device, self.point.target.runtime

    @property
    def counts(self) -> bool:
        """Whether its samples are instructions."""
        return self.opened is not None and self.opened.counts

    @property
    def clock(self) -> Clock:
        """What its samples are read on."""
        return "instructions" if self.counts else clock_of(self.point.target.threads)

    @property
    def rounds(self) -> list[Floats]:
        """Its samples by round, in ns or instructions a call."""
        clock = self.clock
        return [calls_ns(run, clock) for run in self.runs]

    @property
    def call_ns(self) -> int:
        """About how long a call takes."""
        assert self.opened is not None
        return self.opened.call_ns

    def take(self, opened: Opened, policy: Policy, lane: Lane) -> None:
        """Note what opening gave; rounds that were measured under anything else are forgotten."""
        self.opened = opened
        if opened.parity_error is not None:
            self.parity_error = opened.parity_error
        alike = conditions_of(self.facts(lane))
        self.runs = [run for run in self.runs if run.conditions == alike]
        once = self.point.is_cold or opened.counts
        self.inner = self.runs[0].inner if self.runs else 1 if once else policy.inner(opened.call_ns)

    def facts(self, lane: Lane) -> Params:
        """Return the facts of its runs: the lane's, and what its own session adds."""
        assert self.opened is not None
        return row_facts(lane.facts, self.opened, self.point.target.device)

    def burst(self, policy: Policy) -> Burst:
        """Return what is timed of it in a round."""
        if self.counts:
            return Burst(self.number, 0, 1)
        if self.point.is_cold:
            return Burst(self.number, 0, policy.cold_samples, cold=True)
        return Burst(self.number, policy.warmups, policy.samples(self.call_ns, self.inner), self.inner)

    def run(self, timing: Timing, burst: Burst, lane: Lane, sweep: str, round_: int, started_at: datetime) -> Run:
        """Return the run that a burst is."""
        assert self.opened is not None
        loaded = self.opened.loaded
        return Run(
            spec=self.point.spec,
            target=self.point.target,
            sweep=sweep,
            process=lane.worker.process,
            round=round_,
            wall_ns=timing.wall_ns,
            cpu_ns=timing.cpu_ns,
            inner=burst.inner,
            warmups=burst.warmups,
            reference_ns=0.0,
            started_at=started_at,
            facts=self.facts(lane),
            artifact_sha256=self.stored.artifact.sha256,
            load_ns=loaded.load_ns,
            compile_ns=loaded.compile_ns,
            peak_memory_bytes=self.opened.peak_memory_bytes,
        )

    def is_done(self, policy: Policy) -> bool:
        """Say whether it needs no further round."""
        return is_done(self.rounds, policy, self.point.is_cold, self.counts)

    def rounds_left(self, policy: Policy) -> int:
        """Guess how many rounds it needs still: its interval shrinks as 1/sqrt(rounds)."""
        have = len(self.runs)
        if self.counts:
            return max(1, COUNT_ROUNDS - have)
        if self.point.is_cold:
            return max(1, policy.cold_rounds - have)
        if have < 3:
            return policy.min_rounds - have
        needed = have * (half_width(self.rounds) / policy.half_width) ** 2
        return max(1, round(min(max(needed, policy.min_rounds), policy.max_rounds) - have))

    def entry(self, summary: Summary, lane: Lane, sweep: str, nominal_ns: float, emulated: bool) -> Entry:
        """Return what its runs come to; `nominal_ns` is the reference's nominal time where it was timed beside them."""
        artifact, latency = self.stored.artifact, summary.latency
        provenance: dict[str, Scalar] = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "sweep": sweep,
            "conditions": lane.conditions,
            "format": artifact.format,
            "artifact_sha256": artifact.sha256,
            "parity_error": artifact.parity_error,
        }
        if self.parity_error is not None:
            provenance["device_parity_error"] = self.parity_error
        if self.opened is not None and self.opened.loaded.ran_on:
            provenance["ran_on"] = self.opened.loaded.ran_on
        if summary.reference_ns:
            factor = nominal_ns / summary.reference_ns
            provenance |= {
                "raw_p10_ns": latency.p10_ns,
                "reference_ns": summary.reference_ns,
                "reference_factor": factor,
            }
            latency = at_nominal(latency, factor)
        emulated = emulated or self.counts or bool(lane.facts.get("emulated"))
        kind: EntryKind = "emulated" if emulated else "measured"
        return Entry(self.point.spec, self.point.target, latency, kind, Params(provenance))


def row_facts(lane: Mapping[str, Scalar], opened: Opened, device: str) -> Params:
    """Return the facts of a session's runs: its lane's, what it counts, where it ran, and how, where that is on another device."""
    loaded = opened.loaded
    own: dict[str, Scalar] = {} if is_local(device) and not loaded.ran_on else dict(loaded.facts)
    if opened.counts:
        own["clock"] = "instructions"
    if loaded.ran_on:
        own["ran_on"] = loaded.ran_on
    return Params({**lane, **own}) if own or not isinstance(lane, Params) else lane


def conditions_of(facts: Mapping[str, Scalar]) -> Params:
    """Return the facts that must be equal in runs that are pooled."""
    return Params({name: value for name, value in facts.items() if not name.startswith("observed_")})


def burst_s(call_ns: float, burst: Burst) -> float:
    """Return about how long a burst takes, in seconds."""
    return (burst.samples * burst.inner + burst.warmups) * call_ns / 1e9


def timeout_s(call_ns: float, bursts: Sequence[Burst]) -> float:
    """Return how long to wait for bursts, in seconds: a machine that is very busy is waited for."""
    return 60 + 50 * sum(burst_s(call_ns, burst) for burst in bursts)
