"""Column types that both databases give back exactly: aware UTC times, canonical JSON, 64-bit ids, byte-ordered names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from edgelut.errors import InvalidSpec
from edgelut.types import canonical

# SQLite makes only INTEGER a row id; PostgreSQL needs BIGINT beyond 2^31 rows.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Byte order on both databases, so that pages and Python sort alike whatever the server's locale.
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware time, kept in UTC (SQLite keeps no zone, so what it holds is UTC by construction)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the time in UTC; raise InvalidSpec for one that names no zone."""
        if value is not None and value.tzinfo is None:
            raise InvalidSpec(f"{value!r} names no time zone: give datetime.now(UTC)")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(sa.types.TypeDecorator[Any]):
    """Canonical JSON as text: numbers come back exactly, and equal values are equal text that a filter can look for."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Return the canonical text."""
        return None if value is None else canonical(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Return the plain data."""
        return None if value is None else json.loads(value)
