"""Who may ask what: every route declares a scope, and each kind of token gets what its scopes include and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from api import auth
from api.app import create_app
from api.auth import ANYBODY, Guard
from api.settings import Settings
from db.store import SqlStore
from edgelut import wire
from edgelut.errors import StorageError
from edgelut.jobs import SCOPES, NewToken, TokenInfo
from tests.api.support import new_client
from tests.api.test_latency import problem

OPERATOR = "s3cret-token"
OPERATIONS = [
    (method.upper(), path, operation["security"])
    for path, operations in create_app(None).openapi()["paths"].items()  # type: ignore[arg-type]
    for method, operation in operations.items()
]
READING_POSTS = {"/latency/batch", "/estimates", "/networks/latency", "/history"}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def client(store: SqlStore) -> Iterator[httpx.Client]:
    """A client of a service with the operator's token."""
    with new_client(store, Settings(token=OPERATOR)) as opened:
        yield opened


def needed(security: list[dict[str, list[str]]]) -> str | None:
    """Return the scope that an operation declares, None for one that is open to all."""
    if security == [{}]:
        return None
    assert len(security) == 2 and security[1] == {}
    (scope,) = security[0]["token"]
    assert scope in SCOPES
    return scope


def test_no_route_is_without_a_scope() -> None:
    assert len(OPERATIONS) >= 43
    found = {f"{method} {path}": needed(security) for method, path, security in OPERATIONS}
    assert [name for name, scope in found.items() if scope is None] == ["GET /healthz"]
    for method, path, security in OPERATIONS:
        scope = needed(security)
        if path.startswith("/tokens"):
            assert scope == "admin"
        elif (path.startswith("/batches") and method != "GET") or (path.startswith("/agents") and method == "POST"):
            assert scope == "agent"
        elif method == "GET" or path in READING_POSTS:
            assert scope in ("read", None)
        else:
            assert scope == "submit", (method, path)


def test_no_route_is_outside_of_the_description() -> None:
    app = create_app(None)  # type: ignore[arg-type]
    plain = [route.path for route in app.routes if type(route) is Route]
    assert sorted(plain) == ["/latency", "/openapi.json"]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_what_its_scope_includes_and_nothing_else(
    client: httpx.Client, store: SqlStore, scope: str
) -> None:
    secret, _ = store.create_token("mine", [scope])
    includes = {"read": {"read"}, "submit": {"read", "submit"}, "agent": {"read", "agent"}, "admin": set(SCOPES)}[scope]
    for method, path, security in OPERATIONS:
        asked = path.replace("{name}", "nobody").replace("{entry_id}", "1").replace("{run_id}", "1")
        asked = asked.replace("{job_id}", "none").replace("{batch_id}", "none")
        response = client.request(method, asked, headers=bearer(secret))
        wanted = needed(security)
        if wanted is None or wanted in includes:
            assert response.status_code not in (401, 403), (method, path, response.text)
        else:
            refused = problem(response, 403, "forbidden")
            assert (refused["needs"], refused["has"]) == (wanted, [scope]), (method, path)
            assert f"scope {wanted}" in refused["detail"] and f"'mine' has {scope}" in refused["detail"]


@pytest.mark.parametrize("header", [{}, bearer("edl_wrong"), {"Authorization": OPERATOR}, {"Authorization": "Bearer "}])
def test_who_has_no_token_that_is_valid_gets_nothing_but_health_and_the_openapi(
    client: httpx.Client, header: dict[str, str]
) -> None:
    for method, path, security in OPERATIONS:
        response = client.request(method, path.replace("{name}", "nobody"), headers=header)
        if needed(security) is None:
            assert response.status_code == 200
        else:
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/openapi.json", headers=header).status_code == 200


def test_two_authorization_headers_are_none(client: httpx.Client) -> None:
    headers = [("Authorization", f"Bearer {OPERATOR}"), ("Authorization", f"Bearer {OPERATOR}")]
    problem(client.get("/blocks", headers=headers), 401, "unauthorized")


def test_a_service_without_any_token_is_open_until_there_is_one(store: SqlStore) -> None:
    with new_client(store) as client:
        assert client.get("/blocks").status_code == client.get("/blocks", headers=bearer("any")).status_code == 200
        body = {"name": "me", "scopes": ["admin"]}
        made = wire.decode(NewToken, client.post("/tokens", json=body).content)
        assert made.token not in repr(made) and made.info.name == "me"
        problem(client.get("/blocks"), 401, "unauthorized")
        assert client.get("/blocks", headers=bearer(made.token)).status_code == 200
        assert client.delete("/tokens/me", headers=bearer(made.token)).status_code == 200
        problem(client.get("/blocks"), 401, "unauthorized")  # the end of the last token opens nothing
        problem(client.get("/blocks", headers=bearer(made.token)), 401, "unauthorized")


def test_an_address_that_others_reach_is_never_open(store: SqlStore) -> None:
    with new_client(store, Settings(guarded=True)) as client:
        problem(client.get("/blocks"), 401, "unauthorized")


