"""What a build says while it waits, in a log, on GitHub and on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime

from edgelut.ci.progress import Progress, command_data, command_property, duration, plain
from edgelut.jobs import Job, JobCounts, JobEvent, JobRequest

AT = datetime(2026, 11, 22, tzinfo=UTC)
QUEUED = Job("j1", "queued", JobRequest(devices=("host",)), JobCounts(open=4), AT)
RUNNING = replace(QUEUED, state="running", points=JobCounts(open=2, compared=1, failed=1), rounds=3, seconds_left=75.0)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_has_a_line_for_each_state_and_one_every_fifteen_seconds() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, clock=clock)
    progress.begin("blocks: comparing")
    for seconds, job in ((0, QUEUED), (1, QUEUED), (2, RUNNING), (16, RUNNING), (17, RUNNING), (30, RUNNING)):
        clock.now = seconds
        progress.job(job)
    progress.end()
    assert out.getvalue().splitlines() == [
        "blocks: comparing",
        "| job j1 queued, 0 of 4 rows, 0 rounds",
        "| job j1 running, 2 of 4 rows, 3 rounds, 1 failed, about 1 min 15 s left",
        "| job j1 running, 2 of 4 rows, 3 rounds, 1 failed, about 1 min 15 s left",
    ]


def test_on_github_steps_are_groups_that_are_closed() -> None:
    out = io.StringIO()
    with Progress(out, github=True) as progress:
        progress.begin("one\n::error::x 5%")
        progress.begin("two")
        progress.annotate("error", "a:b,c", "100 %\nnext")
    assert out.getvalue().splitlines() == [
        "::group::one ::error::x 5%25",
        "::endgroup::",
        "::group::two",
        "::error title=a%3Ab%2Cc::100 %25 next",
        "::endgroup::",
    ]


def test_elsewhere_nothing_is_annotated() -> None:
    out = io.StringIO()
    Progress(out).annotate("error", "a", "b")
    assert out.getvalue() == ""


def test_what_comes_from_outside_is_no_command_to_a_runner() -> None:
    out = io.StringIO()
    progress = Progress(out, github=True)
    for text in ("::set-output name=verdict::passed", "  ::error::x", "##[set-output name=a]b", "a\r\n::error::x"):
        progress.event(JobEvent(1, AT, "error", text))
        progress.say(text)
    lines = out.getvalue().splitlines()
    assert len(lines) == 8 and all(line.startswith("| ") for line in lines)
    assert "##[" not in out.getvalue()


def test_what_went_well_is_not_repeated() -> None:
    out = io.StringIO()
    Progress(out).event(JobEvent(1, AT, "info", "claimed"))
    assert out.getvalue() == ""


def test_a_terminal_has_one_line_that_is_kept_up_to_date() -> None:
    out = Terminal()
    with Progress(out) as progress:
        progress.begin("[bold]blocks")
        progress.job(RUNNING)
        progress.say("[bold]something[/nonsense]")
    assert "[bold]something[/nonsense]" in out.getvalue()


def test_durations_have_two_units() -> None:
    assert [duration(s) for s in (-1, 0.4, 59, 61, 3600, 7325)] == [
        "0 s", "0 s", "59 s", "1 min 1 s", "1 h 0 min", "2 h 2 min",
    ]  # fmt: skip


def test_text_is_one_line() -> None:
    assert plain("a\x1b[31m\n\x00b\u2028c ") == "a [31m b c"
    assert command_data("50%\n") == "50%25"
    assert command_property("a:b") == "a%3Ab"
