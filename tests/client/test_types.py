"""Values and their keys: the keys below are pinned for ever, as tables on many machines hold them."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelut import MB3D, MB4D, BlockSpec, Entry, InvalidSpec, Latency, NetworkSpec, Params, Run, Target
from edgelut.blocks import EMBEDDING, FLAT, HEAD, IDENTITY, STEM
from edgelut.efficientformer import get_config, network
from edgelut.errors import UnlikeMeasures
from edgelut.testing import make_entry, make_run, specs, targets
from edgelut.types import canonical, digest, plain

# Never to be edited: a key that changes loses every row that was stored under it.
SPEC_KEYS = {
    "7cfbb8eb469330a677f53f1288f38e78": STEM.spec(48, 224),
    "7f76d313730f1de354e5a4bac3cb0a83": MB4D.spec(224, 14),
    "a4d9037826294a37085caf093d2a4a71": MB4D.spec(
        96, 28, batch=2, params={"expansion": 3, "pool": 5, "activation": "relu"}
    ),
    "dff0464183f4dafc8986b07d08871226": EMBEDDING.spec(48, 56, width_out=96),
    "acbfc6da8ef648e636f2302a773a3704": EMBEDDING.spec(224, 14, width_out=448, params={"layout": "3d"}),
    "19342b94abfcb187d3a83ef55f5aa568": FLAT.spec(448, 7),
    "bb7b09fa8f0addcadad22bd54ea661b9": MB3D.spec(448, 7),
    "9d4749c7d5f90fd80363a305d813eb65": HEAD.spec(448, 7, width_out=1000),
    "6cb1fbe1aa35b36be6aa6d6abcbea333": IDENTITY.spec(8, 4),
    "4474b7432cc077d24ee4b5f1ab39e4c7": BlockSpec("mine", 1, 2, 3, 4, Params({"ratio": 0.5, "name": "é"})),
}
TARGET_KEYS = {
    "5bb192ee382bc695f3669379eb7d53b9": Target("host", "onnxruntime-cpu"),
    "e7caf35fa95539b1f1dc55760f44c938": Target("pixel-6", "coreml-mil", "fp16", 2, "gpu"),
}
NETWORK_KEYS = {
    "e55ffc17b28a8fd21b9e00af19992d15": "efficientformer-l1",
    "08949b7267cd159e5c606bce88a78706": "efficientformer-l3",
    "e4a9ecaf56c2adae72a71b2912a5e5d4": "efficientformer-l7",
}


@pytest.mark.parametrize(("key", "value"), [*SPEC_KEYS.items(), *TARGET_KEYS.items()], ids=str)
def test_the_key_of_a_spec_or_target_never_changes(key: str, value: BlockSpec | Target) -> None:
    assert value.key == key


@pytest.mark.parametrize(("key", "name"), NETWORK_KEYS.items())
def test_the_key_of_a_network_never_changes(key: str, name: str) -> None:
    assert network(get_config(name)).key == key


def test_the_canonical_form_is_sorted_has_no_spaces_and_is_ascii() -> None:
    assert canonical({"b": [1, 0.5], "a": "é"}) == rb'{"a":"\u00e9","b":[1,0.5]}'
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e"


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_keys_are_equal_in_a_process_with_another_hash_seed(seed: str) -> None:
    code = "from edgelut import *; from edgelut.efficientformer import *; print(network(get_config('l1')).key)"
    code += "; print(MB4D.spec(96, 28, batch=2, params={'expansion': 3, 'pool': 5, 'activation': 'relu'}).key)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["e55ffc17b28a8fd21b9e00af19992d15", "a4d9037826294a37085caf093d2a4a71"]


@pytest.mark.parametrize("four", [4, 4.0])
def test_four_and_four_point_zero_are_one_value(four: float) -> None:
    spec = MB4D.spec(four * 8, four, batch=four, params={"expansion": four})  # type: ignore[arg-type]
    assert spec.key == MB4D.spec(32, 4, batch=4, params={"expansion": 4}).key
    assert type(spec.params["expansion"]) is int and type(spec.width_in) is int


def test_true_is_one_and_minus_zero_is_zero() -> None:
    assert repr(Params({"a": True, "b": False, "c": -0.0})) == "Params({'a': 1, 'b': 0, 'c': 0})"
    assert HEAD.spec(8, 4, width_out=2, params={"distillation": True}).key == HEAD.spec(8, 4, width_out=2).key


def test_the_text_4_is_not_the_number_4() -> None:
    assert Params({"a": "4"}) != Params({"a": 4})
    assert (
        BlockSpec("x", 1, 1, 1, params=Params({"a": "4"})).key != BlockSpec("x", 1, 1, 1, params=Params({"a": 4})).key
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, [1], b"4", 4j])
def test_what_json_cannot_hold_is_no_parameter(bad: Any) -> None:
    with pytest.raises(InvalidSpec, match="is not a parameter value"):
        Params({"a": bad})


@pytest.mark.parametrize("bad", [0, -16, 1.5, "16", None, math.nan, math.inf])
@pytest.mark.parametrize("field", ["width_in", "width_out", "resolution", "batch"])
def test_sizes_are_positive_whole_numbers(field: str, bad: Any) -> None:
    with pytest.raises(InvalidSpec):
        replace(BlockSpec("x", 1, 1, 1), **{field: bad})


@pytest.mark.parametrize("bad", ["", "a/b", None, 7])
@pytest.mark.parametrize("field", ["device", "runtime", "precision", "unit"])
def test_names_of_a_target_are_texts_without_a_slash(field: str, bad: Any) -> None:
    with pytest.raises(InvalidSpec, match=field):
        replace(Target("host", "x"), **{field: bad})


@pytest.mark.parametrize("bad", ["", None, 3])
def test_a_kind_is_a_name(bad: Any) -> None:
    with pytest.raises(InvalidSpec, match="kind"):
        BlockSpec(bad, 1, 1, 1)


def test_the_order_of_parameters_changes_nothing() -> None:
    one, other = Params({"a": 1, "b": "x"}), Params({"b": "x", "a": 1.0})
    assert one == other and hash(one) == hash(other) and list(one) == list(other) == ["a", "b"]
    assert BlockSpec("x", 1, 1, 1, params=one).key == BlockSpec("x", 1, 1, 1, params=other).key


def test_parameters_are_a_mapping_that_equals_a_dict_and_lacks_what_it_lacks() -> None:
    params = Params({"a": 1})
    assert params == {"a": 1} and params != {"a": 2} and params != [("a", 1)]
    assert len(params) == 1 and "b" not in params and params.get("b") is None
    with pytest.raises(KeyError):
        params["b"]


def test_values_cannot_be_changed() -> None:
    for value, name in ((MB4D.spec(8, 4), "width_in"), (Target("a", "b"), "device"), (make_entry(), "latency")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


def test_a_spec_of_other_fields_has_another_key() -> None:
    base = BlockSpec("x", 1, 1, 1, 1, Params({"a": 1}))
    changes: list[dict[str, Any]] = [{"kind": "y"}, {"width_in": 2}, {"width_out": 2}, {"resolution": 2}, {"batch": 2}]
    changes += [{"params": Params({"a": 2})}, {"params": Params({"b": 1})}, {"params": Params()}]
    assert len({base.key, *(replace(base, **change).key for change in changes)}) == len(changes) + 1


@given(specs | targets)
def test_any_spec_or_target_survives_pickling_with_its_key(value: BlockSpec | Target) -> None:
    again = pickle.loads(pickle.dumps(value))
    assert again == value and again.key == value.key and hash(again) == hash(value)


def test_a_run_and_an_entry_survive_pickling() -> None:
    for value in (make_run("s"), make_entry(provenance=Params({"sweep": "s"})), network(get_config("l1"))):
        assert pickle.loads(pickle.dumps(value)) == value
        assert hash(pickle.loads(pickle.dumps(value))) == hash(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_normalising_a_number_changes_its_type_at_most(number: float) -> None:
    assert plain(number) == number and plain(plain(number)) == plain(number)
    assert isinstance(plain(number), int) == number.is_integer()


def test_a_network_needs_a_block_and_its_name_is_only_a_label() -> None:
    with pytest.raises(InvalidSpec, match="at least one block"):
        NetworkSpec(())
    blocks = (MB4D.spec(8, 4), MB3D.spec(8, 4))
    assert NetworkSpec(blocks, "a") == NetworkSpec(list(blocks), "b")  # type: ignore[arg-type]
    assert NetworkSpec(blocks).key != NetworkSpec(blocks[::-1]).key


def test_only_facts_that_are_observed_are_no_conditions() -> None:
    run = replace(make_run("s"), facts=Params({"cpu": "x", "observed_load": 3, "observation": 1}))
    assert run.conditions == {"cpu": "x", "observation": 1}


def test_a_latency_says_its_milliseconds_its_half_width_and_whether_it_is_stable() -> None:
    latency = Latency(2e6, 2.1e6, 2.2e6, 1.9e6, 2.1e6, 8, 80)
    assert (latency.ms, latency.half_width, latency.stable) == (2.0, pytest.approx(0.05), True)
    assert not replace(latency, doubts=["hot"]).stable  # type: ignore[arg-type]
    assert replace(latency, doubts=["hot"]).doubts == ("hot",)  # type: ignore[arg-type]
    assert replace(latency, p10_ns=0.0).half_width == math.inf


def test_an_entry_of_an_unknown_kind_lists_the_kinds() -> None:
    with pytest.raises(InvalidSpec, match="measured, interpolated, predicted, transferred, emulated"):
        Entry(MB4D.spec(8, 4), Target("a", "b"), make_entry().latency, "guessed")  # type: ignore[arg-type]


def test_a_row_that_counts_instructions_has_no_milliseconds_and_was_never_measured() -> None:
    count = make_entry(12_345_678.0, clock="instructions")
    assert (count.kind, count.latency.measure, count.latency.value) == ("emulated", "instructions", 12_345_678)
    with pytest.raises(UnlikeMeasures, match="12,345,678 instructions, which are no milliseconds"):
        _ = count.latency.ms
    with pytest.raises(InvalidSpec, match="its kind is emulated, not measured"):
        replace(count, kind="measured")
    time = make_entry(1.5e6).latency
    assert (time.measure, time.value, time.ms) == ("time", 1.5, 1.5)


@pytest.mark.parametrize(
    ("unit", "said", "ran_on"),
    [
        ("cpu", None, "cpu"),
        ("GPU", None, "gpu"),
        ("cpu-little", None, "cpu"),
        ("all", None, None),
        ("cpu-and-ne", None, None),
        ("cpu-and-ne", "NE+cpu", "ne+cpu"),
        ("gpu", "cpu", "cpu"),
        ("ne", "", "ne"),
    ],
)
def test_a_row_ran_on_what_it_says_or_on_its_targets_unit_where_that_is_one(
    unit: str, said: str | None, ran_on: str | None
) -> None:
    assert make_entry(target=Target("mac", "coreml", unit=unit), ran_on=said).ran_on == ran_on


def test_a_run_is_measured_in_what_its_facts_say() -> None:
    assert make_run("s").measure == "time"
    assert make_run("s", facts=Params({"clock": "instructions"})).measure == "instructions"


def test_specs_and_targets_read_well() -> None:
    assert str(EMBEDDING.spec(48, 56, width_out=96, batch=2)) == "embedding 48->96 @56 x2"
    assert str(MB4D.spec(96, 28)) == "MB4D 96 @28"
    assert str(Target("host", "onnxruntime-cpu")) == "host/onnxruntime-cpu/fp32/1/cpu"


def test_a_run_holds_an_aware_time() -> None:
    run: Run = make_run("s", started_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert run.started_at.utcoffset() is not None
