"""A claimed batch as a store of runs: what a sweep reads and writes goes to the service that gave the batch away.

At this boundary devices have two names: the backend's, by which a sweep knows them, and the one in the fleet, which is on the
wire and in the table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edgelut.errors import EdgelutError, LatencyNotFound
from edgelut.jobs import BatchPoint, Claim, Closed, Progress, Standing
from edgelut.runs import Failure, Sweep, SweepState
from edgelut.table import replaces
from edgelut.types import Artifact, BlockSpec, Entry, Run, Target

from .uplink import Outbox, ServiceAway, Spool, Uplink, spool_folder

TOLD_EVERY_S = 2.0  # progress that no round carries
LONGEST_REASON = 10_000
LARGE_S = 60.0  # for the answer that holds all runs of a batch

Key = tuple[BlockSpec, Target]


class BatchEnded(Exception):
    """A batch ends before its points do; the text says why. No fault of any point."""


class BatchLost(BatchEnded):
    """The service gave the batch to somebody else, or does not know it any more."""


class BatchCancelled(BatchEnded):
    """Nobody wants the batch any more."""


class BatchInterrupted(BatchEnded):
    """The agent is to stop."""


class BatchRefused(BatchEnded):
    """The service does not take what was measured."""


class BatchStore:
    """The RunStore of one claimed batch, and of its baseline's sweep.

    Obligations: what is put is on this host's disk when the call returns, and at the service as soon as that answers; nothing
    of a ServiceError reaches the sweep, which would take it for a point's own: a service that is away is waited for, and one
    that refuses ends the batch. Raises BatchEnded where the batch is not to go on. One thread uses it; `unwanted` and
    `interrupt` may come from others.
    """

    def __init__(self, claim: Claim, backend: str, uplink: Uplink, home: Path) -> None:
        self.claim = claim
        self.path = f"/batches/{claim.batch}"
        self._backend = backend
        self._uplink = uplink
        self._outbox = Outbox(uplink, Spool(spool_folder(home, uplink.url) / f"{claim.batch}.jsonl"), self.check)
        self._targets: dict[Target, Target] = {}
        self._numbers = {self._key(one): one.number for one in claim.points}
        self._rows: dict[
            Key, Entry | None
        ] = {}  # as they are at the service: only this batch changes rows of its device
        self._artifacts: dict[str, Artifact] = {}
        self._unsent: list[Artifact] = []
        self._known: list[Closed] = []
        self._failures: list[Failure] = []
        self._progress: Progress | None = None
        self._told_at = 0.0
        self._unwanted = threading.Event()
        self._stop_at: float | None = None

    # Of the batch

    def points(self) -> list[BatchPoint]:
        """Return the points by the names of this host."""
        return [
            replace(one, point=replace(one.point, target=self._local(one.point.target))) for one in self.claim.points
        ]

    @property
    def ended(self) -> bool:
        """Whether it was the service that wanted no more of the batch."""
        return self._outbox.state != "held" or self._unwanted.is_set()

    def unwanted(self) -> None:
        """Note that the service told another thread to stop this batch."""
        self._unwanted.set()

    def interrupt(self, within_s: float) -> None:
        """End the batch after the round in hand, or within that many seconds if the round lasts longer."""
        self._stop_at = time.monotonic() + within_s

    def check(self, *, in_round: bool = False) -> None:
        """Raise BatchEnded where the batch is not to go on; a round in hand may end in peace if only the agent is to stop."""
        if self._outbox.state == "lost":
            raise BatchLost("the service gave the batch to somebody else")
        if self._outbox.state == "cancelled":
            raise BatchCancelled("the job was cancelled")
        if self._unwanted.is_set():
            raise BatchEnded("the service told to stop")
        if self._stop_at is not None and not (in_round and time.monotonic() < self._stop_at):
            raise BatchInterrupted("the agent was stopped")

    def progress(self, progress: Progress) -> None:
        """Tell how far the batch is: with the next round, or by itself where that is long in coming."""
        self._progress = progress
        if time.monotonic() - self._told_at < TOLD_EVERY_S or self._uplink.reach.away or len(self._outbox):
            return
        self._told_at = time.monotonic()
        body = {"lease": self.claim.lease, "progress": progress}
        with suppress(ServiceAway, EdgelutError):  # the next message says what is wrong
            self._outbox.note(self._uplink.call(Standing, "POST", f"{self.path}/progress", body=body))

    def close_points(self, closed: Iterable[Closed]) -> None:
        """Close points that get no row of their own."""
        told = [replace(one, reason=one.reason[:LONGEST_REASON]) for one in closed]
        if told:
            self._put("closed", closed=told)

    def known(self, spec: BlockSpec, target: Target) -> None:
        """Close a point whose row is known, with the next message."""
        self._known.append(Closed(self._numbers[spec, target], "known"))

    def finish(self, interrupted: bool, reason: str = "", *, wait: bool = True) -> bool:
        """Give the batch back after all that waits was sent; return whether the service knows. Never raises BatchEnded."""
        body = {"lease": self.claim.lease, "interrupted": interrupted, "reason": reason[:LONGEST_REASON]}
        with suppress(BatchEnded, EdgelutError):
            self._send_kept()
            self._outbox.put(f"{self.path}/finish", body)
            self._outbox.flush(wait=wait)
        sent = not len(self._outbox)
        self._outbox.close()
        return sent

    # As a RunStore

    def start_sweep(self, plan_key: str, plan: Mapping[str, Any]) -> Sweep:
        """Return the sweep that the service has for this batch."""
        return Sweep(self.claim.sweep, plan_key, dict(plan), "running", datetime.now(UTC))

    def finish_sweep(self, sweep: str, state: SweepState) -> None:
        """Do nothing: a sweep ends with its batch."""

    def put_runs(self, runs: Sequence[Run]) -> None:
        """Send a round."""
        told = [replace(run, target=self._fleet(run.target)) for run in runs]
        sides = {
            "runs": [run for run in told if run.sweep != self.claim.baseline_sweep],
            "baseline_runs": [run for run in told if run.sweep == self.claim.baseline_sweep],
        }
        progress, self._progress = self._progress, None
        if progress is not None:
            self._told_at = time.monotonic()
        if told:
            self._put("runs", **sides, progress=progress)
        self.check()

    def runs(self, spec: BlockSpec, target: Target, sweep: str | None = None) -> list[Run]:
        """Return the runs that the batch has of a point."""
        sweeps = [sweep] if sweep is not None else [one for one in (self.claim.sweep, self.claim.baseline_sweep) if one]
        return [run for one in sweeps for run in self.sweep_runs(one) if (run.spec, run.target) == (spec, target)]

    def sweep_runs(self, sweep: str) -> list[Run]:
        """Return the runs of this batch's sweep, or of its baseline's; oldest first."""
        sides = {self.claim.baseline_sweep: "baseline", self.claim.sweep: "new"}
        if not sweep or sweep not in sides:
            return []
        found = self._ask(_Runs, "GET", f"{self.path}/runs", params={"side": sides[sweep]}, timeout=LARGE_S).runs
        return [replace(run, target=self._local(run.target)) for run in found]

    def put_failure(self, failure: Failure) -> None:
        """Close a point as failed; of a batch that is to end, nothing has failed: what it was measured with is being ended."""
        self.check()
        self._failures.append(failure)
        self.close_points([Closed(self._numbers[failure.spec, failure.target], "failed", failure.reason)])

    def failures(self, sweep: str) -> list[Failure]:
        """Return what failed since the batch was claimed."""
        return [failure for failure in self._failures if failure.sweep == sweep]

    def put_artifact(self, artifact: Artifact) -> None:
        """Keep an artifact's metadata for the next message."""
        if artifact.sha256 not in self._artifacts:
            self._artifacts[artifact.sha256] = artifact
            self._unsent.append(artifact)

    def find_artifact(self, sha256: str) -> Artifact | None:
        """Return the metadata of one of this batch's artifacts, or None."""
        return self._artifacts.get(sha256)

    def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Send rows; return for each whether it is now the current row, as far as can be told while the service is away."""
        told = [replace(entry, target=self._fleet(entry.target)) for entry in entries]
        before = {(entry.spec, entry.target): self._rows.get((entry.spec, entry.target)) for entry in entries}
        current = self._put("entries", entries=told)
        if len(current) != len(entries):
            current = [replaces(entry, before[entry.spec, entry.target]) for entry in entries]
        for entry, is_current in zip(entries, current, strict=True):
            if is_current:
                self._rows[entry.spec, entry.target] = entry
        self.check()
        return current

    def find_many(self, specs: Sequence[BlockSpec], target: Target) -> list[Entry | None]:
        """Return the current rows."""
        unknown = [spec for spec in dict.fromkeys(specs) if (spec, target) not in self._rows]
        if unknown:
            asked = {"specs": unknown, "target": self._fleet(target)}
            found = self._ask(_Rows, "POST", "/latency/batch", body=asked).entries
            if len(found) != len(unknown):
                raise BatchRefused(f"{self._uplink.url} answered {len(found)} rows to {len(unknown)} specs")
            for spec, row in zip(unknown, found, strict=True):
                self._rows[spec, target] = None if row is None else replace(row, spec=spec, target=target)
        return [self._rows[spec, target] for spec in specs]

    # Inside

    def _put(self, what: str, **body: Any) -> list[bool]:
        """Send a message; return what the answer says of rows. A refusal ends the batch."""
        self._send_kept()
        try:
            standing = self._outbox.put(f"{self.path}/{what}", {"lease": self.claim.lease, **body})
        except LatencyNotFound as error:
            raise BatchLost(str(error)) from None
        except EdgelutError as error:
            raise BatchRefused(f"the service refused {what}: {error}") from None
        return list(standing.current) if standing is not None else []

    def _send_kept(self) -> None:
        """Send what was kept for the next message."""
        artifacts, self._unsent = self._unsent, []
        known, self._known = self._known, []
        if artifacts:
            self._put("artifacts", artifacts=artifacts)
        if known:
            self._put("closed", closed=known)

    def _ask(self, type_: type[Any], method: str, path: str, **how: Any) -> Any:
        """Read something, waiting for a service that is away. What was put before is there when it is read."""
        while True:
            self.check()
            try:
                self._outbox.flush(wait=True)
                return self._uplink.call(type_, method, path, **how)
            except ServiceAway:
                self._uplink.reach.wait(0.2)
            except LatencyNotFound as error:
                raise BatchLost(str(error)) from None
            except EdgelutError as error:
                raise BatchRefused(f"the service refused {path}: {error}") from None

    def _key(self, one: BatchPoint) -> Key:
        return one.point.spec, self._local(one.point.target)

    def _local(self, target: Target) -> Target:
        return self._renamed(target, self.claim.device, self._backend)

    def _fleet(self, target: Target) -> Target:
        return self._renamed(target, self._backend, self.claim.device)

    def _renamed(self, target: Target, old: str, new: str) -> Target:
        """Return a target by another name of its device; a batch has one device."""
        if target.device != old:
            raise ValueError(f"{target} is not on {old}")
        if old == new:
            return target
        if target not in self._targets:
            self._targets[target] = replace(target, device=new)
        return self._targets[target]


class _Runs(msgspec.Struct, frozen=True):
    runs: list[Run]


class _Rows(msgspec.Struct, frozen=True):
    entries: list[Entry | None]
