from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.problems import MEDIA_TYPE, TYPE
from db.store import SqlStore
from edgelut import wire
from edgelut.errors import StorageError
from edgelut.types import Entry
from tests.api.support import TARGET, entry, new_client


def problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Return a refusal after checking its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    body: dict[str, Any] = response.json()
    assert body["type"] == TYPE + name
    assert body["status"] == status
    assert body["title"] and body["detail"]
    return body


def test_block_and_width_give_every_matching_row(client: httpx.Client) -> None:
    response = client.get("/latency?block=MB3D&width=224")
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert found["next_cursor"] is None
    assert [row["spec"]["width_in"] for row in found["entries"]] == [224, 224, 224]
    first = found["entries"][0]
    assert first["latency_ms"] == 1.5
    assert first["kind"] == "measured"
    assert first["latency"]["doubts"] == []
    assert wire.load(Entry, first) == entry(224, ms=1.5)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ("", 5),
        ("block=mb3d", 5),
        ("width=208", 1),
        ("width_out=240", 1),
        ("resolution=14", 1),
        ("batch=1", 5),
        ("device=HOST", 4),
        ("runtime=null", 1),
        ("precision=fp16", 1),
        ("threads=2", 1),
        ("unit=gpu", 1),
        ("param.expansion=4", 5),
        ("param.activation=gelu&param.heads=8&width=208", 1),
        ('param.activation="gelu"', 5),
    ],
)
def test_each_filter_leaves_the_rows_that_pass_it(client: httpx.Client, filters: str, count: int) -> None:
    assert len(client.get(f"/latency?{filters}").json()["entries"]) == count


def test_a_row_says_its_kind_and_doubts(client: httpx.Client) -> None:
    assert client.get("/latency?width=240").json()["entries"][0]["kind"] == "interpolated"
    assert client.get("/latency?resolution=14").json()["entries"][0]["latency"]["doubts"] == ["noisy"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 1000])
def test_pages_walk_every_row_once(client: httpx.Client, limit: int) -> None:
    ids: list[int] = []
    cursor = ""
    for _ in range(10):
        page = client.get(f"/latency?limit={limit}{cursor}").json()
        ids += [row["id"] for row in page["entries"]]
        assert len(page["entries"]) <= limit
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(ids) == [1, 2, 3, 4, 5]


def test_what_is_put_shows_in_the_very_next_answer(client: httpx.Client, filled: SqlStore) -> None:
    asked = "/latency?width=224&resolution=7&device=host"
    for ms in (2.5, 3.5):
        client.put("/entries", content=wire.encode([entry(224, ms=ms)]))
        assert client.get(asked).json()["entries"][0]["latency_ms"] == ms
    filled.put(entry(224, ms=4.5))  # another process writes the table without the service
    assert client.get(asked).json()["entries"][0]["latency_ms"] == 4.5


def test_an_empty_table_says_so_and_what_to_type(empty_client: httpx.Client) -> None:
    body = problem(empty_client.get("/latency?block=MB3D"), 404, "empty-table")
    assert "edgelut profile" in body["detail"]


def test_a_width_without_rows_names_the_nearest_that_have_them(client: httpx.Client) -> None:
    body = problem(client.get("/latency?block=MB3D&width=225"), 404, "no-match")
    assert set(body["nearest"]["width"]) == {208, 224, 240}
    assert body["nearest"]["width"][0] == 224
    assert "224" in body["detail"]


@pytest.mark.parametrize(
    ("filters", "nearest"),
    [
        ("width=224&resolution=8", {"resolution": [7, 14]}),
        ("width=208&threads=2", {"width": [224]}),
        ("width_out=225", {"width_out": [224, 240, 208]}),
        ("batch=4", {"batch": [1]}),
        ("threads=8", {"threads": [2, 1]}),
        ("device=host&unit=gpu", {"unit": ["cpu"]}),
        ("block=MB3D&param.expansion=3", {"param.expansion": [4]}),
        ("width=224&resolution=8&batch=9", {"resolution": [7, 14]}),
        ("width=225&resolution=8&batch=9", {"width": [224, 240, 208]}),
        ("param.expansion=3&param.heads=9", None),
    ],
)
def test_a_filter_that_leaves_nothing_names_what_would_match(
    client: httpx.Client, filters: str, nearest: dict[str, Any] | None
) -> None:
    body = problem(client.get(f"/latency?{filters}"), 404, "no-match")
    assert body.get("nearest") == nearest


@pytest.mark.parametrize(
    ("filters", "known"),
    [
        ("block=MB5D", ["MB3D"]),
        ("block=MB4D", ["MB3D"]),
        ("device=phone", ["host", "null"]),
        ("runtime=tflite", ["null", "onnxruntime-cpu"]),
        ("precision=int8", ["fp16", "fp32"]),
        ("unit=npu", ["cpu", "gpu"]),
        ("block=MB3D&param.pool=3", ["activation", "attn_ratio", "expansion", "heads", "key_dim"]),
    ],
)
def test_an_unknown_name_lists_those_there_are(client: httpx.Client, filters: str, known: list[str]) -> None:
    body = problem(client.get(f"/latency?{filters}"), 404, "unknown-name")
    assert body["known"] == known
    assert all(name in body["detail"] for name in known)


def test_an_unknown_query_parameter_lists_those_there_are(client: httpx.Client) -> None:
    assert "width" in problem(client.get("/latency?widht=224"), 422, "invalid")["known"]


