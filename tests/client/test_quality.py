from __future__ import annotations

from dataclasses import replace

import pytest

from edgelut import BlockSpec, Entry, MemoryTable, NetworkSpec, Params, Target
from edgelut.compose import ASSUMED_ERROR, compose
from edgelut.quality import ENOUGH, estimate, network_latency, qualities, quality, summarise
from edgelut.sequences import network_spec
from tests.client.test_compose import ABC, L1, TARGET, A, B, C, row, rows_of, whole

LONGER = NetworkSpec((A, A, A, B, C, C))


def rows(*measured: Entry) -> MemoryTable:
    return MemoryTable([*rows_of(ABC), *measured])


def test_a_target_is_as_good_as_its_sums_are_on_its_measured_networks() -> None:
    source = rows(whole(ABC, 500, day=3), whole(LONGER, 700, day=2))  # their sums: 480 and 720
    found = quality(source, TARGET)
    assert found is not None and found.networks == 2 and found.lacking == 0
    errors = (480 / 500 - 1, 720 / 700 - 1)
    assert found.mape == pytest.approx((abs(errors[0]) + errors[1]) / 2)
    assert found.largest == pytest.approx(abs(errors[0])) and found.bias == pytest.approx(sum(errors) / 2)
    assert found.kendall_tau == 1 and found.bracketed == 1
    assert found.measured_at == "2026-01-03T00:00:00+00:00"


def test_a_network_outside_its_bracket_counts_against_it() -> None:
    found = quality(rows(whole(ABC, 500), whole(LONGER, 901)), TARGET)  # LONGER cold: 900
    assert found is not None and found.bracketed == 0.5


def test_few_networks_leave_the_assumed_error_and_many_replace_it() -> None:
    sums = [replace(compose(ABC, TARGET, rows()), measured=whole(ABC, 475.0))] * ENOUGH
    assert summarise(TARGET, sums[:-1]).error == ASSUMED_ERROR
    assert summarise(TARGET, sums).error == pytest.approx(480 / 475 - 1)
    off = [replace(one, measured=whole(ABC, 300.0)) for one in sums[:3]]
    assert summarise(TARGET, off).error == pytest.approx(0.6)


def test_without_a_measured_network_there_is_no_quality() -> None:
    assert quality(rows(), TARGET) is None and quality(MemoryTable(), TARGET) is None
    assert quality(rows(whole(ABC, 500)), replace(TARGET, threads=2)) is None


@pytest.mark.parametrize("kind", ["predicted", "emulated", "interpolated", "transferred"])
def test_a_network_that_was_not_measured_is_none(kind: str) -> None:
    assert quality(rows(whole(ABC, 500, kind=kind)), TARGET) is None


def test_a_measured_network_whose_rows_are_missing_is_counted_apart() -> None:
    found = quality(rows(whole(ABC, 500), whole(L1, 9e6)), TARGET)
    assert found is not None and (found.networks, found.lacking) == (1, 1)
    assert quality(MemoryTable([whole(L1, 9e6)]), TARGET) is None


@pytest.mark.parametrize(
    "spec",
    [
        BlockSpec("network", 3, 1000, 224),
        BlockSpec("network", 3, 1000, 224, params=Params({"blocks": "nonsense"})),
        BlockSpec("network", 3, 1000, 224, params=Params({"blocks": "9999999999*MB4D:48@56"})),
        BlockSpec("network", 48, 48, 7, params=network_spec(ABC).params),
        BlockSpec("Network", 48, 96, 56, params=network_spec(ABC).params),
    ],
    ids=lambda spec: f"{spec.kind} {dict(spec.params)}"[:40],
)
def test_a_row_of_a_network_that_nobody_can_read_spoils_nothing(spec: BlockSpec) -> None:
    found = quality(rows(whole(ABC, 500), row(spec)), TARGET)
    assert found is not None and found.networks == 1
    assert list(qualities(rows(row(spec)))) == []


def test_a_network_with_a_time_of_zero_or_emulated_blocks_is_no_measure() -> None:
    assert quality(rows(whole(ABC, 0)), TARGET) is None
    emulated = MemoryTable([*rows_of(ABC, kind="emulated"), whole(ABC, 500)])
    assert quality(emulated, TARGET) is None


def test_all_targets_at_once_are_each_as_alone() -> None:
    other = Target("phone", "coreml", "fp16")
    source = rows(whole(ABC, 500), whole(ABC, 600, target=other), *rows_of(ABC, target=other))
    assert qualities(source) == {target: quality(source, target) for target in (TARGET, other)}


def test_an_answer_has_the_error_bar_of_its_targets_quality() -> None:
    source = rows(whole(ABC, 400))
    known = quality(source, TARGET)
    answer = network_latency(estimate(ABC, TARGET, source, known), known)
    assert answer.error == pytest.approx(0.2) and answer.quality == known
    assert answer.interval_ms[1] == pytest.approx(answer.latency_ms * 1.2)
    assert answer.bracket_ms == pytest.approx((396e-6, 600e-6)) and answer.hot_sum_ms == pytest.approx(400e-6)
    assert answer.measured_ms == pytest.approx(400e-6) and answer.network is None and not answer.aligned
    assert [(part.copies, part.basis, part.stable) for part in answer.parts] == [
        (2, "slope", True),
        (1, "context", True),
        (1, "slope", True),
    ]
