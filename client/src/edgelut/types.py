"""The values that cross every boundary: process, wire, file and database row."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from .errors import InvalidSpec, UnlikeMeasures

Scalar: TypeAlias = str | int | float
Clock: TypeAlias = Literal["cpu", "wall", "instructions"]
Measure: TypeAlias = Literal["time", "instructions"]
MEASURES: tuple[str, ...] = get_args(Measure)
EntryKind: TypeAlias = Literal["measured", "interpolated", "predicted", "transferred", "emulated"]
ENTRY_KINDS: tuple[str, ...] = get_args(EntryKind)
# Units of targets that name one piece of hardware, and which; others (`all`, `cpu_and_ne`) leave the choice to the runtime.
PHYSICAL_UNITS: Mapping[str, str] = {unit: unit for unit in ("cpu", "gpu", "ne", "npu", "dsp")} | {"cpu-little": "cpu"}


def plain(value: object) -> Scalar:
    """Return 4.0 and True as 4 and 1 (Python calls them equal, JSON does not); raise InvalidSpec for what JSON cannot hold."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value == int(value) else value
    raise InvalidSpec(f"{value!r} is not a parameter value: give a string or a finite number")


_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False
).encode  # json.dumps makes one a call


def canonical(value: object) -> bytes:
    """Return the one JSON form of a value: sorted names, no spaces, ASCII."""
    return _CANONICAL(value).encode()


def digest(value: object) -> str:
    """Return 128 bits of the SHA-256 of a value's canonical JSON, as 32 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()[:32]


class Params(Mapping[str, Scalar]):
    """An immutable, hashable, picklable mapping of names to numbers and strings, equal whatever its order."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        if isinstance(items, Params):
            self._items: tuple[tuple[str, Scalar], ...] = items._items
        else:
            self._items = tuple(sorted((str(name), plain(value)) for name, value in (items or {}).items()))

    def as_dict(self) -> dict[str, Scalar]:
        """Return a plain dict, names in order."""
        return dict(self._items)

    def __getitem__(self, name: str) -> Scalar:
        for key, value in self._items:
            if key == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Params):
            return self._items == other._items
        return NotImplemented if not isinstance(other, Mapping) else dict(self._items) == dict(other)

    def __repr__(self) -> str:
        return f"Params({dict(self._items)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Params, (self.as_dict(),)


