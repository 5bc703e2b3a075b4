from __future__ import annotations

from collections import Counter

import pytest

from dashboard.address import Address
from dashboard.spaces import CUSTOM, LINE, Asked, Coverage, job_request, names, state_of, titles
from edgelut import presets
from edgelut.blocks import MB3D, MB4D
from edgelut.efficientformer import CONFIGS, network
from edgelut.errors import InvalidSpec, UnknownKind
from edgelut.types import Clock, Entry, EntryKind, Latency, Target

TARGET = Target("lab", "onnxruntime-cpu", "fp16", 2, "gpu")
SPEC = MB4D.spec(48, 56)


def entry(
    *, kind: EntryKind = "measured", doubts: tuple[str, ...] = (), slope: float | None = 1.0, clock: Clock = "cpu"
) -> Entry:
    latency = Latency(
        1e6, 1e6, 1e6, 1e6, 1e6, runs=3, samples=30, clock=clock, doubts=doubts, slope_ns=slope, cold_ns=2e6
    )
    return Entry(SPEC, TARGET, latency, kind)


def asked(**query: str) -> Asked:
    return Asked.of(Address("/space", query.items()))


def test_the_table_of_slimming_has_the_entries_of_the_paper() -> None:
    found = Counter(spec.kind for spec in presets.get("efficientformer-l7-table"))
    assert found == {"MB4D": 90, "MB3D": 72, "stem": 6, "embedding": 1512, "flat": 72, "head": 48}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_table_of_slimming_holds_every_block_of_its_network(name: str) -> None:
    blocks = {spec for spec in network(CONFIGS[name]).blocks}
    assert blocks <= set(presets.get(f"{name}-table"))


@pytest.mark.parametrize("name", [name for name in names() if name not in (CUSTOM, LINE)])
def test_every_space_that_has_a_name_has_blocks_and_a_title(name: str) -> None:
    found = asked(space=name).specs()
    assert found and len(set(found)) == len(found) and titles()[name].startswith(name)


def test_a_custom_space_is_every_combination() -> None:
    found = asked(space="custom", kinds="MB4D,MB3D,embedding", widths="16..48:16", widths_out="64", resolutions="14,8")
    specs = found.specs()
    assert Counter(spec.kind for spec in specs) == {"MB4D": 6, "MB3D": 6, "embedding": 6}
    assert {spec.width_out for spec in specs if spec.kind == "embedding"} == {64}


def test_a_line_is_just_its_blocks() -> None:
    assert asked(space="line", blocks="3*MB4D:48@56 + MB4D:48@56 + MB3D:448@7").specs() == [SPEC, MB3D.spec(448, 7)]


@pytest.mark.parametrize(
    "query",
    [
        {"space": "efficientformer-l3-table"},
        {"space": "custom", "kinds": "MB3D", "widths": "16..64:16", "resolutions": "7"},
        {"space": "custom", "kinds": "embedding", "widths": "16", "widths_out": "32", "resolutions": "8"},
        {"space": "line", "blocks": "MB4D:48@56"},
    ],
)
def test_a_space_is_restored_from_its_address(query: dict[str, str]) -> None:
    first = asked(**query)
    again = {name: value for name, value in first.parameters().items() if value}
    assert asked(**again) == first and again == query


@pytest.mark.parametrize(
    "query", [{"widths": "x"}, {"widths": "1..10000"}, {"kinds": "embedding"}, {"blocks": "nonsense", "space": "line"}]
)
def test_a_space_that_makes_no_sense_says_what_to_type(query: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec):
        asked(**{"space": "custom", **query}).specs()


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(UnknownKind, match="MB4D"):
        asked(space="custom", kinds="MB5D").specs()


def test_a_block_is_present_bare_doubtful_estimated_or_missing() -> None:
    assert state_of(SPEC, None) == "missing"
    assert state_of(SPEC, entry()) == "present"
    assert state_of(SPEC, entry(slope=None)) == "bare"
    assert state_of(SPEC, entry(doubts=("hot",))) == "doubtful"
    assert state_of(SPEC, entry(kind="predicted")) == "estimated"
    assert state_of(SPEC, entry(slope=None, clock="instructions", kind="emulated")) == "present"


def test_coverage_counts_by_kind_and_names_what_is_lacking() -> None:
    specs = [SPEC, MB3D.spec(48, 7), MB3D.spec(64, 7)]
    found = Coverage.of(specs, [entry(), None, entry(doubts=("hot",))])
    assert found.counts() == {"present": 1, "bare": 0, "doubtful": 1, "estimated": 0, "missing": 1}
    assert found.by_kind()["MB3D"]["missing"] == 1
    assert found.lacking("missing") == (specs[1],) and found.lacking("missing", "doubtful") == tuple(specs[1:])


def test_the_job_asks_for_what_is_missing_on_that_target() -> None:
    request = job_request([SPEC], TARGET, "space")
    assert (request.devices, request.runtimes, request.precisions) == (("lab",), ("onnxruntime-cpu",), ("fp16",))
    assert (request.threads, request.unit, request.specs, request.name) == ((2,), "gpu", (SPEC,), "space")
