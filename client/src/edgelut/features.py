"""What an estimate knows of a block: its widths, its map and its parameters as numbers, and whether rows are near it.

No kind needs a file of its own for it: numbers count by their logarithms, so that products such as multiply-adds are sums, and
by how often 2 divides them, since kernels come in tiles; words count as themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from .gp import Floats, Places
from .types import BlockSpec, Scalar

TILED = 6  # distinct values from which on divisibility can be told from the size itself
MOST_DIVISOR = 5  # 2 ** 5: no kernel has wider tiles
FAR_SHARE = 0.15  # of a field's values that are left out together at an end
LEAST_LEFT = 0.4  # of the rows that must remain where some are left out


class Side(StrEnum):
    """Where a value is that no row has: between two that rows have, or beyond the outermost."""

    BETWEEN = "between"
    BELOW = "below"
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Gap:
    """A field in which a block has a value that no row has; `reach` is how far beyond them it is, as a logarithm."""

    name: str
    side: Side
    reach: float = field(default=0.0, compare=False)

    @property
    def is_beyond(self) -> bool:
        """Say whether it is outside of the rows."""
        return self.side is not Side.BETWEEN


@dataclass(frozen=True, slots=True)
class Unlike(Exception):
    """A block that has nothing to do with the rows: says why."""

    why: str


def fields(spec: BlockSpec) -> dict[str, Scalar]:
    """Return what tells blocks of one kind apart, by name; the output width only where it is another than the input's."""
    widths: dict[str, Scalar] = {"width": spec.width_in, "width_out": spec.width_out}
    return {**widths, "resolution": spec.resolution, "batch": spec.batch, **spec.params}


Fields: TypeAlias = Callable[[BlockSpec], Mapping[str, Scalar]]


class Encoder:
    """Turns blocks into features, by what the rows' blocks are like in their `fields`, which all have the same names."""

    def __init__(self, specs: Sequence[BlockSpec], fields: Fields = fields) -> None:
        self._fields = fields
        rows = [fields(spec) for spec in specs]
        self._names = tuple(rows[0])
        self._words = {name: sorted({str(row[name]) for row in rows}) for name in self._names if _is_word(rows, name)}
        self._values = {
            name: np.unique([float(row[name]) for row in rows]) for name in self._names if name not in self._words
        }
        self._logs = _distinct({name: [row[name] for row in rows] for name, of in self._values.items() if len(of) > 1})
        self._tiled = [
            name for name in self._logs if len(self._values[name]) >= TILED and np.ptp(_tiles(self._values[name]))
        ]
        self._flags = [(name, word) for name, words in self._words.items() for word in words[1:]]
        self.trend = len(self._logs) + len(self._flags)
        self.width = self.trend + len(self._tiled)

    def encode(self, specs: Sequence[BlockSpec]) -> Floats:
        """Return (n, width) features, those of the trend first."""
        rows = [self._fields(spec) for spec in specs]
        numbers = {name: np.array([float(row[name]) for row in rows]) for name in self._logs}
        columns = [np.log(numbers[name]) for name in self._logs]
        columns += [np.array([float(str(row[name]) == word) for row in rows]) for name, word in self._flags]
        columns += [_tiles(numbers[name]) for name in self._tiled]
        return np.stack(columns, 1) if columns else np.zeros((len(rows), 0))

    def like(self, fields: Fields) -> Encoder:
        """Return the same for blocks whose fields another function tells."""
        other = copy(self)
        other._fields = fields
        return other

    def gaps(self, spec: BlockSpec) -> list[Gap]:
        """Return where a block is not among the rows; none where each of its values is one of theirs.

        Raises Unlike where a word, or a number that all rows share, is another.
        """
        row = self._fields(spec)
        if tuple(row) != self._names:
            raise Unlike(f"its parameters are {', '.join(row)}, and those of the rows {', '.join(self._names)}")
        for name, words in self._words.items():
            if str(row[name]) not in words:
                raise Unlike(f"no row has {name} {row[name]}, but {', '.join(words)}")
        found = [self._gap(name, row[name]) for name in self._values]
        return [gap for gap in found if gap is not None]

    def all_gaps(self) -> list[Gap]:
        """Return every gap that a block may be in."""
        return [Gap(name, side) for name in self._logs for side in Side]

    def _gap(self, name: str, value: Scalar) -> Gap | None:
        values = self._values[name]
        if isinstance(value, str) or value <= 0:
            raise Unlike(f"its {name} is {value!r}, and the rows' are numbers above zero")
        if value in values:
            return None
        if len(values) == 1:
            raise Unlike(f"all rows have {name} {values[0]:g}, which says nothing of {value}")
        if value < values[0]:
            return Gap(name, Side.BELOW, float(np.log(values[0] / value)))
        if value > values[-1]:
            return Gap(name, Side.ABOVE, float(np.log(value / values[-1])))
        return Gap(name, Side.BETWEEN)

    def alone(self, rows: int) -> list[Places]:
        """Return the groups that leave out one row each."""
        return [np.array([place]) for place in range(rows)]

    def groups(self, specs: Sequence[BlockSpec], gap: Gap) -> tuple[list[Places], float]:
        """Return the rows to leave out together, to learn how far off estimates are in such a gap, and how far that reaches.

        Between values each inner value is left out; beyond them the outermost, and FAR_SHARE of all values at that end.
        """
        values = self._values[gap.name]
        held = np.array([float(self._fields(spec)[gap.name]) for spec in specs])
        chosen = _inner(values) if gap.side is Side.BETWEEN else _outer(values, gap.side)
        found = [np.flatnonzero(np.isin(held, some)) for some in chosen]
        found = [group for group in found if len(specs) - len(group) >= max(LEAST_LEFT * len(specs), 3)]
        reached = [_reach(values, held[group], gap.side) for group in found]
        return found, max(reached, default=0.0)


def _is_word(rows: Sequence[Mapping[str, Scalar]], name: str) -> bool:
    """Say whether a field holds words, or a number that cannot have a logarithm."""
    return not all(isinstance(value, int | float) and value > 0 for value in (row[name] for row in rows))


def _distinct(columns: Mapping[str, list[Scalar]]) -> list[str]:
    """Return the names of columns that do not repeat another: an output width that is always the input's tells nothing."""
    seen: list[list[Scalar]] = []
    names = []
    for name, column in columns.items():
        if column not in seen:
            seen.append(column)
            names.append(name)
    return names


def _tiles(values: Floats) -> Floats:
    """Return how often 2 divides each value, MOST_DIVISOR at most."""
    powers = 2 ** np.arange(1, MOST_DIVISOR + 1)
    return np.asarray((values.astype(np.int64)[:, None] % powers == 0).sum(1), np.float64)


def _inner(values: Floats) -> list[Floats]:
    """Return each value that has others on both sides."""
    return [values[place : place + 1] for place in range(1, len(values) - 1)]


def _outer(values: Floats, side: Side) -> list[Floats]:
    """Return the outermost value, and a share of the outer ones together."""
    if len(values) < 3:
        return []
    several = max(int(np.ceil(FAR_SHARE * len(values))), 2)
    counts = [1, several] if len(values) > several + 1 else [1]
    return [values[:count] if side is Side.BELOW else values[-count:] for count in counts]


def _reach(values: Floats, group: Floats, side: Side) -> float:
    """Return how far, as a logarithm, a group's outermost value is from the values that remain."""
    left = values[~np.isin(values, group)]
    if side is Side.BETWEEN or not len(left):
        return 0.0
    return float(np.log(left[0] / group.min()) if side is Side.BELOW else np.log(group.max() / left[-1]))
