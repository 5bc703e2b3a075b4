from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api import learnt
from api.app import create_app
from db.store import SqlStore
from edgelut import MB3D, MB4D, wire
from edgelut.blocks import STEM
from edgelut.estimate import Estimator
from edgelut.estimated import EstimatedSource
from edgelut.http import HttpTable
from edgelut.types import Entry
from tests.api.support import new_client, served
from tests.api.test_latency import problem
from tests.client.estimate_data import HOST, PHONE, measured, table

PROBES = [measured(MB4D.spec(*place), PHONE) for place in ((64, 7), (384, 7), (160, 14), (96, 28), (256, 14))]
ASK = "/estimates?block=MB3D&width=200&resolution=14&device=host&runtime=onnxruntime-cpu"


@pytest.fixture
def rows(store: SqlStore) -> SqlStore:
    """A store with a table of one target and five rows of another."""
    store.put_many([*table(), *PROBES])
    return store


@pytest.fixture
def service(rows: SqlStore) -> Iterator[httpx.Client]:
    """A client of a service over it."""
    with new_client(rows) as opened:
        yield opened


def ask(client: httpx.Client, specs: list[Any], target: Any = HOST, **body: Any) -> httpx.Response:
    return client.post("/estimates", json={"specs": wire.dump(specs), "target": wire.dump(target)} | body)


def same(found: Entry, expected: Entry) -> bool:
    """Whether two estimates differ in nothing but when they were made."""
    return (found.spec, found.latency, found.kind) == (expected.spec, expected.latency, expected.kind)


def test_a_block_that_was_not_measured_is_estimated(service: httpx.Client) -> None:
    answer = service.get(ASK).json()
    expected = Estimator(table(), HOST).estimate(MB3D.spec(200, 14))
    assert answer["kind"] == "interpolated" and same(wire.load(Entry, answer), expected)
    assert answer["latency_ms"] == expected.latency.ms and answer["interval"][0] < answer["latency_ms"]
    assert answer["measure"] == "time" and answer["instructions"] is None


def test_one_that_was_measured_is_given_as_it_was(service: httpx.Client) -> None:
    answer = service.get(ASK.replace("200", "224")).json()
    assert answer["kind"] == "measured" and wire.load(Entry, answer) == measured(MB3D.spec(224, 14), noise=0.01)


@pytest.mark.parametrize(
    "query",
    [
        "block=mb3d&width=200&resolution=14&device=HOST&runtime=ONNXRUNTIME-cpu",
        ASK.partition("?")[2] + "&batch=1&precision=fp32&threads=1&unit=cpu&param.heads=8&width_out=200",
    ],
)
def test_names_match_whatever_their_case_and_defaults_may_be_given(service: httpx.Client, query: str) -> None:
    assert service.get(f"/estimates?{query}").json()["latency"] == service.get(ASK).json()["latency"]


@pytest.mark.parametrize("like", ["host/onnxruntime-cpu", "HOST/onnxruntime-cpu/fp32/1/cpu"])
def test_another_target_s_table_helps(service: httpx.Client, like: str) -> None:
    asked = "/estimates?block=MB4D&width=200&resolution=14&device=phone&runtime=onnxruntime-native"
    answer = service.get(asked, params={**dict(pair.split("=") for pair in asked[11:].split("&")), "like": like}).json()
    assert answer["kind"] == "transferred" and answer["provenance"]["from"] == str(HOST)


