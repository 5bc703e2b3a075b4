"""A machine's nominal reference time: fixed by its first sweep, so that rows of later sweeps are told at the same speed.

It is a row of the table like any other, of the kind `reference`; its key holds what the kernels' time depends on (processor,
governor, kernel, numpy) and not what is measured, so that a new runtime is compared with the old one at one speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from edgelut.runs import RunStore
from edgelut.sequences import REFERENCE
from edgelut.types import BlockSpec, Clock, Entry, Latency, Params, Scalar, Target, digest

from .reference import VERSION
from .stats import p10

OWN = ("runtime_version", "env_")  # facts of what is measured: names that start so are left out
UNUSUAL = 0.10  # a machine that is further from its nominal speed makes rows doubtful


def reference_spec(facts: Mapping[str, Scalar], clock: Clock, kernels: int | str = VERSION) -> BlockSpec:
    """Return the spec that a machine's nominal reference is kept under; `kernels` is which they are."""
    machine = {name: value for name, value in facts.items() if not name.startswith(("observed_", *OWN))}
    return BlockSpec(
        REFERENCE, 1, 1, 1, params=Params({"machine": digest(machine), "clock": clock, "version": kernels})
    )


def nominal_ns(
    store: RunStore,
    facts: Mapping[str, Scalar],
    device: str,
    clock: Clock,
    measured: Sequence[float],
    sweep: str,
    kernels: int | str = VERSION,
) -> float:
    """Return the nominal time; where the machine has none yet, what was measured now becomes it."""
    spec, own = reference_spec(facts, clock, kernels), Target(device, REFERENCE)
    found = store.find_many((spec,), own)[0]
    if found is None:
        values = np.asarray(measured)
        low, middle, high = (float(np.quantile(values, level)) for level in (0.1, 0.5, 0.9))
        provenance: dict[str, Scalar] = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "sweep": sweep}
        latency = Latency(p10(values), middle, high, low, middle, len(values), len(values), clock)
        found = Entry(spec, own, latency, "measured", Params(provenance))
        store.put_many((found,))
    return found.latency.p10_ns


def at_nominal(latency: Latency, factor: float) -> Latency:
    """Return a latency as it is at the machine's nominal speed; `factor` is nominal over measured reference time.

    Wall times stay as they were measured. A machine far from its nominal speed is a doubt.
    """
    doubts = latency.doubts
    if abs(1 / factor - 1) > UNUSUAL:
        doubts = (*doubts, f"the machine ran {1 / factor - 1:+.0%} off the speed that its reference was fixed at")
    return replace(
        latency,
        p10_ns=latency.p10_ns * factor,
        p50_ns=latency.p50_ns * factor,
        p90_ns=latency.p90_ns * factor,
        low_ns=latency.low_ns * factor,
        high_ns=latency.high_ns * factor,
        doubts=doubts,
    )
