"""What came of a build's gate, as its reports tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

from edgelut import presets
from edgelut.efficientformer import CONFIGS
from edgelut.gate import GatePolicy, Outcome, RowOutcome, RowVerdict
from edgelut.sequences import label, network_spec
from edgelut.types import BlockSpec, Measure, Target

PASSED, REGRESSION, UNDECIDED = 0, 1, 2
EXIT_CODES: dict[Outcome, int] = {"passed": PASSED, "regression": REGRESSION, "unclear": UNDECIDED}
ORDER: tuple[RowOutcome, ...] = ("regression", "unclear", "doubtful", "new", "improvement", "unchanged")
LONGEST_LABEL = 60

T = TypeVar("T")
Purpose: TypeAlias = Literal["compare", "confirm", "record", "self-test"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a build. `name` tells it apart from the build's other rows; times are what the processor did in one call.

    Where `measure` is `instructions`, both hold the instructions of one call instead.
    """

    name: str
    verdict: RowVerdict
    new_ns: float | None = None
    old_ns: float | None = None
    measure: Measure = "time"

    @property
    def tolerance(self) -> float:
        """By how much it may be slower."""
        return self.verdict.tolerance

    @property
    def outcome(self) -> RowOutcome:
        """What the gate says of it."""
        return self.verdict.outcome


@dataclass(frozen=True, slots=True)
class FailedPoint:
    """A point that could not be measured, and why."""

    name: str
    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class JobLink:
    """A job of the build, and where the service tells of it."""

    purpose: Purpose
    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a build. `reason` says why in a sentence, `notes` what else there is to know."""

    outcome: Outcome
    exit_code: int
    reason: str
    name: str
    started_at: datetime
    seconds: float = 0.0
    baseline: str = ""
    baseline_job: str = ""
    branch: str = ""
    commit: str = ""
    rows: tuple[Row, ...] = ()
    failures: tuple[FailedPoint, ...] = ()
    jobs: tuple[JobLink, ...] = ()
    common: float | None = None  # the factor that all rows shared, and that was removed; None: nothing was compared
    uniform: Row | None = None  # the pinned network
    reference: str = ""
    confirmed: bool = False  # a second session measured the suspects again
    policy: GatePolicy = field(default_factory=GatePolicy)
    notes: tuple[str, ...] = ()

    @property
    def interleaved(self) -> tuple[int, int]:
        """How many of the compared rows were measured beside their baseline, and how many were compared."""
        compared = [row for row in self.rows if row.outcome != "new"]
        return sum(row.verdict.interleaved for row in compared), len(compared)

    def of(self, *outcomes: RowOutcome) -> list[Row]:
        """Return the rows with these outcomes, the slowest first."""
        found = [row for row in self.rows if row.outcome in outcomes]
        return sorted(found, key=lambda row: (ORDER.index(row.outcome), -_known(row.verdict.ratio), row.name))

    def counts(self) -> str:
        """Return how many rows came to what: `2 regression, 19 unchanged`."""
        counted = Counter(row.outcome for row in self.rows)
        return ", ".join(f"{counted[outcome]} {outcome}" for outcome in ORDER if counted[outcome])


def headline(result: Result) -> str:
    """Return the verdict in one sentence."""
    words = {"passed": "passed", "regression": "regression", "unclear": "could not tell"}
    return f"{words[result.outcome]}: {result.reason}"


def names(specs: Iterable[BlockSpec]) -> dict[BlockSpec, str]:
    """Return what to call each spec: its label; with parameters where two would have the same name."""
    unique = list(dict.fromkeys(specs))
    plain = {spec: _name(spec) for spec in unique}
    counted = Counter(plain.values())
    found = {}
    for number, spec in enumerate(unique):
        name = plain[spec]
        if counted[name] > 1:
            params = ",".join(f"{key}={value}" for key, value in spec.params.items())
            name = f"{name} {{{_cut(params)}}}" if params else f"{name} #{number + 1}"
        found[spec] = name
    return found


def _name(spec: BlockSpec) -> str:
    if spec.kind == "network":
        known = {network_spec(network): network.name for network in map(presets.whole, CONFIGS)}
        if spec in known:
            return f"{known[spec]} whole"
    return _cut(label(spec))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[:LONGEST_LABEL]}…"


def _known(ratio: float) -> float:
    return ratio if ratio == ratio else 0.0


def lines_of(rows: Sequence[T], most: int) -> tuple[Sequence[T], int]:
    """Return the rows that are shown and how many are not."""
    return rows[:most], max(0, len(rows) - most)
