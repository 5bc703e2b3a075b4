"""Tokens: who may ask the service for what. A secret is told once, when it is made; the database holds its SHA-256 alone."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgelut.errors import Conflict, InvalidSpec, LatencyNotFound
from edgelut.jobs import SCOPES, TokenInfo

from .connect import Database, reading, writing
from .job_rows import now
from .rows import storable
from .schema import is_unrevoked, tokens

PREFIX = "edl_"  # by which a secret is known for one where it should not be, as in a repository
NOTED_S = 60.0  # a token's last use is written at most once in so long
LONGEST_NAME = 100


class SqlTokens(Database):
    """Tokens in SQLite or PostgreSQL.

    A name is one token's while it is not revoked. A revoked one keeps its row and frees its name, so that a secret can be
    replaced and whatever is said of `ci` stays said of `ci`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._noted: dict[str, float] = {}  # when this process last wrote down a token's use

    def create_token(
        self, name: str, scopes: Sequence[str], devices: Sequence[str] = (), expires_at: datetime | None = None
    ) -> tuple[str, TokenInfo]:
        """Return a new token's secret, which nothing can tell a second time, and what may be told of it.

        Raises Conflict for a name that is taken, InvalidSpec for a bad name, scope, device or an end that has passed.
        """
        _check(name, scopes, devices, expires_at)
        secret = PREFIX + secrets.token_urlsafe(32)
        row: dict[str, Any] = {"name": name, "hash": _hash(secret), "scopes": list(scopes), "devices": list(devices)}
        row |= {"created_at": now(), "expires_at": expires_at}
        with writing(self.engine) as connection:
            taken = sa.select(tokens.c.id).where(tokens.c.name == name, is_unrevoked)
            if connection.execute(taken).first() is not None:
                raise Conflict(f"there is a token {name!r}: revoke it first, or take another name")
            id_ = connection.execute(tokens.insert().values(row).returning(tokens.c.id)).scalar_one()
            return secret, _info(connection.execute(sa.select(tokens).where(tokens.c.id == id_)).one())

    def find_token(self, secret: str) -> TokenInfo | None:
        """Return the token of a secret, or None where there is none, or it is revoked or has ended.

        What is compared is a hash, which tells whoever times the answer nothing of the secret.
        """
        if not secret.startswith(PREFIX) or not storable(secret):
            return None
        with reading(self.engine) as connection:
            found = connection.execute(sa.select(tokens).where(tokens.c.hash == _hash(secret), *_valid())).one_or_none()
        return None if found is None else _info(found)

    def tokens(self) -> list[TokenInfo]:
        """Return all tokens, revoked ones too, in order of their names."""
        with reading(self.engine) as connection:
            return [_info(row) for row in connection.execute(sa.select(tokens).order_by(tokens.c.name, tokens.c.id))]

    def has_tokens(self) -> bool:
        """Say whether there is a token that is neither revoked nor ended."""
        with reading(self.engine) as connection:
            return connection.execute(sa.select(tokens.c.id).where(*_valid()).limit(1)).first() is not None

    def revoke_token(self, name: str) -> TokenInfo:
        """End a token; return what it was. One that is revoked already stays as it is; raise LatencyNotFound for no such name."""
        with writing(self.engine) as connection:
            change = tokens.update().where(tokens.c.name == name, is_unrevoked)
            connection.execute(change.values(revoked_at=now()))
            newest = sa.select(tokens).where(tokens.c.name == name).order_by(tokens.c.id.desc()).limit(1)
            found = connection.execute(newest).one_or_none()
        if found is None:
            raise LatencyNotFound(f"no token {name!r}")
        return _info(found)

    def token_used(self, name: str) -> None:
        """Note that a token was used; at most once a minute, as nobody waits for a writer's turn to read a row."""
        tick = time.monotonic()
        if tick - self._noted.get(name, -NOTED_S) < NOTED_S:
            return
        self._noted[name] = tick
        at = now()
        last = tokens.c.last_used_at
        stale = sa.or_(last.is_(None), last < at - timedelta(seconds=NOTED_S), last > at)  # a clock may be set back
        with writing(self.engine) as connection:
            connection.execute(
                tokens.update().where(tokens.c.name == name, is_unrevoked, stale).values(last_used_at=at)
            )


def _hash(secret: str) -> str:
    """Hash a secret. It has 256 bits of chance in it, so a slow hash would only slow down its holder."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _valid() -> tuple[sa.ColumnElement[bool], ...]:
    return is_unrevoked, sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now())


def _check(name: str, scopes: Sequence[str], devices: Sequence[str], expires_at: datetime | None) -> None:
    for what, text in (("a token's name", name), *(("a token's device", device) for device in devices)):
        if not 1 <= len(text) <= LONGEST_NAME or not text.isprintable() or "/" in text or not storable(text):
            raise InvalidSpec(f"{what} has 1 to {LONGEST_NAME} printable characters and no '/', not {text[:120]!r}")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidSpec(f"a token's scopes are some of {', '.join(SCOPES)}, not {', '.join(unknown) or 'none'}")
    if expires_at is not None and expires_at <= now():
        raise InvalidSpec(f"a token cannot end at {expires_at.isoformat()}, which has passed")


def _info(row: sa.Row[Any]) -> TokenInfo:
    return TokenInfo(
        name=row.name,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        devices=tuple(row.devices),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
