from __future__ import annotations

import json
import math

from dashboard.charts_compare import map_width, movers_chart, movers_height, ratio_map
from dashboard.charts_network import height, shares_chart, totals_chart
from dashboard.charts_space import coverage_map, map_size
from dashboard.networks import SEGMENTS, Total
from dashboard.ratios import compare
from dashboard.rows import Found
from dashboard.spaces import Coverage
from edgelut import MemoryTable, presets
from edgelut.blocks import MB4D
from edgelut.compose import compose
from edgelut.efficientformer import CONFIGS, network
from edgelut.quality import network_latency
from edgelut.types import BlockSpec, Entry, Latency, Target

HERE, THERE = Target("<b>one", "fast"), Target("other", "fast")


def row(spec: BlockSpec, ms: float, target: Target = HERE, doubts: tuple[str, ...] = ()) -> Entry:
    ns = ms * 1e6
    latency = Latency(
        ns, ns, ns, 0.99 * ns, 1.01 * ns, runs=8, samples=96, slope_ns=ns, cold_ns=1.5 * ns, doubts=doubts
    )
    return Entry(spec, target, latency)


def seen(spec: BlockSpec, ms: float, doubts: tuple[str, ...] = ()) -> Found:
    return Found.of(row(spec, ms, doubts=doubts))


def test_ratios_are_a_map_centred_on_one() -> None:
    specs = [MB4D.spec(width, side) for width in (48, 96) for side in (56, 28)]
    others = [
        seen(spec, ms, doubts)
        for spec, ms, doubts in zip(specs, (1.3, 1.0, 0.9, 1.2), ((), (), (), ("<i>hot",)), strict=True)
    ]
    pairs = compare([seen(spec, 1.0) for spec in specs], others).pairs
    option = ratio_map(pairs, "MB4D")
    assert option["visualMap"]["min"] == -option["visualMap"]["max"]
    assert math.isclose(option["visualMap"]["max"], math.log(1.3))
    assert option["xAxis"]["data"] == ["48", "96"] and option["yAxis"]["data"] == ["28", "56"]
    labels = {tuple(cell["value"][:2]): cell["label"]["formatter"] for cell in option["series"][0]["data"]}
    assert labels == {(0, 1): "+30", (0, 0): "·", (1, 1): "-10", (1, 0): "+20?"}
    assert all("<i>" not in cell["tip"] for cell in option["series"][0]["data"])
    assert map_width(pairs) > 100 and json.dumps(option)


def test_movers_are_boxes_with_their_intervals() -> None:
    specs = [MB4D.spec(16 * (one + 1), 28) for one in range(20)]
    pairs = compare([seen(spec, 1.0) for spec in specs], [seen(spec, 1 + one / 50) for one, spec in enumerate(specs)])
    option = movers_chart(pairs.movers)
    boxes = option["series"][0]["data"]
    assert len(boxes) == 15 == len(option["yAxis"]["data"])
    assert option["yAxis"]["data"][-1] == str(specs[-1]), "the biggest is at the top"
    low, _, middle, _, high = boxes[-1]["value"]
    assert low < middle < high and math.isclose(middle, 38, rel_tol=1e-6)
    assert boxes[-1]["itemStyle"]["borderType"] == "solid"
    assert movers_height(pairs.movers) > 300


def test_totals_are_boxes_and_shares_stack_up_to_them() -> None:
    config = CONFIGS["efficientformer-l1"]
    net = network(config)
    found = network_latency(compose(net, HERE, MemoryTable(row(spec, 1.0) for spec in set(net.blocks))), None)
    totals = [Total(HERE, found), Total(THERE, missing=net.blocks[:2])]
    (box,) = totals_chart(totals)["series"][0]["data"]
    assert box["value"][1] < box["value"][2] < box["value"][3] and "<b><b>" not in box["tip"]
    option = shares_chart(config, totals)
    assert [series["name"] for series in option["series"]] == list(SEGMENTS)
    assert math.isclose(sum(series["data"][0] for series in option["series"]), found.latency_ms, rel_tol=1e-6)
    assert option["aria"]["decal"]["show"] and height(totals) < height([*totals, *totals])


def test_coverage_is_a_map_for_each_kind_with_letters() -> None:
    specs = presets.get("efficientformer-l1-table")
    found = Coverage.of(
        specs,
        [
            row(spec, 1.0, doubts=("hot",) if number % 5 == 0 else ()) if number % 3 else None
            for number, spec in enumerate(specs)
        ],
    )
    maps = found.maps()
    assert set(maps) == {"MB4D", "MB3D", "stem", "flat", "head", "embedding @56", "embedding @28", "embedding @14"}
    assert sum(len(one) for one, _ in maps.values()) == len(specs)
    for name, (some, states) in maps.items():
        option = coverage_map(some, states)
        places = [tuple(cell["value"][:2]) for cell in option["series"][0]["data"]]
        assert len(set(places)) == len(places) == len(some), name
        assert {cell["label"]["formatter"] for cell in option["series"][0]["data"]} <= {"", "?", "×", "b"}
        assert min(map_size(some)) > 90
