"""An agent against the real service, in this process: what it announces, claims, measures and sends, and what it outlives."""

from __future__ import annotations

from tests.profiler.lab import Lab


def test_a_claimed_batch_is_measured_and_its_points_are_closed(lab: Lab) -> None:
    lab.register()
    job = lab.submit(8, 16, 24)
    lab.work()
    done = lab.wait(job)
    assert done.state == "done" and done.points.measured == 3 and done.points.total == 3
