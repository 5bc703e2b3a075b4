"""What a block costs inside a network, from the chains and contexts measured beside it (docs/composition.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .sequences import CALL, blocks_of, chain, cold, companions, context, has_companions, in_context, label, repeats
from .types import BlockSpec, Entry

Find = Callable[[BlockSpec], Entry | None]


def needs(spec: BlockSpec) -> list[BlockSpec]:
    """Return the specs whose rows complete a block's own; none for a sequence."""
    found = companions(spec)
    return [*found, cold(spec)] if found else []


def complete(entry: Entry, find: Find) -> Entry:
    """Return a block's entry with chain, slope, context and cold times, as far as `find` has the rows; all on one clock.

    A row that a slope or context was read from hands on its doubts: a sum takes that figure, not the row's own p10. A row that
    counts instructions completes none that is a time, nor the other way round: it is as if it were not there.
    """
    spec = entry.spec
    if not has_companions(spec):
        return entry
    latency = entry.latency

    def alike(wanted: BlockSpec) -> Entry | None:
        found = find(wanted)
        return found if found is not None and found.latency.measure == entry.latency.measure else None

    flushed = alike(cold(spec))
    if flushed is not None:
        latency = replace(latency, cold_ns=flushed.latency.p10_ns)
    seen: list[Entry] = []

    def look(wanted: BlockSpec) -> Entry | None:
        found = alike(wanted)
        if found is not None and wanted != spec:
            seen.append(found)
        return found

    if repeats(spec):
        several = look(chain(spec))
        if several is not None:
            latency = replace(latency, chain_ns=several.latency.p10_ns, slope_ns=slope_ns(latency.p10_ns, several))
    else:
        latency = replace(latency, context_ns=context_ns(spec, look))
    if latency.slope_ns is not None or latency.context_ns is not None:
        doubts = [f"{label(row.spec)}: {doubt}" for row in seen for doubt in row.latency.doubts]
        latency = replace(latency, doubts=(*latency.doubts, *doubts))
    return replace(entry, latency=latency)


def slope_ns(single_ns: float, several: Entry) -> float:
    """Return what one more copy adds: (T_K - T_1) / (K - 1)."""
    copies = len(blocks_of(several.spec))
    return (several.latency.p10_ns - single_ns) / (copies - 1)


def context_ns(spec: BlockSpec, find: Find) -> float | None:
    """Return T(before + X + after) - slope(before) - slope(after) - T(nothing), or None where a row is missing.

    What is subtracted is what a sum adds for the same neighbours. Subtracting T(before) alone, hot, left the difference
    between the two in every context: sums of 32 networks were 1.7 % off instead of 0.7 % (docs/composition.md). T(nothing) is
    the call of an empty graph: a network pays for it once, in its first block, and not in every context.
    """
    whole = find(in_context(spec))
    before, after = context(spec)
    call = find(CALL) if before is not None else None
    if whole is None or (before is not None and call is None):
        return None
    total = whole.latency.p10_ns - (call.latency.p10_ns if call is not None else 0.0)
    for neighbour in (before, after):
        if neighbour is not None:
            alone, several = find(neighbour), find(chain(neighbour))
            if alone is None or several is None:
                return None
            total -= slope_ns(alone.latency.p10_ns, several)
    return total


def with_needs(specs: Sequence[BlockSpec]) -> list[BlockSpec]:
    """Return specs and all that their sums need, each once; the neighbours in contexts become rows too, so their needs follow."""
    found = dict.fromkeys(specs)
    waiting = list(found)
    while waiting:
        new = [spec for spec in dict.fromkeys(need for spec in waiting for need in needs(spec)) if spec not in found]
        found |= dict.fromkeys(new)
        waiting = new
    return list(found)
