"""Real processes that are killed, stopped or interrupted in the middle of a sweep, and the same command afterwards."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgelut import MB4D, wire
from edgelut.plan import Policy
from edgelut.types import Entry, Target
from tests.fakes import OUTSIDE

from .conftest import Command

COMMAND = ("profile", "--block", "identity", "--width", "8,16", "--resolution", "4", "--runtime", "scripted")
COMMAND += ("--device", "null", "--format", "null", "--json")
ROUNDS = Policy().min_rounds
# The command line itself, but for exports that do not load torch.
MAIN = f"""
import profiler.export_points as points
points.TASKS = "{OUTSIDE}.exporting"
from edgelut.cli import main
main()
"""
RUNS = """
SELECT processes.name, specs.width_in, targets.key, runs.round FROM runs JOIN processes ON processes.id = process_id
JOIN specs ON specs.id = runs.spec_id JOIN targets ON targets.id = runs.target_id
"""


def start(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", MAIN, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rows(home: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(home / "edgelut.db")
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.fixture
def held(script: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep whose worker waits in the middle of its fourth round: three are stored."""
    os.mkfifo(script / "held-16")
    os.mkfifo(script / "until-16")
    (script / "hold-16").write_text("4")
    seen = os.open(script / "held-16", os.O_RDONLY | os.O_NONBLOCK)
    sweep = start(*COMMAND)
    try:
        assert select.select([seen], [], [], 60)[0], sweep.poll()
        yield sweep
    finally:
        os.close(seen)
        sweep.kill()
        sweep.communicate()


def release(script: Path) -> None:
    """Let the worker go on, and let later sweeps pass."""
    (script / "hold-16").unlink()
    try:
        until = os.open(script / "until-16", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # a worker whose sweep was killed is gone: nobody reads
        return
    os.write(until, b"go")
    os.close(until)


def finish(home: Path, script: Path) -> tuple[str, str]:
    """Run the command to its end; check that each round is stored once and no more rounds were measured than needed."""
    before = rows(home, RUNS)
    assert 6 <= len(before) <= 7
    with start(*COMMAND) as again:
        out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    after = rows(home, RUNS)
    assert len(after) == len(set(after)) and set(before) < set(after)
    assert Counter((width, round_) for _, width, _, round_ in after) == {
        (w, r): 1 for w in (8, 16) for r in range(ROUNDS)
    }
    assert len({name for name, *_ in after}) == 2
    assert rows(home, "SELECT state FROM sweeps") == [("done",)]
    return out, err


def test_a_sweep_that_is_killed_goes_on_with_the_rounds_that_were_stored(
    held: subprocess.Popen[str], home: Path, script: Path
) -> None:
    held.send_signal(signal.SIGKILL)
    held.wait()
    release(script)
    assert rows(home, "SELECT state FROM sweeps") == [("running",)]
    finish(home, script)
    done = rows(home, "SELECT count(*) FROM entries WHERE current")
    with start(*COMMAND) as third:
        third.communicate(timeout=120)
    assert third.returncode == 0 and rows(home, "SELECT count(*) FROM entries WHERE current") == done == [(2,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_interrupted_says_so_and_goes_on_later(
    held: subprocess.Popen[str], home: Path, script: Path, number: int
) -> None:
    held.send_signal(number)
    release(script)
    out, err = held.communicate(timeout=60)
    assert (held.returncode, out, err) == (130, "", "error: interrupted\n")
    assert rows(home, "SELECT state FROM sweeps") == [("interrupted",)]
    if number == signal.SIGINT:
        finish(home, script)


def test_completed_rows_are_not_measured_again_after_a_kill(home: Path, script: Path) -> None:
    (script / "noisy-16").touch()  # never narrow enough: it goes on when the other row is done
    os.mkfifo(script / "held-16")
    os.mkfifo(script / "until-16")
    (script / "hold-16").write_text("20")
    seen = os.open(script / "held-16", os.O_RDONLY | os.O_NONBLOCK)
    with start(*COMMAND) as sweep:
        assert select.select([seen], [], [], 60)[0], sweep.poll()
        sweep.kill()
    os.close(seen)
    release(script)
    assert rows(
        home, "SELECT width_in FROM entries JOIN specs ON specs.id = spec_id WHERE specs.kind = 'identity'"
    ) == [(8,)]
    with start(*COMMAND) as again:
        _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    measured = Counter(width for _, width, _, _ in rows(home, RUNS))
    assert measured == {8: ROUNDS, 16: 30}


@pytest.mark.slow
def test_a_real_block_is_exported_measured_and_found_again(home: Path, process: Command) -> None:
    """One tiny block through onnx and onnxruntime, in real processes, with nothing faked."""
    asked = ("--block", "MB4D", "--width", "16", "--resolution", "7")
    done = process("profile", *asked, "--max-rounds", "8", "--json")
    assert done.code == 0 and done.err == "", done
    measured = wire.load(list[Entry], done.json["measured"])
    (entry,) = [row for row in measured if row.spec == MB4D.spec(16, 7)]
    assert entry.target == Target("host", "onnxruntime-cpu") and entry.kind == "measured"
    assert 1e3 < entry.latency.p10_ns < 1e9 and entry.latency.low_ns <= entry.latency.p10_ns <= entry.latency.high_ns
    assert 0 <= float(entry.provenance["parity_error"]) <= 1e-5 and entry.latency.runs == 8
    shown = process("get", "mb4d", "16", "--json")
    assert shown.code == 0 and wire.load(list[Entry], shown.json) == [entry]
