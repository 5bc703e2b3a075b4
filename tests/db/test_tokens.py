"""A token's secret is told once and kept nowhere; its life ends when it is revoked or its time is over."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db.engine import SqlStore
from db.schema import tokens
from edgelut.errors import Conflict, InvalidSpec, LatencyNotFound

SOON = timedelta(hours=1)


def hashes(store: SqlStore) -> list[str]:
    with store.engine.connect() as connection:
        return list(connection.execute(sa.select(tokens.c.hash)).scalars())


def test_a_secret_is_told_once_and_its_hash_is_kept(store: SqlStore) -> None:
    end = datetime.now(UTC) + SOON
    secret, info = store.create_token("lab", ("agent", "read"), ("lab-1",), end)
    assert (info.name, info.scopes, info.devices, info.expires_at) == ("lab", ("agent", "read"), ("lab-1",), end)
    assert info.revoked_at is info.last_used_at is None
    assert secret.startswith("edl_") and len(secret) == 47
    assert hashes(store) == [hashlib.sha256(secret.encode()).hexdigest()]
    assert store.find_token(secret) == info and store.tokens() == [info]
    assert secret not in repr(info) and secret != store.create_token("other", ("read",))[0]
    with store.engine.connect() as connection:
        assert secret not in str(connection.execute(sa.select(tokens)).all())


@pytest.mark.parametrize("wrong", ["", "edl_", "edl_x", "x", "edl_\0", "edl_\ud800", "EDL_"])
def test_what_is_no_secret_finds_nothing(store: SqlStore, wrong: str) -> None:
    secret, _ = store.create_token("lab", ("read",))
    assert store.find_token(wrong) is store.find_token(secret[:-1]) is store.find_token(secret + "x") is None
    assert store.find_token(hashes(store)[0]) is None


def test_a_revoked_token_is_none_and_frees_its_name(store: SqlStore) -> None:
    secret, _ = store.create_token("ci", ("submit",))
    with pytest.raises(Conflict, match="revoke it first"):
        store.create_token("ci", ("read",))
    revoked = store.revoke_token("ci")
    assert revoked.revoked_at is not None and store.find_token(secret) is None
    assert store.revoke_token("ci") == revoked
    new, info = store.create_token("ci", ("submit",))
    assert store.find_token(new) == info and store.find_token(secret) is None
    assert [token.revoked_at for token in store.tokens()] == [revoked.revoked_at, None]
    store.token_used("ci")
    assert [token.last_used_at is None for token in store.tokens()] == [True, False]
    with pytest.raises(LatencyNotFound, match="no token 'x'"):
        store.revoke_token("x")


def test_the_database_refuses_a_name_twice(store: SqlStore) -> None:
    store.create_token("a", ("read",)), store.create_token("b", ("read",))
    with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
        connection.execute(tokens.update().values(name="a"))


def test_a_token_ends_when_its_time_is_over(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, _ = store.create_token("ci", ("submit",), (), datetime.now(UTC) + SOON)
    assert store.find_token(secret) is not None and store.has_tokens()
    monkeypatch.setattr("db.tokens.now", lambda: datetime.now(UTC) + 2 * SOON)
    assert store.find_token(secret) is None and not store.has_tokens()
    with pytest.raises(InvalidSpec, match="has passed"):
        store.create_token("other", ("read",), (), datetime.now(UTC) + SOON)


def test_a_service_without_valid_tokens_has_none(store: SqlStore) -> None:
    assert not store.has_tokens() and store.tokens() == []
    store.create_token("ci", ("submit",))
    assert store.has_tokens()
    store.revoke_token("ci")
    assert not store.has_tokens()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"scopes": ()}, "not none"),
        ({"scopes": ("read", "root")}, "read, submit, agent, admin, not root"),
        ({"devices": ("a/b",)}, "device"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "has passed"),
    ],
)
def test_a_token_that_cannot_be_is_refused(store: SqlStore, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        store.create_token(**{"name": "ci", "scopes": ("read",), **arguments})
    assert store.tokens() == []


def test_a_use_is_written_at_most_once_a_minute(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, statements: list[tuple[str, object]]
) -> None:
    ticks = [time.monotonic()]
    monkeypatch.setattr("db.tokens.time.monotonic", lambda: ticks[0])
    store.create_token("ci", ("read",))
    store.token_used("ci")
    first = store.tokens()[0].last_used_at
    assert first is not None
    statements.clear()
    for _ in range(100):
        ticks[0] += 0.5
        store.token_used("ci")
    assert statements == []
    ticks[0] += 60
    store.token_used("ci")  # another process wrote it down just now
    assert store.tokens()[0].last_used_at == first
    monkeypatch.setattr("db.tokens.now", lambda: datetime.now(UTC) - timedelta(days=1))
    ticks[0] += 60
    store.token_used("ci")  # a clock that was set back does not stop it
    last = store.tokens()[0].last_used_at
    assert last is not None and last < first
    store.token_used("no such")
