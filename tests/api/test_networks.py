from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.routes import check as check_route
from db.store import SqlStore
from edgelut import MB4D, BlockSpec, NetworkSpec, Params, Target, wire
from edgelut.check import TableCheck, check
from edgelut.compose import compose
from edgelut.efficientformer import CONFIGS, network
from edgelut.errors import NotEstimable, StorageError
from edgelut.estimated import EstimatedSource
from edgelut.http import HttpTable
from edgelut.notation import format_blocks, parse_blocks
from edgelut.quality import NetworkLatency, estimate, network_latency, qualities, quality
from edgelut.sequences import chain, cold, network_spec
from edgelut.testing import make_entry
from tests.api.support import OTHER, TARGET, new_client, served
from tests.api.test_latency import problem
from tests.client.estimate_data import HOST, PHONE, measured
from tests.client.estimate_data import table as estimated_table
from tests.client.test_compose import ABC, L1, A, B, C, row, rows_of, whole
from tests.client.test_drift import ONLY_OLD, SPECS, swept

LINE = format_blocks(ABC.blocks)
ASKED = wire.dump(TARGET)


@pytest.fixture
def table(store: SqlStore) -> SqlStore:
    """A store with the rows of two networks, both measured as wholes, one of them on another target too."""
    store.put_many([*rows_of(ABC), *rows_of(L1), whole(ABC, 500), whole(L1, 3100)])
    store.put_many([*rows_of(ABC, target=OTHER), whole(ABC, 400, target=OTHER)])
    return store


@pytest.fixture
def networks(table: SqlStore) -> Iterator[httpx.Client]:
    """A client of a service over it."""
    with new_client(table) as opened:
        yield opened


def ask(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/networks/latency", json={"target": ASKED} | body)


def local(spec: NetworkSpec, table: SqlStore) -> NetworkLatency:
    known = quality(table, TARGET)
    return network_latency(estimate(spec, TARGET, table, known), known)


@pytest.mark.parametrize("name", ["efficientformer-l1", "L1", "EfficientFormer-L1"])
def test_a_network_is_asked_for_by_name(networks: httpx.Client, table: SqlStore, name: str) -> None:
    answer = ask(networks, network=name)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    found = wire.decode(NetworkLatency, answer.content)
    assert found == local(L1, table) and found.network == "efficientformer-l1"
    low, high = answer.json()["bracket_ms"]
    assert low <= answer.json()["latency_ms"] <= high
    assert answer.json()["quality"]["networks"] == 2 and answer.json()["measured_ms"] == 3100 / 1e6


def test_a_network_is_asked_for_by_a_line_or_by_specs(networks: httpx.Client, table: SqlStore) -> None:
    line = ask(networks, blocks=LINE).json()
    assert wire.load(NetworkLatency, line) == local(ABC, table) and line["network"] is None
    assert line == ask(networks, blocks="2*MB4D:48@56 + embedding:48>96@56 + MB4D:96@28").json()
    specs = wire.dump(ABC.blocks)
    assert line == ask(networks, blocks=specs).json()
    for spec in specs:
        del spec["key"]
    assert line == ask(networks, blocks=specs).json()


def test_what_is_missing_is_listed_in_words_and_as_json_with_what_measures_it(store: SqlStore) -> None:
    store.put_many([row(A)])
    with new_client(store) as client:
        body = problem(ask(client, blocks=LINE), 404, "incomplete-network")
        assert [one["block"] for one in body["missing"]] == ["embedding 48->96 @56", "MB4D 96 @28"]
        assert wire.load(list[BlockSpec], [one["spec"] for one in body["missing"]]) == [B, C]
        assert len(body["commands"]) == 2 and body["commands"][0] in body["detail"]
        named = problem(ask(client, network="L7"), 404, "incomplete-network")
        assert named["commands"][0].startswith("edgelut profile efficientformer-l7 --device host")


def test_an_unknown_network_lists_those_there_are(networks: httpx.Client) -> None:
    assert problem(ask(networks, network="L9"), 404, "unknown-name")["known"] == list(CONFIGS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "give `network`"),
        ({"network": "L1", "blocks": LINE}, "give `network`"),
        ({"blocks": "MB4D:48@56 + MB4D:96@28"}, "gives"),
        ({"blocks": "MB4D"}, "is no block"),
        ({"blocks": ""}, "is no block"),
        ({"blocks": []}, "$.blocks"),
        ({"blocks": "9999999999*MB4D:48@56"}, "1 to 1000 blocks"),
        ({"blocks": "x" * 20_001}, "$.blocks"),
        ({"blocks": [wire.dump(A) | {"params": {"a": "b+c"}}]}, "key"),
        (
            {"blocks": [{"kind": "mine", "width_in": 1, "width_out": 1, "resolution": 1, "params": {"a": "b+c"}}]},
            "written",
        ),
        ({"blocks": [wire.dump(chain(A))]}, "cannot be written"),
        ({"network": "L1", "align": "yes"}, "$.align"),
        ({"network": "L1", "target": {"device": "a/b", "runtime": "x"}}, "$.target"),
        ({"netwrok": "L1"}, "netwrok"),
    ],
)
def test_what_cannot_be_a_network_is_refused(networks: httpx.Client, body: dict[str, Any], said: str) -> None:
    assert said in problem(ask(networks, **body), 422, "invalid")["detail"]