def _positive(what: str, value: object) -> int:
    """Return a positive whole number, or raise InvalidSpec that names it."""
    number = plain(value)
    if not isinstance(number, int) or number < 1:
        raise InvalidSpec(f"{what} must be a positive whole number, not {value!r}")
    return number


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """What is timed. Equal specs have equal keys on every machine, for ever.

    `resolution` is the side of the square input map in pixels (tokens = resolution squared). Build specs of known kinds with
    `edgelut.blocks` (`MB4D.spec(width=224, resolution=14)`), which fills in and checks every parameter.
    """

    kind: str
    width_in: int
    width_out: int
    resolution: int
    batch: int = 1
    params: Params = field(default_factory=Params)
    key: str = field(default="", init=False, compare=False, repr=False)  # JSON may leave it out

    def __post_init__(self) -> None:
        if not self.kind or not isinstance(self.kind, str):
            raise InvalidSpec(f"a block's kind must be a name, not {self.kind!r}")
        for name in ("width_in", "width_out", "resolution", "batch"):
            object.__setattr__(self, name, _positive(f"{self.kind}: {name}", getattr(self, name)))
        object.__setattr__(self, "params", Params(self.params))
        object.__setattr__(self, "key", digest(self.as_json()))

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form that the key is the hash of."""
        return {
            "kind": self.kind,
            "width_in": self.width_in,
            "width_out": self.width_out,
            "resolution": self.resolution,
            "batch": self.batch,
            "params": self.params.as_dict(),
        }

    def __str__(self) -> str:
        width = f"{self.width_in}" if self.width_in == self.width_out else f"{self.width_in}->{self.width_out}"
        return f"{self.kind} {width} @{self.resolution}" + (f" x{self.batch}" if self.batch > 1 else "")


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network as what a table can add up: its blocks in order. The name is a label and no part of the key."""

    blocks: tuple[BlockSpec, ...]
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.blocks:
            raise InvalidSpec("a network needs at least one block")

    @property
    def key(self) -> str:
        """The hash of the blocks' keys, in order."""
        return digest([block.key for block in self.blocks])


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a block is timed. The provider is part of the runtime's name, never an accident of the environment."""

    device: str
    runtime: str
    precision: str = "fp32"
    threads: int = 1
    unit: str = "cpu"
    key: str = field(default="", init=False, compare=False, repr=False)  # JSON may leave it out

    def __post_init__(self) -> None:
        for name in ("device", "runtime", "precision", "unit"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or "/" in value:
                raise InvalidSpec(f"a target's {name} must be a name without '/', not {value!r}")
        object.__setattr__(self, "threads", _positive("threads", self.threads))
        object.__setattr__(self, "key", digest(self.as_json()))

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form that the key is the hash of."""
        return {
            "device": self.device,
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "unit": self.unit,
        }

    def __str__(self) -> str:
        return f"{self.device}/{self.runtime}/{self.precision}/{self.threads}/{self.unit}"


@dataclass(frozen=True, slots=True)
class Artifact:
    """An exported file: what it is of, what it hashes to, and how far its outputs were from its module's."""

    spec: BlockSpec
    format: str
    precision: str
    sha256: str  # canonical: the same for the same spec in another process and on another day
    exporter_version: str
    parity_error: float  # largest error of the residual branch, relative to that branch's largest value
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """One round's raw timings of one spec on one target in one worker process. Never edited; all else derives from it.

    `wall_ns` and `cpu_ns` hold one value a sample, each the total of `inner` calls. Facts whose name starts with `observed_`
    (load, temperature) may differ between runs that are pooled; all other facts are conditions and must be equal.
    """

    spec: BlockSpec
    target: Target
    sweep: str
    process: str
    round: int
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    inner: int
    warmups: int
    reference_ns: float  # the reference kernel's time in this round, on the clock of the row
    started_at: datetime
    facts: Params = field(default_factory=Params)
    artifact_sha256: str = ""
    load_ns: int | None = None
    compile_ns: int | None = None
    peak_memory_bytes: int | None = None

    @property
    def conditions(self) -> Params:
        """The facts that must be equal in runs that are pooled."""
        return Params({name: value for name, value in self.facts.items() if not name.startswith("observed_")})

    @property
    def measure(self) -> Measure:
        """What the samples are: `time` in ns, or `instructions` executed (in `wall_ns`), as the fact `clock` says."""
        return "instructions" if self.facts.get("clock") == "instructions" else "time"


@dataclass(frozen=True, slots=True)
class Latency:
    """What comparable runs say of one call. No doubts = stable.

    Times are nanoseconds a call on `clock`: thread CPU time for one thread, wall time for several. `low_ns` and `high_ns` bound
    p10 at 95 % within one sweep (bootstrap over rounds); between processes add 2-4 %.

    Where `clock` is `instructions`, every one of them holds instructions executed in a call instead, which are no time of any
    device: `measure` says so, `ms` raises, and nothing adds them to times or compares them with times. Only `load_ns` and
    `compile_ns` are times all the same.
    """

    p10_ns: float
    p50_ns: float
    p90_ns: float
    low_ns: float
    high_ns: float
    runs: int
    samples: int
    clock: Clock = "cpu"
    wall_p10_ns: float | None = None
    wall_p50_ns: float | None = None
    slope_ns: float | None = None  # what one more copy adds to a chain
    load_ns: int | None = None
    compile_ns: int | None = None
    peak_memory_bytes: int | None = None
    doubts: tuple[str, ...] = ()
    chain_ns: float | None = None  # p10 of a chain of copies of the block, whole
    context_ns: float | None = None  # what a block that cannot follow itself adds between its neighbours
    cold_ns: float | None = None  # p10 with flushed caches

    def __post_init__(self) -> None:
        object.__setattr__(self, "doubts", tuple(self.doubts))

    @property
    def measure(self) -> Measure:
        """What the figures are: `time`, or `instructions` of an emulated processor."""
        return "instructions" if self.clock == "instructions" else "time"

    @property
    def value(self) -> float:
        """The headline, p10, in what `measure` says: milliseconds, or instructions."""
        return self.p10_ns if self.clock == "instructions" else self.p10_ns / 1e6

    @property
    def ms(self) -> float:
        """The headline: p10 in milliseconds; raises UnlikeMeasures for a row that counts instructions."""
        if self.clock == "instructions":
            raise UnlikeMeasures(
                f"this row counts {self.p10_ns:,.0f} instructions, which are no milliseconds of any device: look at "
                "`measure`, and take `value`"
            )
        return self.p10_ns / 1e6

    @property
    def half_width(self) -> float:
        """Half of the interval, relative to p10."""
        return (self.high_ns - self.low_ns) / 2 / self.p10_ns if self.p10_ns else math.inf

    @property
    def stable(self) -> bool:
        """True where nothing speaks against the row."""
        return not self.doubts


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table: a latency with what it is of and where it comes from.

    `provenance` names what produced the row: `measured_at` (ISO 8601, UTC), `sweep`, `conditions` (hash), `artifact_sha256`,
    `parity_error`; and where the machine's drift was divided out, `raw_p10_ns` as it was measured, `reference_ns` beside it
    and `reference_factor` that the times were multiplied by; and `ran_on`, where a runtime chose the compute unit itself. What
    counts instructions is never `measured`: no device took that long.
    """

    spec: BlockSpec
    target: Target
    latency: Latency
    kind: EntryKind = "measured"
    provenance: Params = field(default_factory=Params)

    def __post_init__(self) -> None:
        if self.kind not in ENTRY_KINDS:
            raise InvalidSpec(f"no entry kind {self.kind!r}; there are {', '.join(ENTRY_KINDS)}")
        if self.kind == "measured" and self.latency.clock == "instructions":
            raise InvalidSpec(f"{self.spec} on {self.target} counts instructions: its kind is emulated, not measured")
        object.__setattr__(self, "provenance", Params(self.provenance))

    @property
    def ran_on(self) -> str | None:
        """The compute unit that calls really ran on: `cpu`, `gpu`, `ne`, or several joined by `+`, the largest share first.

        It is what the provenance says, else the target's own unit where that is one piece of hardware, else None: not known.
        """
        for (
            name,
            said,
        ) in self.provenance._items:  # a look-up that misses would raise and catch, once for every row served
            if name == "ran_on" and said:
                return str(said).lower()
        return own_unit(self.target)


def own_unit(target: Target) -> str | None:
    """Return the hardware that a target's unit names, or None where it leaves the choice to the runtime."""
    return PHYSICAL_UNITS.get(target.unit) or PHYSICAL_UNITS.get(target.unit.lower())
