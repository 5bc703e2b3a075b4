from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from edgelut import EMBEDDING, HEAD, IDENTITY, MB3D, MB4D, STEM, BlockSpec, Params, Target
from edgelut.check import check, profile_commands
from edgelut.sequences import chain, cold, in_context, network_spec
from tests.client.test_compose import ABC, L1, TARGET, A, B, C, row, rows_of, whole

WHERE = "--device host --runtime onnxruntime-cpu --precision fp32 --threads 1"


def test_a_table_that_lacks_nothing_is_good() -> None:
    rows = [*rows_of(ABC), row(chain(A), slope=None, cold=None), row(cold(A), slope=None, cold=None), whole(ABC, 1)]
    (found,) = check(rows)
    assert found.good and found.rows == 6 and found.commands == () and len(found.conditions) == 1
    assert check([]) == []


def test_what_is_in_doubt_is_named_with_its_reasons() -> None:
    (found,) = check([row(A, doubts=("noisy", "late")), row(B), row(C)])
    assert [(one.spec, one.doubts) for one in found.doubtful] == [(A, ("noisy", "late"))]
    assert not found.good and found.commands == (f"edgelut profile --block MB4D --width 48 --resolution 56 {WHERE}",)


def test_rows_of_older_conditions_are_to_be_measured_again_be_they_the_most() -> None:
    rows = [row(A, conditions="old", day=1), row(B, conditions="old", day=2), row(C, conditions="new", day=3)]
    (found,) = check(rows)
    assert [(one.key, one.rows, one.newest[:10]) for one in found.conditions] == [
        ("new", 1, "2026-01-03"),
        ("old", 2, "2026-01-02"),
    ]
    assert found.unlike == (A, B) and not found.good
    (after,) = check([row(A, conditions="new"), row(B, conditions="new"), rows[2]])
    assert after.good


def test_rows_that_were_not_measured_have_no_conditions_and_lack_nothing() -> None:
    (found,) = check([row(A), row(C, kind="predicted", conditions="none", slope=None, cold=None)])
    assert found.good and found.rows == 2


@pytest.mark.parametrize(
    "changes", [{"slope": None}, {"cold": None}, {"slope": None, "cold": None}], ids=["slope", "cold", "both"]
)
def test_a_block_without_chain_context_or_cold_row_is_incomplete(changes: dict[str, None]) -> None:
    (found,) = check([row(A, **changes), row(IDENTITY.spec(48, 56), slope=None, cold=None)])
    assert found.incomplete == (A,) and not found.good


def test_each_target_is_checked_apart_in_the_order_of_names() -> None:
    other = Target("a-phone", "coreml", "fp16", 2, "gpu")
    first, second = check([row(A), row(A, target=other, conditions="theirs", doubts=("hot",))])
    assert (first.target, second.target) == (other, TARGET) and second.good
    assert "--device a-phone --runtime coreml --precision fp16 --threads 2" in first.commands[0]


def test_a_row_that_nobody_can_read_or_build_spoils_nothing() -> None:
    bad = BlockSpec("chain", 48, 48, 56, params=Params({"blocks": "nonsense"}))
    lacking = BlockSpec("MB4D", 48, 48, 56)
    (found,) = check([row(bad, doubts=("odd",)), row(lacking, slope=None), row(BlockSpec("mb4d", 1, 1, 1), slope=None)])
    assert [one.spec for one in found.doubtful] == [bad] and found.incomplete == ()
    assert len(found.commands) == 1


def test_a_command_asks_for_all_widths_of_a_kind_and_each_thing_once() -> None:
    specs = [MB4D.spec(96, 28), MB4D.spec(48, 28), chain(MB4D.spec(48, 28)), cold(MB4D.spec(48, 28)), MB4D.spec(48, 56)]
    assert profile_commands(specs, TARGET) == [
        f"edgelut profile --block MB4D --width 48,96 --resolution 28 {WHERE}",
        f"edgelut profile --block MB4D --width 48 --resolution 56 {WHERE}",
    ]


def test_what_widens_has_its_own_widths_and_what_is_not_the_default_is_said() -> None:
    specs = [
        STEM.spec(48, 224),
        EMBEDDING.spec(48, 56, width_out=48),
        HEAD.spec(448, 7, width_out=1000, params={"layout": "4d"}),
        MB3D.spec(224, 14, batch=4, params={"expansion": 3}),
    ]
    asked = [
        command.removeprefix("edgelut profile --block ").removesuffix(f" {WHERE}")
        for command in profile_commands(specs, TARGET)
    ]
    assert asked == [
        "MB3D --width 224 --resolution 14 --batch 4 --param expansion=3",
        "embedding --width 48 --resolution 56 --width-out 48",
        "head --width 448 --resolution 7 --width-out 1000 --param layout=4d",
        "stem --width 48 --resolution 224",
    ]


def test_a_context_is_measured_beside_its_blocks_and_a_network_by_its_line_or_its_name() -> None:
    commands = profile_commands([in_context(B)], TARGET)
    assert [shlex.split(command)[3] for command in commands] == ["MB4D", "MB4D", "embedding"]
    (command,) = profile_commands([network_spec(ABC)], TARGET)
    words = shlex.split(command)
    assert words[words.index("--param") + 1] == f"blocks={network_spec(ABC).params['blocks']}"
    assert profile_commands(L1.blocks, TARGET, "efficientformer-l1") == [f"edgelut profile efficientformer-l1 {WHERE}"]


def test_rows_of_a_file_are_doubted_and_not_proposed_to_be_measured() -> None:
    theirs = row(A, doubts=("published: one value",))
    theirs = replace(theirs, provenance=Params({**theirs.provenance, "file_sha256": "ab12"}))
    (found,) = check([theirs, row(B, doubts=("noisy",))])
    assert not found.good and len(found.doubtful) == 2
    assert [f"--width {B.width_in}" in command for command in found.commands] == [True]
