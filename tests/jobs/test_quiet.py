"""What DBOS says comes out of our logger, in one line, and not what is no fault."""

from __future__ import annotations

import logging

import pytest

from jobs import quiet


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> logging.Logger:
    monkeypatch.setattr(quiet, "_reroute", quiet._Reroute())
    logger = logging.getLogger("dbos")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "level", logging.INFO)
    quiet.quieten()
    quiet.quieten()
    assert len(logger.filters) == 1
    caplog.set_level(logging.DEBUG, "edgelut.jobs.engine")
    return logger


def told(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[tuple[str, str]]:
    return [(record.name, record.getMessage()) for record in caplog.records if record.levelno >= level]


def test_an_error_is_one_line_with_its_cause(speaker: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    speaker.error("Exception in workflow:", exc_info=ValueError("the cause\nand more"))
    assert told(caplog) == [("edgelut.jobs.engine", "Exception in workflow: ValueError: the cause")]
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.DEBUG)


@pytest.mark.parametrize("text", ["Workflow 1 was cancelled during execution. Waiting", "Asyncio task cancelled for 1"])
def test_an_end_by_design_is_no_fault(speaker: logging.Logger, caplog: pytest.LogCaptureFixture, text: str) -> None:
    speaker.warning(text)
    assert told(caplog) == []


def test_one_line_of_its_code_speaks_once_in_ten_seconds(
    speaker: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(quiet.time, "monotonic", lambda: now[0])
    for second in range(25):
        now[0] = 100.0 + second
        speaker.warning("no connection at %d", second)
    speaker.warning("something else")
    assert [text for _, text in told(caplog)] == [
        "no connection at 0",
        "no connection at 10",
        "no connection at 20",
        "something else",
    ]
