from __future__ import annotations

import json

import pytest

from dashboard.address import Address
from dashboard.networks import (
    SEGMENTS,
    Total,
    address_of,
    config_of,
    curl,
    is_published,
    line,
    python,
    request_body,
    segments,
    shares,
    title,
    unusual,
)
from edgelut import MemoryTable
from edgelut.compose import compose
from edgelut.efficientformer import CONFIGS, Config, network
from edgelut.notation import parse_blocks
from edgelut.quality import network_latency
from edgelut.types import Entry, Latency, Target

TARGET = Target("host", "onnxruntime-cpu")
SMALL = Config((32, 48, 64, 96), (2, 2, 3, 2), 0, 32, 1, 10, False, 2, "efficientformer-l1")
CHANGED = Config((32, 80, 176, 352), (2, 2, 5, 3), 5, resolution=192, name="efficientformer-l3")


def address(config: Config) -> Address:
    given = {name: value for name, value in address_of(config).items() if value}
    return Address("/network", given.items())


@pytest.mark.parametrize("config", [*CONFIGS.values(), CHANGED, SMALL])
def test_a_network_is_restored_from_its_address(config: Config) -> None:
    assert config_of(address(config)) == config


def test_a_published_network_is_its_name_alone() -> None:
    assert str(address(CONFIGS["efficientformer-l7"])) == "/network?network=efficientformer-l7"
    assert str(address(CONFIGS["efficientformer-l1"])) == "/network"
    assert is_published(CONFIGS["efficientformer-l1"]) and not is_published(CHANGED)
    assert title(CHANGED) == "changed from EfficientFormer-L3"
    assert unusual(CHANGED) == "" and unusual(SMALL) == "; stem stride 2; 10 classes; one head"


@pytest.mark.parametrize(
    "query",
    [
        {"network": "nonsense"},
        {"widths": "1,2"},
        {"widths": "a,b,c,d"},
        {"depths": "0,1,1,1"},
        {"resolution": "100"},
        {"widths": "-16,16,16,16"},
    ],
)
def test_an_address_that_makes_no_sense_is_the_preset(query: dict[str, str]) -> None:
    assert config_of(Address("/network", query.items())) == CONFIGS["efficientformer-l1"]


def test_more_mb3d_than_there_are_blocks_are_as_many_as_there_are() -> None:
    found = config_of(Address("/network", {"mb3d": "99", "depths": "1,1,2,3"}.items()))
    assert found.mb3d == 5


@pytest.mark.parametrize("config", [*CONFIGS.values(), CHANGED])
def test_a_line_reads_back_as_the_same_blocks(config: Config) -> None:
    blocks = network(config).blocks
    assert parse_blocks(line(blocks)) == blocks
    assert "activation" not in line(blocks)


def latency(ns: float) -> Latency:
    return Latency(ns, ns, ns, 0.99 * ns, 1.01 * ns, runs=8, samples=96, slope_ns=ns, cold_ns=1.5 * ns)


@pytest.mark.parametrize("config", [*CONFIGS.values(), CHANGED])
def test_shares_add_up_to_the_sum(config: Config) -> None:
    net = network(config)
    rows = [Entry(spec, TARGET, latency(1e6 * (number + 1))) for number, spec in enumerate(dict.fromkeys(net.blocks))]
    found = network_latency(compose(net, TARGET, MemoryTable(rows)), None)
    assert sum(shares(config, found).values()) == pytest.approx(found.latency_ms)
    assert tuple(shares(config, found)) == SEGMENTS
    assert segments(config).count("embeddings") == 3


def test_a_total_says_how_its_blocks_are_known() -> None:
    config = CONFIGS["efficientformer-l1"]
    net = network(config)
    specs = list(dict.fromkeys(net.blocks))
    rows = [Entry(spec, TARGET, latency(1e6)) for spec in specs[2:]]
    rows.append(Entry(specs[0], TARGET, Latency(1, 1, 1, 1, 1, runs=1, samples=1, doubts=("hot",))))
    rows.append(Entry(specs[1], TARGET, latency(1e6), "predicted"))
    found = network_latency(compose(net, TARGET, MemoryTable(rows)), None)
    assert Total(TARGET, found).blocks == {"measured": len(specs) - 2, "doubtful": 1, "predicted": 1}
    assert Total(TARGET, missing=tuple(specs[:3])).blocks == {"missing": 3}


def test_what_is_copied_asks_for_the_same_network() -> None:
    published, changed = CONFIGS["efficientformer-l3"], CHANGED
    said = curl(published, [TARGET], "http://h:1", guarded=True)
    assert "$EDGELUT_TOKEN" in said and '"network": "efficientformer-l3"' in said
    body = curl(changed, [TARGET], "http://h:1", guarded=False).partition("-d '")[2].rstrip("'\n")
    assert parse_blocks(json.loads(body)["blocks"]) == network(changed).blocks
    for config in (published, changed):
        code = python(config, [TARGET, Target("lab", "onnxruntime-cpu", "fp16", 2)], "http://h:1")
        build = "\n".join(code.partition("with HttpTable")[0].splitlines())
        made: dict[str, object] = {}
        exec(compile(build, "copied", "exec"), made)
        assert made["net"] == network(config) and "estimate" not in code
        assert len(made["targets"]) == 2  # type: ignore[arg-type]


def test_what_is_copied_asks_for_estimates_where_the_page_does() -> None:
    config = CONFIGS["efficientformer-l1"]
    assert request_body(config, TARGET, True) == {**request_body(config, TARGET), "estimate": True}
    assert '"estimate": true' in curl(config, [TARGET], "http://h:1", False, True)
    assert "table.network_latency(net, target, estimate=True)" in python(config, [TARGET], "http://h:1", True)
