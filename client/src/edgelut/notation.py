"""Blocks as one line of text, for keys, commands and URLs: `2*MB4D:48@56 + embedding:48>96@56`.

A block is `KIND:WIDTH@RESOLUTION`, with `IN>OUT` where the widths differ, `xBATCH` where the batch is not 1, and `{name=value,...}`
for parameters; `N*` repeats it. Written by this module a line holds every parameter; read, those left out are at their defaults
where the kind is one of `edgelut.blocks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from .blocks import BlockKind, find_kind
from .errors import InvalidSpec
from .types import BlockSpec, Params

_BLOCK = re.compile(
    r"(?:(?P<copies>\d+)\s*\*\s*)?(?P<kind>[A-Za-z][\w-]*):(?:(?P<width_in>\d+)>)?(?P<width_out>\d+)@(?P<resolution>\d+)"
    r"(?:x(?P<batch>\d+))?(?:\{(?P<params>[^{}]*)\})?"
)
EXAMPLE = "2*MB4D:48@56 + embedding:48>96@56"


def format_block(spec: BlockSpec) -> str:
    """Return a block with every parameter."""
    widths = f"{spec.width_in}" if spec.width_in == spec.width_out else f"{spec.width_in}>{spec.width_out}"
    batch = f"x{spec.batch}" if spec.batch != 1 else ""
    params = ",".join(f"{name}={value}" for name, value in spec.params.items())
    return f"{spec.kind}:{widths}@{spec.resolution}{batch}" + (f"{{{params}}}" if params else "")


def format_blocks(blocks: Iterable[BlockSpec]) -> str:
    """Return blocks in order, equal neighbours counted."""
    parts = []
    for spec, same in groupby(blocks):
        copies = len(list(same))
        parts.append((f"{copies}*" if copies > 1 else "") + format_block(spec))
    return " + ".join(parts)


def parse_blocks(text: str, find: Callable[[str], BlockKind | None] = find_kind) -> tuple[BlockSpec, ...]:
    """Return the blocks of a line; raise InvalidSpec, which shows the part that cannot be read."""
    blocks: list[BlockSpec] = []
    for part in text.split("+"):
        matched = _BLOCK.fullmatch(part.strip())
        if matched is None:
            raise InvalidSpec(f"{part.strip()!r} is no block: write {EXAMPLE}")
        blocks += [_spec(matched, find)] * int(matched["copies"] or 1)
    return tuple(blocks)


def _spec(matched: re.Match[str], find: Callable[[str], BlockKind | None]) -> BlockSpec:
    width_out, resolution, batch = int(matched["width_out"]), int(matched["resolution"]), int(matched["batch"] or 1)
    width_in = int(matched["width_in"] or width_out)
    params = _params(matched["params"] or "")
    kind = find(matched["kind"])
    if kind is None:
        return BlockSpec(matched["kind"], width_in, width_out, resolution, batch, params)
    if kind.width_in is not None and not matched["width_in"]:
        width_in = kind.width_in
    return kind.spec(width_in, resolution, width_out=width_out, batch=batch, params=params)


def _params(text: str) -> Params:
    values: dict[str, Any] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise InvalidSpec(f"{item!r} is no parameter: write name=value")
        values[name.strip()] = _number(value.strip())
    return Params(values)


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


@lru_cache(maxsize=4096)
def parse_cached(text: str) -> tuple[BlockSpec, ...]:
    """Return the blocks of a line that this module wrote, as often as they are asked for."""
    return parse_blocks(text)


def shorten(blocks: Sequence[BlockSpec]) -> str:
    """Return blocks in a few words, for people: parameters are left out."""
    parts = []
    for spec, same in groupby(blocks):
        copies = len(list(same))
        parts.append((f"{copies}*" if copies > 1 else "") + format_block(spec).partition("{")[0])
    return " + ".join(parts)
