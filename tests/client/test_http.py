from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.settings import Settings
from api.testing import InProcess
from edgelut import __version__, wire
from edgelut.errors import InvalidSpec, LatencyNotFound, ServiceError, StorageError
from edgelut.http import HttpTable
from edgelut.query import Query
from edgelut.table import LatencyTable
from edgelut.testing import TableContract
from edgelut.testing_sources import Hold, SourceContract
from edgelut.types import Entry, Params
from tests.api.support import OTHER, TARGET, entry, new_store

TOKEN = "s3cret-token"
Handler = Callable[[httpx.Request], httpx.Response]


class TestHttpTable(TableContract):
    """The table over REST passes what every table passes."""

    @pytest.fixture
    def make_table(self, table_over_rest: HttpTable) -> Callable[[], LatencyTable]:
        return lambda: table_over_rest


class TestSearchedHttpTable(SourceContract):
    @pytest.fixture
    def hold(self, table_over_rest: HttpTable) -> Hold:
        def filled(rows: Sequence[Entry]) -> HttpTable:
            table_over_rest.put_many(rows)
            return table_over_rest

        return filled


@pytest.fixture
def table_over_rest(tmp_path: Path) -> Iterator[HttpTable]:
    """A table over an empty service in this process, with a token."""
    with new_store(tmp_path) as store:
        app = create_app(store, Settings(token=TOKEN))
        with HttpTable("http://service/", TOKEN, transport=InProcess(app)) as table:
            yield table


def table_of(handler: Handler, **changes: object) -> tuple[HttpTable, list[float]]:
    """A table whose service is a function, and the waits that it asked for."""
    waits: list[float] = []
    table = HttpTable(
        "http://service",
        TOKEN,
        transport=httpx.MockTransport(handler),
        sleep=waits.append,
        **changes,  # type: ignore[arg-type]
    )
    return table, waits


def test_a_search_pages_and_filters(table_over_rest: HttpTable) -> None:
    table_over_rest.put_many([entry(width) for width in (208, 224, 240)])
    query = Query(block="mb3d", params=Params({"activation": "gelu", "expansion": 4}), limit=2)
    page = table_over_rest.search(query)
    assert [row.entry for row in page.rows] == [entry(208), entry(224)]
    rest = table_over_rest.search(Query(block="mb3d", params=query.params, limit=2, cursor=page.next_cursor))
    assert [row.entry for row in rest.rows] == [entry(240)]
    assert rest.next_cursor is None


def test_a_text_that_looks_like_a_number_is_searched_as_a_text(table_over_rest: HttpTable) -> None:
    table_over_rest.put(entry(224))
    with pytest.raises(LatencyNotFound):
        table_over_rest.search(Query(params=Params({"expansion": "4"})))


def test_what_the_service_says_is_raised_with_its_words(table_over_rest: HttpTable) -> None:
    with pytest.raises(LatencyNotFound, match="edgelut profile"):
        table_over_rest.search(Query())
    table_over_rest.put(entry(224))
    with pytest.raises(LatencyNotFound, match="the nearest that do: 224"):
        table_over_rest.search(Query(block="MB3D", width=225))
    with pytest.raises(LatencyNotFound, match="it has MB3D"):
        table_over_rest.search(Query(block="MB5D"))
    with pytest.raises(InvalidSpec, match="1 to 1000"):
        table_over_rest.search(Query(limit=5000))


def test_a_put_is_never_split(table_over_rest: HttpTable) -> None:
    with pytest.raises(InvalidSpec, match="10,000"):
        table_over_rest.put_many([entry(224)] * 10_001)


def test_the_table_is_read_as_it_was(tmp_path: Path) -> None:
    with new_store(tmp_path) as store, HttpTable("http://service", transport=InProcess(create_app(store))) as table:
        table.put(entry(208))
        before = datetime.now(UTC)
        store.put_mark("before")
        table.put_many([entry(208, ms=9.0), entry(224)])
        specs = [entry(width).spec for width in (208, 224)]
        assert (
            table.find_many_at(before, specs, TARGET)
            == table.find_many_at("before", specs, TARGET)
            == [entry(208), None]
        )
        assert table.find_many_at(datetime.now(UTC), specs, TARGET) == table.find_many(specs, TARGET)
        with pytest.raises(LatencyNotFound, match="GET /marks"):
            table.find_many_at("none", specs, TARGET)


