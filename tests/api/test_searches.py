"""Searches over REST: what is refused, and by which scope."""

from __future__ import annotations

import httpx
import pytest

from api.settings import Settings
from db.store import SqlStore
from edgelut import wire
from edgelut.searches import SearchRun
from edgelut.testing_searches import make_event, make_search
from tests.api.support import new_client

PUT = {"name": "small", "target": {"device": "phone", "runtime": "onnxruntime-cpu"}, "target_ms": 5.0}


def events(*numbers: int) -> bytes:
    return wire.encode({"events": [make_event(number) for number in numbers]})


def test_a_search_is_put_told_and_ended(client: httpx.Client) -> None:
    put = client.put("/searches/5f0c", json=PUT)
    assert put.status_code == 200 and wire.decode(SearchRun, put.content).state == "running"
    added = client.post("/searches/5f0c/events", content=events(0, 1))
    assert added.json()["events"] == 2 and added.json()["share"] == 0.01
    assert [one["number"] for one in client.get("/searches/5f0c/events?after=0").json()["events"]] == [1]
    assert client.post("/searches/5f0c/end", json={"state": "done"}).json()["state"] == "done"
    assert client.get("/searches/5f0c").json() == client.get("/searches").json()["searches"][0]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("PUT", "/searches/5f0c", {**PUT, "target_ms": 0}, 422, "target_ms"),
        ("PUT", "/searches/5f0c", {**PUT, "about": {"x": "x" * 70_000}}, 422, "65,536"),
        ("PUT", "/searches/5f0c", {**PUT, "about": {"n": 2**70}}, 422, "no JSON form"),
        ("PUT", "/searches/5f0c", {**PUT, "name": ""}, 422, "name"),
        ("PUT", "/searches/5f0c", {**PUT, "about": []}, 422, "about"),
        ("PUT", "/searches/of.another", {**PUT, "target_ms": 6}, 409, "an id of its own"),
        ("PUT", "/searches/-x", PUT, 422, "search_id"),
        ("POST", "/searches/of.another/end", {"state": "running"}, 422, "running"),
        ("POST", "/searches/none/end", {"state": "done"}, 404, "the newest are of.another (small on the phone)"),
        ("POST", "/searches/of.another/events", {"events": [{"number": 0}]}, 422, "kind"),
        ("GET", "/searches/none/events", None, 404, "no search 'none'"),
        ("GET", "/searches/of.another/events?after=-1", None, 422, "after"),
        ("GET", "/searches/of.another/events?limit=1001", None, 422, "limit"),
        ("GET", "/searches?cursor=none", None, 404, "no search 'none'"),
    ],
)
def test_what_cannot_be_is_refused(
    filled: SqlStore, client: httpx.Client, method: str, path: str, body: object, status: int, said: str
) -> None:
    filled.put_search(make_search("of.another"))
    found = client.request(method, path, json=body)
    assert (found.status_code, found.headers["content-type"]) == (status, "application/problem+json")
    assert said in found.json()["detail"]


def test_what_is_nested_without_end_is_refused(client: httpx.Client) -> None:
    found = client.put("/searches/5f0c", content=b'{"about": ' + b'{"a":' * 50_000)
    assert found.status_code == 422


def test_a_page_goes_on_where_the_last_one_ended(filled: SqlStore, client: httpx.Client) -> None:
    for number in range(3):
        filled.put_search(make_search(f"s{number}"))
    first = client.get("/searches?limit=2").json()
    assert ([one["id"] for one in first["searches"]], first["next_cursor"]) == (["s2", "s1"], "s1")
    rest = client.get("/searches?limit=2&cursor=s1").json()
    assert ([one["id"] for one in rest["searches"]], rest["next_cursor"]) == (["s0"], None)


def test_who_may_read_may_look_and_who_may_submit_may_tell(store: SqlStore) -> None:
    tokens = {
        scope: {"Authorization": f"Bearer {store.create_token(scope, [scope])[0]}"} for scope in ("read", "submit")
    }
    with new_client(store, Settings(guarded=True)) as client:
        assert client.get("/searches").status_code == 401
        for method, path in (("PUT", ""), ("POST", "/events"), ("POST", "/end")):
            refused = client.request(method, f"/searches/5f0c{path}", json=PUT, headers=tokens["read"])
            assert refused.status_code == 403
        assert client.put("/searches/5f0c", json=PUT, headers=tokens["submit"]).status_code == 200
        assert client.get("/searches/5f0c/events", headers=tokens["read"]).json() == {"events": []}
