"""What speaks against a row whose samples a phone took with rests between them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edgelut.blocks import IDENTITY
from edgelut.plan import Policy
from edgelut.types import Params, Run, Target
from profiler.stats import summarise


def run(number: int, pause_ms: float | None) -> Run:
    facts = {} if pause_ms is None else {"observed_pause_ms_after": pause_ms}
    return Run(
        spec=IDENTITY.spec(3, 4),
        target=Target("iphone:X", "coreml", "fp16", 1, "all"),
        sweep="sweep",
        process="process",
        round=number,
        wall_ns=(1000, 1001, 1000),
        cpu_ns=(),
        inner=1,
        warmups=2,
        reference_ns=0.0,
        started_at=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
        facts=Params(facts),
        artifact_sha256="0" * 64,
    )


@pytest.mark.parametrize(
    ("pauses", "doubts"),
    [
        ([3.0] * 16, ()),
        ([None] * 16, ()),
        ([620.0] * 4 + [3.0] * 12, ()),
        (
            [620.0] * 5 + [3.0] * 11,
            ("samples were not contiguous: pauses of up to 620 ms between them in 5 of 16 rounds",),
        ),
    ],
)
def test_a_row_is_in_doubt_where_the_device_rested_between_samples(
    pauses: list[float | None], doubts: tuple[str, ...]
) -> None:
    runs = [run(number, pause) for number, pause in enumerate(pauses)]
    assert summarise(runs, Policy()).latency.doubts == doubts
