"""The flow of a build: a comparing job, the gate, a second job for the suspects, and a job that fills the table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from edgelut.errors import EdgelutError, LatencyNotFound, ServiceError
from edgelut.gate import GatePolicy, Outcome, Verdict, confirm, judge
from edgelut.jobs import Job, JobRequest

from .config import Config
from .evidence import Evidence, JobService, fetch, rows_of, suspects_request
from .progress import Progress, duration
from .result import EXIT_CODES, JobLink, Purpose, Result, Row
from .surroundings import Surroundings

POLL_S = 0.5  # between two looks at the fleet


class _NoBaseline(EdgelutError):
    """The service has nothing to compare with."""


@dataclass(slots=True)
class Flow:
    """One build. `run` never raises what a service or a device does wrong: that is a result, "could not tell".

    Jobs that are not wanted any more (a timeout, Ctrl-C) are cancelled, so that they hold no device.
    """

    jobs: JobService
    config: Config
    surroundings: Surroundings
    progress: Progress
    allow_no_baseline: bool = False
    wait_for_devices_s: float = 0.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _links: list[JobLink] = field(default_factory=list, init=False)
    _notes: list[str] = field(default_factory=list, init=False)
    _started: float = field(default=0.0, init=False)
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)

    def run(self) -> Result:
        """Return what came of the build."""
        self._started = self.clock()
        try:
            return self._decide()
        except EdgelutError as error:
            return self._result("unclear", str(error))
        finally:
            self.progress.end()

    @property
    def recording(self) -> bool:
        """Whether this build's runs fill the table."""
        own = self.surroundings
        return bool(self.config.record_on) and own.branch == self.config.record_on and not own.pull_request

    def _decide(self) -> Result:
        self.await_devices()
        try:
            job = self.measure("compare", self.config.request, self.config.baseline)
        except _NoBaseline as error:
            return self._first(str(error))
        evidence = fetch(self.jobs, job, self.config)
        verdict = judge_rows(evidence, self.config)
        confirmed = False
        if verdict.suspects and self.config.confirm:
            verdict, confirmed = self._confirm(job, verdict)
        result = self._told(evidence, verdict, confirmed)
        if self.recording:
            self._record()
        return replace(result, jobs=tuple(self._links), notes=tuple(self._notes), seconds=self.clock() - self._started)

    def measure(self, purpose: Purpose, request: JobRequest, baseline: str, *, part: str = "") -> Job:
        """Return a job that has ended well; raise ServiceError for one that has not, in words for the report.

        `part` tells jobs of one purpose apart.
        """
        series = self.config.name if purpose in ("compare", "record") else f"{self.config.name} ({purpose})"
        labelled = replace(request, name=series, baseline=baseline, labels=self.surroundings.labels(purpose))
        key = self.surroundings.key(self.config.key, purpose, part, labelled.key)
        if purpose == "self-test":
            self._started = self.clock()  # each of its jobs has the whole time
        self.progress.begin(f"{self.config.name}: {TITLES[purpose]}")
        try:
            job = self.jobs.submit(labelled, key=key)
        except LatencyNotFound as error:
            raise _NoBaseline(str(error)) from error
        try:
            self._links.append(JobLink(purpose, job.id, f"{self.jobs.url}/jobs/{job.id}"))
            self.progress.say(f"job {job.id} on {', '.join(job.devices) or 'no device yet'}: {self._links[-1].url}")
            job = self.jobs.wait(job.id, self.progress.job, self.progress.event, self._left_s())
        except ServiceError as error:
            if error.problem != "timeout":
                raise
            self._cancel(job.id)
            raise ServiceError(self._late(job.id), problem="timeout") from error
        except BaseException:
            self._cancel(job.id)
            raise
        self.progress.end()
        if job.state == "cancelled":
            raise ServiceError(f"job {job.id} was cancelled", problem="cancelled")
        return job

    def await_devices(self) -> None:
        """Wait until an agent has announced the devices; what is then still missing is told when the job is submitted."""
        if not self.wait_for_devices_s:
            return
        wanted = set(self.config.request.devices)
        self.progress.begin(f"{self.config.name}: waiting for {', '.join(sorted(wanted)) or 'a device'}")
        deadline = self.clock() + self.wait_for_devices_s
        while True:
            there = {device.info.name for device in self.jobs.fleet() if device.state in ("idle", "measuring")}
            if (wanted <= there and there) or self.clock() >= deadline:
                return
            self.sleep(POLL_S)

    def _left_s(self) -> float:
        return max(1.0, self.config.timeout_s - (self.clock() - self._started))

    def _late(self, job_id: str) -> str:
        """Say how far a job came in the time that it had, and what it was waiting for."""
        text = f"job {job_id} did not end within {duration(self.config.timeout_s)} ('timeout') and was cancelled"
        try:
            job = self.jobs.job(job_id)
        except EdgelutError:
            return text
        if job.started_at is None:
            devices = ", ".join(job.devices)
            return f"{text}; no agent ever claimed it: is one running for {devices}? 'edgelut fleet' lists them"
        done = job.points.measured + job.points.compared + job.points.known
        return f"{text}; {done} of {job.points.total} rows were measured by then"

    def _cancel(self, job_id: str) -> None:
        try:
            self.jobs.cancel(job_id)
        except EdgelutError as error:
            self.progress.say(f"job {job_id} could not be cancelled: {error}")

    def _confirm(self, first: Job, verdict: Verdict) -> tuple[Verdict, bool]:
        """Return the verdict of two sessions, and whether there were two.

        A regression that cannot be measured again is neither told nor passed: ServiceError. What was only suspected passes.
        """
        count = len(verdict.suspects)
        told = f"{count} rows look" if count > 1 else "1 row looks"
        self.progress.say(f"{told} slower: a second session decides")
        request = suspects_request(self.config.request, verdict)
        baseline = f"job:{first.baseline_job}" if first.baseline_job else self.config.baseline
        try:
            job = self.measure("confirm", request, baseline)
            second = judge_rows(fetch(self.jobs, job, self.config), self.config)
        except EdgelutError as error:
            text = f"{told} slower, but could not be measured again: {error}"
            if verdict.outcome == "regression":
                raise ServiceError(text) from error
            self._notes.append(text)
            return verdict, False
        return confirm(verdict, second), True

    def _first(self, said: str) -> Result:
        """Establish the baseline, where this build may; say what to do, where it may not."""
        kind, _, name = self.config.baseline.partition(":")
        becomes = kind == "previous" or (kind == "branch" and name == self.surroundings.branch)
        if kind in ("job", "mark") or not (self.allow_no_baseline or (self.recording and becomes)):
            return self._result("unclear", f"{said}; {self._advice(kind, name)}")
        if not becomes:
            return self._result("passed", f"there is no baseline yet, and only a build of {name!r} can become it")
        self._record(must=True)
        return self._result("passed", "there was nothing to compare with; this build is the baseline of those to come")

    def _advice(self, kind: str, name: str) -> str:
        if kind == "mark":
            return "'edgelut marks' lists the marks"
        if kind == "job":
            return "'edgelut jobs' lists the jobs"
        where = f"a build of the branch {name!r}" if kind == "branch" else "an earlier build"
        return f"{where} must come first, or --allow-no-baseline lets the first one pass"

    def _record(self, *, must: bool = False) -> None:
        """Fill the table. Where that is all that is left to do, its failure changes no verdict."""
        request = self.config.recorded
        try:
            job = self.measure("record", request, "")
        except EdgelutError as error:
            if must:
                raise
            self._notes.append(f"the table was not filled: {error}")
            return
        if job.points.failed:
            if must and job.points.failed == job.points.total:
                raise ServiceError(f"none of the {job.points.total} points of job {job.id} could be measured")
            self._notes.append(
                f"{job.points.failed} of {job.points.total} points of job {job.id} could not be measured"
            )

    def _told(self, evidence: Evidence, verdict: Verdict, confirmed: bool) -> Result:
        rows = rows_of(verdict, evidence.pairs)
        outcome, reason = _outcome(verdict, rows, evidence, confirmed)
        uniform = verdict.uniform
        return replace(
            self._result(outcome, reason),
            rows=rows,
            failures=evidence.failures,
            baseline_job=evidence.job.baseline_job,
            common=verdict.common if any(not math.isnan(row.ratio) for row in verdict.rows) else None,
            uniform=next((row for row in rows if uniform is not None and row.verdict == uniform), None),
            confirmed=confirmed,
            policy=verdict.policy,
        )

    def _result(self, outcome: Outcome, reason: str) -> Result:
        return Result(
            outcome,
            EXIT_CODES[outcome],
            reason,
            self.config.name,
            self._started_at,
            seconds=self.clock() - self._started,
            baseline=self.config.baseline,
            branch=self.surroundings.branch,
            commit=self.surroundings.commit,
            jobs=tuple(self._links),
            reference=self.config.reference,
            policy=policy_of(self.config),
            notes=tuple(self._notes),
        )


