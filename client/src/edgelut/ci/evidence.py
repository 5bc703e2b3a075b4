"""From the runs of a comparing job to pairs for the gate, and from its verdict to the rows of a report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from edgelut import presets
from edgelut.gate import Pair, RowVerdict, Verdict
from edgelut.jobs import FleetDevice, Job, JobEvent, JobPoint, JobRequest
from edgelut.sequences import network_spec
from edgelut.types import BlockSpec, Params, Run, Target

from .config import Config
from .result import FailedPoint, Row, names

BESIDE = 8  # rows that are measured beside suspects: the median of so few still tells the factor that all rows share

Key = tuple[BlockSpec, Target]


class OnJob(Protocol):
    """Told whenever a job changed."""

    def __call__(self, job: Job, /) -> object:
        """Take a job."""


class OnEvent(Protocol):
    """Told each line of a job's log."""

    def __call__(self, event: JobEvent, /) -> object:
        """Take a line."""


class JobService(Protocol):
    """What of `HttpJobs` a build needs; tests give a fake."""

    url: str

    def submit(self, request: JobRequest, *, key: str = "") -> Job:
        """Submit a job."""

    def job(self, job_id: str) -> Job:
        """Return a job."""

    def points(self, job_id: str, *, state: str | None = None) -> list[JobPoint]:
        """Return a job's points."""

    def runs(self, job_id: str, points: Sequence[int] | None = None, *, baseline: bool = False) -> list[Run]:
        """Return the runs of a side."""

    def fleet(self) -> list[FleetDevice]:
        """Return the devices of all agents."""

    def cancel(self, job_id: str) -> Job:
        """Cancel a job."""

    def wait(
        self, job_id: str, on_job: OnJob | None = None, on_event: OnEvent | None = None, timeout_s: float | None = None
    ) -> Job:
        """Wait until a job has ended."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a comparing job measured."""

    job: Job
    pairs: tuple[Pair, ...]
    failures: tuple[FailedPoint, ...]


def fetch(jobs: JobService, job: Job, config: Config) -> Evidence:
    """Return the pairs of a job that has ended; raises ServiceError.

    For a point whose baseline could not be run again beside it the service gives the runs of the baseline's own session.
    """
    points = jobs.points(job.id)
    called = names(point.point.spec for point in points)
    failed = [point for point in points if point.state == "failed"]
    alive = [point for point in points if point.state != "failed"]
    numbers = [point.number for point in alive]
    new = _by_key(jobs.runs(job.id, numbers))
    old = _by_key(jobs.runs(job.id, numbers, baseline=True))
    pinned = _pinned(config)
    pairs = [
        Pair(
            point.point.spec,
            point.point.target,
            tuple(new[_key(point)]),
            tuple(old.get(_key(point), ())),
            interleaved=_is_interleaved(point, old.get(_key(point), ())),
            pinned=point.point.spec == pinned,
            tolerance=config.tolerances.of(point.point.spec),
        )
        for point in alive
    ]
    reasons = [
        FailedPoint(called[one.point.spec], one.point.target, one.reason or "no reason is known") for one in failed
    ]
    return Evidence(job, tuple(pairs), tuple(reasons))


def rows_of(verdict: Verdict, pairs: Sequence[Pair]) -> tuple[Row, ...]:
    """Return the rows of a verdict with their names and times."""
    called = names(row.spec for row in verdict.rows)
    by_key = {(pair.spec, pair.target): pair for pair in pairs}
    return tuple(_row(row, called[row.spec], by_key.get(row.key)) for row in verdict.rows)


def _row(verdict: RowVerdict, name: str, pair: Pair | None) -> Row:
    new, old = (typical_ns(pair.new), typical_ns(pair.baseline)) if pair is not None else (None, None)
    return Row(name, verdict, new, old, pair.new[-1].measure if pair is not None and pair.new else "time")


def typical_ns(runs: Iterable[Run]) -> float | None:
    """Return the median over rounds of the 10th percentile of a call, on the row's clock; None without runs.

    In nanoseconds; in instructions where that is what the runs count.
    """
    tenths = []
    for run in runs:
        raw = run.cpu_ns if run.target.threads == 1 and run.cpu_ns else run.wall_ns
        if raw:
            tenths.append(float(np.quantile(np.asarray(raw, dtype=np.float64) / run.inner, 0.1)))
    return float(np.median(tenths)) if tenths else None


def _is_interleaved(point: JobPoint, old: Sequence[Run]) -> bool:
    """Say whether the baseline's runs were made beside the new ones, and not in the sweep that the point names."""
    return bool(old) and point.baseline is not None and old[0].sweep != point.baseline.sweep


def _pinned(config: Config) -> BlockSpec | None:
    return network_spec(presets.whole(config.reference)) if config.reference else None


def _key(point: JobPoint) -> Key:
    return point.point.spec, point.point.target


def _by_key(runs: Iterable[Run]) -> dict[Key, list[Run]]:
    found: dict[Key, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.spec, run.target].append(run)
    return found


def suspects_request(request: JobRequest, verdict: Verdict) -> JobRequest:
    """Return a request for the suspects, and for some rows beside them that tell what all rows share in that session too."""
    suspects = verdict.suspects
    targets = {row.target for row in suspects}
    calm = [row for row in verdict.rows if row.outcome == "unchanged" and not row.pinned and row.target in targets]
    beside = sorted(calm, key=lambda row: row.high / row.low)[:BESIDE]
    return replace(
        only(request, [row.spec for row in (*suspects, *beside)]),
        devices=tuple(sorted({target.device for target in targets})),
        selector=Params(),
        runtimes=tuple(sorted({target.runtime for target in targets})),
        precisions=tuple(sorted({target.precision for target in targets})),
        threads=tuple(sorted({target.threads for target in targets})),
    )


def only(request: JobRequest, specs: Iterable[BlockSpec]) -> JobRequest:
    """Return the request for these blocks alone, each once."""
    none: dict[str, Any] = dict.fromkeys(("presets", "blocks", "widths", "widths_out", "resolutions", "networks"), ())
    return replace(request, **none, specs=tuple(dict.fromkeys(specs)), alone=True)
