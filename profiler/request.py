"""From what a person or a job asks for to a list of points: presets, blocks, widths and targets multiplied out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from backends import registry
from edgelut.errors import BackendMissing, InvalidSpec, Unsupported
from edgelut.sequences import label
from edgelut.types import BlockSpec, Params, Scalar, Target
from supernet import blocks

from . import presets
from .plan import Point

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

    def specs(self) -> list[BlockSpec]:
        """Return the distinct specs; raise InvalidSpec or UnknownKind."""
        found: list[BlockSpec] = []
        for name in self.presets:
            found += presets.get(name)
        for name in self.kinds:
            found += self._of_kind(name)
        if not found:
            raise InvalidSpec(f"name a preset ({', '.join(presets.names())}) or give --block, --width and --resolution")
        return list(dict.fromkeys(found))

    def _of_kind(self, name: str) -> Iterable[BlockSpec]:
        kind = blocks.kind(name)
        missing = [what for what, given in (("--width", self.widths), ("--resolution", self.resolutions)) if not given]
        if missing:
            raise InvalidSpec(f"{kind.name}: give {' and '.join(missing)}")
        outs: Sequence[int | None] = self.widths_out or (None,)
        for width, out, resolution, batch in product(self.widths, outs, self.resolutions, self.batches):
            yield kind.spec(width, resolution, width_out=out, batch=batch, params=self.params)


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """Every combination of these."""

    devices: Sequence[str] = ("host",)
    runtimes: Sequence[str] = ("onnxruntime-cpu",)
    precisions: Sequence[str] = ("fp32",)
    threads: Sequence[int] = (1,)
    unit: str = "cpu"
    formats: Sequence[str] = ()  # empty: the first that each runtime reads
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def points(self, specs: Sequence[BlockSpec]) -> list[Point]:
        """Return a point for each spec and target; raise BackendMissing or Unsupported for what can never run."""
        found = []
        for device, runtime, precision, threads in product(self.devices, self.runtimes, self.precisions, self.threads):
            backend = registry.load_runtime(runtime)
            registry.load_device(device)
            if precision not in backend.precisions:
                raise Unsupported(f"{runtime} runs {', '.join(backend.precisions)}, not {precision}")
            if not backend.timed:
                raise Unsupported(f"{runtime} checks numerics only: it never gives a latency")
            target = Target(device, runtime, precision, threads, self.unit)
            format_ = self._format(runtime, backend.formats)
            found += [Point(spec, target, format_, Params(self.options)) for spec in specs]
        return found

    def _format(self, runtime: str, reads: Sequence[str]) -> str:
        wanted = [name for name in self.formats if name in reads]
        if self.formats and not wanted:
            raise Unsupported(f"{runtime} reads {', '.join(reads)}, not {', '.join(self.formats)}")
        return wanted[0] if wanted else reads[0]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One artifact to export without measuring it."""

    spec: BlockSpec
    format: str
    precision: str
    options: Params = field(default_factory=Params)

    @property
    def artifact_spec(self) -> BlockSpec:
        """What is exported."""
        return self.spec

    def __str__(self) -> str:
        return f"{label(self.spec)} as {self.format} {self.precision}"


def exports(
    specs: Sequence[BlockSpec], formats: Sequence[str], precisions: Sequence[str], options: Mapping[str, Scalar]
) -> list[ExportRequest]:
    """Return every combination, each format in its first precision where none is asked for; raise BackendMissing."""
    known = registry.names("exporters")
    for name in formats:
        if name not in known:
            raise BackendMissing(f"no exporter {name!r}; there are {', '.join(known)}")
    return [
        ExportRequest(spec, format_, precision, Params(options))
        for format_ in formats
        for precision in precisions or registry.load_exporter(format_).precisions[:1]
        for spec in specs
    ]


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