@pytest.mark.parametrize(
    "query",
    [
        "width=wide",
        "width=0",
        "width=-1",
        "width=2.5",
        "width=%D9%A3",  # an Arabic three: a digit for int(), not for us
        "width=2147483648",
        "width=",
        "width=1&width=2",
        "limit=0",
        "limit=1001",
        "cursor=abc",
        "cursor=",
        "block=",
        "block=%00",
        "block=" + "x" * 201,
        "block=%ff",
        "param.=1",
        "param.expansion=1e999",
        "&".join(f"param.a{number}=1" for number in range(60)),
    ],
)
def test_a_malformed_query_is_refused_with_the_reason(client: httpx.Client, query: str) -> None:
    problem(client.get(f"/latency?{query}"), 422, "invalid")


def test_a_cursor_of_another_query_is_refused(client: httpx.Client) -> None:
    cursor = client.get("/latency?limit=1").json()["next_cursor"]
    problem(client.get(f"/latency?limit=1&width=224&cursor={cursor}"), 422, "invalid")


def test_a_batch_answers_in_order_with_null_for_what_is_not_there(client: httpx.Client) -> None:
    specs = [entry(width).spec for width in (240, 9, 208)]
    found = client.post("/latency/batch", content=wire.encode({"specs": specs, "target": TARGET})).json()["entries"]
    assert [row and row["spec"]["width_in"] for row in found] == [240, None, 208]


def test_a_batch_needs_no_keys_and_fills_in_the_defaults(client: httpx.Client) -> None:
    spec = wire.dump(entry(208).spec)
    del spec["key"], spec["batch"]
    target = {"device": "host", "runtime": "onnxruntime-cpu"}
    response = client.post("/latency/batch", json={"specs": [spec], "target": target})
    assert response.json()["entries"][0]["latency"]["p10_ns"] == 1e6


@pytest.mark.parametrize(
    "change",
    [
        {"width_in": 0},
        {"width_in": 2**31},
        {"width_in": "224"},
        {"kind": ""},
        {"kind": "a\u0000"},
        {"params": {"expansion": None}},
        {"params": []},
        {"params": {"": 4}},
        {"widht": 224},
        {"key": "0" * 32},
        {"key": "x"},
    ],
)
def test_a_bad_spec_is_refused_with_its_place(client: httpx.Client, change: dict[str, Any]) -> None:
    spec = wire.dump(entry(208).spec) | change
    body = problem(client.post("/latency/batch", json={"specs": [spec], "target": wire.dump(TARGET)}), 422, "invalid")
    assert "$.specs[0]" in body["detail"] or "key" in body["detail"]


@pytest.mark.parametrize("body", [b"", b"[", b"{}", b"[]", b"null", b'{"specs":[],"target":"\xff"}', b'"\\ud800"'])
def test_a_body_that_is_not_the_json_asked_for_is_refused(client: httpx.Client, body: bytes) -> None:
    problem(client.post("/latency/batch", content=body), 422, "invalid")


def test_a_batch_answers_as_the_table_was_at_a_time_or_a_mark(filled: SqlStore, client: httpx.Client) -> None:
    before = datetime.now(UTC)
    client.put("/marks/before").raise_for_status()
    filled.put_many([entry(208, ms=9.0), entry(256)])
    specs = [wire.dump(entry(width).spec) for width in (208, 256)]

    def p10_ms(**when: str) -> list[float | None]:
        asked = {"specs": specs, "target": wire.dump(TARGET), **when}
        found = client.post("/latency/batch", json=asked).raise_for_status().json()["entries"]
        return [row and row["latency"]["p10_ns"] / 1e6 for row in found]

    assert p10_ms() == p10_ms(at="2999-01-01T00:00:00+05:30") == [9.0, 1.0]
    assert p10_ms(mark="before") == p10_ms(at=before.isoformat()) == [1.0, None]
    assert p10_ms(at="1999-01-01T00:00:00Z") == [None, None]


@pytest.mark.parametrize(
    ("when", "status", "name"),
    [
        ({"mark": "none"}, 404, "no-such-mark"),
        ({"mark": "a", "at": "2026-01-01T00:00:00Z"}, 422, "invalid"),
        ({"at": "2026-01-01T00:00:00"}, 422, "invalid"),
        ({"at": "yesterday"}, 422, "invalid"),
        ({"at": "0001-01-01T00:00:00+14:00"}, 422, "invalid"),
    ],
)
def test_a_moment_that_cannot_be_is_refused(client: httpx.Client, when: dict[str, str], status: int, name: str) -> None:
    asked = {"specs": [wire.dump(entry(208).spec)], "target": wire.dump(TARGET), **when}
    problem(client.post("/latency/batch", json=asked), status, name)


def test_a_batch_has_at_most_ten_thousand_specs(client: httpx.Client) -> None:
    spec = {"kind": "MB3D", "width_in": 8, "width_out": 8, "resolution": 7}
    body = {"specs": [spec] * 10_001, "target": wire.dump(TARGET)}
    assert "10000" in problem(client.post("/latency/batch", json=body), 422, "invalid")["detail"]


def test_a_failing_database_is_a_503_without_its_words(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StorageError("the database postgresql://user:secret@host/x is gone")

    monkeypatch.setattr(SqlStore, "search", fails)
    monkeypatch.setattr(SqlStore, "targets", fails)
    with new_client(store) as client:
        response = client.get("/latency")
        assert problem(response, 503, "storage") and "secret" not in response.text
        assert response.headers["retry-after"] == "1"
        assert problem(client.get("/healthz"), 503, "storage")["version"]


def test_a_bug_is_a_500_without_its_trace(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(SqlStore, "search", fails)
    with new_client(store) as client:
        response = client.get("/latency")
        assert problem(response, 500, "internal") and "secret" not in response.text and "Zero" not in response.text
