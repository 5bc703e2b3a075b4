"""What a format of exchanged tables is: it turns a file's bytes into rows, and knows what is lost on the way."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgelut.errors import InvalidSpec, Unsupported
from edgelut.significance import student_quantile
from edgelut.types import BlockSpec, Entry, EntryKind, Latency, Params, Scalar, Target

UNITS: Mapping[str, float] = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}  # in nanoseconds
LONGEST_NS = 1e15  # 11 days: no block takes longer, and a service stores no more than 1e18
SHOWN = 80  # letters of a file's text in a message


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says of a file beyond what it says itself; None where nothing is said.

    `values_in` is the unit of its values, one of UNITS. `publisher` is who measured, where it is not the format's own.
    """

    device: str | None = None
    runtime: str | None = None
    precision: str | None = None
    threads: int | None = None
    unit: str | None = None
    values_in: str | None = None
    publisher: str | None = None
    kind: EntryKind | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One published latency under its key, in the file's unit; `std` and `count` where they were published beside a mean."""

    key: str
    value: float
    std: float | None = None
    count: int | None = None


class Format(ABC):
    """A form of table. A subclass is one file; its name, `_` as `-`, is the format's.

    Obligations: `read` gives rows that differ in spec or target, or raises InvalidSpec, which names the line or the key; what
    it gives depends on the bytes and on what was asked alone. Nothing here opens a file.
    """

    suffix: ClassVar[str]  # such as .json
    holds: ClassVar[str]  # in a few words
    lost: ClassVar[str]  # what its rows lack beside rows measured here, or what is lost when they are written
    publisher: ClassVar[str] = ""  # who publishes such files; empty where that has to be said
    values_in: ClassVar[str] = ""  # the unit, where the file itself states it
    usual_unit: ClassVar[str] = ""  # in which published files are, where they do not state it
    writes: ClassVar[bool] = False
    most_bytes: ClassVar[int] = 64 * 2**20
    example: ClassVar[bytes]  # a small file, for the contract suite and for readers
    example_value: ClassVar[bytes]  # one of its latencies, as it stands in it

    @abstractmethod
    def read(self, content: bytes, asked: Asked) -> list[Entry]:
        """Return a file's rows; raise InvalidSpec."""

    def macs(self, spec: BlockSpec) -> int | None:
        """Return about how many multiply-accumulates a block takes, None where that is not known."""
        return None

    def write(self, entries: Sequence[Entry]) -> bytes:
        """Return rows as a file; raise Unsupported where the format is only read."""
        raise Unsupported(f"this format is only read ({self.holds}): 'edgelut exchange formats' says which are written")


class KeyedFormat(Format):
    """A format that publishes one figure, or mean, spread and count, under a text that names the block.

    Obligations: `key(spec(text)) == text` for every text that `spec` takes, so that distinct keys are distinct specs.
    """

    @abstractmethod
    def figures(self, content: bytes) -> list[Figure]:
        """Return what a file holds, checked for its form; raise InvalidSpec."""

    @abstractmethod
    def spec(self, key: str) -> BlockSpec:
        """Return the block that a published key names; raise InvalidSpec, which says which forms there are."""

    @abstractmethod
    def key(self, spec: BlockSpec) -> str:
        """Return the published key of a spec; raise InvalidSpec for a block of another kind."""

    def read(self, content: bytes, asked: Asked) -> list[Entry]:
        """Return the rows on the one target that was asked for."""
        target, scale = _target(asked), UNITS[self.unit_of(asked)]
        rows: list[Entry] = []
        for figure in self.figures(content):
            latency, said = _latency(figure, scale, asked.publisher or self.publisher)
            provenance = Params({**said, "values_in": self.unit_of(asked)})
            rows.append(Entry(self.spec(figure.key), target, latency, asked.kind or "measured", provenance))
        return rows

    def unit_of(self, asked: Asked) -> str:
        """Return the unit of the values; raise InvalidSpec where neither the file nor the user states it."""
        if asked.values_in is None:
            raise InvalidSpec(
                "these files do not state the unit of their values: say it with --values-in "
                f"{'|'.join(UNITS)} (those that {self.publisher} published are in {self.usual_unit})"
            )
        if asked.values_in not in UNITS:
            raise InvalidSpec(f"{asked.values_in!r} is no unit of time; there are {', '.join(UNITS)}")
        return asked.values_in


def shown(text: object) -> str:
    """Return a file's text for a message, shortened."""
    found = repr(text)
    return found if len(found) <= SHOWN else f"{found[:SHOWN]}…"


def distinct(entries: Iterable[tuple[str, Entry]]) -> list[Entry]:
    """Return rows, each given with its place; raise InvalidSpec where two are of one spec on one target."""
    places: dict[tuple[str, str], str] = {}
    rows: list[Entry] = []
    for place, entry in entries:
        first = places.setdefault((entry.spec.key, entry.target.key), place)
        if first != place:
            raise InvalidSpec(f"{place}: {entry.spec} on {entry.target} is here twice, first in {first}")
        rows.append(entry)
    return rows


def _target(asked: Asked) -> Target:
    if asked.device is None or asked.runtime is None:
        raise InvalidSpec("the file does not say what was measured on: give --device and --runtime")
    return Target(asked.device, asked.runtime, asked.precision or "fp32", asked.threads or 1, asked.unit or "cpu")


def _latency(figure: Figure, scale: float, publisher: str) -> tuple[Latency, dict[str, Scalar]]:
    """Return a published figure as a latency, and what its provenance says of it.

    A mean with its spread and count has the interval of that mean at 95 %, by Student's t. A lone value has none: low and
    high repeat it, and the doubt says so.
    """
    ns = figure.value * scale
    if not (math.isfinite(ns) and 0 < ns <= LONGEST_NS):
        raise InvalidSpec(f"key {shown(figure.key)}: {figure.value!r} is no latency (above 0, at most 11 days)")
    if figure.std is None or figure.count is None:
        doubt = (
            f"published by {publisher}: one value, no interval is known (low and high repeat it), conditions unknown"
        )
        return Latency(ns, ns, ns, ns, ns, 1, 1, "wall", doubts=(doubt,)), {"statistic": "one value"}
    said: dict[str, Scalar] = {
        "statistic": "mean",
        "published_std_ns": figure.std * scale,
        "published_count": figure.count,
    }
    if figure.count < 2:
        doubt = f"published by {publisher}: one call, no interval is known (low and high repeat it), conditions unknown"
        return Latency(ns, ns, ns, ns, ns, 1, 1, "wall", doubts=(doubt,)), said
    half = student_quantile(0.025, figure.count - 1) * figure.std * scale / math.sqrt(figure.count)
    doubt = (
        f"published by {publisher}: a mean, no 10th percentile; its interval takes {figure.count} calls as independent; "
        "conditions unknown"
    )
    low, high = max(ns - half, 0.0), ns + half
    return Latency(ns, ns, ns, low, high, 1, figure.count, "wall", doubts=(doubt,)), said


__all__ = ["LONGEST_NS", "UNITS", "Asked", "Figure", "Format", "KeyedFormat", "distinct", "shown"]
