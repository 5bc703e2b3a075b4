"""How values become rows and rows values, and how specs and targets get their ids."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa

from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec, Entry, Latency, Params, Target

from .schema import entries, specs, targets

T = TypeVar("T", BlockSpec, Target)
Data = sa.RowMapping

BATCH = 1000  # keys in one statement: below SQLite's 32,766 variables, and few statements for thousands of specs
LATENCY = tuple(field.name for field in fields(Latency))
LARGEST = 2**31 - 1  # what an INTEGER column of PostgreSQL holds

SPEC = (specs.c.kind, specs.c.width_in, specs.c.width_out, specs.c.resolution, specs.c.batch, specs.c.params)
TARGET = (targets.c.device, targets.c.runtime, targets.c.precision, targets.c.threads, targets.c.unit)
ENTRY = (*(entries.c[name] for name in LATENCY), entries.c.kind.label("entry_kind"), entries.c.provenance)


def batches(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Cut a sequence into pieces that fit one statement."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def storable(text: str) -> bool:
    """Say whether both databases can hold that text: PostgreSQL has no NUL, and half a surrogate pair is no text."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def spec_of(row: Data) -> BlockSpec:
    """Return the spec of a row of SPEC."""
    return BlockSpec(
        row["kind"], row["width_in"], row["width_out"], row["resolution"], row["batch"], Params(row["params"])
    )


def target_of(row: Data) -> Target:
    """Return the target of a row of TARGET."""
    return Target(row["device"], row["runtime"], row["precision"], row["threads"], row["unit"])


def entry_of(row: Data, spec: BlockSpec, target: Target) -> Entry:
    """Return the entry of a row of ENTRY."""
    latency = Latency(**{name: row[name] for name in LATENCY})
    return Entry(spec, target, latency, row["entry_kind"], Params(row["provenance"]))


def entry_row(entry: Entry) -> dict[str, Any]:
    """Return an entry's own columns; raise InvalidSpec for a time that is no number."""
    row = {name: getattr(entry.latency, name) for name in LATENCY}
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidSpec(f"{entry.spec} on {entry.target}: {name} is {value}; a table holds finite numbers")
    ran_on = entry.ran_on if storable(entry.ran_on or "") else None
    return row | {"kind": entry.kind, "provenance": dict(entry.provenance), "ran_on": ran_on}


def find_ids(connection: sa.Connection, table: sa.Table, keys: Sequence[str]) -> dict[str, int]:
    """Return the ids of the keys that a table with `id` and `key` knows."""
    found: dict[str, int] = {}
    for batch in batches(list(dict.fromkeys(keys))):
        rows = connection.execute(sa.select(table.c.key, table.c.id).where(table.c.key.in_(batch)))
        found.update((key, id_) for key, id_ in rows)
    return found


def spec_ids(connection: sa.Connection, wanted: Iterable[BlockSpec]) -> dict[str, int]:
    """Return the specs' ids by key, storing those that are new."""
    return _ids(connection, specs, {spec.key: spec for spec in wanted})


def target_ids(connection: sa.Connection, wanted: Iterable[Target]) -> dict[str, int]:
    """Return the targets' ids by key, storing those that are new."""
    return _ids(connection, targets, {target.key: target for target in wanted})


def _ids(connection: sa.Connection, table: sa.Table, values: Mapping[str, BlockSpec | Target]) -> dict[str, int]:
    known = find_ids(connection, table, list(values))
    new = [key for key in values if key not in known]
    if new:
        connection.execute(table.insert(), [_checked(values[key]) for key in new])
        known |= find_ids(connection, table, new)
    return known


def _checked(value: BlockSpec | Target) -> dict[str, Any]:
    """Return a spec's or target's columns; raise InvalidSpec for what one of the databases cannot hold."""
    row = value.as_json()
    for name, item in row.items():
        if isinstance(item, int) and item > LARGEST:
            raise InvalidSpec(f"{value}: {name} is above {LARGEST}, the largest that a table holds")
        if isinstance(item, str) and not storable(item):
            raise InvalidSpec(f"{value!r}: {name} holds a character that a database cannot")
    return row | {"key": value.key}
