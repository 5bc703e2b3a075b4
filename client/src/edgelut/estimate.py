"""Latencies of blocks that were not measured, from those of the same target that were, with intervals that were tried out.

A Gaussian process for each kind of block learns the logarithm of p10 from what its rows are like (`features`, `gp`). How wide an
interval must be is not taken from it but from rows left out: one by one for blocks at values that rows have, a whole value (all
rows of a width, of a resolution) for blocks between values, the outer values for blocks beyond them. So an estimate far from
the rows says a wide interval, and one that would say nothing is refused.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .errors import InvalidSpec, NotEstimable, UnlikeMeasures
from .features import Encoder, Gap, Unlike
from .gp import MOST_ROWS, Floats, Process
from .sequences import REFERENCE, SEQUENCES
from .types import BlockSpec, Entry, EntryKind, Latency, Params, Target

LEAST_ROWS = 5  # of a kind
LEVEL = 0.95  # of intervals, as everywhere
WIDEST = 0.5  # half-width, relative, from which on an estimate is refused
DOUBTFUL = 0.1  # half-width from which on it says so
FEW_TRIED = 20  # rows left out, below which what was learnt from them is a guess
MANY_GROUPS = 4  # of rows that are left out together, from which on their scores are pooled
UNTRIED = 3.0  # deviations, where no row could be left out
LEAST_DEVIATIONS = 1.0
NEIGHBOURS_ERROR = 0.05  # of what blocks beside one cost, in the difference that says what it adds
MOST_UNLIKE = 8.0
VERSION = 1  # of the method: part of every estimate's provenance
IN_NETWORKS = {"slope_ns": "its slope", "context_ns": "what it adds in a network"}  # what sums go by
DERIVED = ("p50_ns", "p90_ns", "slope_ns", "context_ns", "cold_ns")  # estimated as shares of p10


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened to rows left out: how many, their median error and the share within 10 %, and how wide intervals must be.

    `deviations` is by how many of the process's standard deviations LEVEL of them were off; `reach` how far beyond the others
    the left out were, as a logarithm.
    """

    rows: int
    median_error: float
    within_10: float
    deviations: float
    reach: float = 0.0