def test_tokens_are_made_listed_and_revoked_and_a_secret_is_told_once(client: httpx.Client) -> None:
    client.headers.update(bearer(OPERATOR))
    body = {"name": "lab", "scopes": ["agent"], "devices": ["lab-1"], "expires_in_s": 3600}
    response = client.post("/tokens", json=body)
    assert response.status_code == 201 and response.headers["cache-control"] == "no-store"
    made = wire.decode(NewToken, response.content)
    assert made.token.startswith("edl_")
    assert made.info.expires_at is not None
    assert timedelta(minutes=59) < made.info.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert "lab" in problem(client.post("/tokens", json=body), 409, "conflict")["detail"]
    listed = client.get("/tokens")
    assert made.token not in listed.text
    (info,) = wire.load(list[TokenInfo], listed.json()["tokens"])
    assert (info.name, info.scopes, info.devices, info.revoked_at) == ("lab", ("agent",), ("lab-1",), None)
    for _ in range(2):
        assert wire.decode(TokenInfo, client.delete("/tokens/lab").content).revoked_at is not None
    problem(client.delete("/tokens/nobody"), 404, "no-such-token")


@pytest.mark.parametrize(
    "change",
    [{"scopes": []}, {"scopes": ["root"]}, {"name": ""}, {"name": "a/b"}, {"expires_in_s": 0}, {"expires_in_s": 1e12}],
)
def test_a_token_that_cannot_be_is_refused(client: httpx.Client, change: dict[str, Any]) -> None:
    body = {"name": "lab", "scopes": ["agent"]} | change
    problem(client.post("/tokens", json=body, headers=bearer(OPERATOR)), 422, "invalid")


def test_a_request_with_a_known_token_asks_the_database_nothing(
    client: httpx.Client, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _ = store.create_token("mine", ["read"])
    assert client.get("/blocks", headers=bearer(secret)).status_code == 200
    monkeypatch.setattr(store, "find_token", lambda _: pytest.fail("asked again"))
    for _ in range(3):
        assert client.get("/blocks", headers=bearer(secret)).status_code == 200


def test_a_token_that_another_process_revoked_is_believed_for_less_than_5_s(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert auth.FRESH_S < 5
    now = time.monotonic()
    monkeypatch.setattr("api.auth.time.monotonic", lambda: now)
    with new_client(store, Settings(token=OPERATOR)) as client:
        secret, _ = store.create_token("mine", ["read"])
        assert client.get("/blocks", headers=bearer(secret)).status_code == 200
        store.revoke_token("mine")
        assert client.get("/blocks", headers=bearer(secret)).status_code == 200
        now += auth.FRESH_S
        problem(client.get("/blocks", headers=bearer(secret)), 401, "unauthorized")


def test_the_use_of_a_token_is_noted_behind_the_requests_back(client: httpx.Client, store: SqlStore) -> None:
    secret, _ = store.create_token("mine", ["read"])
    assert client.get("/blocks", headers=bearer(secret)).status_code == 200
    deadline = time.monotonic() + 5
    while store.tokens()[0].last_used_at is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_database_that_is_away_is_a_503_for_stored_tokens_and_nothing_for_the_operators(
    client: httpx.Client, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StorageError("gone")

    monkeypatch.setattr(store, "find_token", away)
    problem(client.get("/networks", headers=bearer("edl_some")), 503, "storage")
    assert client.get("/networks", headers=bearer(OPERATOR)).status_code == 200


class Tokens:
    """A store of one token, which counts how often it is asked."""

    asked = 0

    def find_token(self, secret: str) -> TokenInfo | None:
        self.asked += 1
        return TokenInfo("mine", ("read",), datetime.now(UTC)) if secret == "edl_right" else None

    def tokens(self) -> list[TokenInfo]:
        self.asked += 1
        return []

    def token_used(self, name: str) -> None:
        pass


def scope_of(secret: str) -> dict[str, Any]:
    return {"headers": [(b"authorization", f"Bearer {secret}".encode())]}


def guard(store: Tokens, closed: bool = True) -> Guard:
    async def call(function: Any, *args: Any) -> Any:
        await asyncio.sleep(0.01)
        return function(*args)

    return Guard(store, call, None, closed=closed)


def test_requests_that_come_at_once_ask_for_their_token_once() -> None:
    async def play() -> None:
        store = Tokens()
        keeper = guard(store)
        callers = await asyncio.gather(*(keeper.caller(scope_of("edl_right")) for _ in range(20)))
        assert {caller.name for caller in callers} == {"mine"}
        assert store.asked == 1

    asyncio.run(play())


def test_wrong_tokens_are_remembered_too_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MOST_KNOWN", 5)

    async def play() -> None:
        store = Tokens()
        keeper = guard(store)
        for number in range(20):
            for _ in range(3):
                with pytest.raises(auth.Problem):
                    await keeper.caller(scope_of(f"edl_{number}"))
        assert store.asked == 20
        assert len(keeper._known) <= 5

    asyncio.run(play())


def test_an_open_service_asks_the_database_once_in_a_while() -> None:
    async def play() -> None:
        store = Tokens()
        keeper = guard(store, closed=False)
        assert await keeper.caller({"headers": []}) is ANYBODY
        assert all(keeper.known({"headers": []}) is ANYBODY for _ in range(100))
        assert store.asked == 1

    asyncio.run(play())
