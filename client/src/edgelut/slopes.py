"""What a block costs inside a network, from the chains and contexts measured beside it (docs/composition.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .sequences import SEQUENCES, blocks_of, chain, cold, companions, context, in_context, repeats
from .types import BlockSpec, Entry

Find = Callable[[BlockSpec], Entry | None]


def needs(spec: BlockSpec) -> list[BlockSpec]:
    """Return the specs whose rows complete a block's own; none for a sequence."""
    found = companions(spec)
    return [*found, cold(spec)] if found else []


def complete(entry: Entry, find: Find) -> Entry:
    """Return a block's entry with chain, slope, context and cold times, as far as `find` has the rows; all on one clock."""
    spec = entry.spec
    if spec.kind in SEQUENCES or not companions(spec):
        return entry
    latency, single = entry.latency, entry.latency.p10_ns
    flushed = find(cold(spec))
    if flushed is not None:
        latency = replace(latency, cold_ns=flushed.latency.p10_ns)
    if repeats(spec):
        several = find(chain(spec))
        if several is not None:
            latency = replace(latency, chain_ns=several.latency.p10_ns, slope_ns=slope_ns(single, several))
    else:
        latency = replace(latency, context_ns=context_ns(spec, find))
    return replace(entry, latency=latency)


def slope_ns(single_ns: float, several: Entry) -> float:
    """Return what one more copy adds: (T_K - T_1) / (K - 1)."""
    copies = len(blocks_of(several.spec))
    return (several.latency.p10_ns - single_ns) / (copies - 1)


def context_ns(spec: BlockSpec, find: Find) -> float | None:
    """Return T(before + X + after) - T(before) - slope(after), or None where a row is missing."""
    before, after = context(spec)
    whole = find(in_context(spec))
    if whole is None:
        return None
    total = whole.latency.p10_ns
    if before is not None:
        alone = find(before)
        if alone is None:
            return None
        total -= alone.latency.p10_ns
    if after is not None:
        alone, several = find(after), find(chain(after))
        if alone is None or several is None:
            return None
        total -= slope_ns(alone.latency.p10_ns, several)
    return total


def with_needs(specs: Sequence[BlockSpec]) -> list[BlockSpec]:
    """Return specs and all that their sums need, each once."""
    found = dict.fromkeys(specs)
    for spec in specs:
        found |= dict.fromkeys(needs(spec))
    return list(found)