@dataclass(frozen=True, slots=True)
class Guess:
    """What a block's latency is taken to be, which gaps it is in, and the trial that its interval goes by.

    `halves` has the half-widths of slope and context at 95 %, by the names that provenance has them under (`half_name`).
    """

    latency: Latency
    gaps: tuple[Gap, ...]
    trial: Trial
    halves: Mapping[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> EntryKind:
        """`predicted` beyond the rows, else `interpolated`."""
        return "predicted" if any(gap.is_beyond for gap in self.gaps) else "interpolated"

    @property
    def half_width(self) -> float:
        """The larger half of its interval, relative."""
        return self.latency.high_ns / self.latency.p10_ns - 1


class KindEstimator:
    """Estimates blocks of one kind on one target. Raises InvalidSpec for fewer than LEAST_ROWS rows."""

    def __init__(self, rows: Sequence[Entry], seed: int = 0) -> None:
        if len(rows) < LEAST_ROWS:
            raise InvalidSpec(f"{len(rows)} rows of a kind: an estimate needs {LEAST_ROWS}")
        ordered = sorted(rows, key=lambda entry: entry.spec.key)
        self.rows = tuple(ordered)
        if len(ordered) > MOST_ROWS:  # what a process would leave out by itself is left out of the trials too
            kept = np.sort(np.random.default_rng(seed).permutation(len(ordered))[:MOST_ROWS])
            ordered = [ordered[place] for place in kept]
        self._specs = [entry.spec for entry in ordered]
        self._encoder = Encoder(self._specs)
        x = self._encoder.encode(self._specs)
        p10 = np.array([entry.latency.p10_ns for entry in ordered])
        self._process = Process(x, np.log(p10), self._encoder.trend, seed=seed)
        self._shares = {name: share for name in DERIVED if (share := _share(name, ordered, x, self._encoder.trend))}
        self._clock = Counter(entry.latency.clock for entry in ordered).most_common(1)[0][0]
        doubtful = sum(not entry.latency.stable for entry in ordered)
        much = doubtful > len(ordered) / 2
        self._inherited = (f"{doubtful} of the {len(ordered)} rows that it goes by are in doubt",) if much else ()
        self._tried: dict[Gap, Trial] = {}
        self.trial = sum_up([self._process.left_out([group]) for group in self._encoder.alone(len(ordered))])

    def why_not(self, spec: BlockSpec) -> str:
        """Say why a block has nothing to do with the rows; empty where it has."""
        try:
            self._encoder.gaps(spec)
        except Unlike as unlike:
            return unlike.why
        return ""

    def estimate(self, specs: Sequence[BlockSpec]) -> list[Guess]:
        """Return what each block's latency is taken to be; raise Unlike for one that has nothing to do with the rows."""
        gaps = [tuple(self._encoder.gaps(spec)) for spec in specs]
        x = self._encoder.encode(specs)
        mean, deviation = self._process.predict(x)
        shares = {name: share.at(x) for name, share in self._shares.items()}
        found = []
        for number, own in enumerate(gaps):
            trial = self._hardest(own)
            half = float(deviation[number] * trial.deviations)
            latency = self._latency(
                float(mean[number]), half, {name: float(at[number]) for name, (at, _) in shares.items()}
            )
            off = {name: float(by[number]) for name, (_, by) in shares.items()}
            doubted = replace(latency, doubts=(*_doubts(latency, trial, off), *self._inherited))
            found.append(Guess(doubted, own, trial, _halves(latency, off)))
        return found

    def tried(self, gap: Gap) -> Trial:
        """Return what happened to rows that were left out as blocks in such a gap lack theirs."""
        if gap not in self._tried:
            groups, reach = self._encoder.groups(self._specs, gap)
            self._tried[gap] = replace(sum_up([self._process.left_out([group]) for group in groups]), reach=reach)
        return self._tried[gap]

    def all_trials(self) -> Iterator[tuple[str, Trial]]:
        """Iterate over how rows were left out, in words, and what happened: one by one, and by each field and side."""
        yield "one by one", self.trial
        for gap in self._encoder.all_gaps():
            trial = self.tried(gap)
            if trial.rows:
                yield f"{gap.side} in {gap.name}" if gap.is_beyond else f"a {gap.name} between", trial

    def _hardest(self, gaps: Sequence[Gap]) -> Trial:
        """Return the trial that makes the widest interval; one that reaches less far than its gap counts for more."""
        trials = [self.trial]
        for gap in gaps:
            trial = self.tried(gap)
            further = max(gap.reach / trial.reach, 1.0) if trial.reach else 1.0
            trials.append(replace(trial, deviations=trial.deviations * further))
        return max(trials, key=lambda trial: trial.deviations)

    def _latency(self, mean: float, half: float, shares: dict[str, float]) -> Latency:
        p10, low, high = (math.exp(mean + side * half) for side in (0, -1, 1))
        p50 = p10 * max(shares.pop("p50_ns", 1.0), 1.0)
        p90 = max(p10 * shares.pop("p90_ns", 1.0), p50)
        derived: dict[str, Any] = {name: share * p10 for name, share in shares.items()}
        return replace(Latency(p10, p50, p90, low, high, 0, 0, self._clock), **derived)


def _doubts(latency: Latency, trial: Trial, off: Mapping[str, float]) -> Iterator[str]:
    """Say what speaks against an estimate; `off` is the half-widths of the derived figures, in p10."""
    half = latency.high_ns / latency.p10_ns - 1
    if half > DOUBTFUL:
        yield f"estimated to {half:.0%} only"
    if trial.rows < FEW_TRIED:
        yield f"{trial.rows or 'no'} rows could be left out to try such an estimate"
    for name, what in IN_NETWORKS.items():
        value = getattr(latency, name)
        if value is not None and off[name] * latency.p10_ns > DOUBTFUL * abs(value):
            yield f"{what} of {value / 1e6:.3g} ms is estimated to {off[name] * latency.p10_ns / 1e6:.2g} ms only"


def half_name(name: str) -> str:
    """Return under which name provenance has the half-width of a figure: `slope_half_ns` of `slope_ns`."""
    return name.removesuffix("_ns") + "_half_ns"


def _halves(latency: Latency, off: Mapping[str, float]) -> dict[str, float]:
    """Return the half-widths of what sums go by: it is a share of p10, and both are off, each by an error of its own."""
    half = latency.high_ns - latency.p10_ns
    return {
        half_name(name): math.hypot(off[name] * latency.p10_ns, value / latency.p10_ns * half)
        for name in IN_NETWORKS
        if (value := getattr(latency, name)) is not None
    }


def _share(name: str, rows: Sequence[Entry], x: Floats, trend: int) -> _Share | None:
    """Return what learns one of the derived figures, None where too few rows have it."""
    values = np.array([np.nan if (value := getattr(entry.latency, name)) is None else value for entry in rows], float)
    has = np.isfinite(values)
    if has.sum() < LEAST_ROWS:
        return None
    shares = values[has] / np.array([entry.latency.p10_ns for entry in rows])[has]
    known = np.array([context_error(entry.spec) for entry in rows])[has] if name == "context_ns" else None
    return _Share(x[has], shares, None if known is None else known**2, trend)


def context_error(spec: BlockSpec) -> float:
    """Return about how far off a context is, in p10: it is a difference of chains, whose neighbours cost by the widths' squares."""
    unlike = max(spec.width_in, spec.width_out) / min(spec.width_in, spec.width_out)
    return NEIGHBOURS_ERROR * min(unlike, MOST_UNLIKE)


class _Share:
    """A figure as a share of p10, such as the slope's: it varies little, and may be below zero."""

    def __init__(self, x: Floats, shares: Floats, known: Floats | None, trend: int) -> None:
        self._process = Process(x, shares, trend, known=known, trend_scale=0.1)
        self._least, self._most = float(shares.min()), float(shares.max())
        self._deviations = sum_up(
            [self._process.left_out([np.array([row])]) for row in range(self._process.kept)]
        ).deviations

    def at(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the share at places, within those of the rows, and the half-width of its interval."""
        found, deviation = self._process.predict(x)
        shares: Floats = np.clip(found, self._least, self._most)
        return shares, deviation * self._deviations


class Estimates(ABC):
    """What blocks take on one target: measured rows as they are, estimates where there are none. Frozen."""

    target: Target

    @abstractmethod
    def find_many(self, specs: Sequence[BlockSpec]) -> list[Entry | None]:
        """Return each block's row or estimate in order, None where there can be none."""

    @abstractmethod
    def why_not(self, spec: BlockSpec) -> str:
        """Say why there is no estimate of a block; empty where there is one."""

    def estimate(self, spec: BlockSpec) -> Entry:
        """Return a block's row where it was measured, else an estimate; raise NotEstimable, which says why not."""
        found = self.find_many([spec])[0]
        if found is None:
            raise NotEstimable(
                f"no estimate of {spec} on {self.target}: {self.why_not(spec)}; measure it with 'edgelut profile'"
            )
        return found


class Estimator(Estimates):
    """Estimates blocks on one target from its measured rows. Rows of other kinds and of sequences do not count.

    Raises UnlikeMeasures for a target whose rows count instructions. What it returns is of kind `interpolated` or `predicted`
    (beyond the rows), never better than the rows, and None or NotEstimable where its interval would be wider than WIDEST.
    """

    def __init__(self, rows: Iterable[Entry], target: Target, *, seed: int = 0) -> None:
        self.target = target
        by_kind: dict[str, list[Entry]] = defaultdict(list)
        counts = False
        for entry in rows:
            counts |= entry.latency.measure == "instructions"
            if entry.target == target and usable(entry):
                by_kind[entry.spec.kind].append(entry)
        if counts and not by_kind:
            raise UnlikeMeasures(f"rows on {target} count instructions: they are counted anew, and not estimated")
        self.rows = {kind: len(held) for kind, held in sorted(by_kind.items())}
        self.kinds = {
            kind: KindEstimator(held, seed) for kind, held in sorted(by_kind.items()) if len(held) >= LEAST_ROWS
        }
        self._known = {entry.spec: entry for held in by_kind.values() for entry in held}
        self._basis = _basis(self._known.values())

    def find_many(self, specs: Sequence[BlockSpec]) -> list[Entry | None]:
        """Return each block's row or estimate in order, None where there can be none."""
        found: dict[BlockSpec, Entry] = {spec: self._known[spec] for spec in specs if spec in self._known}
        asked: dict[str, list[BlockSpec]] = defaultdict(list)
        for spec in dict.fromkeys(specs):
            if spec not in found and spec.kind in self.kinds and not self.kinds[spec.kind].why_not(spec):
                asked[spec.kind].append(spec)
        for kind, wanted in asked.items():
            for spec, guess in zip(wanted, self.kinds[kind].estimate(wanted), strict=True):
                if guess.half_width <= WIDEST:
                    found[spec] = self._entry(spec, guess)
        return [found.get(spec) for spec in specs]

    def __contains__(self, spec: BlockSpec) -> bool:
        """Say whether a block was measured."""
        return spec in self._known

    def why_not(self, spec: BlockSpec) -> str:
        """Say why there is no estimate of a block; empty where there is one."""
        if spec in self._known:
            return ""
        kind = self.kinds.get(spec.kind)
        if kind is None:
            has = self.rows.get(spec.kind, 0)
            return f"{has} rows of {spec.kind} were measured there, and {LEAST_ROWS} are needed"
        if why := kind.why_not(spec):
            return why
        (guess,) = kind.estimate([spec])
        return f"it would be off by up to {guess.half_width:.0%}" if guess.half_width > WIDEST else ""

    def _entry(self, spec: BlockSpec, guess: Guess) -> Entry:
        kind = self.kinds[spec.kind]
        ran_on = {entry.ran_on for entry in kind.rows}
        provenance: dict[str, str | int | float] = {
            "method": f"gp-{VERSION}",
            "rows": len(kind.rows),
            "basis": self._basis,
            "tried": guess.trial.rows,
            "estimated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        conditions = {entry.provenance.get("conditions") for entry in kind.rows}
        if len(conditions) == 1 and (only := conditions.pop()) is not None:
            provenance["conditions"] = only
        if len(ran_on) == 1 and (unit := ran_on.pop()) is not None:
            provenance["ran_on"] = unit
        if guess.trial.rows:
            provenance["median_error"] = round(guess.trial.median_error, 4)
        provenance |= {name: rounded(half) for name, half in guess.halves.items()}
        return Entry(spec, self.target, rounded_latency(guess.latency), guess.kind, Params(provenance))


def rounded(value: float) -> float:
    """Return seven digits of a figure. The others depend on how many blocks are estimated at once, and on the processor."""
    return float(f"{value:.7g}")


def rounded_latency(latency: Latency) -> Latency:
    """Return a latency whose estimated figures have seven digits."""
    names = ("p10_ns", "low_ns", "high_ns", *DERIVED)
    figures: dict[str, Any] = {name: rounded(value) for name in names if (value := getattr(latency, name)) is not None}
    return replace(latency, **figures)


def usable(entry: Entry) -> bool:
    """Say whether a row is one to learn from: measured, a time, and of a single block."""
    is_block = entry.spec.kind not in SEQUENCES and entry.spec.kind != REFERENCE
    return is_block and entry.kind == "measured" and entry.latency.measure == "time" and entry.latency.p10_ns > 0


def _basis(rows: Iterable[Entry]) -> str:
    """Return a hash of what was learnt from."""
    said = sorted(f"{entry.spec.key} {entry.latency.p10_ns!r}" for entry in rows)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def sum_up(left_out: Sequence[tuple[Floats, Floats]]) -> Trial:
    """Sum up groups of rows that were left out.

    Rows of one group are off together. So where each group has rows enough of its own, the hardest of them says how wide intervals
    must be, and not the quantile over all.
    """
    if not left_out:
        return Trial(0, math.nan, math.nan, UNTRIED)
    off = np.concatenate([np.abs(np.expm1(errors)) for errors, _ in left_out])
    scores = [np.abs(errors) / deviations for errors, deviations in left_out]
    alone = len(left_out) > MANY_GROUPS
    needed = _quantile(np.concatenate(scores)) if alone else max(_quantile(some) for some in scores)
    return Trial(len(off), float(np.median(off)), float((off <= 0.1).mean()), max(needed, LEAST_DEVIATIONS))


def _quantile(scores: Floats) -> float:
    """Return the split-conformal quantile: of n scores the ceil((n + 1) LEVEL)th; of too few the largest, and a little more."""
    ordered = np.sort(scores)
    place = math.ceil((len(ordered) + 1) * LEVEL)
    return float(ordered[place - 1] if place <= len(ordered) else ordered[-1] * (1 + 2 / len(ordered)))
