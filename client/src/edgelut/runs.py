"""Where a sweep writes what it measures, as it measures it: held by SQL on one machine and by REST for an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from .types import Artifact, BlockSpec, Entry, Run, Target

SweepState: TypeAlias = Literal["running", "interrupted", "done"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """One request to measure a list of points. Sweeps of the same plan have the same `plan_key`."""

    id: str
    plan_key: str
    plan: Mapping[str, Any]  # JSON: what was asked, for people
    state: SweepState
    started_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A point that could not be measured, and why; stored, so that the sweep goes on."""

    sweep: str
    spec: BlockSpec
    target: Target
    reason: str
    at: datetime = field(compare=False)


class RunStore(Protocol):
    """Raw runs, sweeps, failures and artifacts' metadata.

    Obligations: everything put is durable when the call returns; putting the same run (sweep, process, spec, target, round)
    again changes nothing; times are UTC and aware; what is returned is frozen.
    """

    def start_sweep(self, plan_key: str, plan: Mapping[str, Any]) -> Sweep:
        """Return the newest unfinished sweep of that plan, now running; or a new one."""

    def finish_sweep(self, sweep: str, state: SweepState) -> None:
        """Record how a sweep ended."""

    def put_runs(self, runs: Sequence[Run]) -> None:
        """Store raw runs, all or none."""

    def runs(self, spec: BlockSpec, target: Target, sweep: str | None = None) -> list[Run]:
        """Return the raw runs of a spec on a target, oldest first; of one sweep where it is named."""

    def sweep_runs(self, sweep: str) -> list[Run]:
        """Return every run of a sweep, oldest first."""

    def put_failure(self, failure: Failure) -> None:
        """Store why a point of a sweep could not be measured."""

    def failures(self, sweep: str) -> list[Failure]:
        """Return a sweep's failures, oldest first."""

    def put_artifact(self, artifact: Artifact) -> None:
        """Store an artifact's metadata."""

    def find_artifact(self, sha256: str) -> Artifact | None:
        """Return an artifact's metadata by its canonical hash, or None."""

    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Store rows; as `LatencyTable.put_many`."""

    def find_many(self, specs: Sequence[BlockSpec], target: Target) -> list[Entry | None]:
        """Return the current rows; as `LatencySource.find_many`."""
