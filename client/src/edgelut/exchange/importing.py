"""A file of somebody else's latencies into a table: read, checked, compared with what is there, and put all or none."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from edgelut import wire
from edgelut.errors import InvalidSpec, LatencyNotFound, ServiceError, StorageError
from edgelut.http import PUT_LIMIT, HttpTable
from edgelut.query import Query
from edgelut.settings import default_source
from edgelut.sources import open_source
from edgelut.table import LatencyTable, Searchable
from edgelut.types import Entry, Params, Target

from . import plausible
from .base import Asked, Format

MOST_ROWS = 1_000_000
PUT_BYTES = 15 * 2**20  # of a request: a service takes 16 MiB
PART = 5_000  # rows a request, where a table over HTTP is filled in parts
AT = "imported_at"


@dataclass(frozen=True, slots=True)
class Import:
    """What a file would put into a table, checked: `entries` are the rows that are not there yet.

    `rows` counts all the file's, `unchanged` those that the table has already; `replaced` current rows give place.
    """

    file: str
    format: str
    sha256: str
    publisher: str
    rows: int
    blocks: dict[str, int]
    targets: tuple[Target, ...]
    macs_per_s: float | None
    doubtful: int  # rows far off the median of their file
    unchanged: int
    replaced: int
    entries: tuple[Entry, ...]


def open_table(location: str | None) -> LatencyTable:
    """Open a table that rows can be put into; without a location EDGELUT_URL, else the local database. Raises InvalidSpec."""
    found = open_source(location or default_source())
    if not isinstance(found, LatencyTable):
        raise InvalidSpec(
            "rows are put into a database or a service; a snapshot is frozen, so import there and freeze anew"
        )
    return found


def content_of(path: Path, most_bytes: int) -> bytes:
    """Return a file's bytes; raise StorageError where it cannot be read, InvalidSpec where it is larger than a table is."""
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
            size = max(path.stat().st_size, len(content))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > most_bytes:
        raise InvalidSpec(f"{path} has {size:,} bytes; a table of this format has at most {most_bytes:,}")
    return content


def plan(
    path: Path,
    name: str,
    format_: Format,
    asked: Asked,
    table: LatencyTable,
    *,
    source: str = "",
    implausible: bool = False,
    beside_others: bool = False,
) -> Import:
    """Read a file, check it and compare it with a table, writing nothing; raise InvalidSpec, which names file and place.

    `source` says where the file is from. `implausible` lets rows pass whose MACs a second no device has, `beside_others` a
    device that has rows which the same publisher did not publish.
    """
    content = content_of(path, format_.most_bytes)
    publisher = asked.publisher or format_.publisher
    if not publisher:
        raise InvalidSpec(f"{name} files do not say who measured: give --publisher")
    asked = replace(asked, publisher=publisher)
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        read = format_.read(content, asked)
        if len(read) > MOST_ROWS:
            raise InvalidSpec(f"it has {len(read):,} rows; import at most {MOST_ROWS:,} at once")
        found = plausible.rates(read, format_.macs)
        if found is not None and not implausible:
            plausible.refuse(found, asked.values_in or format_.values_in)
    except InvalidSpec as error:
        raise InvalidSpec(f"{path.name}: {error}") from error
    far = plausible.odd(found.far) if found is not None else {}
    said = {"publisher": publisher, "format": name, "file": path.name, "file_sha256": sha256, AT: _now()}
    said |= {"source": source} if source else {}
    rows = [_published(entry, publisher, said, far.get(entry)) for entry in read]
    targets = tuple(sorted({entry.target for entry in rows}, key=str))
    if not beside_others:
        _refuse_others(table, targets, publisher)
    known = _current(table, rows)
    new = tuple(row for row, has in zip(rows, known, strict=True) if not _same(row, has))
    replaced = sum(has is not None and not _same(row, has) for row, has in zip(rows, known, strict=True))
    return Import(
        path.name,
        name,
        sha256,
        publisher,
        len(rows),
        dict(sorted(Counter(row.spec.kind for row in rows).items())),
        targets,
        None if found is None else found.median,
        len(far),
        len(rows) - len(new),
        replaced,
        new,
    )


