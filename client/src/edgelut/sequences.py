"""What is timed beside single blocks: chains, contexts, whole networks and cold blocks, each as a block spec with a key.

A table whose sums are to hold needs more than blocks in hot loops (docs/composition.md). All of it is rows of the same table:

- `chain`: several blocks in one graph with distinct weights; K copies of one block give its slope, a block between its usual
  neighbours gives what it costs there;
- `network`: a whole network;
- `cold`: one block whose caches are flushed before each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .blocks import IDENTITY, KINDS, MB3D, MB4D, BlockKind, Layout, find_kind
from .errors import InvalidSpec
from .notation import EXAMPLE, MOST_BLOCKS, format_blocks, parse_cached, shorten
from .types import BlockSpec, NetworkSpec, Params

COPIES = {"MB3D": 4}  # of a chain; and for all other kinds:
COPIES_DEFAULT = 5


@dataclass(frozen=True, slots=True)
class SequenceKind(BlockKind):
    """A kind whose specs hold a line of blocks (`edgelut.notation`); widths, resolution and batch are those of its ends."""

    longest: int = MOST_BLOCKS

    def of(self, blocks: Sequence[BlockSpec]) -> BlockSpec:
        """Return the spec of a sequence; raise InvalidSpec where two neighbours do not fit, or a block cannot be written."""
        if not 1 <= len(blocks) <= self.longest:
            raise InvalidSpec(f"{self.name}: give {f'1 to {self.longest} blocks' if self.longest > 1 else 'one block'}")
        for before, after in pairwise(blocks):
            _check_fit(before, after)
        first, last = blocks[0], blocks[-1]
        line = Params({"blocks": format_blocks(blocks)})
        return BlockSpec(self.name, first.width_in, last.width_out, first.resolution, first.batch, line)

    def spec(
        self,
        width: int,
        resolution: int,
        *,
        width_out: int | None = None,
        batch: int = 1,
        params: Mapping[str, Any] | None = None,
    ) -> BlockSpec:
        """Return the spec of the line of blocks in `params`; raise InvalidSpec where there is none, or it has other widths."""
        line = str((params or {}).get("blocks", ""))
        if not line:
            raise InvalidSpec(f"{self.name} is a line of blocks: build it from them, as in {EXAMPLE}")
        return self.check(BlockSpec(self.name, width, width_out or width, resolution, batch, Params({"blocks": line})))

    def check(self, spec: BlockSpec) -> BlockSpec:
        """Return a spec whose line of blocks can be built; raise InvalidSpec."""
        if spec.kind != self.name:
            raise InvalidSpec(f"a block of kind {spec.kind!r} is no {self.name}")
        if spec != self.of(blocks_of(spec)):
            raise InvalidSpec(
                f"{self.name}: its widths, resolution and line of blocks do not agree; build it with of(blocks)"
            )
        return spec

    def layouts(self, spec: BlockSpec) -> tuple[Layout, Layout]:
        """Return the layouts of the first input and the last output."""
        blocks = blocks_of(spec)
        return _kind(blocks[0]).layouts(blocks[0])[0], _kind(blocks[-1]).layouts(blocks[-1])[1]

    def input_shape(self, spec: BlockSpec) -> tuple[int, ...]:
        """Return the first block's."""
        first = blocks_of(spec)[0]
        return _kind(first).input_shape(first)

    def output_shape(self, spec: BlockSpec) -> tuple[int, ...]:
        """Return the last block's."""
        last = blocks_of(spec)[-1]
        return _kind(last).output_shape(last)


CHAIN = SequenceKind("chain", {"blocks": ""}, widens=True)
NETWORK = SequenceKind("network", {"blocks": ""}, widens=True)
COLD = SequenceKind("cold", {"blocks": ""}, widens=True, longest=1)
CALL = IDENTITY.spec(8, 1)  # an empty graph: what a call costs before any block does
REFERENCE = "reference"  # the kind of the row that holds a machine's nominal reference time
SEQUENCES = {kind.name: kind for kind in (CHAIN, NETWORK, COLD)}


