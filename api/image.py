"""The current rows in memory, as JSON that is ready to send: what look-ups read while the table has at most MOST_ROWS.

An image is true of one version of the table and never changes; `Images` makes the next from it and what was stored since.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from db.current import CurrentRows, SpecData, TargetData
from db.rows import LATENCY
from edgelut.errors import StorageError
from edgelut.query import Query
from edgelut.types import Scalar, Target, own_unit

MOST_ROWS = 200_000  # about 1 kB each
AT_ONCE = 2_000  # rows that a request may wait for; more are read behind its back
MOST_NEW = 20_000  # rows stored since: beyond, all are read again
MOST_POINTS = 4_000  # specs times targets that one look-up goes through: beyond, SQL's indices are the better way

T = TypeVar("T")
log = logging.getLogger("edgelut.api")


class Row(NamedTuple):
    """A current row: JSON before its spec's and after its target's, and what is filtered by."""

    id: int
    head: bytes
    tail: bytes
    kind: str
    measure: str
    ran_on: str | None


class Spec(NamedTuple):
    """A spec in the order of a page, with its JSON."""

    place: tuple[str, int, int, int, int, int]
    key: str
    params: Mapping[str, Scalar]
    json: bytes


@dataclass(frozen=True, slots=True)
class Image:
    """The current rows up to the entry `newest`. `rows` are by target's id and spec's key, `groups` of specs by
    kind and input width, and by those and resolution."""

    newest: int
    specs: Mapping[int, Spec] = field(default_factory=dict)
    targets: Mapping[int, tuple[Target, bytes]] = field(default_factory=dict)
    target_ids: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[tuple[str | int, ...], tuple[Spec, ...]] = field(default_factory=dict)
    rows: Mapping[int, Mapping[str, Row]] = field(default_factory=dict)
    by_key: Mapping[str, bytes] = field(default_factory=dict)  # a spec's JSON
    keys: Mapping[bytes, str] = field(default_factory=dict)  # and its key by that: byte for byte what our client sends
    wanted: dict[tuple[Any, ...], tuple[int, ...]] = field(default_factory=dict)  # targets of filters asked before

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))

    def page(self, query: Query) -> bytes | None:
        """Return the only page of a query as GET /latency answers it; None where SQL must answer.

        That is a query without block and width, one for a required unit, one of further pages or whose rows need more than one,
        one that many rows may match, and one that nothing matches.
        """
        if query.block is None or query.width is None or query.cursor is not None or query.require_unit is not None:
            return None
        if not query.block.isascii():
            return None
        named = (query.block.lower(), query.width)
        group = self.groups.get(named if query.resolution is None else (*named, query.resolution), ())
        wanted = self._targets(query)
        if not wanted or not 0 < len(group) * len(wanted) <= MOST_POINTS:
            return None
        found = list(self._matching(query, [spec for spec in group if _matches(query, spec)], wanted))
        if not 0 < len(found) <= query.limit:
            return None
        return b'{"entries":[%b],"next_cursor":null,"left_out":0}' % b",".join(found)

    def entries(self, keys: Sequence[str], target_key: str, unit: str | None) -> tuple[list[bytes], int]:
        """Return the row of each spec's key as a batch answers it, null where there is none on that unit; and how many of those
        ran on another."""
        target_id = self.target_ids.get(target_key)
        rows = {} if target_id is None else self.rows.get(target_id, {})
        between = b"" if target_id is None else self.targets[target_id][1]
        found, left_out = [], 0
        for key in keys:
            row = rows.get(key)
            if row is None:
                found.append(b"null")
            elif unit is not None and row.ran_on != unit:
                found.append(b"null")
                left_out += 1
            else:
                found.append(b'{"spec":%b%b%b' % (self.by_key[key], between, row.tail))
        return found, left_out

    def _matching(self, query: Query, specs: Iterable[Spec], wanted: Sequence[int]) -> Iterator[bytes]:
        for spec in specs:
            for target_id in wanted:
                row = self.rows[target_id].get(spec.key)
                if row is None or query.kind not in (None, row.kind) or query.measure not in (None, row.measure):
                    continue
                yield b"%b%b%b%b" % (row.head, spec.json, self.targets[target_id][1], row.tail)

    def _targets(self, query: Query) -> tuple[int, ...]:
        """Return the ids of the targets that match, in order; none where SQL alone knows how letters compare."""
        asked = (query.device, query.runtime, query.precision, query.threads, query.unit)
        known = self.wanted.get(asked)
        if known is None:
            if len(self.wanted) > MOST_NEW:
                self.wanted.clear()
            known = self.wanted[asked] = self._targets_of(asked)
        return known

    def _targets_of(self, asked: tuple[Any, ...]) -> tuple[int, ...]:
        if any(isinstance(name, str) and not name.isascii() for name in asked):
            return ()
        wanted = tuple(_folded(name) for name in asked)

        def matches(target: Target) -> bool:
            has = (target.device, target.runtime, target.precision, target.threads, target.unit)
            return all(one is None or one == _folded(other) for one, other in zip(wanted, has, strict=True))

        return tuple(id for id in sorted(self.targets) if matches(self.targets[id][0]))


def _matches(query: Query, spec: Spec) -> bool:
    _, _, width_out, resolution, batch, _ = spec.place
    numbers = ((query.width_out, width_out), (query.resolution, resolution), (query.batch, batch))
    if any(asked is not None and asked != has for asked, has in numbers):
        return False
    return all(name in spec.params and spec.params[name] == value for name, value in query.params.items())


def _folded(value: Any) -> Any:
    """Fold what both databases fold alike: letters of ASCII, in names that have no others."""
    return value.lower() if isinstance(value, str) and value.isascii() else value


def following(image: Image, new: CurrentRows) -> Image:
    """Return the image of a later version. Copies what changes and shares the rest."""
    added = [_spec(data) for data in new.specs]
    specs = {**image.specs, **{spec.place[-1]: spec for spec in added}} if added else image.specs
    targets = {**image.targets, **{data.id: _target(data) for data in new.targets}} if new.targets else image.targets
    changed: dict[int, dict[str, Row]] = {}
    for id, spec_id, target_id, *of_entry in new.rows or ():
        if target_id not in changed:
            changed[target_id] = dict(image.rows.get(target_id, {}))
        changed[target_id][specs[spec_id].key] = _row(id, targets[target_id][0], *of_entry)
    return Image(
        new.newest,
        specs,
        targets,
        {target.key: id for id, (target, _) in targets.items()},
        {**image.groups, **_groups(image, added)} if added else image.groups,
        {**image.rows, **changed},
        {**image.by_key, **{spec.key: spec.json for spec in added}} if added else image.by_key,
        {**image.keys, **{spec.json: spec.key for spec in added}} if added else image.keys,
        {} if new.targets else image.wanted,
    )


def _groups(image: Image, added: Iterable[Spec]) -> dict[tuple[str | int, ...], tuple[Spec, ...]]:
    """Return the groups that specs are added to, each in the order of a page."""
    groups: dict[tuple[str | int, ...], list[Spec]] = {}
    for spec in added:
        kind, width, _, resolution, *_ = spec.place
        for named in ((_folded(kind), width), (_folded(kind), width, resolution)):
            if named not in groups:
                groups[named] = list(image.groups.get(named, ()))
            groups[named].append(spec)
    return {named: tuple(sorted(group, key=_place)) for named, group in groups.items()}


def _place(spec: Spec) -> tuple[str, int, int, int, int, int]:
    return spec.place


def _spec(data: SpecData) -> Spec:
    id, key, kind, *numbers, params = data
    width_in, width_out, resolution, batch = numbers
    values = {"kind": kind, "width_in": width_in, "width_out": width_out, "resolution": resolution, "batch": batch}
    text = _json({**values, "params": _raw(params), "key": key})
    return Spec((kind, width_in, width_out, resolution, batch, id), key, json.loads(params), text)


def _target(data: TargetData) -> tuple[Target, bytes]:
    """Return a target with the JSON that stands between a row's spec and its latency."""
    target = Target(*data[2:])
    return target, b',"target":%b,"latency":' % _json({**target.as_json(), "key": target.key})


