"""Pairs: a new and an older artifact of each point timed in the same rounds, each side in worker processes of its own.

Only what was timed within the same hundredths of a second is compared: the machine's drift, which moves a row by some percent
from one session to the next, is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from edgelut.errors import BackendMissing, EdgelutError, StorageError
from edgelut.jobs import BatchPoint, Closed
from edgelut.plan import Point, Policy
from edgelut.runs import RunStore
from edgelut.types import Run

from .artifacts import ArtifactStore, Stored
from .export_points import ExportPool, Turn
from .hosting import is_remote
from .lock import device_lock
from .observer import Observer
from .pair_rounds import Session
from .remote_pairs import RemoteSession
from .toolchains import Toolchains

GROUP_BYTES = 1 << 29  # of new artifacts held open at a time; the old ones are open beside them

Side: TypeAlias = Literal["new", "baseline"]
SIDES: tuple[Side, ...] = ("new", "baseline")


@dataclass(frozen=True, slots=True)
class Pairing:
    """How a session of pairs is cut up. Every figure was found by trying: docs/gate.md, "How a session is cut up".

    A generation is fresh processes for both sides: where memory comes to lie, a row keeps for the life of its process.
    """

    generations: int = 3
    rounds: int = 6  # of each generation
    burst_ns: int = 2_000_000  # of a side in a round: short, so that both sides see the same moment ...
    min_samples: int = 2
    max_samples: int = 6
    long_ns: int = 8_000_000  # ... and a call as long as this is taken once, without a warm-up

    @classmethod
    def of(cls, points: int) -> Pairing:
        """Return how that many points are cut up: few are measured in more rounds, for that costs little."""
        return cls(rounds=max(6, min(16, 128 // max(points, 1))))

    @property
    def total(self) -> int:
        """The rounds of a session."""
        return self.generations * self.rounds

    def burst(self, call_ns: float, inner: int) -> tuple[int, int]:
        """Return warm-up calls and samples of a side in one round, for a block whose call takes about `call_ns`."""
        if call_ns >= self.long_ns:
            return 0, 1
        return 1, max(self.min_samples, min(self.max_samples, int(self.burst_ns / max(call_ns * inner, 1.0))))


@dataclass(eq=False, slots=True)
class Match:
    """A point to be measured: its new artifact, and its baseline's where that is here."""

    item: BatchPoint
    stored: dict[Side, Stored]


@dataclass(slots=True)
class PairContext:
    """What the parts of one measuring share."""

    stores: dict[Side, RunStore]
    sweeps: dict[Side, str]
    policy: Policy
    pairing: Pairing
    observer: Observer
    environment: Path | None
    toolchains: Toolchains
    total: int
    keep: Sequence[int] = ()  # descriptors that every worker holds: the device's lock
    closed: dict[int, Closed] = field(default_factory=dict)

    def fail(self, item: BatchPoint, error: EdgelutError, side: Side = "new") -> None:
        """Remember why a point could not be measured."""
        reason = f"{'baseline: ' if side == 'baseline' else ''}{type(error).__name__}: {error}"
        self.closed[item.number] = Closed(item.number, "failed", reason)
        self.observer.failed(item.point, reason)

    def put(self, runs: Sequence[Run]) -> None:
        """Store a round, the baseline's side first; in one transaction where both sides have one store."""
        if self.stores["new"] is self.stores["baseline"]:
            self.stores["new"].put_runs(runs)
            return
        for side in reversed(SIDES):
            self.stores[side].put_runs([run for run in runs if run.sweep == self.sweeps[side]])


def run_pairs(
    points: Sequence[BatchPoint],
    store: RunStore,
    baseline_store: RunStore,
    sweep: str,
    baseline_sweep: str,
    home: Path,
    policy: Policy,
    *,
    pairing: Pairing | None = None,
    observer: Observer | None = None,
    environment: Path | None = None,
    exports: ExportPool | None = None,
    turn: Turn = nullcontext,
) -> list[Closed]:
    """Measure the points beside their baselines; return how each ended, `compared` or `failed` with a reason.

    Runs of the new artifacts are put into `store` as of `sweep`, those of the old ones into `baseline_store` as of
    `baseline_sweep`, both round by round; rounds that these sweeps hold already are not measured again. A point whose
    baseline's artifact is not in the artifacts of `home`, or that has no baseline, is measured on the new side only.
    `environment` is the Python interpreter that the baseline's side runs in, by default this one; `exports` and `turn` are as
    `run_sweep` has them. Of the policy count its seed, and how cold rows and short calls are sampled. Raises DeviceBusy,
    StorageError; what one point raises is its reason.
    """
    context = PairContext(
        {"new": store, "baseline": baseline_store},
        {"new": sweep, "baseline": baseline_sweep},
        policy,
        pairing or Pairing.of(len(points)),
        observer or Observer(),
        environment,
        Toolchains(home / "toolchains"),
        len(points),
    )
    with ExitStack() as stack:
        pool = exports or stack.enter_context(ExportPool(home / "artifacts"))
        matches = _matches(points, context, pool, turn)
    for device in sorted({match.item.point.target.device for match in matches}):
        with device_lock(home / "locks", device) as lock:
            context.keep = (lock,)
            for group in _groups([match for match in matches if match.item.point.target.device == device]):
                session = RemoteSession(context, group, turn) if is_remote(device) else Session(context, group)
                session.measure()
    return [context.closed[item.number] for item in points]


def _matches(points: Sequence[BatchPoint], context: PairContext, pool: ExportPool, turn: Turn) -> list[Match]:
    """Export the new artifacts and look up the old ones."""
    new: dict[int, Stored] = {}

    def done(index: int, stored: Stored, made: bool) -> None:
        new[index] = stored
        context.stores["new"].put_artifact(stored.artifact)
        context.observer.exported(len(new), len(points), points[index].point, made)

    def failed(index: int, error: EdgelutError) -> None:
        if isinstance(error, BackendMissing | StorageError):
            raise error  # no fault of this point: every other would fail by it
        context.fail(points[index], error)

    exported: list[Point] = [item.point for item in points]
    pool.export_all(exported, done, failed, turn)
    old = ArtifactStore(pool.root).by_hash({item.baseline.artifact_sha256 for item in points if item.baseline})
    matches = []
    for index, stored in sorted(new.items()):
        match = Match(points[index], {"new": stored})
        baseline = points[index].baseline
        if baseline is not None and baseline.artifact_sha256 in old:
            match.stored["baseline"] = old[baseline.artifact_sha256]
        matches.append(match)
    return matches


def _groups(matches: Sequence[Match]) -> Iterator[list[Match]]:
    """Cut the points into groups that memory can hold open together."""
    group: list[Match] = []
    size = 0
    for match in matches:
        more = match.stored["new"].artifact.size_bytes
        if group and size + more > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(match)
        size += more
    if group:
        yield group
