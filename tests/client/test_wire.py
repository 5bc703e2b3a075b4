"""The JSON form: what goes out comes back, and what is wrong is refused with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelut import BlockSpec, Entry, InvalidSpec, Params, Target, wire
from edgelut.efficientformer import get_config, network
from edgelut.testing import SPEC, entries, make_entry, make_run, specs, targets
from edgelut.types import Artifact, NetworkSpec, Run

GOOD = {"kind": "MB4D", "width_in": 8, "width_out": 8, "resolution": 4}


@given(specs)
def test_any_spec_comes_back_with_its_key(spec: BlockSpec) -> None:
    for again in (wire.decode(BlockSpec, wire.encode(spec)), wire.load(BlockSpec, wire.dump(spec))):
        assert again == spec and again.key == spec.key and repr(again.params) == repr(spec.params)


@given(targets)
def test_any_target_comes_back_with_its_key(target: Target) -> None:
    again = wire.decode(Target, wire.encode(target))
    assert again == target and again.key == target.key


@given(st.lists(entries, max_size=3))
def test_any_rows_come_back(rows: list[Entry]) -> None:
    assert wire.decode(list[Entry], wire.encode(rows)) == rows
    assert wire.load(list[Entry], json.loads(wire.encode(rows))) == rows


def test_runs_networks_and_artifacts_come_back() -> None:
    for value in (
        make_run("s", peak_memory_bytes=2**40, load_ns=None),
        network(get_config("l1")),
        Artifact(SPEC, "onnx", "fp32", "ab" * 32, "1", 1e-7, 2**33),
    ):
        assert wire.decode(type(value), wire.encode(value)) == value


def test_the_form_is_plain_json_with_the_key_for_people_to_read() -> None:
    assert wire.dump(SPEC) == {
        "kind": "MB4D",
        "width_in": 96,
        "width_out": 96,
        "resolution": 14,
        "batch": 1,
        "params": {"activation": "gelu", "expansion": 4},
        "key": SPEC.key,
    }


def test_a_spec_is_read_without_its_key_and_a_wrong_key_is_not_believed() -> None:
    without = wire.load(BlockSpec, GOOD)
    assert without.key == BlockSpec("MB4D", 8, 8, 4).key
    assert wire.load(BlockSpec, {**GOOD, "key": "0" * 32}).key == without.key
    assert wire.load(Target, {"device": "a", "runtime": "b", "key": 32 * "0"}).key == Target("a", "b").key


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"width_in": 0}, "width_in must be a positive whole number, not 0"),
        ({"width_in": 1.5}, r"\$\.width_in"),
        ({"width_in": "8"}, r"\$\.width_in"),
        ({"kind": ""}, "kind must be a name"),
        ({"kind": None}, r"\$\.kind"),
        ({"params": {"a": None}}, r"None is not a parameter value.*\$\.params"),
        ({"params": {"a": [1]}}, "is not a parameter value"),
        ({"params": [1]}, "expected an object of parameters"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(wrong: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidSpec, match=place):
        wire.load(BlockSpec, {**GOOD, **wrong})
    with pytest.raises(InvalidSpec, match=place):
        wire.decode(BlockSpec, json.dumps({**GOOD, **wrong}))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"kind":"\xff"}', b"[]", b"null", b'{"kind":"a"}', "1e999"])
def test_bytes_that_are_no_spec_are_refused(data: bytes | str) -> None:
    with pytest.raises(InvalidSpec, match="not a BlockSpec"):
        wire.decode(BlockSpec, data)


@given(st.binary(max_size=40))
def test_any_bytes_give_a_spec_or_invalid_spec(data: bytes) -> None:
    for type_ in (BlockSpec, Entry, Run, NetworkSpec):
        with pytest.raises(InvalidSpec):
            wire.decode(type_, data)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    with pytest.raises(InvalidSpec):
        wire.decode(BlockSpec, json.dumps(GOOD)[:-1] + f', "params": {{"a": {number}}}}}')


def test_an_entry_of_an_unknown_kind_is_refused() -> None:
    row = wire.dump(make_entry())
    with pytest.raises(InvalidSpec):
        wire.load(Entry, {**row, "kind": "guessed"})


def test_doubts_come_back_as_a_tuple_and_four_point_zero_as_four() -> None:
    entry = make_entry(doubts=("hot",), provenance=Params({"n": 4.0}))
    again = wire.decode(Entry, wire.encode(entry))
    assert again.latency.doubts == ("hot",) and type(again.provenance["n"]) is int
    raw = json.loads(wire.encode(replace(entry)))
    raw["spec"]["params"]["expansion"] = 4.0
    assert wire.load(Entry, raw).spec.key == entry.spec.key


def test_what_has_no_json_form_says_so() -> None:
    with pytest.raises(NotImplementedError, match="object has no JSON form"):
        wire.encode(object())
