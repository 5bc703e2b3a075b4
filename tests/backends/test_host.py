from __future__ import annotations

import sys

import pytest

from backends.testing import load


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(OSError, match="out of paper"):
        load("devices", "host").run([sys.executable, "-c", "raise SystemExit('out of paper')"], timeout_s=30.0)


def test_a_command_that_does_not_end_is_a_timeout() -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        load("devices", "host").run(["sleep", "20"], timeout_s=0.2)
