"""Blocks as one line of text, for keys, commands and URLs: `2*MB4D:48@56 + embedding:48>96@56`.

A block is `KIND:WIDTH@RESOLUTION`, with `IN>OUT` where the widths differ, `xBATCH` where the batch is not 1, and `{name=value,...}`
for parameters; `N*` repeats it. Written by this module a line holds every parameter and reads back as the same blocks, for it is
part of keys; read, those left out are at their defaults where the kind is one of `edgelut.blocks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import groupby
from typing import Any

from .blocks import BlockKind, find_kind
from .errors import InvalidSpec
from .types import BlockSpec, Params

_NUMBER = r"[0-9]{1,10}"
_BLOCK = re.compile(
    rf"(?:(?P<copies>{_NUMBER})\s*\*\s*)?(?P<kind>[A-Za-z][\w.-]*):"
    rf"(?:(?P<width_in>{_NUMBER})>)?(?P<width_out>{_NUMBER})@(?P<resolution>{_NUMBER})(?:x(?P<batch>{_NUMBER}))?"
    r"(?:\{(?P<params>[^{}]*)\})?"
)
EXAMPLE = "2*MB4D:48@56 + embedding:48>96@56"
MOST_BLOCKS = 1000  # of one line: no network comes near it, and "9999999999*MB4D:48@56" would fill the memory


def format_block(spec: BlockSpec) -> str:
    """Return a block with every parameter; raise InvalidSpec for one that would not be read back as it is."""
    text = _write(spec)
    try:
        same = parse_cached(text) == (spec,)
    except InvalidSpec as error:
        raise InvalidSpec(f"{spec} cannot be written in a line of blocks: {error}") from error
    if not same:
        raise InvalidSpec(f"{spec} cannot be written in a line of blocks: {text!r} would be read as another block")
    return text


def _write(spec: BlockSpec) -> str:
    widths = f"{spec.width_in}" if spec.width_in == spec.width_out else f"{spec.width_in}>{spec.width_out}"
    batch = f"x{spec.batch}" if spec.batch != 1 else ""
    params = ",".join(f"{name}={value}" for name, value in spec.params.items())
    return f"{spec.kind}:{widths}@{spec.resolution}{batch}" + (f"{{{params}}}" if params else "")


def format_blocks(blocks: Iterable[BlockSpec]) -> str:
    """Return blocks in order, equal neighbours counted; raise InvalidSpec as `format_block`."""
    return _join(blocks, format_block)


def shorten(blocks: Iterable[BlockSpec]) -> str:
    """Return blocks in a few words, for people: parameters are left out."""
    return _join(blocks, lambda spec: _write(spec).partition("{")[0])


def _join(blocks: Iterable[BlockSpec], write: Callable[[BlockSpec], str]) -> str:
    counted = [(spec, len(list(same))) for spec, same in groupby(blocks)]
    return " + ".join((f"{copies}*" if copies > 1 else "") + write(spec) for spec, copies in counted)


def parse_blocks(text: str, find: Callable[[str], BlockKind | None] = find_kind) -> tuple[BlockSpec, ...]:
    """Return the blocks of a line; raise InvalidSpec, which shows the part that cannot be read."""
    blocks: list[BlockSpec] = []
    for part in text.split("+"):
        matched = _BLOCK.fullmatch(part.strip())
        if matched is None:
            raise InvalidSpec(f"{_cut(part)!r} is no block: write {EXAMPLE}")
        copies = int(matched["copies"] or 1)
        if not 1 <= copies <= MOST_BLOCKS - len(blocks):
            raise InvalidSpec(f"{_cut(part)}: a line holds 1 to {MOST_BLOCKS} blocks")
        blocks += [_spec(matched, find)] * copies
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
            raise InvalidSpec(f"{_cut(item)!r} is no parameter: write name=value")
        values[name.strip()] = _value(value.strip())
    return Params(values)


def _value(text: str) -> str | int | float:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:  # also for whole numbers of thousands of digits
            continue
    return text


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 60 else f"{text[:60]}…"


@lru_cache(maxsize=4096)
def parse_cached(text: str) -> tuple[BlockSpec, ...]:
    """Return the blocks of a line that this module wrote, as often as they are asked for."""
    return parse_blocks(text)
