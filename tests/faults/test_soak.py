"""What is left after two hundred kills; and that the soak itself would see what it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import Soak, Verdict, overlaps, read_intervals


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_measured_at_once_after_two_hundred_kills(tmp_path: Path) -> None:
    soak = Soak(tmp_path, seed=0)
    try:
        verdict = soak.run(kills=200, pause_s=0.7)
    finally:
        soak.close()
    logs = "\n".join(f"== {path.parent.name}\n{path.read_text()[-3000:]}" for path in sorted(tmp_path.glob("*/log")))
    assert verdict.sound, f"{verdict}\n{logs}"
    assert sum(verdict.kills.values()) == 200 and set(verdict.kills) == {"service", "agent", "worker"}
    assert "Traceback" not in (tmp_path / "service" / "log").read_text(), logs


def test_bursts_at_the_same_moment_are_seen(tmp_path: Path) -> None:
    log = tmp_path / "device.log"
    log.write_text("3.0 4.0 7\n1.0 2.0 7\n2.0 3.0 8\n5.0 6.0 7\ncut o")
    assert overlaps(read_intervals(log)) == 0
    log.write_text("1.0 9.0 7\n2.0 3.0 8\n4.0 5.0 8\n9.0 9.5 8\n")
    assert overlaps(read_intervals(log)) == 2


def test_a_soak_without_work_is_not_sound() -> None:
    assert not Verdict().sound and Verdict(jobs=1, intervals=1).sound
    assert not Verdict(jobs=1, intervals=1, doubled=1).sound
