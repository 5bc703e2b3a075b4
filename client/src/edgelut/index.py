"""From whole numbers to rows, many at once: a flat grid where the numbers are few and regular, else sorted keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Whole: TypeAlias = npt.NDArray[np.int64]
Codes: TypeAlias = npt.NDArray[np.intp]
MISSING = -1
DENSE = 2**16  # the largest number whose place is read from a list
CELLS = 2**22  # of a grid, 32 MB: a step into it takes 1 ns to 10 ns, a search among 100,000 sorted keys 100 ns
KEYS = 2**62  # what an integer key holds


class Index(Protocol):
    """The rows of one kind with one set of parameters."""

    def codes(self, width_in: Whole, width_out: Whole, resolution: Whole, batch: Whole) -> Codes:
        """Return the code of each row, -1 where there is none; arrays are broadcast."""


def index_of(shapes: Whole, codes: Codes) -> Index:
    """Return the index of distinct rows: a line of `shapes` is width_in, width_out, resolution, batch."""
    square = bool((shapes[:, 0] == shapes[:, 1]).all())
    columns = [shapes[:, 0], *([] if square else [shapes[:, 1]]), shapes[:, 2], shapes[:, 3]]
    values = [np.unique(column) for column in columns]
    size = 1
    strides: list[int] = []
    for one in reversed(values):
        strides.insert(0, size)
        size *= len(one) + 1
    if size > KEYS:
        return _Hashed(shapes, codes)
    axes = [_Axis(one, stride) for one, stride in zip(values, strides, strict=True)]
    table = _Grid(size, _keys(axes, columns), codes) if size <= CELLS else _Sorted(_keys(axes, columns), codes)
    return _Regular(axes, table, square)


class _Axis:
    """The values of one number, each with its place times a stride; every other value has the place beyond the last."""

    def __init__(self, values: Whole, stride: int) -> None:
        self._values = values
        self._keys = np.arange(len(values) + 1, dtype=np.int64) * stride
        self._direct: Whole | None = None
        if values[-1] <= DENSE:
            self._direct = np.full(int(values[-1]) + 2, self._keys[-1])
            self._direct[values] = self._keys[:-1]

    def keys(self, asked: Whole) -> Whole:
        if self._direct is not None:  # what is beyond its ends is clipped to them: 0 and the last are no values
            return self._direct.take(asked, mode="clip")
        place = np.searchsorted(self._values, asked)
        there = self._values.take(place, mode="clip") == asked
        return self._keys.take(np.where(there, place, len(self._values)))


def _keys(axes: Sequence[_Axis], columns: Sequence[Whole]) -> Whole:
    """Return the sum of the places: of each distinct row another."""
    key = axes[0].keys(columns[0])
    for axis, column in zip(axes[1:], columns[1:], strict=True):
        key = key + axis.keys(column)
    return key


class _Grid:
    """A cell for every combination of values."""

    def __init__(self, size: int, keys: Whole, codes: Codes) -> None:
        self._cells = np.full(size, MISSING, np.intp)
        self._cells[keys] = codes

    def find(self, keys: Whole) -> Codes:
        return self._cells.take(keys)


class _Sorted:
    """The keys that there are, in order."""

    def __init__(self, keys: Whole, codes: Codes) -> None:
        order = np.argsort(keys)
        self._keys, self._codes = keys[order], codes[order]

    def find(self, keys: Whole) -> Codes:
        place = np.searchsorted(self._keys, keys)
        there = self._keys.take(place, mode="clip") == keys
        return np.where(there, self._codes.take(place, mode="clip"), MISSING)


class _Regular:
    """Keys that are sums of places, looked up in a grid or among sorted ones."""

    def __init__(self, axes: Sequence[_Axis], table: _Grid | _Sorted, square: bool) -> None:
        self._axes, self._table, self._square = axes, table, square

    def codes(self, width_in: Whole, width_out: Whole, resolution: Whole, batch: Whole) -> Codes:
        if not self._square:
            return self._table.find(_keys(self._axes, (width_in, width_out, resolution, batch)))
        found = self._table.find(_keys(self._axes, (width_in, resolution, batch)))
        return found if width_out is width_in else np.where(width_in == width_out, found, MISSING)


class _Hashed:
    """A dictionary, for numbers too many and too irregular for a key."""

    def __init__(self, shapes: Whole, codes: Codes) -> None:
        self._codes: dict[tuple[Any, ...], int] = dict(zip(map(tuple, shapes.tolist()), codes.tolist(), strict=True))

    def codes(self, width_in: Whole, width_out: Whole, resolution: Whole, batch: Whole) -> Codes:
        fields = np.broadcast_arrays(width_in, width_out, resolution, batch)
        asked = zip(*(values.ravel().tolist() for values in fields), strict=True)
        found = np.fromiter((self._codes.get(shape, MISSING) for shape in asked), np.intp, fields[0].size)
        return found.reshape(fields[0].shape)
