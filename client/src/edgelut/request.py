"""From what a person or a job asks for to a list of blocks: presets, kinds, widths and resolutions multiplied out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from . import blocks, presets, wire
from .blocks import BlockKind
from .errors import InvalidSpec
from .types import BlockSpec, Scalar

MOST_NUMBERS = 100_000  # of one range: more is a slip of the keyboard, and would fill the memory


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """Blocks by preset names, or by kind, widths and resolutions."""

    presets: Sequence[str] = ()
    kinds: Sequence[str] = ()
    widths: Sequence[int] = ()
    widths_out: Sequence[int] = ()
    resolutions: Sequence[int] = ()
    batches: Sequence[int] = (1,)
    params: Mapping[str, Scalar] = field(default_factory=dict)

    def specs(self, kind: Callable[[str], BlockKind] | None = None) -> list[BlockSpec]:
        """Return the distinct specs; raise InvalidSpec or UnknownKind.

        `kind` finds a kind by name, in any case; by default those of this package.
        """
        found: list[BlockSpec] = []
        for name in self.presets:
            found += presets.get(name)
        for name in self.kinds:
            found += self._of_kind((kind or blocks.get_kind)(name))
        if not found:
            raise InvalidSpec(f"name a preset ({', '.join(presets.names())}) or give --block, --width and --resolution")
        return list(dict.fromkeys(found))

    def _of_kind(self, kind: BlockKind) -> Iterable[BlockSpec]:
        missing = [what for what, given in (("--width", self.widths), ("--resolution", self.resolutions)) if not given]
        if missing:
            raise InvalidSpec(f"{kind.name}: give {' and '.join(missing)}")
        outs: Sequence[int | None] = self.widths_out or (None,)
        for width, out, resolution, batch in product(self.widths, outs, self.resolutions, self.batches):
            yield kind.spec(width, resolution, width_out=out, batch=batch, params=self.params)


def parse_specs(content: bytes, kind: Callable[[str], BlockKind] | None = None) -> list[BlockSpec]:
    """Return the distinct specs of a JSON list; parameters that are not given are the kind's. Raises InvalidSpec or UnknownKind."""
    try:
        listed = wire.decode(list[BlockSpec], content)
    except InvalidSpec as error:
        example = '[{"kind": "MB4D", "width_in": 48, "width_out": 48, "resolution": 56}]'
        raise InvalidSpec(f"{error}; give a JSON list such as {example}") from error
    if not listed:
        raise InvalidSpec("the list holds no blocks")
    found: dict[BlockSpec, None] = {}
    for spec in listed:
        own = (kind or blocks.get_kind)(spec.kind)
        width = spec.width_in if own.width_in is None else spec.width_out
        out = spec.width_out if own.width_in is None else None
        built = own.spec(width, spec.resolution, width_out=out, batch=spec.batch, params=spec.params)
        found[built] = None
    return list(found)


def parse_numbers(texts: Iterable[str] | None, what: str) -> list[int]:
    """Return whole numbers from `224`, `208,224` and `208..240:16` (both ends included); raise InvalidSpec."""
    numbers: list[int] = []
    for text in texts or ():
        for part in text.split(","):
            try:
                first, dots, rest = part.partition("..")
                last, colon, step = rest.partition(":")
                if dots:
                    numbers += _span(int(first), int(last), int(step) if colon else 1)
                else:
                    numbers.append(int(first))
            except ValueError as error:
                raise InvalidSpec(f"{what} {part!r}: write 224, or 208,224,240, or 208..240:16") from error
    bad = [number for number in numbers if number < 1]
    if bad:
        raise InvalidSpec(f"{what} must be positive, not {bad[0]}")
    return list(dict.fromkeys(numbers))


def _span(first: int, last: int, step: int) -> range:
    """Return the numbers from first to last, both included; raise ValueError where there are none, or absurdly many."""
    numbers = range(first, last + 1, step)
    if step < 1 or not 0 < len(numbers) <= MOST_NUMBERS:
        raise ValueError(f"{first}..{last}:{step} holds {len(numbers)} numbers")
    return numbers
