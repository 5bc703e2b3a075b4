from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from backends import processes
from backends.processes import LineProcess
from backends.testing import load

ECHO = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"


def python(code: str, **env: str) -> LineProcess:
    return LineProcess([sys.executable, "-c", code], env)


def test_lines_go_to_and_fro() -> None:
    with python(ECHO) as process:
        for word in ("one", "two"):
            process.send(word)
            assert process.read(20.0) == word.upper()


def test_lines_that_came_together_are_read_one_by_one() -> None:
    with python("print('a\\r\\n\\nb')") as process:
        assert [process.read(20.0) for _ in range(3)] == ["a", "", "b"]


def test_long_lines_and_many_errors_fill_no_pipe() -> None:
    with python("import sys\nsys.stderr.write('e' * 300_000)\nprint(input().lower())") as process:
        process.send("LONG" * 100_000)
        assert process.read(20.0) == "long" * 100_000


def test_the_environment_is_added_to() -> None:
    with python("import os; print(os.environ['COLOUR'], 'PATH' in os.environ)", COLOUR="blue") as process:
        assert process.read(20.0) == "blue True"


def test_an_answer_that_does_not_come_is_a_timeout_and_may_come_later() -> None:
    with python(ECHO) as process:
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.05 s"):
            process.read(0.05)
        process.send("late")
        assert process.read(20.0) == "LATE"


def test_a_program_that_does_not_read_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SEND_S", 0.2)
    monkeypatch.setattr(processes, "CLOSE_S", 0.2)
    with python("import time; time.sleep(60)") as process, pytest.raises(TimeoutError, match="did not read"):
        process.send("x" * 1_000_000)


def test_one_that_has_ended_says_how_and_what_it_said_last() -> None:
    with python("import sys; print('first'); print('half', end=''); sys.exit('out of paper')") as process:
        assert process.read(20.0) == "first"
        for _ in range(2):
            with pytest.raises(OSError, match=r"ended \(exit 1\): out of paper\s+half"):
                process.read(20.0)


def test_sending_to_one_that_has_ended_says_the_same() -> None:
    with python("import os; os.kill(os.getpid(), 9)") as process:
        with pytest.raises(OSError, match=r"ended \(signal 9\)"):
            process.read(20.0)
        with pytest.raises(OSError, match=r"ended \(signal 9\)"):
            process.send("hello")


def test_more_than_a_line_is_refused() -> None:
    with python(ECHO) as process, pytest.raises(ValueError, match="one line"):
        process.send("a\nb")


def test_a_line_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LONGEST_LINE", 100_000)
    with (
        python("while True: print('x' * 10000, end='')") as process,
        pytest.raises(OSError, match="without a line's end"),
    ):
        process.read(20.0)


def test_closing_ends_it_even_if_it_does_not_listen_and_twice_is_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CLOSE_S", 0.2)
    process = python("import time; time.sleep(60)")
    started = time.monotonic()
    process.close()
    process.close()
    assert time.monotonic() - started < 10
    with pytest.raises(OSError, match="ended"):
        process.send("hello")
    with pytest.raises(OSError, match="ended"):
        process.read(1.0)


def test_a_program_that_is_not_there_is_not_found() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        load("devices", "host").start(["no-such-program"])


def test_the_host_starts_programs_and_gives_files(tmp_path: Path) -> None:
    host = load("devices", "host")
    process = host.start([sys.executable, "-c", ECHO], {})
    try:
        process.send("hello")
        assert process.read(20.0) == "HELLO"
    finally:
        process.close()
    (tmp_path / "there").write_bytes(b"content")
    host.pull(str(tmp_path / "there"), tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"content"
    with pytest.raises(FileNotFoundError):
        host.pull(str(tmp_path / "nowhere"), tmp_path / "here")