class _Head(msgspec.Struct, gc=False):
    """What `edgelut.figures` says of a row, after its id."""

    id: int
    latency_ms: float | None
    instructions: float | None
    measure: str
    interval: tuple[float, float]
    ran_on: str | None


_Latency = msgspec.defstruct("_Latency", LATENCY, gc=False)  # a dictionary takes three times as long
_P10, _LOW, _HIGH, _CLOCK, _DOUBTS = map(LATENCY.index, ("p10_ns", "low_ns", "high_ns", "clock", "doubts"))


def _row(id: int, target: Target, kind: str, provenance: str, *latency: Any) -> Row:
    p10, low, high, ran_on = latency[_P10], latency[_LOW], latency[_HIGH], _ran_on(target, provenance)
    if latency[_CLOCK] == "instructions":
        head = _Head(id, None, p10, "instructions", (low, high), ran_on)
    else:
        head = _Head(id, p10 / 1e6, None, "time", (low / 1e6, high / 1e6), ran_on)
    told = _Latency(*latency[:_DOUBTS], _raw(latency[_DOUBTS]), *latency[_DOUBTS + 1 :])
    tail = b'%b,"kind":"%b","provenance":%b}' % (_json(told), kind.encode(), provenance.encode())
    return Row(id, _json(head)[:-1] + b',"spec":', tail, kind, head.measure, ran_on)


