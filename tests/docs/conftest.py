"""What the documents' blocks run against: a data folder with a small table, and a service over it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db.engine import open_store
from edgelut import EMBEDDING, MB3D, MB4D, BlockSpec, Entry, Latency, Params, Run, Target
from edgelut.efficientformer import get_config, network
from tests.docs.forks import Commands

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
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
def home(folder: Path) -> Path:
    """A data folder whose table has rows of the demo's blocks, one of them with its raw runs."""
    with open_store(f"sqlite:///{folder / 'home' / 'edgelut.db'}", migrate=True) as store:
        sweep = store.start_sweep("documents", {"points": 1}).id
        first = _entry(MB3D.spec(224, 14), "onnxruntime-cpu", sweep)
        store.put_runs([_run(first, sweep, number) for number in range(8)])
        store.finish_sweep(sweep, "done")
        store.put_many([first])
        runtimes = ("onnxruntime-cpu", "torchscript-cpu")
        store.put_many([_entry(spec, runtime, sweep) for spec in _specs() for runtime in runtimes])
    return folder / "home"


@pytest.fixture(scope="session")
def service(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a live service over the table."""
    argv = [sys.executable, "-P", "-c", "from edgelut.cli import main; main()", "serve", "--no-agent", "--port", "0"]
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
    specs = [*network(get_config("L1")).blocks, EMBEDDING.spec(48, 56, width_out=96)]
    specs += [kind.spec(width, 14) for kind in (MB4D, MB3D) for width in (208, 224, 240)]
    specs += [kind.spec(width, 7) for kind in (MB4D, MB3D) for width in (432, 448, 464)]
    return list(dict.fromkeys(specs))


def _entry(spec: BlockSpec, runtime: str, sweep: str) -> Entry:
    ns = 10_000.0 * spec.width_in
    latency = Latency(ns, 1.02 * ns, 1.1 * ns, 0.99 * ns, 1.01 * ns, runs=8, samples=24)
    provenance = Params({"sweep": sweep, "measured_at": f"{AT.isoformat()}"})
    return Entry(spec, Target("host", runtime), latency, provenance=provenance)


def _run(of: Entry, sweep: str, number: int) -> Run:
    ns = int(of.latency.p10_ns)
    samples = (ns, ns + 9, ns + 20)
    return Run(of.spec, of.target, sweep, "worker", number, samples, samples, 1, 2, 8e5, AT + timedelta(seconds=number))