def test_emulated_rows_are_refused(store: SqlStore) -> None:
    store.put_many(rows_of(ABC, kind="emulated"))
    with new_client(store) as client:
        assert "emulated" in problem(ask(client, blocks=LINE), 422, "invalid")["detail"]


def test_doubts_and_kinds_are_marked_where_they_are_served(store: SqlStore) -> None:
    store.put_many([row(A, doubts=("noisy",)), row(B, kind="predicted"), row(C)])
    with new_client(store) as client:
        found = ask(client, blocks=LINE).json()
    assert [(part["kind"], part["stable"]) for part in found["parts"]] == [
        ("measured", False),
        ("predicted", True),
        ("measured", True),
    ]
    assert found["doubts"] == ["MB4D 48 @56: noisy", "1 rows are predicted, not measured"]


def test_what_is_put_shows_in_the_next_sum_and_quality(networks: httpx.Client, table: SqlStore) -> None:
    before = ask(networks, blocks=LINE).json()
    targets = networks.get("/targets").json()
    table.put_many([row(A, slope=220, day=2), whole(ABC, 1000, day=2)])
    after = ask(networks, blocks=LINE).json()
    assert after["latency_ms"] - before["latency_ms"] == pytest.approx(200 / 1e6)
    assert after["measured_ms"] == 1000 / 1e6 and after["quality"] != before["quality"]
    assert networks.get("/targets").json() != targets


def test_every_target_carries_its_quality_or_null(networks: httpx.Client, table: SqlStore) -> None:
    bare = replace(TARGET, device="bare")
    table.put(row(A, target=bare))
    found = {target["device"]: target["quality"] for target in networks.get("/targets").json()["targets"]}
    known = qualities(table)
    assert found == {"host": wire.dump(known[TARGET]), "null": wire.dump(known[OTHER]), "bare": None}


