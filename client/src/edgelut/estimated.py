"""A table whose gaps are filled by estimates, for whatever reads a table: sums of networks, searches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .blocks import find_kind
from .errors import InvalidSpec, LatencyNotFound
from .placement import placed
from .query import Page, Query
from .table import LatencySource, Searchable
from .types import BlockSpec, Entry, Params, Target

if TYPE_CHECKING:
    from .estimate import Estimates

PAGE = 1000


class EstimatedSource(LatencySource):
    """A source whose gaps are filled by estimates; rows that were measured are handed on as they are.

    With `like`, a target with a table of its own, estimates of others go by that table too (`transfer`). A target's rows are
    read, and learnt from, when one of them is first missing: what is written later is not learnt from. `learn` does that where
    somebody keeps what was learnt. A block of which there can be no estimate stays missing.
    """

    def __init__(
        self,
        source: Searchable,
        *,
        like: Target | None = None,
        learn: Callable[[Target], Estimates] | None = None,
    ) -> None:
        self._source = source
        self._learn = learn or (lambda target: estimates_of(source, target, like))
        self._held: dict[str, Estimates] = {}

    def find_many(
        self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None
    ) -> list[Entry | None]:
        """Return the current row of each spec, an estimate where there is none, None where there can be none either."""
        found = self._source.find_many(specs, target)
        missing = [spec for spec, entry in zip(specs, found, strict=True) if entry is None]
        if missing:
            guessed = dict(zip(missing, self.estimates(target).find_many(missing), strict=True))
            found = [guessed[spec] if entry is None else entry for spec, entry in zip(specs, found, strict=True)]
        return placed(found, require_unit)

    def search(self, query: Query) -> Page:
        """Return the rows that match: those that the source has, for there is no end of blocks that could be estimated."""
        return self._source.search(query)

    def estimates(self, target: Target) -> Estimates:
        """Return what estimates blocks on a target."""
        if target.key not in self._held:
            self._held[target.key] = self._learn(target)
        return self._held[target.key]


def estimates_of(source: Searchable, target: Target, like: Target | None = None) -> Estimates:
    """Read a target's rows from a table, and learn from them, and from those of another target if one is given.

    Names match whatever their case. Raises UnlikeMeasures where rows count instructions, NotEstimable where two targets have too
    few blocks in common.
    """
    from .estimate import Estimator  # numpy, which a service that is never asked need not load
    from .transfer import Transfer

    target, like = spelled(source, target), None if like is None else spelled(source, like)
    rows = list(rows_of(source, target))
    if like is None or like == target:
        return Estimator(rows, target)
    return Transfer(Estimator(rows_of(source, like), like), rows, target)


def completed(rows: Sequence[Entry], specs: Sequence[BlockSpec]) -> tuple[list[Entry], list[tuple[Target, BlockSpec]]]:
    """Return estimates of what each target of a table lacks of some blocks, and what can be none.

    Targets of which nothing can be learnt (they count instructions, or have no measured time) are left as they are.
    """
    from .estimate import Estimator, usable

    by_target: dict[Target, list[Entry]] = defaultdict(list)
    for entry in rows:
        by_target[entry.target].append(entry)
    found: list[Entry] = []
    lacking: list[tuple[Target, BlockSpec]] = []
    for target, held in sorted(by_target.items(), key=lambda one: str(one[0])):
        if not any(map(usable, held)):
            continue
        has = {entry.spec for entry in held}
        missing = [spec for spec in dict.fromkeys(specs) if spec not in has]
        guessed = Estimator(held, target).find_many(missing)
        found += [entry for entry in guessed if entry is not None]
        lacking += [(target, spec) for spec, entry in zip(missing, guessed, strict=True) if entry is None]
    return found, lacking


def rows_of(source: Searchable, target: Target) -> Iterator[Entry]:
    """Iterate over the current rows of a target."""
    query = _query(target, PAGE)
    while True:
        page = _page(source, query)
        yield from (row.entry for row in page.rows if row.entry.target == target)
        if page.next_cursor is None:
            return
        query = replace(query, cursor=page.next_cursor)


def spelled(source: Searchable, target: Target) -> Target:
    """Return a target as its rows spell it, or as it is where it has none."""
    found = {row.entry.target for row in _page(source, _query(target, 1)).rows}
    return found.pop() if found else target


def _page(source: Searchable, query: Query) -> Page:
    """Return the rows that match, none where a service says that nothing does."""
    try:
        return source.search(query)
    except LatencyNotFound:
        return Page((), None)


def _query(target: Target, limit: int) -> Query:
    """Return what asks for a target's rows."""
    return Query(
        device=target.device,
        runtime=target.runtime,
        precision=target.precision,
        threads=target.threads,
        unit=target.unit,
        limit=limit,
    )


def spec_of(block: str, width: int, resolution: int, width_out: int | None, batch: int, params: Params) -> BlockSpec:
    """Return the spec that is meant: of a kind that is known with its defaults, of another as it is given."""
    kind = find_kind(block)
    if kind is not None:
        return kind.spec(width, resolution, width_out=width_out, batch=batch, params=params)
    return BlockSpec(block, width, width if width_out is None else width_out, resolution, batch, params)


def like_target(text: str | None, target: Target) -> Target | None:
    """Return the target that `DEVICE[/RUNTIME[/PRECISION[/THREADS[/UNIT]]]]` names; what it leaves out is as in `target`."""
    if text is None:
        return None
    parts = text.split("/")
    if not all(parts) or len(parts) > 5 or (len(parts) > 3 and not parts[3].isdigit()):
        raise InvalidSpec(
            f"{text!r} is no target: write DEVICE, or DEVICE/RUNTIME/PRECISION/THREADS/UNIT as far as they differ"
        )
    own = [target.device, target.runtime, target.precision, str(target.threads), target.unit]
    device, runtime, precision, threads, unit = parts + own[len(parts) :]
    return Target(device, runtime, precision, int(threads), unit)
