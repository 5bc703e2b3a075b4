"""The program itself: its protocol, what it makes of nonsense, and that it ends with whoever asked it."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.processes import LineProcess
from backends.testing import load, small_block

native = pytest.importorskip("backends.native.build", reason="needs numpy: pip install 'edgelut-service[onnx]'")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
STRICT = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")


class Asking:
    """A runner that is asked one thing after another."""

    def __init__(self, argv: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.process = LineProcess(argv, env)
        self.hello = json.loads(self.process.read(30))

    def __call__(self, line: str) -> dict[str, Any]:
        self.process.send(line)
        answer = json.loads(self.process.read(60))
        assert isinstance(answer["ok"], bool)
        return dict(answer)

    def fails(self, line: str) -> tuple[str, str]:
        answer = self(line)
        assert not answer["ok"]
        return answer["error"], answer["message"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its input."""
    folder = tmp_path_factory.mktemp("model with a % and blanks")
    module, inputs = small_block()
    load("exporters", "onnx").export(module, inputs, "fp32", folder / "model.onnx", {})
    inputs["x"].numpy().tofile(folder / "x")
    return folder


@pytest.fixture(scope="module")
def argv() -> list[str]:
    load("runtimes", "onnxruntime-native")
    bundle = native.bundle(platform.machine(), portable=False)
    return list(bundle.argv(str(bundle.folder)))


