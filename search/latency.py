"""What every network of a space costs on one target: read from the table once, then added up millions of times."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from edgelut.blocks import MB3D, MB4D
from edgelut.check import profile_commands
from edgelut.compose import FREE, GUESSED, IncompleteNetwork, compose
from edgelut.efficientformer import Config, network
from edgelut.sequences import label
from edgelut.table import LatencySource, MemoryTable
from edgelut.types import BlockSpec, Entry, NetworkSpec, Target

STEP = 16  # of widths (EfficientFormer, section 4.2)
PAGE = 5000  # specs in one question
SHOWN = 6


@dataclass(frozen=True, slots=True)
class Space:
    """All networks up to a largest one, widths in steps; `mb3d_stages` may hold MB3D (0 is the first stage)."""

    config: Config
    step: int = STEP
    mb3d_stages: tuple[int, ...] = (2, 3)

    def widths(self, stage: int) -> list[int]:
        """Return the widths that a stage may have: multiples of the step up to the largest, and the largest itself."""
        most = self.config.widths[stage]
        return sorted({*range(self.step, most + 1, self.step), most})

    def blocks(self) -> list[BlockSpec]:
        """Return every block that a network of the space may hold: the rows that the table must have."""
        found: dict[BlockSpec, None] = {}
        widths = [self.widths(stage) for stage in range(4)]
        least = tuple(stage[0] for stage in widths)
        tokens = [stage in self.mb3d_stages for stage in range(4)]
        most = [0]
        if tokens[3]:
            most.append(1)  # one MB3D, at the end
            if tokens[2]:
                most.append(2)  # with one block a stage: into stage 3
        for stage, mb3d in product(range(4), most):
            for width in widths[stage]:
                own = list(least)
                own[stage] = width
                before = widths[stage - 1] if stage else [own[0]]
                for other in before:
                    if stage:
                        own[stage - 1] = other
                    config = replace(
                        self.config, widths=(own[0], own[1], own[2], own[3]), depths=(1, 1, 1, 1), mb3d=mb3d, name=""
                    )
                    found |= dict.fromkeys(block for block in network(config).blocks if block.kind not in FREE)
        return sorted(
            found, key=lambda block: (block.kind, block.width_in, block.width_out, block.resolution, block.key)
        )


class LatencyModel:
    """The latency of any network of a space on a target, by the rows of a table.

    All rows are read when it is made, `estimated` of them are estimates (`filling`); `lookups` and `seconds` say how often and for
    how long the table was asked since. Raises IncompleteNetwork, which lists what the table lacks and how to measure it,
    UnlikeMeasures for rows that count instructions.
    """

    def __init__(self, source: LatencySource, target: Target, space: Space) -> None:
        began = time.perf_counter()
        self.target, self.space = target, space
        specs = space.blocks()
        self.rows: dict[BlockSpec, Entry] = {}
        for start in range(0, len(specs), PAGE):
            part = specs[start : start + PAGE]
            found = source.find_many(part, target)
            self.rows |= {spec: entry for spec, entry in zip(part, found, strict=True) if entry is not None}
        missing = [spec for spec in specs if spec not in self.rows]
        if missing:
            raise lacking(missing, target, len(specs))
        self.estimated = sum(entry.kind in GUESSED for entry in self.rows.values())
        held = MemoryTable(self.rows.values())
        self._ms = {
            spec: compose(NetworkSpec((spec,)), target, held).ms if spec.kind not in FREE else 0.0 for spec in specs
        }
        self._networks: dict[Config, float] = {}
        self.lookups = len(specs)
        self.seconds = time.perf_counter() - began

    def block_ms(self, spec: BlockSpec) -> float:
        """Return what one block adds to a network, in ms; 0 for one that is in no graph."""
        self.lookups += 1
        return 0.0 if spec.kind in FREE else self._ms[spec]

    def latency_ms(self, config: Config) -> float:
        """Return the sum of a network's blocks, in ms."""
        began = time.perf_counter()
        key = replace(config, name="", classes=self.space.config.classes)
        if key not in self._networks:
            self._networks[key] = sum(map(self.block_ms, network(key).blocks))
        self.seconds += time.perf_counter() - began
        return self._networks[key]


def missing_blocks(source: LatencySource, target: Target, space: Space) -> list[BlockSpec]:
    """Return the blocks of a space that a table has no row of on a target."""
    specs = space.blocks()
    found: list[Entry | None] = []
    for start in range(0, len(specs), PAGE):
        found += source.find_many(specs[start : start + PAGE], target)
    return [spec for spec, entry in zip(specs, found, strict=True) if entry is None]


def lacking(missing: Sequence[BlockSpec], target: Target, of: int, why_not: str = "") -> IncompleteNetwork:
    """Return the error that names what a table lacks, before a search has begun: it is never counted as zero.

    `why_not` says why there are no estimates either, where a search was to go by such.
    """
    commands = profile_commands(missing, target, "")
    kinds = {spec.kind for spec in missing}
    shown = ", ".join(label(spec) for spec in missing[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
    blocks = " and ".join(sorted(kinds & {MB4D.name, MB3D.name}) or sorted(kinds))
    why = f" (not estimated: {why_not})" if why_not else ""
    all_ = "edgelut search slim --measure-missing" + (" --estimate-missing" if why_not else "")
    return IncompleteNetwork(
        f"the search needs {of} rows on {target}, and the table lacks {len(missing)} of them ({blocks}): {shown}{why}; "
        f"'{commands[0]}' measures the first of them, '{all_}' {'what is needed' if why_not else 'all'}",
        missing,
        commands,
    )