def blocks_of(spec: BlockSpec) -> tuple[BlockSpec, ...]:
    """Return the blocks of a chain, network or cold spec (InvalidSpec for no line); any other is a sequence of itself."""
    if spec.kind not in SEQUENCES:
        return (spec,)
    return parse_cached(str(spec.params.get("blocks", "")))


def chain(spec: BlockSpec, copies: int | None = None) -> BlockSpec:
    """Return the chain of K copies of a block whose output its input can be."""
    return CHAIN.of((spec,) * (copies or COPIES.get(spec.kind, COPIES_DEFAULT)))


def network_spec(network: NetworkSpec) -> BlockSpec:
    """Return the spec under which a whole network is measured and kept."""
    return NETWORK.of(network.blocks)


def cold(spec: BlockSpec) -> BlockSpec:
    """Return the spec of a block measured with flushed caches."""
    return COLD.of((spec,))


def repeats(spec: BlockSpec) -> bool:
    """Say whether a block follows itself in networks: then a chain gives its slope, else a context what it costs."""
    return spec.kind in (MB4D.name, MB3D.name)


def context(spec: BlockSpec) -> tuple[BlockSpec | None, BlockSpec | None]:
    """Return the neighbours that a block which cannot follow itself has in an EfficientFormer: (before, after).

    stem -> MB4D; MB4D -> embedding -> MB4D (MB3D on both sides where it reads tokens); MB4D -> flat -> MB3D; MB3D or MB4D -> head.
    """
    kind = _kind(spec)
    reads, gives = kind.layouts(spec)
    before = (MB4D if reads == "4d" else MB3D).spec(spec.width_in, spec.resolution, batch=spec.batch)
    if spec.kind == "head":
        return before, None
    after = (MB4D if gives == "4d" else MB3D).spec(spec.width_out, kind.resolution_out(spec), batch=spec.batch)
    return (None if spec.kind == "stem" else before), after


def in_context(spec: BlockSpec) -> BlockSpec:
    """Return the chain of a block between its neighbours."""
    before, after = context(spec)
    return CHAIN.of([block for block in (before, spec, after) if block is not None])


def has_companions(spec: BlockSpec) -> bool:
    """Say whether a block alone is not enough: sequences, what costs nothing, and what cannot be built here have none."""
    kind = KINDS.get(spec.kind)
    if kind is None or spec.kind == "identity":
        return False
    try:
        return kind.check(spec) is spec
    except InvalidSpec:
        return False


def companions(spec: BlockSpec) -> list[BlockSpec]:
    """Return what has to be measured beside a block for its sums to hold: its chain or context, and what those subtract."""
    if not has_companions(spec):
        return []
    if repeats(spec):
        return [chain(spec)]
    before, after = context(spec)
    neighbours = dict.fromkeys(block for block in (before, after) if block is not None)
    call = [] if before is None else [CALL]
    return [in_context(spec), *call, *(one for block in neighbours for one in (block, chain(block)))]


def label(spec: BlockSpec) -> str:
    """Return a spec in a few words, a sequence by its blocks."""
    try:
        return f"{spec.kind} {shorten(blocks_of(spec))}" if spec.kind in SEQUENCES else str(spec)
    except InvalidSpec:  # anybody can put such a row
        return str(spec)


def _kind(spec: BlockSpec) -> BlockKind:
    kind = find_kind(spec.kind)
    if kind is None:
        raise InvalidSpec(f"{spec.kind} is no kind of edgelut.blocks: its shapes are not known here")
    return kind


def _check_fit(before: BlockSpec, after: BlockSpec) -> None:
    one, other = find_kind(before.kind), find_kind(after.kind)
    if one is None or other is None:
        return
    gives, reads = one.output_shape(before), other.input_shape(after)
    if gives != reads:
        raise InvalidSpec(f"{before} gives {gives}, but {after} reads {reads}")