def store(table: LatencyTable, found: Import, *, in_parts: bool = False) -> int:
    """Put an import's rows, all or none; return how many are now current rows.

    A service takes 10,000 rows and 16 MiB at once: more are refused with InvalidSpec, unless `in_parts`, where each request is
    all or none and importing again goes on where it stopped.
    """
    rows = found.entries
    if not isinstance(table, HttpTable) or not _too_many(rows):
        return sum(table.put_many(rows))
    if not in_parts:
        raise InvalidSpec(
            f"{len(rows):,} rows are more than a service takes in one request (at most {PUT_LIMIT:,} and 16 MiB, all or none): "
            "--in-parts puts them in several, and importing the file again goes on where it stopped"
        )
    current = done = 0
    for part in _parts(rows):
        try:
            current += sum(table.put_many(part))
        except ServiceError as error:
            said = f"{done:,} of {len(rows):,} rows were put; the same command goes on there: {error}"
            raise ServiceError(said, problem=error.problem) from error
        done += len(part)
    return current


def _parts(rows: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield rows in pieces that a request takes."""
    if len(rows) > PART:
        for start in range(0, len(rows), PART):
            yield from _parts(rows[start : start + PART])
    elif len(rows) > 1 and _too_many(rows):
        yield from _parts(rows[: len(rows) // 2])
        yield from _parts(rows[len(rows) // 2 :])
    else:
        yield rows


def _too_many(rows: Sequence[Entry]) -> bool:
    return len(rows) > PUT_LIMIT or len(wire.encode(list(rows))) > PUT_BYTES


def _published(entry: Entry, publisher: str, said: dict[str, str], far: str | None) -> Entry:
    """Return a row that says who published it.

    What it said of itself before is theirs (`their_publisher`): a sweep's id would lead to runs here that are not its own.
    """
    provenance = entry.provenance.as_dict()
    for name in ("sweep", *said):
        if (own := provenance.pop(name, None)) is not None:
            provenance.setdefault(f"their_{name}", own)
    doubts = entry.latency.doubts
    if not any(doubt.startswith(f"published by {publisher}:") for doubt in doubts):
        doubts = (f"published by {publisher}: nobody measured it here", *doubts)
    doubts += (far,) if far else ()
    return replace(entry, latency=replace(entry.latency, doubts=doubts), provenance=Params({**provenance, **said}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _same(row: Entry, other: Entry | None) -> bool:
    """Say whether a row is in the table already: the same but for the moment of its import."""
    if other is None:
        return False
    one, two = ({**entry.provenance, AT: ""} for entry in (row, other))
    return one == two and replace(row, provenance=Params()) == replace(other, provenance=Params())


def _current(table: LatencyTable, rows: Sequence[Entry]) -> list[Entry | None]:
    """Return the table's row beside each row."""
    found: dict[tuple[str, str], Entry | None] = {}
    for target in {row.target for row in rows}:
        specs = [row.spec for row in rows if row.target == target]
        found |= {(spec.key, target.key): has for spec, has in zip(specs, table.find_many(specs, target), strict=True)}
    return [found[row.spec.key, row.target.key] for row in rows]


def _refuse_others(table: LatencyTable, targets: Sequence[Target], publisher: str) -> None:
    """Raise InvalidSpec where a device has rows of somebody else: its name would stand for two devices, or for two truths."""
    for device in sorted({target.device for target in targets}):
        for entry in _rows_of(table, device):
            if entry.provenance.get("publisher") != publisher or "file_sha256" not in entry.provenance:
                raise InvalidSpec(
                    f"the table has rows of the device {entry.target.device!r} that {publisher} did not publish, such as "
                    f"{entry.spec} on {entry.target}: give another --device, or --beside-others to have both under one name"
                )


def _rows_of(table: LatencyTable, device: str) -> Iterator[Entry]:
    """Yield a device's current rows; a table that cannot be filtered is gone through."""
    if not hasattr(table, "search"):
        yield from (entry for entry in table.entries() if entry.target.device.lower() == device.lower())
        return
    searchable: Searchable = table
    query = Query(device=device, limit=1000)
    while True:
        try:
            page = searchable.search(query)
        except LatencyNotFound:  # REST says "no match" where others answer an empty page
            return
        yield from (row.entry for row in page.rows)
        if page.next_cursor is None:
            return
        query = replace(query, cursor=page.next_cursor)


__all__ = ["Import", "content_of", "open_table", "plan", "store"]