@pytest.fixture(scope="module")
def sanitized(argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same program, which ends where it reads or writes what is not its own, or loses memory."""
    folder = tmp_path_factory.mktemp("sanitized")
    compiler = shutil.which("gcc")
    assert compiler, "the runtime was loaded, so there is a compiler; the sanitizers are gcc's"
    program = folder / "edgelut-runner"
    command = [compiler, *STRICT, *SANITIZED, *map(str, native.sources()), "-o", str(program), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "libonnxruntime.so.1").symlink_to(Path(argv[-1]).with_name("libonnxruntime.so.1"))
    return [str(program)]


@pytest.fixture
def ask(argv: list[str]) -> Iterator[Asking]:
    asking = Asking(argv)
    yield asking
    asking.process.close()


def place(path: Path) -> str:
    return str(path).replace("%", "%25").replace(" ", "%20")


def use(ask: Callable[[str], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Do with a model what there is to do."""
    opened = ask(f"open 7 {place(folder / 'model.onnx')} 1")
    assert ask(f"bind 7 {place(folder / 'x')}")["ok"]
    assert ask(f"run 7 {place(folder / 'y')}")["outputs"] == opened["outputs"]
    for line, samples in (("time 7 2 5 3", 5), ("cold 7 2", 2), ("reference 0 3", 5)):
        answer = ask(line)
        assert len(answer["wall_ns"]) == len(answer["cpu_ns"]) == samples
        assert min(answer["wall_ns"]) > 0
    return opened


def test_it_says_what_it_is(ask: Asking) -> None:
    hello = ask.hello
    assert (hello["runner"], hello["counter"], hello["machine"]) == (1, "none", platform.machine())
    assert hello["onnxruntime"] == sys.modules["onnxruntime"].__version__ if "onnxruntime" in sys.modules else True
    assert hello["pid"] == ask.process.pid


def test_a_model_is_opened_bound_run_and_timed(ask: Asking, folder: Path) -> None:
    opened = use(ask, folder)
    assert opened["inputs"] == [{"name": "x", "type": "float32", "shape": [1, 16, 8, 8]}]
    assert opened["load_ns"] > 0
    assert opened["peak_memory_bytes"] > 0
    found = np.fromfile(folder / "y", np.float32).reshape(1, 16, 8, 8)
    expected = small_block()[0](small_block()[1]["x"]).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert ask("close 7")["ok"]


def test_each_failure_has_its_kind_and_ends_nothing(ask: Asking, folder: Path, tmp_path: Path) -> None:
    model, x = place(folder / "model.onnx"), place(folder / "x")
    (tmp_path / "no-model").write_bytes(b"?" * 99)
    (tmp_path / "short").write_bytes(b"1234")
    (tmp_path / "long").write_bytes((folder / "x").read_bytes() + b"1")
    assert ask.fails(f"open 1 {tmp_path}/nowhere 1") == ("io", f"{tmp_path}/nowhere: No such file or directory")
    assert ask.fails(f"open 1 {tmp_path}/no-model 1")[0] == "corrupted"
    assert ask.fails("time 1 0 1 1") == ("argument", "no model 1 is open")
    assert ask(f"open 1 {model} 2")["ok"]
    assert ask.fails(f"open 1 {model} 1") == ("argument", "a model 1 is open already")
    assert ask.fails("time 1 0 1 1") == ("argument", "model 1 has no inputs: bind comes first")
    assert ask.fails(f"bind 1 {tmp_path}/short")[0] == "argument"
    assert "holds more" in ask.fails(f"bind 1 {tmp_path}/long")[1]
    assert ask.fails(f"bind 1 {tmp_path}")[0] in ("io", "argument")
    assert ask(f"bind 1 {x}")["ok"]
    assert ask.fails(f"run 1 {tmp_path}/nowhere/y")[0] == "io"
    for line in ("time 1 0 0 1", "time 1 0 1 1x", "time 1 -1 1 1", "time 1 0 1 99999999999999999999", "cold 70000 1"):
        assert "whole number" in ask.fails(line)[1]
    for line in ("", "nonsense", "open", "close 1 2", "run 1 %zz", "run 1 %00", "pin 0", "pin xyz", "pin " + "f" * 300):
        assert ask.fails(line)[0] == "argument"
    assert ask("time 1 0 1 1")["ok"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk")
def test_a_full_disk_is_said(ask: Asking, folder: Path) -> None:
    assert ask(f"open 1 {place(folder / 'model.onnx')} 1")["ok"]
    assert ask(f"bind 1 {place(folder / 'x')}")["ok"]
    (folder / "full").symlink_to("/dev/full")  # which it may remove
    kind, message = ask.fails(f"run 1 {place(folder / 'full')}")
    assert kind == "io"
    assert "No space left" in message


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read(ask: Asking) -> None:
    assert "more than 8191 bytes" in ask.fails("open 1 " + "x" * 100_000)[1]
    assert ask.fails("open 1 " + "x" * 8000 + " 1")[0] == "io"
    assert ask.fails("close 1")[0] == "argument"


def test_it_runs_on_the_cpus_that_it_is_pinned_to(ask: Asking) -> None:
    last = max(os.sched_getaffinity(0))
    assert ask(f"pin {1 << last:x}")["cpus"] == 1
    assert os.sched_getaffinity(ask.process.pid) == {last}


def test_it_ends_with_its_input_and_by_quit(argv: list[str]) -> None:
    for said in ("", "quit\n", "quit\nnonsense\n", "half a line"):
        done = subprocess.run(argv, input=said, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == (2 if said.startswith("quit") else 1)


def nonsense(seed: int) -> Iterator[bytes]:
    """Lines that are no commands, or almost."""
    draw = random.Random(seed)
    words = ["open", "bind", "run", "time", "cold", "pin", "close", "OPEN", "0", "1", "-1", "7", "65535", "65536"]
    words += [
        "1e3",
        "",
        "/dev/null",
        "/nowhere",
        "%",
        "%2",
        "%00",
        "%ff%fe",
        "\\",
        '"',
        "9" * 400,
        "é",
        "x" * 5000,
        "\t",
    ]
    for _ in range(400):
        if draw.random() < 0.25:
            yield bytes(draw.randrange(256) for _ in range(draw.randrange(200))).replace(b"\n", b"")
        else:
            yield " ".join(draw.choice(words) for _ in range(draw.randrange(7))).encode()


def test_nonsense_is_answered_line_by_line_and_breaks_nothing(sanitized: list[str], folder: Path) -> None:
    lines = list(nonsense(seed=0))
    model, x = place(folder / "model.onnx"), place(folder / "x")
    after = f"open 9 {model} 1\nbind 9 {x}\nbind 9 {model}\nbind 9 {x}\ntime 9 0 1 1\nquit\n".encode()
    whole = b"\n".join(lines) + b"\n" + after
    done = subprocess.run(sanitized, input=whole, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert len(answers) == 1 + len(lines) + 6
    assert all(answer["error"] in ("argument", "io", "corrupted") for answer in answers[1:-6] if not answer["ok"])
    assert [answer["ok"] for answer in answers[-6:]] == [True, True, False, True, True, True]


def test_no_memory_is_lost_nor_misused(sanitized: list[str], folder: Path) -> None:
    with LineProcess(sanitized) as process:

        def ask(line: str) -> dict[str, Any]:
            process.send(line)
            return dict(json.loads(process.read(60)))

        process.read(60)
        for _ in range(2):
            use(ask, folder)
            assert ask("close 7")["ok"]
        use(ask, folder)
        assert ask("quit")["ok"]
        with pytest.raises(OSError, match=r"ended \(exit 0\)$"):
            process.read(60)


def test_the_sources_have_no_warnings_for_arm64(tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        missing("aarch64-linux-gnu-gcc: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    command = [str(compiler), *STRICT, "-O3", *map(str, native.sources()), "-o", str(tmp_path / "runner"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def missing(what: str) -> None:
    """Skip for a missing tool, or fail where nothing may be skipped."""
    if "all" in os.environ.get("EDGELUT_REQUIRED_BACKENDS", ""):
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


def test_without_onnxruntime_it_says_so_and_ends(argv: list[str], tmp_path: Path) -> None:
    shutil.copy(argv[-1], tmp_path / "edgelut-runner")
    done = subprocess.run([tmp_path / "edgelut-runner"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "libonnxruntime" in json.loads(done.stdout)["message"]


def test_a_counter_that_does_not_count_is_no_clock(argv: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "EDGELUT_COUNTER": str(tmp_path / "counts")}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "nothing counts" in json.loads(done.stdout)["message"]


def test_it_ends_in_the_middle_of_a_burst_when_nobody_listens(argv: list[str], folder: Path) -> None:
    hour = f"open 1 {place(folder / 'model.onnx')} 1\nbind 1 {place(folder / 'x')}\ntime 1 0 100000 1000\n"
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(hour.encode())
        lines = b""
        while lines.count(b"\n") < 3:
            lines += os.read(process.stdout.fileno(), 1 << 16)
        process.stdout.close()
        assert process.wait(30) == 1
