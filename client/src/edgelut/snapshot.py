"""A table frozen in one hashed file: what a search reads without a service, the same on every machine."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from . import wire
from .errors import EdgelutError, InvalidSpec, SnapshotCorrupted, StorageError
from .placement import placed
from .query import Page, Query, search_entries
from .table import LatencySource
from .types import BlockSpec, Entry, EntryKind, Latency, Params, Target, canonical, plain

FORMAT = 1
_GZIP_MAGIC = b"\x1f\x8b"


class _Document(msgspec.Struct, frozen=True):
    """The file: `rows` is canonical JSON, and `sha256` is of its bytes, so that equal tables have equal hashes."""

    format: int
    created_at: str
    source: str
    sha256: str
    count: int
    rows: msgspec.Raw


class _Format(msgspec.Struct, frozen=True):
    format: int


def write(path: str | Path, entries: Iterable[Entry], *, source: str = "") -> str:
    """Write the rows to a file (gzip if its name ends .gz), wholly or not at all; return the SHA-256 of the rows.

    The same rows give the same bytes, in whatever order they come, but for `created_at`. `source` says where they are
    from. Raises InvalidSpec for two rows of one spec on one target, StorageError where the file cannot be written.
    """
    ordered = _ordered(entries)
    rows = canonical([_row(entry) for entry in ordered])
    sha256 = hashlib.sha256(rows).hexdigest()
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    document = msgspec.json.encode(_Document(FORMAT, created_at, source, sha256, len(ordered), msgspec.Raw(rows)))
    path = Path(path)
    _replace(path, gzip.compress(document, mtime=0) if path.name.endswith(".gz") else document)
    return sha256


class Snapshot(LatencySource):
    """A frozen table in a file that `write` made.

    The whole file is read and checked when it is opened: StorageError where it cannot be read, SnapshotCorrupted where
    it is not what was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        document = _parse(self.path, _content(self.path))
        self.sha256 = document.sha256
        self.created_at = document.created_at
        self.source = document.source
        self._rows = _index(self.path, document)

    def find_many(
        self, specs: Sequence[BlockSpec], target: Target, *, require_unit: str | None = None
    ) -> list[Entry | None]:
        """Return the row of each spec, None where there is none."""
        return placed([self._rows.get((spec.key, target.key)) for spec in specs], require_unit)

    def search(self, query: Query) -> Page:
        """Return the rows that match."""
        return search_entries(self._rows.values(), query)

    def entries(self) -> Iterator[Entry]:
        """Iterate over the rows."""
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Snapshot({str(self.path)!r}, rows={len(self)}, sha256={self.sha256[:12]!r})"


def _row(entry: Entry) -> dict[str, Any]:
    """Return a row's JSON form with its numbers normalised: 4 and 4.0 are equal rows and must hash alike."""
    row: dict[str, Any] = wire.dump(entry)
    latency = row["latency"].items()
    return row | {"latency": {name: plain(value) if isinstance(value, float) else value for name, value in latency}}


def _ordered(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries in the one order of a file: as people read them, then by key."""
    found: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        spec, target = entry.spec, entry.target
        widths = (spec.width_in, spec.width_out, spec.resolution, spec.batch)
        place = (spec.kind, *widths, str(target), spec.key, target.key)
        if place in found:
            raise InvalidSpec(f"two rows for {spec} on {target}; a snapshot holds the current row alone")
        found[place] = entry
    return [found[place] for place in sorted(found)]


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place in one step: a reader sees the old one or the new one, and a full disk leaves the old one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageError(f"cannot write the snapshot {path}: {error.strerror or error}") from error


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the snapshot {path}: {error.strerror or error}") from error
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise SnapshotCorrupted(f"{path} is not a whole gzip file: {error}") from error


def _parse(path: Path, content: bytes) -> _Document:
    """Return the document after checking its format and its hash."""
    try:
        form = msgspec.json.decode(content, type=_Format).format
        if form != FORMAT:
            raise SnapshotCorrupted(f"{path} is of format {form}; this version reads format {FORMAT}")
        document = msgspec.json.decode(content, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotCorrupted(f"{path} is not a snapshot, or not a whole one: {error}") from error
    found = hashlib.sha256(bytes(document.rows)).hexdigest()
    if found != document.sha256:
        raise SnapshotCorrupted(
            f"{path} is not what was written: its rows hash to {found[:12]}, not {document.sha256[:12]}"
        )
    return document


def _index(path: Path, document: _Document) -> dict[tuple[str, str], Entry]:
    """Return the rows by key; a stored key that is not its spec's means that the file's maker hashed otherwise.

    Equal JSON is read and hashed once: thousands of rows have one target, its specs are other targets' too, and few sets of
    parameters are distinct.
    """
    targets: dict[bytes, Target] = {}
    specs: dict[bytes, BlockSpec] = {}
    params: dict[bytes, Params] = {}
    index: dict[tuple[str, str], Entry] = {}
    try:
        rows = wire.decode(list[_Row], bytes(document.rows))
        for row in rows:
            said, place = bytes(row.spec), bytes(row.target)
            target, spec = targets.get(place), specs.get(said)
            if target is None:
                target = targets[place] = wire.decode(_Target, place).value()
            if spec is None:
                spec = specs[said] = wire.decode(_Spec, said).value(params)
            index[spec.key, target.key] = Entry(spec, target, row.latency, row.kind, row.provenance)
    except (EdgelutError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotCorrupted(f"{path} holds a row that cannot be read: {error}") from error
    if not len(index) == len(rows) == document.count:
        raise SnapshotCorrupted(
            f"{path} holds {len(index)} rows of other keys among {len(rows)}, and states {document.count}"
        )
    return index


class _Spec(msgspec.Struct, frozen=True, gc=False):
    key: str
    kind: str
    width_in: int
    width_out: int
    resolution: int
    batch: int = 1
    params: msgspec.Raw = msgspec.Raw(b"{}")

    def value(self, known: dict[bytes, Params]) -> BlockSpec:
        """Return the spec; raise InvalidSpec for another key than its own."""
        text = bytes(self.params)
        if text not in known:
            known[text] = wire.decode(Params, text)
        spec = BlockSpec(self.kind, self.width_in, self.width_out, self.resolution, self.batch, known[text])
        return _checked(spec, self.key)


class _Target(msgspec.Struct, frozen=True, gc=False):
    key: str
    device: str
    runtime: str
    precision: str = "fp32"
    threads: int = 1
    unit: str = "cpu"

    def value(self) -> Target:
        """Return the target; raise InvalidSpec for another key than its own."""
        return _checked(Target(self.device, self.runtime, self.precision, self.threads, self.unit), self.key)


Keyed = TypeVar("Keyed", BlockSpec, Target)


def _checked(value: Keyed, key: str) -> Keyed:
    if value.key != key:
        raise InvalidSpec(f"the keys of {value} are {value.key} and, in the file, {key}")
    return value


class _Row(msgspec.Struct, frozen=True, gc=False):
    spec: msgspec.Raw
    target: msgspec.Raw
    latency: Latency
    kind: EntryKind = "measured"
    provenance: Params = msgspec.field(default_factory=Params)