def _ran_on(target: Target, provenance: str) -> str | None:
    """Return what `Entry.ran_on` says."""
    said = json.loads(provenance).get("ran_on") if '"ran_on"' in provenance else None
    return str(said).lower() if said else own_unit(target)


_json = msgspec.json.Encoder().encode


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


class CurrentStore(Protocol):
    """What of the store this needs."""

    def versions(self) -> dict[str, str | int]:
        """Return what answers are kept by."""

    def current_since(
        self, since: int, most: int, known_specs: Collection[int] = (), known_targets: Collection[int] = ()
    ) -> CurrentRows:
        """Return what became current since."""


class Call(Protocol):
    """Runs a function in a thread."""

    def __call__(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Return what it returns."""


class Images:
    """The image of the table as it was when `read` last read it; `image` is None where there is none (yet), and SQL answers."""

    def __init__(self, store: CurrentStore, call: Call) -> None:
        self._store, self._call = store, call
        self.image: Image | None = None
        self._loaded: Image | None = None
        self._loading: asyncio.Task[None] | None = None
        self._large = self._too_large = False

    @property
    def waiting(self) -> bool:
        """True where a table was read behind the requests' back, and the next `read` takes it up."""
        return self._loaded is not None

    async def read(self) -> object:
        """Bring the image to what the table holds now, and return its version. A call must not begin before the last has ended."""
        if self._loaded is not None:
            self.image, self._loaded = self._loaded, None
        version, self.image = await self._call(self._following, self.image)
        waits = self._large and not self._too_large and self.image is None and self._loaded is None
        if waits and (self._loading is None or self._loading.done()):
            self._loading = asyncio.ensure_future(self._load())
        return version

    def forget(self) -> None:
        """Let go of the image and of its reading. In the event loop."""
        self.image = self._loaded = None
        if self._loading is not None:
            self._loading.cancel()
            self._loading = None

    def _following(self, image: Image | None) -> tuple[object, Image | None]:
        if image is None and self._large:
            return self._store.versions()["table"], None
        if image is None:
            new = self._store.current_since(0, AT_ONCE)
        else:
            new = self._store.current_since(image.newest, MOST_NEW, image.specs.keys(), image.targets.keys())
        if new.rows is None or (image is not None and len(image) + len(new.rows) > MOST_ROWS):
            self._large = True
            return new.newest, None
        if image is not None and new.newest == image.newest:
            return image.newest, image
        return new.newest, following(image or Image(0), new)

    async def _load(self) -> None:
        """Read a large table, while SQL answers."""
        try:
            self._loaded = await self._call(self._whole)
        except (StorageError, RuntimeError) as error:  # RuntimeError: the service is ending
            log.info("the table was not read into memory: %s", error)

    def _whole(self) -> Image | None:
        new = self._store.current_since(0, MOST_ROWS)
        self._too_large = new.rows is None
        return None if new.rows is None else following(Image(0), new)