def test_many_specs_are_asked_in_chunks(monkeypatch: pytest.MonkeyPatch, table_over_rest: HttpTable) -> None:
    monkeypatch.setattr("edgelut.http.BATCH", 3)
    monkeypatch.setattr("edgelut.http.PAGE", 3)
    rows = [entry(width) for width in range(8, 88, 8)]
    table_over_rest.put_many(rows)
    assert table_over_rest.find_many([row.spec for row in rows], TARGET) == rows
    assert sorted(row.spec.width_in for row in table_over_rest.entries()) == list(range(8, 88, 8))


@pytest.mark.parametrize("failure", ["503", "connection", "reading"])
def test_a_busy_service_and_a_lost_connection_are_tried_again(failure: str) -> None:
    tries: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        if len(tries) < 3 and failure == "connection":
            raise httpx.ConnectError("refused", request=request)
        if len(tries) < 3 and failure == "reading":
            raise httpx.ReadTimeout("too slow", request=request)
        return httpx.Response(503) if len(tries) < 3 else httpx.Response(200, json={"entries": [None]})

    table, waits = table_of(handler)
    assert table.find(entry().spec, TARGET) is None
    assert len(tries) == 3
    assert len(waits) == 2 and 0 < waits[0] < waits[1] * 2


def test_the_service_says_how_long_to_wait_within_reason() -> None:
    table, waits = table_of(lambda _: httpx.Response(503, headers={"Retry-After": "3600"}), retries=2)
    with pytest.raises(ServiceError, match="503"):
        table.find(entry().spec, TARGET)
    assert waits == [5.0, 5.0]


def test_a_service_that_cannot_be_reached_is_named_with_what_to_do() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    table, _ = table_of(handler, retries=1)
    with pytest.raises(ServiceError, match=r"cannot reach http://service: refused.*edgelut serve"):
        table.find(entry().spec, TARGET)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"entries": []}),
        httpx.Response(200, json={"entries": [{"latency": 1}]}),
        httpx.Response(200, content=b'{"entries": ["\xff"]}'),
        httpx.Response(404, text="no such page"),
        httpx.Response(302, headers={"Location": "http://elsewhere"}),
        httpx.Response(500, json={"type": "about:blank", "detail": "it broke"}),
    ],
)
def test_an_answer_that_is_not_ours_is_a_service_error(response: httpx.Response) -> None:
    table, _ = table_of(lambda _: response, retries=0)
    with pytest.raises(ServiceError, match="http://service"):
        table.find(entry().spec, TARGET)


def test_a_row_of_another_spec_is_not_taken() -> None:
    other = wire.dump(entry(8))
    table, _ = table_of(lambda _: httpx.Response(200, json={"entries": [other]}))
    with pytest.raises(ServiceError, match="another row"):
        table.find(entry(224).spec, TARGET)


def test_a_wrong_token_is_refused_in_the_services_words(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        app = create_app(store, Settings(token=TOKEN))
        with (
            HttpTable("http://service", "wrong", transport=InProcess(app)) as table,
            pytest.raises(ServiceError, match="Authorization"),
        ):
            table.find(entry().spec, TARGET)


def test_a_failing_database_behind_the_service_is_a_service_error(
    table_over_rest: HttpTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr("db.store.SqlStore.current_since", fails)
    monkeypatch.setattr("db.store.SqlStore.tick", lambda _: None)
    monkeypatch.setattr(table_over_rest._connection, "_sleep", lambda _: None)
    with pytest.raises(ServiceError, match="try again"):
        table_over_rest.find(entry().spec, TARGET)


def test_the_token_is_in_no_repr_message_or_traceback() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        return httpx.Response(500, json={"detail": f"you sent {request.headers['authorization']}"})

    table, _ = table_of(handler)
    assert TOKEN not in repr(table)
    try:
        table.find(entry().spec, TARGET)
    except ServiceError as error:
        assert TOKEN not in "".join(traceback.format_exception(error))
    with pytest.raises(InvalidSpec) as caught:
        HttpTable("http://service", f"{TOKEN}\n")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:pass@host",
        "http://me@host",
        "ftp://host",
        "http://",
        "host:80",
        "http://host/?a=pass",
        "http://host:pass",
    ],
)
def test_a_url_that_is_no_services_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        HttpTable(url)
    assert "pass" not in str(caught.value).replace("password", "")


def test_every_request_says_its_version() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"entries": []})

    table, _ = table_of(handler)
    table.history(entry().spec, OTHER)
    assert seen[0].headers["edgelut-version"] == __version__
    assert seen[0].headers["user-agent"] == f"edgelut/{__version__}"