def test_quality_reads_the_rows_of_networks_and_no_others(table: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def scans(*_: object) -> None:
        raise StorageError("the table was scanned")

    asked: list[str | None] = []
    search = SqlStore.search
    monkeypatch.setattr(SqlStore, "entries", scans)
    monkeypatch.setattr(SqlStore, "search", lambda self, query: (asked.append(query.block), search(self, query))[1])
    with new_client(table) as client:
        for _ in range(3):
            assert client.get("/targets").status_code == 200
            assert ask(client, blocks=LINE).status_code == 200
    assert asked == ["network", "network"]  # once for all targets, once for the one that was asked for


def test_a_row_of_a_network_that_nobody_can_read_spoils_no_answer(networks: httpx.Client, table: SqlStore) -> None:
    before = networks.get("/targets").json()
    table.put(row(BlockSpec("network", 3, 1000, 224, params=Params({"blocks": "nonsense"}))))
    assert networks.get("/targets").json() == before
    assert ask(networks, blocks=LINE).status_code == 200 and networks.get("/check").status_code == 200


def test_aligned_sums_have_the_drift_of_older_sweeps_divided_out(store: SqlStore) -> None:
    store.put_many(swept([*SPECS, ONLY_OLD], "old", 1, 1.05))
    store.put_many(swept(SPECS, "new", 2))
    line = format_blocks([ONLY_OLD])
    with new_client(store) as client:
        raw, aligned = ask(client, blocks=line).json(), ask(client, blocks=line, align=True).json()
    assert (raw["aligned"], aligned["aligned"]) == (False, True)
    assert raw["latency_ms"] == pytest.approx(1.05 * aligned["latency_ms"])


def test_the_networks_that_have_names_are_listed_with_their_blocks(networks: httpx.Client) -> None:
    found = networks.get("/networks").json()["networks"]
    assert [one["name"] for one in found] == list(CONFIGS)
    for one in found:
        assert parse_blocks(one["blocks"]) == network(CONFIGS[one["name"]]).blocks


def test_a_check_says_what_to_measure_again(networks: httpx.Client, table: SqlStore) -> None:
    found = networks.get("/check").json()
    assert wire.load(list[TableCheck], found["checks"]) == check(table.entries())
    assert found["complete"] and found["rows"] == len(list(table.entries()))
    table.put(row(MB4D.spec(640, 7), doubts=("noisy",)))
    found = networks.get("/check?device=HOST&runtime=onnxruntime-cpu&precision=fp32&threads=1&unit=cpu").json()
    (one,) = found["checks"]
    assert not one["good"] and one["doubtful"][0]["doubts"] == ["noisy"]
    assert one["commands"][0].startswith("edgelut profile --block MB4D --width 640 --resolution 7 --device host")


def test_a_check_looks_at_so_many_rows_and_says_where_there_are_more(
    networks: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_route, "PAGE", 4)
    monkeypatch.setattr(check_route, "MOST_ROWS", 10)
    found = networks.get("/check").json()
    assert found["rows"] == 12 and not found["complete"]


def test_a_check_of_nothing_says_what_there_is(networks: httpx.Client) -> None:
    assert problem(networks.get("/check?device=phone"), 404, "unknown-name")["known"] == ["host", "null"]


def test_a_check_of_an_empty_table_says_so(empty_client: httpx.Client) -> None:
    problem(empty_client.get("/check"), 404, "empty-table")


@pytest.mark.parametrize("query", ["block=MB4D", "width=3", "limit=4", "devcie=host", "threads=x", "param.pool=3"])
def test_a_check_takes_the_names_of_a_target_alone(networks: httpx.Client, query: str) -> None:
    assert "known" in problem(networks.get(f"/check?{query}"), 422, "invalid") or query == "threads=x"


def test_a_listing_of_blocks_holds_neither_lines_of_chains_nor_long_values_nor_references(store: SqlStore) -> None:
    mine = BlockSpec("mine", 8, 8, 4, params=Params({"text": "x" * 100, "rank": 2}))
    store.put_many([row(chain(A)), row(cold(A)), row(network_spec(L1)), row(mine), row(A)])
    store.put_many([row(BlockSpec("reference", 1, 1, 1))])
    with new_client(store) as client:
        found = {one["kind"]: one for one in client.get("/blocks").json()["blocks"]}
    assert all(found[kind]["params"] == {} for kind in ("chain", "cold", "network"))
    assert found["chain"]["widths"] == [48] and found["network"]["widths_out"] == [1000]
    assert found["mine"]["params"] == {"rank": [2]} and "reference" not in found
    assert found["MB4D"]["params"]["pool"] == [3]


def test_a_machines_reference_is_no_target_to_ask_for(store: SqlStore) -> None:
    store.put_many([row(A), make_entry(1.0, BlockSpec("reference", 1, 1, 1), Target("host", "reference"))])
    with new_client(store) as client:
        assert [one["runtime"] for one in client.get("/targets").json()["targets"]] == [row(A).target.runtime]


def test_a_row_of_a_long_network_can_be_put(networks: httpx.Client) -> None:
    spec = network_spec(NetworkSpec([MB4D.spec(16, 56, params={"expansion": number}) for number in range(1, 100)]))
    assert len(str(spec.params["blocks"])) > 4000
    assert networks.put("/entries", content=wire.encode([row(spec)])).json() == {"current": [True]}


@pytest.fixture
def sparse(store: SqlStore) -> Iterator[httpx.Client]:
    """A client of a service whose table has every second width of one target, and a few blocks of another."""
    probes = [measured(MB4D.spec(*place), PHONE) for place in ((64, 7), (384, 7), (160, 14), (96, 28), (256, 14))]
    store.put_many([*estimated_table(), *probes])
    with new_client(store) as opened:
        yield opened


@pytest.mark.parametrize("align", [False, True])
def test_rows_that_are_missing_are_estimated_where_that_is_asked_for(
    sparse: httpx.Client, store: SqlStore, align: bool
) -> None:
    line = "2*MB4D:80@14"
    asked = {"blocks": line, "target": wire.dump(HOST), "align": align}
    problem(sparse.post("/networks/latency", json=asked), 404, "incomplete-network")
    answer = sparse.post("/networks/latency", json=asked | {"estimate": True})
    found = wire.decode(NetworkLatency, answer.content)
    assert [part.kind for part in found.parts] == ["interpolated"]
    here = compose(NetworkSpec(parse_blocks(line)), HOST, EstimatedSource(store))
    assert found.latency_ms == pytest.approx(here.ms) and "1 rows are interpolated, not measured" in found.doubts


def test_another_target_s_table_helps_a_sum(sparse: httpx.Client) -> None:
    asked = {"blocks": "2*MB4D:64@14", "target": wire.dump(PHONE), "estimate": True}
    alone, helped = (
        sparse.post("/networks/latency", json=asked | more).json() for more in ({}, {"like": wire.dump(HOST)})
    )
    assert [found["parts"][0]["kind"] for found in (alone, helped)] == ["interpolated", "transferred"]
    nowhere = {"target": {"device": "none", "runtime": "none"}, "like": wire.dump(HOST)}
    assert (
        "3 are needed" in problem(sparse.post("/networks/latency", json=asked | nowhere), 404, "no-estimate")["detail"]
    )
    useless = {**asked, "estimate": False, "like": wire.dump(HOST)}
    assert "give `estimate` too" in problem(sparse.post("/networks/latency", json=useless), 422, "invalid")["detail"]


def test_the_client_asks_for_estimates(sparse: httpx.Client, store: SqlStore) -> None:
    with served(create_app(store)) as url, HttpTable(url) as far:
        found = far.network_latency("2*MB4D:64@14", PHONE, estimate=True, like=HOST)
        assert [part.kind for part in found.parts] == ["transferred"]
        with pytest.raises(NotEstimable):
            far.network_latency("2*MB4D:64@14", OTHER, estimate=True, like=HOST)
