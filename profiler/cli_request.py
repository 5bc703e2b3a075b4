"""What the commands of the profiler are asked for, as blocks, points and jobs; heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelut.cli import parse_params
from edgelut.sequences import SEQUENCES

if TYPE_CHECKING:
    from edgelut.blocks import BlockKind
    from edgelut.jobs import JobRequest
    from edgelut.plan import Point
    from edgelut.types import BlockSpec


def specs_of(
    preset: list[str] | None,
    block: list[str] | None,
    width: list[str] | None,
    width_out: list[str] | None,
    resolution: list[str] | None,
    batch: list[str] | None,
    param: list[str] | None,
) -> list[BlockSpec]:
    from edgelut.request import BlockRequest, parse_numbers

    return BlockRequest(
        presets=preset or (),
        kinds=block or (),
        widths=parse_numbers(width, "width"),
        widths_out=parse_numbers(width_out, "width-out"),
        resolutions=parse_numbers(resolution, "resolution"),
        batches=parse_numbers(batch, "batch") or (1,),
        params=parse_params(param),
    ).specs(_kind)


def specs_in(path: Path) -> list[BlockSpec]:
    """Return the specs of a file; raise InvalidSpec for one that cannot be read or holds none."""
    from edgelut.errors import InvalidSpec
    from edgelut.request import parse_specs

    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise InvalidSpec(f"--specs {path}: {error.strerror or error}") from error
    try:
        return parse_specs(content, _kind)
    except InvalidSpec as error:
        raise InvalidSpec(f"--specs {path}: {error}") from error


def _kind(name: str) -> BlockKind:
    """Return a kind by its name; that of another package is asked of torch's side, which takes seconds to load."""
    from edgelut.blocks import find_kind

    found = find_kind(name) or SEQUENCES.get(name.lower())
    if found is None:
        from supernet import blocks

        found = blocks.kind(name)
    return found


def points_of(
    specs: Sequence[BlockSpec],
    device: list[str] | None,
    runtime: list[str] | None,
    precision: list[str] | None,
    threads: list[str] | None,
    unit: str | None,
    format_: list[str] | None,
    option: list[str] | None,
) -> list[Point]:
    from edgelut.request import parse_numbers

    from .devices import resolve
    from .request import TargetRequest

    return TargetRequest(
        devices=[resolve(text) for text in device or ("host",)],
        runtimes=runtime or (),
        precisions=precision or ("fp32",),
        threads=parse_numbers(threads, "threads") or (1,),
        unit=unit or "",
        formats=format_ or (),
        options=parse_params(option),
    ).points(specs)


def request_of(
    specs: Sequence[BlockSpec],
    device: list[str] | None,
    runtime: list[str] | None,
    precision: list[str] | None,
    threads: list[str] | None,
    format_: list[str] | None,
    option: list[str] | None,
    how: Mapping[str, Any],
) -> JobRequest:
    """Return the job that measures these very specs."""
    from edgelut.jobs import JobRequest
    from edgelut.request import parse_numbers

    return JobRequest(
        specs=tuple(specs),
        alone=True,  # what their sums need is among them
        devices=tuple(device or ("host",)),
        runtimes=tuple(runtime or ("onnxruntime-cpu",)),
        precisions=tuple(precision or ("fp32",)),
        threads=tuple(parse_numbers(threads, "threads") or (1,)),
        formats=tuple(format_ or ()),
        options=parse_params(option),
        **how,
    )
