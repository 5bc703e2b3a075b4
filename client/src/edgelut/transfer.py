"""Latencies on a device of which a few blocks were measured, from a device of which many were.

What is learnt is the ratio of the two devices' latencies, by kind, by size and by the other's latency, from the blocks that both
have: ten of them go far, since the other table already knows how latency goes with width and map. With many rows of its own a
device is better off without another's; so each kind goes by whichever was nearer to its rows that were left out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .errors import NotEstimable
from .estimate import (
    DERIVED,
    IN_NETWORKS,
    LEAST_ROWS,
    VERSION,
    WIDEST,
    Estimates,
    Estimator,
    Trial,
    context_error,
    half_name,
    rounded,
    rounded_latency,
    sum_up,
    usable,
)
from .features import Encoder, Unlike
from .gp import Floats, Process
from .types import BlockSpec, Entry, Latency, Params, Scalar, Target

LEAST_PROBES = 3
# Few probes fit themselves better than what is between them: over the square root of their number, this much wider than they say,
# intervals held on published tables of two phones (docs/estimates.md).
EXTRA = 3.0
MANY = 20  # probes from which on nothing is said of their number


class Transfer(Estimates):
    """Estimates blocks on one target by another's table and a few rows of its own (`probes`).

    Measured rows of the target are handed on as they are; estimates are of kind `transferred`, or what the target's own rows
    alone say where those did better on rows left out. Raises NotEstimable for fewer than LEAST_PROBES blocks that both have.
    """

    def __init__(self, source: Estimator, rows: Iterable[Entry], target: Target, *, seed: int = 0) -> None:
        self.source, self.target = source, target
        probes = [entry for entry in rows if entry.target == target and usable(entry)]
        self._own = Estimator(probes, target, seed=seed)
        there = source.find_many([entry.spec for entry in probes])
        pairs = [(entry, found) for entry, found in zip(probes, there, strict=True) if found is not None]
        if len(pairs) < LEAST_PROBES:
            raise NotEstimable(_too_few(source, target, len(probes), len(pairs)))
        pairs.sort(key=lambda pair: pair[0].spec.key)
        self.probes = len(pairs)
        specs = [entry.spec for entry, _ in pairs]
        self._kinds = [spec.kind for spec in specs]
        self._clock = Counter(entry.latency.clock for entry, _ in pairs).most_common(1)[0][0]
        ratios = np.array([math.log(entry.latency.p10_ns / found.latency.p10_ns) for entry, found in pairs])
        self._encoder = Encoder(specs, _fields({entry.spec: found for entry, found in pairs}))
        x = self._encoder.encode(specs)
        self._process = Process(x, ratios, self._encoder.trend, seed=seed, trend_scale=0.1)
        left_out = [self._process.left_out([group]) for group in self._encoder.alone(len(specs))]
        trial = sum_up(left_out)
        self.trial = replace(trial, deviations=trial.deviations * (1 + EXTRA / math.sqrt(len(specs))))
        self.trials = self._by_kind(left_out)

    def _by_kind(self, left_out: Sequence[tuple[Floats, Floats]]) -> dict[str, Trial]:
        of: dict[str, list[tuple[Floats, Floats]]] = defaultdict(list)
        for kind, one in zip(self._kinds, left_out, strict=True):
            of[kind].append(one)
        return {kind: sum_up(some) for kind, some in of.items()}

    def by(self, kind: str) -> str:
        """Say what a kind's estimates go by: `transfer`, `own` rows alone, or nothing."""
        own = self._own.kinds.get(kind)
        if kind not in self.trials:
            return "own" if own is not None else ""
        better = own is not None and own.trial.median_error < self.trials[kind].median_error
        return "own" if better and own is not None and len(own.rows) >= 2 * LEAST_ROWS else "transfer"

    def why_not(self, spec: BlockSpec) -> str:
        """Say why there is no estimate of a block; empty where there is one."""
        if self.find_many([spec])[0] is not None:
            return ""
        by = self.by(spec.kind)
        if by == "own":
            return self._own.why_not(spec)
        if not by:
            return f"no {spec.kind} was measured there"
        there = self.source.find_many([spec])[0]
        if there is None:
            return self.source.why_not(spec)
        return _unlike(self._encoder.like(_fields({spec: there})), spec) or "its interval would say nothing"

    def find_many(self, specs: Sequence[BlockSpec]) -> list[Entry | None]:
        """Return each block's row or estimate in order, None where there can be none."""
        found = self._own.find_many(specs)
        moved = [spec for spec in specs if spec not in self._own and self.by(spec.kind) == "transfer"]
        there = {
            spec: entry for spec, entry in zip(moved, self.source.find_many(moved), strict=True) if entry is not None
        }
        carried = self._carried(there)
        return [
            carried.get(spec) if self.by(spec.kind) == "transfer" and spec not in self._own else entry
            for spec, entry in zip(specs, found, strict=True)
        ]

    def _carried(self, there: Mapping[BlockSpec, Entry]) -> dict[BlockSpec, Entry]:
        """Return the other target's rows as they would be on this one."""
        encoder = self._encoder.like(_fields(there))
        specs = [spec for spec in there if not _unlike(encoder, spec)]
        if not specs:
            return {}
        mean, deviation = self._process.predict(encoder.encode(specs))
        found = {}
        for spec, ratio, off in zip(specs, mean.tolist(), deviation.tolist(), strict=True):
            own = there[spec].latency
            known = math.log(own.high_ns / own.p10_ns) if there[spec].kind != "measured" else 0.0
            half = math.hypot(off * self.trial.deviations, known)
            if math.expm1(half) <= WIDEST:
                found[spec] = self._entry(there[spec], math.exp(ratio), half)
        return found

    def _entry(self, there: Entry, ratio: float, half: float) -> Entry:
        own = there.latency
        p10 = own.p10_ns * ratio
        doubts = [] if self.probes >= MANY else [f"carried over by {self.probes} blocks that both devices have"]
        if not own.stable:
            doubts.append(f"what is known of it on {there.target} is in doubt")
        moved: dict[str, Any] = {name: value * ratio for name in DERIVED if (value := getattr(own, name)) is not None}
        latency = Latency(
            p10, p10, p10, p10 * math.exp(-half), p10 * math.exp(half), 0, 0, self._clock, doubts=tuple(doubts)
        )
        provenance: dict[str, Scalar] = {
            "method": f"transfer-{VERSION}",
            "from": str(there.target),
            "rows": self.probes,
            "median_error": round(self.trial.median_error, 4),
            "estimated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        provenance |= {name: rounded(value) for name, value in _halves(there, ratio, math.expm1(half)).items()}
        return Entry(
            there.spec, self.target, rounded_latency(replace(latency, **moved)), "transferred", Params(provenance)
        )


def _unlike(encoder: Encoder, spec: BlockSpec) -> str:
    """Say why the probes tell nothing of a block, such as of another batch than all of them have; empty where they do."""
    try:
        encoder.gaps(spec)
    except Unlike as unlike:
        return unlike.why
    return ""


def _halves(there: Entry, ratio: float, half: float) -> dict[str, float]:
    """Return the half-widths of slope and context: the ratio's, relative, and what was not known on the other device.

    A context is a difference of chains, whose blocks have ratios of their own: it is off by as much as they are.
    """
    found = {}
    for name in IN_NETWORKS:
        value = getattr(there.latency, name)
        if value is None:
            continue
        known = float(there.provenance.get(half_name(name), 0.0))
        unlike = context_error(there.spec) * there.latency.p10_ns if name == "context_ns" else 0.0
        found[half_name(name)] = ratio * math.hypot(known, value * half, unlike)
    return found


def _too_few(source: Estimator, target: Target, probes: int, both: int) -> str:
    has = ", ".join(list(source.rows)[:8])
    if not has:
        return f"nothing on {target} can go by {source.target}, on which no block was measured: 'edgelut profile' measures some"
    rows = (
        f"{both} of the {probes} blocks measured on {target}"
        if probes
        else f"no block was measured on {target}, so none"
    )
    return (
        f"{rows} can be compared with {source.target}, and {LEAST_PROBES} are needed: measure some blocks of {has} there by "
        "'edgelut profile'"
    )


def _fields(there: Mapping[BlockSpec, Entry]) -> Any:
    """Return what tells blocks of all kinds apart, with the other target's latency among it."""

    def fields(spec: BlockSpec) -> Mapping[str, Scalar]:
        numbers = {
            "width": spec.width_in,
            "width_out": spec.width_out,
            "resolution": spec.resolution,
            "batch": spec.batch,
        }
        return {"kind": spec.kind, **numbers, "there": there[spec].latency.p10_ns}

    return fields
