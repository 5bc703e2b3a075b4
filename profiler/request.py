"""From blocks to points and exports: targets multiplied out over the backends that there are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from backends import registry
from edgelut import settings
from edgelut.errors import BackendMissing, Unsupported
from edgelut.plan import Point
from edgelut.sequences import label
from edgelut.types import BlockSpec, Params, Scalar, Target

from .hosting import reaches
from .toolchains import Toolchains


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """Every combination of these. Without runtimes each device's own is taken, and without a unit each runtime's first."""

    devices: Sequence[str] = ("host",)
    runtimes: Sequence[str] = ()
    precisions: Sequence[str] = ("fp32",)
    threads: Sequence[int] = (1,)
    unit: str = ""
    formats: Sequence[str] = ()  # empty: the first that each runtime reads
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def points(self, specs: Sequence[BlockSpec]) -> list[Point]:
        """Return a point for each spec and target; raise BackendMissing or Unsupported for what can never run."""
        found = []
        pairs = [
            (device, runtime)
            for device in self.devices
            for runtime in self.runtimes or (registry.device_class(device).runtime,)
        ]
        for (device, runtime), precision, threads in product(pairs, self.precisions, self.threads):
            backend = registry.load_runtime(runtime)
            if not reaches(backend.devices, device):
                raise Unsupported(_unreached(runtime, device))
            if precision not in backend.precisions:
                raise Unsupported(f"{runtime} runs {', '.join(backend.precisions)}, not {precision}")
            if not backend.timed:
                raise Unsupported(f"{runtime} checks numerics only: it never gives a latency")
            unit = self.unit or backend.units[0]
            if unit not in backend.units:
                raise Unsupported(f"{runtime} runs on {', '.join(backend.units)}, not on {unit}")
            target = Target(device, runtime, precision, threads, unit)
            format_ = self._format(runtime, backend.formats)
            found += [Point(spec, target, format_, Params(self.options)) for spec in specs]
        return found

    def _format(self, runtime: str, reads: Sequence[str]) -> str:
        wanted = [name for name in self.formats if name in reads]
        if self.formats and not wanted:
            raise Unsupported(f"{runtime} reads {', '.join(reads)}, not {', '.join(self.formats)}")
        return wanted[0] if wanted else reads[0]


def _unreached(runtime: str, device: str) -> str:
    """Say that a runtime does not run on a device, and which do."""
    known, there = Toolchains(settings.home() / "toolchains"), []
    for name in registry.names("runtimes"):
        try:
            traits = known.runtime(name)
        except BackendMissing:
            continue
        if traits.timed and reaches(traits.devices, device):
            there.append(name)
    return f"{runtime} does not run on {device!r}; those that do: {', '.join(there) or 'none that is installed here'}"


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
