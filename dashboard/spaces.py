"""A search space and what a target still lacks of it: which blocks there are to be, and how each of them is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from edgelut import presets
from edgelut.blocks import EMBEDDING, get_kind
from edgelut.efficientformer import CONFIGS
from edgelut.errors import InvalidSpec
from edgelut.jobs import MOST_POINTS, JobRequest
from edgelut.notation import parse_blocks
from edgelut.request import BlockRequest, parse_numbers
from edgelut.sequences import has_companions
from edgelut.types import BlockSpec, Entry, Target

from .address import Address
from .ratios import group_of

State: TypeAlias = Literal["present", "bare", "doubtful", "estimated", "missing"]
STATES: tuple[State, ...] = ("present", "bare", "doubtful", "estimated", "missing")
SAID: Mapping[State, str] = {
    "present": "measured and stable",
    "bare": "measured without chain, context or cold row",
    "doubtful": "in doubt",
    "estimated": "estimated, not measured",
    "missing": "missing",
}
LETTERS: Mapping[State, str] = {"present": "", "bare": "b", "doubtful": "?", "estimated": "e", "missing": "×"}
CUSTOM = "custom"
LINE = "line"
MOST_SPECS = 10_000  # of one request


def names() -> list[str]:
    """Return the spaces that have names: the presets, and those of one's own."""
    return [*presets.names(), CUSTOM, LINE]


