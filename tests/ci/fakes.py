"""A service of jobs in memory, whose devices are as fast as a test says; and what its builds run in."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from edgelut.ci.config import Config, load
from edgelut.ci.flow import Flow
from edgelut.ci.progress import Progress
from edgelut.ci.result import Result
from edgelut.ci.surroundings import Surroundings
from edgelut.errors import Conflict, InvalidSpec, LatencyNotFound, ServiceError
from edgelut.jobs import Baseline, DeviceInfo, FleetDevice, Job, JobCounts, JobEvent, JobPoint, JobRequest
from edgelut.plan import Point
from edgelut.types import BlockSpec, Params, Run, Target

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GENERATIONS, ROUNDS = 4, 4
MAIN = Surroundings("main", "c0ffee" * 6, "run-1")
FEATURE = Surroundings("feature", "facade" * 6, "run-2", pull_request=True)


@dataclass
class FakeJobs:
    """Implements `JobService`: jobs end when somebody waits for them.

    `slow` is by how much the new artifact of a spec is slower in each comparing job in turn (the last goes on); `apart` are
    specs whose baseline cannot be run again; `broken` ones cannot be measured.
    """

    url: str = "http://fake"
    slow: Callable[[BlockSpec, int], float] = lambda spec, session: 1.0
    apart: frozenset[BlockSpec] = frozenset()
    broken: Mapping[BlockSpec, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ("host",)
    noise: float = 0.01
    never: bool = False  # no agent claims anything
    ends: str = "done"
    fails: Exception | None = None  # what waiting raises
    jobs_: list[Job] = field(default_factory=list)
    points_: dict[str, list[JobPoint]] = field(default_factory=dict)
    runs_: dict[tuple[str, bool], list[Run]] = field(default_factory=dict)
    keys: dict[str, Job] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    comparisons: int = 0
    late: int = 0  # looks at the fleet until its devices are there
    looks: int = 0

    def submit(self, request: JobRequest, *, key: str = "") -> Job:
        if key in self.keys:
            if self.keys[key].request.key != request.key:
                raise Conflict("that key is of another request")
            return self.job(self.keys[key].id)
        for device in request.devices:
            if device not in self.devices:
                raise InvalidSpec(f"no device {device!r}; there are {', '.join(self.devices)}")
        earlier = self._baseline(request) if request.baseline else None
        number = len(self.jobs_) + 1
        job = Job(
            f"job{number}",
            "queued",
            request,
            JobCounts(open=1),
            START + timedelta(minutes=number),
            devices=request.devices,
            baseline_job=earlier.id if earlier is not None else "",
        )
        self.jobs_.append(job)
        self.keys[key] = job
        self.points_[job.id] = list(self._plan(job, earlier))
        return job

    def _baseline(self, request: JobRequest) -> Job:
        kind, _, name = request.baseline.partition(":")
        for job in reversed(self.jobs_):
            same = job.request.name == request.name and job.state == "done"
            if (
                (kind == "previous" and same)
                or (kind == "branch" and same and job.request.labels.get("branch") == name)
                or (kind == "job" and job.id == name)
            ):
                return job
        raise LatencyNotFound(f"no job {request.name!r} with {request.baseline} has been done before")

    def _plan(self, job: Job, earlier: Job | None) -> Iterator[JobPoint]:
        asked = job.request
        had = {(one.point.spec, one.point.target): one for one in self.points_[earlier.id]} if earlier else {}
        targets = [
            Target(device, runtime, precision, threads)
            for device in asked.devices
            for runtime in asked.runtimes
            for precision in asked.precisions
            for threads in asked.threads
        ]
        number = 0
        for spec in asked.blocks_asked():
            for target in targets:
                before = had.get((spec, target))
                baseline = Baseline("ab" * 32, before.sweep) if before is not None else None
                point = Point(spec, target, "onnx")
                yield JobPoint(number, point, "open", "batch", f"sweep-{job.id}", baseline=baseline)
                number += 1

    def job(self, job_id: str) -> Job:
        for job in self.jobs_:
            if job.id == job_id:
                return job
        raise LatencyNotFound(f"no job {job_id}")

    def points(self, job_id: str, *, state: str | None = None) -> list[JobPoint]:
        return [point for point in self.points_[job_id] if state in (None, point.state)]

    def runs(self, job_id: str, points: Sequence[int] | None = None, *, baseline: bool = False) -> list[Run]:
        wanted = {
            (one.point.spec, one.point.target) for one in self.points_[job_id] if points is None or one.number in points
        }
        found = [run for run in self.runs_.get((job_id, baseline), []) if (run.spec, run.target) in wanted]
        if baseline:  # of points that have none beside them: the earlier ones
            beside = {(run.spec, run.target) for run in found}
            earlier = {
                (one.point.spec, one.point.target): one.baseline.sweep
                for one in self.points_[job_id]
                if one.baseline is not None and (one.point.spec, one.point.target) in wanted - beside
            }
            all_runs = [run for runs in self.runs_.values() for run in runs]
            found += [run for run in all_runs if earlier.get((run.spec, run.target)) == run.sweep]
        return found

    def fleet(self) -> list[FleetDevice]:
        self.looks += 1
        state: Literal["idle", "away"] = "idle" if self.looks > self.late else "away"
        return [FleetDevice(DeviceInfo(name), "agent", state, START) for name in self.devices]

    def cancel(self, job_id: str) -> Job:
        self.cancelled.append(job_id)
        return self._now(replace(self.job(job_id), state="cancelled"))

    def wait(
        self,
        job_id: str,
        on_job: Callable[[Job], object] | None = None,
        on_event: Callable[[JobEvent], object] | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        job = self.job(job_id)
        if self.fails is not None:
            raise self.fails
        if on_job is not None:
            on_job(job)
        if self.never:
            raise ServiceError("it did not end", problem="timeout")
        if job.state != "queued":
            return job
        if self.ends == "cancelled":
            return self._now(replace(job, state="cancelled"))
        self._measure(job)
        found = self.points_[job_id]
        failed = sum(point.state == "failed" for point in found)
        for point in found:
            if point.state == "failed" and on_event is not None:
                on_event(JobEvent(1, START, "error", f"{point.point} failed: {point.reason}"))
        well = len(found) - failed
        counts = (
            JobCounts(compared=well, failed=failed) if job.request.baseline else JobCounts(measured=well, failed=failed)
        )
        return self._now(replace(job, state="done", points=counts, started_at=START, finished_at=START))

    def _measure(self, job: Job) -> None:
        session = self.comparisons
        self.comparisons += bool(job.request.baseline)
        chance = random.Random(len(self.jobs_))
        for place, point in enumerate(self.points_[job.id]):
            spec = point.point.spec
            if spec in self.broken:
                self.points_[job.id][place] = replace(point, state="failed", reason=self.broken[spec])
                continue
            factor = self.slow(spec, session) if job.request.baseline else 1.0
            self.runs_.setdefault((job.id, False), []).extend(self._runs(point, point.sweep, "new", factor, chance))
            if job.request.baseline and point.baseline is not None and spec not in self.apart:
                self.runs_.setdefault((job.id, True), []).extend(
                    self._runs(point, f"{point.sweep}-baseline", "old", 1.0, chance)
                )
            state = "compared" if job.request.baseline else "measured"
            self.points_[job.id][place] = replace(point, state=state)

    def _runs(self, point: JobPoint, sweep: str, side: str, factor: float, chance: random.Random) -> Iterator[Run]:
        spec, target = point.point.spec, point.point.target
        for generation in range(GENERATIONS):
            own = chance.gauss(0, self.noise)
            for round_ in range(ROUNDS):
                number = generation * ROUNDS + round_
                centre = 1e4 * spec.width_in * factor * (1 + own)
                samples = tuple(int(centre * (1 + abs(chance.gauss(0, 0.005)))) for _ in range(8))
                process = f"{side}-{sweep}-{generation}"
                at = START + timedelta(seconds=number)
                yield Run(spec, target, sweep, process, number, samples, samples, 1, 2, 8e5, at, Params({"cpu": "x"}))

    def _now(self, job: Job) -> Job:
        self.jobs_ = [job if one.id == job.id else one for one in self.jobs_]
        return job


def run(
    jobs: FakeJobs, config: Config, surroundings: Surroundings = FEATURE, *, allow_no_baseline: bool = False
) -> Result:
    """Run one build."""
    return Flow(jobs, config, surroundings, Progress(io.StringIO()), allow_no_baseline).run()


def configured(folder: Path, text: str) -> Config:
    """Return the configuration that a text is."""
    file = folder / "edgelut-ci.yaml"
    file.write_text(text)
    return load(file)