TITLES: dict[Purpose, str] = {
    "compare": "comparing with the baseline",
    "confirm": "measuring the suspects again",
    "record": "filling the table",
    "self-test": "comparing the baseline with itself",
}


def judge_rows(evidence: Evidence, config: Config) -> Verdict:
    """Return the gate's verdict on what was measured."""
    return judge(evidence.pairs, policy_of(config))


def policy_of(config: Config) -> GatePolicy:
    """Return what a configuration declares to the gate."""
    return GatePolicy(config.tolerances.default, config.fdr)


def _outcome(verdict: Verdict, rows: Sequence[Row], evidence: Evidence, confirmed: bool) -> tuple[Outcome, str]:
    """Return the outcome of a build and why: what could not be measured is not passed, what is doubtful does not fail."""
    slower = [row for row in rows if row.outcome == "regression"]
    if verdict.outcome == "regression":
        return "regression", _slower(slower, confirmed) if slower else verdict.reason
    if evidence.failures:
        named = ", ".join(one.name for one in evidence.failures[:3])
        total = len(rows) + len(evidence.failures)
        return (
            "unclear",
            f"{len(evidence.failures)} of {total} rows could not be measured ({named}): {evidence.failures[0].reason}",
        )
    if verdict.outcome == "unclear":
        return "unclear", verdict.reason or "no row could be judged"
    return "passed", f"none of {len(rows)} rows is slower than its tolerance allows"


def _slower(rows: Sequence[Row], confirmed: bool) -> str:
    """Say what is slower; a pinned network tells that everything is, where the rows by themselves do not."""
    worst = max(rows, key=lambda row: (row.verdict.pinned, row.verdict.ratio))
    times = f"{worst.name} takes {worst.verdict.ratio:.2f} times as long"
    twice = " in both sessions" if confirmed else ""
    if worst.verdict.pinned:
        return f"everything is slower than the tolerance allows{twice}: {times}"
    count = f"{len(rows)} rows are" if len(rows) > 1 else "1 row is"
    return f"{count} slower than the tolerance allows{twice}: {times}"