def titles() -> dict[str, str]:
    """Return the spaces with a few words on each."""
    said = {name: name for name in presets.names()}
    for name in CONFIGS:
        said[f"{name}-space"] = f"{name}-space: MB4D and MB3D of every width"
        said[f"{name}-table"] = f"{name}-table: those, and stems, embeddings, flats and heads"
    return said | {
        CUSTOM: "custom: kinds, widths and resolutions of your own",
        LINE: "line: blocks as `edgelut network` writes them",
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """A space as an address has it. Numbers are as on the command line: `16..224:16` or `48,96`."""

    name: str
    kinds: tuple[str, ...] = ()
    widths: str = ""
    widths_out: str = ""
    resolutions: str = ""
    blocks: str = ""

    @classmethod
    def of(cls, address: Address, default: str = "efficientformer-l1-space") -> Asked:
        """Return the space that an address asks for."""
        name = address.one_of("space", names(), default)
        kinds = tuple(filter(None, address.get("kinds", "MB4D,MB3D").split(",")))
        return cls(
            name,
            kinds,
            address.get("widths", "16..224:16"),
            address.get("widths_out"),
            address.get("resolutions", "28,14,7"),
            address.get("blocks"),
        )

    def parameters(self) -> dict[str, str | None]:
        """Return the parameters of an address that `of` reads as this."""
        nothing = dict.fromkeys(("kinds", "widths", "widths_out", "resolutions", "blocks"))
        if self.name == LINE:
            return {"space": LINE, **nothing, "blocks": self.blocks}
        if self.name != CUSTOM:
            return {"space": self.name, **nothing}
        return {
            "space": self.name,
            "blocks": None,
            "kinds": ",".join(self.kinds),
            "widths": self.widths,
            "widths_out": self.widths_out or None,
            "resolutions": self.resolutions,
        }

    def specs(self) -> list[BlockSpec]:
        """Return the blocks of the space; raise InvalidSpec or UnknownKind, which say what to type."""
        if self.name == LINE:
            return list(dict.fromkeys(parse_blocks(self.blocks)))
        if self.name != CUSTOM:
            return presets.get(self.name)
        widths, resolutions = parse_numbers([self.widths], "width"), parse_numbers([self.resolutions], "resolution")
        outs = parse_numbers([self.widths_out], "output width") if self.widths_out else []
        size = len(self.kinds) * len(widths) * len(resolutions) * max(len(outs), 1)
        if size > MOST_SPECS:
            raise InvalidSpec(f"this space has {size:,} blocks; a page shows {MOST_SPECS:,} at most: take fewer widths")
        found: list[BlockSpec] = []
        for name in self.kinds:
            kind = get_kind(name)
            outs_of = outs if kind.widens and kind.width_in is None else []
            found += BlockRequest(kinds=[name], widths=widths, widths_out=outs_of, resolutions=resolutions).specs()
        return list(dict.fromkeys(found))


class HeldLatency(msgspec.Struct, frozen=True):
    """What of a latency says how a block is known."""

    clock: str = "cpu"
    doubts: tuple[str, ...] = ()
    slope_ns: float | None = None
    context_ns: float | None = None
    cold_ns: float | None = None


class Held(msgspec.Struct, frozen=True):
    """What of a row says how its block is known: thousands are read at once, and no key is computed of them."""

    kind: str
    latency: HeldLatency


class HeldRows(msgspec.Struct, frozen=True):
    """What POST /latency/batch answers."""

    entries: list[Held | None]


def state_of(spec: BlockSpec, entry: Entry | Held | None) -> State:
    """Return how a block is known on a target."""
    if entry is None:
        return "missing"
    latency = entry.latency
    counts = latency.clock == "instructions"  # a target that counts has no other rows, and none is an estimate there
    if entry.kind != "measured" and not counts:
        return "estimated"
    if latency.doubts:
        return "doubtful"
    if counts or not has_companions(spec):
        return "present"
    whole = latency.cold_ns is not None and (latency.slope_ns is not None or latency.context_ns is not None)
    return "present" if whole else "bare"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a space a target has: each block with its state, and its row's id is the table's business."""

    specs: tuple[BlockSpec, ...]
    states: tuple[State, ...]

    @classmethod
    def of(cls, specs: Sequence[BlockSpec], entries: Sequence[Entry | Held | None]) -> Coverage:
        """Return the coverage that a batch of rows shows."""
        pairs = zip(specs, entries, strict=True)
        return cls(tuple(specs), tuple(state_of(spec, entry) for spec, entry in pairs))

    def counts(self) -> dict[State, int]:
        """Count the blocks by state."""
        return {state: self.states.count(state) for state in STATES}

    def by_kind(self) -> dict[str, dict[State, int]]:
        """Count the blocks of each kind by state."""
        found: dict[str, dict[State, int]] = {}
        for spec, state in zip(self.specs, self.states, strict=True):
            counted = found.setdefault(spec.kind, dict.fromkeys(STATES, 0))
            counted[state] += 1
        return found

    def maps(self) -> dict[str, tuple[list[BlockSpec], list[State]]]:
        """Return blocks and states by the map that shows them: a kind with its parameters, embeddings by resolution too."""
        found: dict[str, tuple[list[BlockSpec], list[State]]] = {}
        for spec, state in zip(self.specs, self.states, strict=True):
            name = group_of(spec) + (f" @{spec.resolution}" if spec.kind == EMBEDDING.name else "")
            specs, states = found.setdefault(name, ([], []))
            specs.append(spec)
            states.append(state)
        return found

    def lacking(self, *states: State) -> tuple[BlockSpec, ...]:
        """Return the blocks in one of the states."""
        return tuple(spec for spec, state in zip(self.specs, self.states, strict=True) if state in states)


def job_request(specs: Sequence[BlockSpec], target: Target, name: str) -> JobRequest:
    """Return the job that measures blocks on a target; raise InvalidSpec where they are too many for one."""
    request = JobRequest(
        specs=tuple(specs[:MOST_SPECS]),
        devices=(target.device,),
        runtimes=(target.runtime,),
        precisions=(target.precision,),
        threads=(target.threads,),
        unit=target.unit,
        name=name,
    )
    points = len(request.blocks_asked())
    if points > MOST_POINTS:
        raise InvalidSpec(
            f"{len(specs):,} blocks and what their sums need are {points:,} points; a job has {MOST_POINTS:,}"
        )
    return request
