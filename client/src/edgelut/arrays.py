"""One target's rows as arrays: what a search reads that asks for millions of latencies and builds no spec for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .blocks import KINDS
from .coverage import ColumnPage
from .errors import InvalidSpec, LatencyNotFound, OtherUnit, UnknownKind, UnlikeMeasures
from .index import index_of
from .placement import UNKNOWN, unit_name
from .query import Page, Query
from .types import ENTRY_KINDS, BlockSpec, Entry, Params, Target

Whole: TypeAlias = int | Sequence[int] | npt.NDArray[np.integer[Any]]
Codes: TypeAlias = npt.NDArray[np.intp]
Floats: TypeAlias = npt.NDArray[np.float64]
Figure: TypeAlias = Literal["p10", "each", "low", "high"]
FIGURES: tuple[str, ...] = get_args(Figure)
MISSING = -1
PADDING = -2  # what to write into an array of networks where a network has no further block
SHOWN = 8  # specs named in a message
COLUMNS_PAGE, ENTRIES_PAGE = 50_000, 1_000


class Line(NamedTuple):
    """What of a row is kept."""

    block: str
    width_in: int
    width_out: int
    resolution: int
    batch: int
    params: Params
    kind: str
    clock: str
    p10_ns: float
    low_ns: float
    high_ns: float
    slope_ns: float | None
    context_ns: float | None
    ran_on: str | None = None  # known where it was asked for


class TableArrays:
    """One target's current rows as they were when they were read, frozen; `TableArrays.read` or a table's `arrays` makes one.

    A row's code is its place, from 0; a missing row is -1, and its figures are NaN, never zero. Codes are of this object alone.
    Figures are ns: `p10`, the headline; `each`, what a block adds to a sum as `edgelut.compose` takes it (its slope, else its
    context, else its p10); `low` and `high`, which bound p10 at 95 %. Rows that count instructions have no ns: asking for them
    raises UnlikeMeasures, and `instructions` gives them. With `require_unit` a row that did not run on that unit alone is missing.
    """

    def __init__(self, target: Target, lines: Iterable[Line], *, require_unit: str | None = None) -> None:
        self.target = target
        self.require_unit = None if require_unit is None else unit_name(require_unit)
        self._lines = tuple(lines)
        n = len(self._lines)
        self._families: dict[tuple[str, Params], list[int]] = {}
        for number, line in enumerate(self._lines):
            self._families.setdefault((line.block, line.params), []).append(number)
        shape = np.array([line[1:5] for line in self._lines], np.int64).reshape(n, 4)
        self._indices = {
            family: index_of(shape[rows], np.array(rows, np.intp)) for family, rows in self._families.items()
        }
        each = [_each(line) for line in self._lines]
        figures = {"p10": [line.p10_ns for line in self._lines], "each": each}
        figures |= {"low": [line.low_ns for line in self._lines], "high": [line.high_ns for line in self._lines]}
        # Two places beyond the rows: n for padding, and the last, which -1 means, for what is missing.
        self._figures = {name: _frozen([*values, 0.0, np.nan], np.float64) for name, values in figures.items()}
        kinds = [ENTRY_KINDS.index(line.kind) for line in self._lines]
        self._kinds = _frozen([*kinds, len(ENTRY_KINDS), len(ENTRY_KINDS)], np.int8)
        counts = [line.clock == "instructions" for line in self._lines]
        self._counts = _frozen([*counts, False, False], np.bool_)
        self._times = _frozen([*(not count for count in counts), False, False], np.bool_)
        self._emulated = _frozen([*(line.kind == "emulated" for line in self._lines), False, False], np.bool_)
        served = [self.require_unit is None or line.ran_on == self.require_unit for line in self._lines]
        self._served = None if all(served) else _frozen([*np.where(served, np.arange(n), MISSING), -1, -1], np.intp)
        self.left_out = n - sum(served)

    @classmethod
    def read(cls, source: Any, target: Target, *, require_unit: str | None = None) -> TableArrays:
        """Read a target's rows of any source that can list them: columns where it has them, else entries, else pages of a search.

        Raises InvalidSpec for a source that can only look up, and what the source raises.
        """
        if require_unit is None and hasattr(source, "columns"):
            return cls(target, _of_columns(source.columns, target))
        if hasattr(source, "search") and hasattr(source, "columns"):  # a database or a service: let it filter
            return cls(target, map(line_of, _searched(source.search, target)), require_unit=require_unit)
        if hasattr(source, "entries"):
            of_target = (entry for entry in source.entries() if entry.target.key == target.key)
            return cls(target, map(line_of, of_target), require_unit=require_unit)
        if hasattr(source, "search"):
            return cls(target, map(line_of, _searched(source.search, target)), require_unit=require_unit)
        raise InvalidSpec(
            f"a {type(source).__name__} cannot list its rows: freeze it with edgelut.snapshot.write, or read a table that has "
            "`entries` or `search`"
        )

    def __len__(self) -> int:
        return len(self._lines) - self.left_out

    def __repr__(self) -> str:
        return f"TableArrays({str(self.target)!r}, rows={len(self)})"

    def codes(
        self,
        kind: str | Sequence[str],
        width_in: Whole,
        resolution: Whole,
        *,
        width_out: Whole | None = None,
        batch: Whole = 1,
        params: Mapping[str, Any] | None = None,
    ) -> Codes:
        """Return the code of each row, -1 where there is none. Arrays and numbers are broadcast.

        `width_out` is `width_in` where it is left out. `params` that are left out have the kind's defaults, where
        `edgelut.blocks` knows it. Raises UnknownKind for a kind that nobody knows, InvalidSpec for what is no whole number and for
        parameters that the kind does not have.
        """
        found = self._raw(kind, _fields(width_in, width_out, resolution, batch), params)
        return found if self._served is None else self._served[found]

    def get_codes(
        self,
        kind: str | Sequence[str],
        width_in: Whole,
        resolution: Whole,
        *,
        width_out: Whole | None = None,
        batch: Whole = 1,
        params: Mapping[str, Any] | None = None,
    ) -> Codes:
        """Return `codes`, or raise LatencyNotFound, which names the first 8 missing, or OtherUnit."""
        fields = _fields(width_in, width_out, resolution, batch)
        raw = self._raw(kind, fields, params)
        if raw.size and raw.min() == MISSING:
            raise LatencyNotFound(self._lacks(kind, fields, params, raw))
        found = raw if self._served is None else self._served[raw]
        if found.size and found.min() == MISSING:
            raise self._other_unit(raw[found == MISSING])
        return found

    def codes_of(self, specs: Sequence[BlockSpec]) -> Codes:
        """Return the code of each spec's row, -1 where there is none: for specs that a search has at hand, and kinds of its own."""
        grouped: dict[tuple[str, Params], list[int]] = {}
        for number, spec in enumerate(specs):
            grouped.setdefault((spec.kind, spec.params), []).append(number)
        found = np.full(len(specs), MISSING, np.intp)
        for family, numbers in grouped.items():
            if family in self._indices:
                asked = [_clipped(getattr(specs[n], name) for n in numbers) for name in _NAMES]
                found[numbers] = self._indices[family].codes(*asked)
        return found if self._served is None else self._served[found]

    def spec(self, code: int) -> BlockSpec:
        """Return the spec of a row."""
        (checked,) = self._checked(np.array([code], np.intp)).tolist()
        if checked == MISSING:
            raise LatencyNotFound("-1 is the code of a missing row, which has no spec")
        line = self._lines[checked]
        return BlockSpec(line.block, line.width_in, line.width_out, line.resolution, line.batch, line.params)

    def ns(self, codes: npt.ArrayLike, figure: Figure = "p10") -> Floats:
        """Return a figure of each row in ns, NaN where it is missing. Raises UnlikeMeasures for rows that count instructions."""
        checked = self._checked(codes)
        self._refuse_counts(checked)
        return self._figure(figure).take(checked)

    def instructions(self, codes: npt.ArrayLike, figure: Figure = "p10") -> Floats:
        """Return a figure of each row in instructions, NaN where it is missing. Raises UnlikeMeasures for rows that are times."""
        checked = self._checked(codes)
        self._refuse(self._times, checked, "are times and no counts of instructions")
        return self._figure(figure).take(checked)

    def sums_ns(self, networks: npt.ArrayLike, figure: Figure = "each", *, padding: int | None = None) -> Floats:
        """Return the sum of each network's blocks in ns: `networks` are codes, one network a line of the last axis.

        A missing row makes its network's sum NaN. `padding` is the code of places that hold no block (PADDING, -2), and must be
        said to be one; -1 as padding would make missing rows free. As `edgelut.compose` does it, rows that count instructions are
        refused (UnlikeMeasures), and emulated times too (InvalidSpec).
        """
        checked = self._networks(networks, padding)
        self._refuse_counts(checked)
        self._refuse(self._emulated, checked, "are emulated: they order blocks and are never added up", InvalidSpec)
        return self._sums(checked, figure)

    def sums_instructions(self, networks: npt.ArrayLike, *, padding: int | None = None) -> Floats:
        """Return the sum of each network's instructions, as `sums_ns` adds times. Raises UnlikeMeasures for rows that are times."""
        checked = self._networks(networks, padding)
        self._refuse(self._times, checked, "are times and no counts of instructions")
        return self._sums(checked, "each")

    def kinds(self, codes: npt.ArrayLike) -> npt.NDArray[np.str_]:
        """Return what each row is (measured, interpolated, predicted, ...), empty where it is missing."""
        return np.array([*ENTRY_KINDS, ""], np.str_).take(self._kinds.take(self._checked(codes)))

    def estimated(self, codes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Say of each row whether it was not measured; False where it is missing."""
        kinds = self._kinds.take(self._checked(codes))
        found: npt.NDArray[np.bool_] = (kinds != ENTRY_KINDS.index("measured")) & (kinds != len(ENTRY_KINDS))
        return found

    def _raw(self, kind: str | Sequence[str], fields: _Fields, params: Mapping[str, Any] | None) -> Codes:
        """Return codes wherever the rows ran. To sort a million names takes longer than all else: one kind a call is faster."""
        if isinstance(kind, str):
            return self._of_kind(kind, fields, params)
        names, which = np.unique(np.asarray(kind, np.str_), return_inverse=True)
        of_each = np.broadcast_arrays(which.reshape(np.shape(kind)), *fields)
        found = np.full(of_each[0].shape, MISSING, np.intp)
        for number, name in enumerate(names.tolist()):
            here = of_each[0] == number
            found[here] = self._of_kind(name, _Fields(*(values[here] for values in of_each[1:])), params)
        return found

    def _of_kind(self, kind: str, fields: _Fields, params: Mapping[str, Any] | None) -> Codes:
        index = self._indices.get((kind, self._params(kind, params)))
        if index is None:
            return np.full(np.broadcast_shapes(*map(np.shape, fields)), MISSING, np.intp)
        return index.codes(*fields)

    def _params(self, kind: str, params: Mapping[str, Any] | None) -> Params:
        if kind in KINDS:
            return KINDS[kind].fill(params)
        known = {block for block, _ in self._indices}
        if kind not in known:
            names = ", ".join(sorted({*known, *KINDS}))
            raise UnknownKind(f"no block kind {kind!r}, here or in the table; names are written exactly: {names}")
        return Params(params)

    def _lacks(self, kind: str | Sequence[str], fields: _Fields, params: Mapping[str, Any] | None, found: Codes) -> str:
        here = found == MISSING
        asked = [np.broadcast_to(values, found.shape)[here].tolist() for values in (np.asarray(kind), *fields)]
        distinct = list(dict.fromkeys(zip(*asked, strict=True)))
        names = ", ".join(_named(name, numbers, self._params(name, params)) for name, *numbers in distinct[:SHOWN])
        more = f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else ""
        return f"no latency for {names}{more} on {self.target}; measure with 'edgelut profile'"

    def _other_unit(self, raw: Codes) -> OtherUnit:
        rows = list(dict.fromkeys(raw.tolist()))
        ran = list(dict.fromkeys(self._lines[row].ran_on for row in rows))
        known = [name for name in ran if name is not None]
        names = ", ".join(str(self.spec(row)) for row in rows[:SHOWN])
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        where = ", ".join(name or UNKNOWN for name in ran)
        return OtherUnit(f"{names}{more} on {self.target} ran on {where}, not on {self.require_unit} alone", known)

    def _checked(self, codes: npt.ArrayLike) -> Codes:
        """Return codes as an array; raise InvalidSpec for one that is no row's: -3 would be a row at the end."""
        asked = np.asarray(codes)
        if asked.dtype.kind not in "iu" and asked.size:
            raise InvalidSpec(f"codes are whole numbers, as `codes` gives them, not {asked.dtype}")
        checked: Codes = asked.astype(np.intp, copy=False)
        if checked.size and (checked.min() < MISSING or checked.max() >= len(self._lines)):
            raise InvalidSpec(
                f"{self} has codes 0 to {len(self._lines) - 1}, and -1 for a missing row; there are some from "
                f"{checked.min()} to {checked.max()}: are they another table's, or padding that was not named?"
            )
        return checked

    def _networks(self, networks: npt.ArrayLike, padding: int | None) -> Codes:
        asked = np.asarray(networks)
        if asked.ndim == 0:
            raise InvalidSpec("networks are a list of codes, or an array of them with a network in each line")
        if padding is None:
            return self._checked(asked)
        if padding >= 0:
            raise InvalidSpec(f"padding is a code that no row has: {PADDING}, not {padding}")
        empty = asked == padding
        return np.where(empty, len(self._lines), self._checked(np.where(empty, MISSING, asked)))

    def _figure(self, name: str) -> Floats:
        if name not in self._figures:
            raise InvalidSpec(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
        return self._figures[name]

    def _sums(self, checked: Codes, figure: str) -> Floats:
        each = self._figure(figure).take(checked)
        return each @ np.ones(each.shape[-1])  # a third of the time of a sum over short lines

    def _refuse_counts(self, checked: Codes) -> None:
        said = "count instructions, which are no times of any device: take `instructions`"
        self._refuse(self._counts, checked, said)

    def _refuse(
        self, refused: npt.NDArray[np.bool_], checked: Codes, why: str, error: type[InvalidSpec] = UnlikeMeasures
    ) -> None:
        if refused.any() and (hit := refused.take(checked)).any():
            rows = list(dict.fromkeys(checked[hit].tolist()))
            names = ", ".join(str(self.spec(row)) for row in rows[:SHOWN])
            more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            raise error(f"on {self.target}, rows {why} ({names}{more})")


class _Fields(NamedTuple):
    """The whole-number fields of specs, as arrays that broadcast."""

    width_in: npt.NDArray[np.int64]
    width_out: npt.NDArray[np.int64]
    resolution: npt.NDArray[np.int64]
    batch: npt.NDArray[np.int64]


_NAMES = _Fields._fields


def _fields(width_in: Whole, width_out: Whole | None, resolution: Whole, batch: Whole) -> _Fields:
    first = _whole("width_in", width_in)
    second = first if width_out is None else _whole("width_out", width_out)
    return _Fields(first, second, _whole("resolution", resolution), _whole("batch", batch))


def _whole(name: str, given: Whole) -> npt.NDArray[np.int64]:
    values = np.asarray(given)
    if values.dtype.kind not in "iu" and values.size:
        raise InvalidSpec(f"{name} must be whole numbers, not {values.dtype}")
    return values.astype(np.int64, copy=False)


def _clipped(values: Iterable[int]) -> npt.NDArray[np.int64]:
    """Return a spec's numbers, which know no bounds, as an array: no row has one above 2^62."""
    return np.fromiter((min(value, 2**62) for value in values), np.int64)


def _frozen(values: Iterable[Any], dtype: Any) -> npt.NDArray[Any]:
    array = np.array(values, dtype)
    array.flags.writeable = False
    return array


def _each(line: Line) -> float:
    """Return what a block adds to a sum, as `compose` takes it."""
    if line.slope_ns is not None:
        return line.slope_ns
    return line.p10_ns if line.context_ns is None else line.context_ns


def _named(kind: str, numbers: Sequence[int], params: Params) -> str:
    """Return a spec as messages name it, and what was asked where no spec can be of it."""
    width_in, width_out, resolution, batch = numbers
    try:
        return str(BlockSpec(kind, width_in, width_out, resolution, batch, params))
    except InvalidSpec:
        return f"{kind} {width_in}->{width_out} @{resolution} x{batch}"


def line_of(entry: Entry) -> Line:
    """Return what is kept of an entry."""
    spec, latency = entry.spec, entry.latency
    shape = (spec.kind, spec.width_in, spec.width_out, spec.resolution, spec.batch, spec.params)
    told = (entry.kind, latency.clock, latency.p10_ns, latency.low_ns, latency.high_ns)
    return Line(*shape, *told, latency.slope_ns, latency.context_ns, entry.ran_on)


def _searched(search: Callable[[Query], Page], target: Target) -> Iterator[Entry]:
    """Yield a target's rows, page by page; a query knows no case, a target does."""
    cursor: str | None = None
    while True:
        named = {name: getattr(target, name) for name in ("device", "runtime", "precision", "threads", "unit")}
        try:
            page = search(Query(**named, limit=ENTRIES_PAGE, cursor=cursor))
        except LatencyNotFound:  # a service says so with advice to a person; here it is no rows
            return
        yield from (row.entry for row in page.rows if row.entry.target == target)
        cursor = page.next_cursor
        if cursor is None:
            return


def _of_columns(columns: Callable[[Target, int, str | None], ColumnPage], target: Target) -> Iterator[Line]:
    """Yield a target's rows, many in a page; of thousands few parameters are distinct."""
    cursor: str | None = None
    known: dict[tuple[tuple[str, Any], ...], Params] = {}
    while True:
        page = columns(target, COLUMNS_PAGE, cursor)
        of_name = dict(zip(page.names, page.columns, strict=True))
        params = []
        for given in of_name["params"]:
            items = tuple(given.items())
            params.append(known.get(items) or known.setdefault(items, Params(given)))
        names = ("block", *_NAMES, "kind", "clock", "p10_ns", "low_ns", "high_ns", "slope_ns", "context_ns")
        before, after = [of_name[name] for name in names[:5]], [of_name[name] for name in names[5:]]
        yield from map(Line, *before, params, *after)
        cursor = page.next_cursor
        if cursor is None:
            return


__all__ = ["FIGURES", "MISSING", "PADDING", "Figure", "TableArrays"]
