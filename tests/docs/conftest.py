"""What the documents' blocks run against: a data folder with a small table, and a service over it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.engine import open_store
from edgelut import EMBEDDING, FLAT, HEAD, MB3D, MB4D, STEM, BlockSpec, Entry, Latency, Params, Target
from tests.docs.forks import Commands

# What the documents' commands measure for real; the null runtime and device compute nothing, so it takes seconds.
MEASURED = ["--block", "MB3D", "--width", "208,224", "--resolution", "14"]
NOWHERE = ["--runtime", "null", "--device", "null", "--max-rounds", "8"]
CLEARED = ("EDGELUT_DATABASE_URL", "EDGELUT_URL", "EDGELUT_TOKEN", "EDGELUT_HOST", "EDGELUT_PORT", "EDGELUT_LOG_LEVEL")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of commands; files that they write lie there."""
    return tmp_path_factory.mktemp("docs")


@pytest.fixture(scope="session")
def environment(folder: Path) -> dict[str, str]:
    """The environment of commands: a data folder of the tests' own, and no table of the user's."""
    return {**dict.fromkeys(CLEARED, ""), "EDGELUT_HOME": str(folder / "home")}


@pytest.fixture(scope="session")
def commands(folder: Path) -> Iterator[Commands]:
    """Runs commands."""
    with Commands(folder) as running:
        yield running


@pytest.fixture(scope="session")
def home(folder: Path, environment: dict[str, str], commands: Commands) -> Path:
    """A data folder whose table has rows of the demo's blocks, and two that were measured with the null device."""
    done = commands.run(["profile", *MEASURED, *NOWHERE], environment)
    assert done.code == 0, done.out + done.err
    with open_store(f"sqlite:///{folder / 'home' / 'edgelut.db'}") as store:
        store.put_many([_entry(spec, runtime) for spec in _specs() for runtime in ("onnxruntime-cpu", "torchscript-cpu")])
    return folder / "home"


@pytest.fixture(scope="session")
def service(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a live service over the table."""
    argv = [sys.executable, "-P", "-c", "from edgelut.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen(
        argv, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield next(word for word in process.stdout.readline().split() if word.startswith("http://"))
        finally:
            process.terminate()


def _specs() -> list[BlockSpec]:
    """The kinds and widths that the documents ask for."""
    specs = [kind.spec(width, 14) for kind in (MB4D, MB3D) for width in (208, 224, 240)]
    specs += [kind.spec(width, 7) for kind in (MB4D, MB3D) for width in (432, 448, 464)]
    return [*specs, STEM.spec(48, 224), EMBEDDING.spec(48, 56, width_out=96), FLAT.spec(448, 7), HEAD.spec(448, 7, width_out=1000)]


def _entry(spec: BlockSpec, runtime: str) -> Entry:
    ns = 10_000.0 * spec.width_in
    latency = Latency(ns, 1.02 * ns, 1.1 * ns, 0.99 * ns, 1.01 * ns, runs=8, samples=96)
    return Entry(spec, Target("host", runtime), latency, provenance=Params({"measured_at": "2026-11-22T12:00:00+00:00"}))