def test_what_can_be_no_estimate_says_why_and_what_to_type(service: httpx.Client) -> None:
    refused = problem(
        service.get("/estimates?block=stem&width=48&resolution=224&device=host&runtime=onnxruntime-cpu"),
        404,
        "no-estimate",
    )
    assert "0 rows of stem" in refused["detail"] and refused["commands"][0].startswith("edgelut profile --block stem")
    unknown = service.get(ASK.replace("=host", "=nowhere"))
    assert "0 rows of MB3D were measured there" in problem(unknown, 404, "no-estimate")["detail"]
    few = service.get(ASK.replace("=host", "=nowhere") + "&like=host")
    assert "3 are needed" in problem(few, 404, "no-estimate")["detail"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("block=MB3D&width=200", "resolution, device, runtime is missing"),
        (ASK.partition("?")[2] + "&limit=3", "takes block, width"),
        (ASK.partition("?")[2] + "&kind=measured", "takes block, width"),
        (ASK.partition("?")[2] + "&like=a&like=b", "like is given twice"),
        (ASK.partition("?")[2] + "&like=a//b", "is no target: write DEVICE"),
        (ASK.partition("?")[2] + "&like=", "like must be 1 to 1000"),
        (ASK.partition("?")[2] + "&param.heads=0", "heads must be a positive whole number"),
        (ASK.partition("?")[2] + "&width_out=300", "input and output width are one"),
        (ASK.partition("?")[2] + "&colour=red", "there is no query parameter 'colour'"),
    ],
)
def test_a_malformed_question_says_what_is_wrong(service: httpx.Client, query: str, says: str) -> None:
    assert says in problem(service.get(f"/estimates?{query}"), 422, "invalid")["detail"]


def test_many_blocks_are_asked_for_at_once_each_with_its_reason(service: httpx.Client) -> None:
    specs = [MB4D.spec(224, 14), MB4D.spec(200, 14), STEM.spec(48, 224)]
    answer = ask(service, specs).json()
    first, second, third = answer["entries"]
    assert (first["kind"], second["kind"], third) == ("measured", "interpolated", None)
    assert answer["why_not"][:2] == [None, None] and "0 rows of stem" in answer["why_not"][2]


def test_a_batch_goes_by_another_target_and_by_the_unit_that_is_required(service: httpx.Client) -> None:
    moved = ask(service, [MB4D.spec(200, 14)], PHONE, like=wire.dump(HOST)).json()["entries"]
    assert [entry["kind"] for entry in moved] == ["transferred"]
    asked = ask(service, [MB4D.spec(200, 14)], require_unit="ne").json()
    assert asked["entries"] == [None] and asked["why_not"] == ["it ran on cpu, not on ne alone"]
    problem(
        ask(service, [MB4D.spec(200, 14)], {"device": "none", "runtime": "none"}, like=wire.dump(HOST)),
        404,
        "no-estimate",
    )
    problem(service.get(ASK + "&require_unit=ne"), 404, "other-unit")


def test_a_new_row_changes_the_next_answer(service: httpx.Client, rows: SqlStore) -> None:
    before = service.get(ASK).json()
    assert service.get(ASK).json() == before
    rows.put(measured(MB3D.spec(192, 14), noise=0.3, seed=5, provenance=before["provenance"] | {"ran_on": "cpu"}))
    after = service.get(ASK).json()
    assert after["provenance"]["basis"] != before["provenance"]["basis"] and after["latency_ms"] != before["latency_ms"]
    rows.put(measured(MB3D.spec(200, 14)))
    assert service.get(ASK).json()["kind"] == "measured"


def test_what_was_learnt_is_kept_until_the_table_changes_and_not_without_end(
    service: httpx.Client, rows: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    real = learnt.estimates_of
    monkeypatch.setattr(learnt, "estimates_of", lambda *asked: (told.append(asked[1].device), real(*asked))[1])
    monkeypatch.setattr(learnt, "MOST_HELD", 2)
    for device in ("host", "host", "phone", "none", "phone", "host"):
        ask(service, [MB4D.spec(200, 14)], {"device": device, "runtime": "onnxruntime-cpu"})
    assert told == ["host", "phone", "none", "host"]
    rows.put(measured(MB3D.spec(200, 14)))
    ask(service, [MB4D.spec(200, 14)])
    assert told[4:] == ["host"]


def test_a_client_s_gaps_are_filled_over_rest_as_they_are_at_home(rows: SqlStore) -> None:
    with served(create_app(rows)) as url, HttpTable(url) as far:
        over, at_home = EstimatedSource(far), EstimatedSource(rows)
        assert same(over.get(MB4D.spec(200, 14), HOST), at_home.get(MB4D.spec(200, 14), HOST))
