"""Fixtures of the profiler's tests: a store, fake exports, and a runtime outside the tree that does as it is told."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import registry
from db.engine import SqlStore, open_store
from edgelut.plan import Policy
from profiler import agent as agents
from profiler import checking, cooling, export_points, flights, overlap, rounds, timing
from profiler.worker import Worker
from tests.fakes import OUTSIDE, ROOT, InlineWorker, install_plugins
from tests.profiler.lab import Lab, wait_until


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, empty; nothing is read from or left in the user's."""
    for name in ("EDGELUT_DATABASE_URL", "EDGELUT_URL", "EDGELUT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("EDGELUT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file that has the schema and no rows."""
    file = tmp_path_factory.mktemp("database") / "edgelut.db"
    open_store(f"sqlite:///{file}", migrate=True).close()
    return file


@pytest.fixture
def database(home: Path, empty_database: Path) -> Path:
    """The database in the home."""
    return Path(shutil.copy(empty_database, home / "edgelut.db"))


@pytest.fixture
def store(database: Path) -> Iterator[SqlStore]:
    """The store in the home."""
    with open_store(f"sqlite:///{database}") as opened:
        yield opened


@pytest.fixture
def quick_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports in this process that never load torch."""
    monkeypatch.setattr(export_points, "TASKS", f"{OUTSIDE}.exporting")
    monkeypatch.setattr(export_points, "Worker", InlineWorker)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing in this process; a test of what a process does asks for `processes`."""
    monkeypatch.setattr(rounds, "Worker", InlineWorker)
    monkeypatch.setattr(overlap, "Worker", InlineWorker)
    steady = timing.ReferenceTime(1e6, 1e6)  # the real kernels would use every core of this process
    monkeypatch.setattr(timing, "time_reference", lambda warmups, samples: steady)


@pytest.fixture
def processes(inline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing in worker processes after all."""
    monkeypatch.setattr(rounds, "Worker", Worker)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that tells the runtime `scripted` what to do, here and in workers."""
    plugins, folder = tmp_path / "plugins", tmp_path / "script"
    folder.mkdir()
    install_plugins(plugins, {"edgelut.runtimes": {"scripted": f"{OUTSIDE}.scripted"}})
    monkeypatch.syspath_prepend(str(plugins))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(plugins), str(ROOT))))
    monkeypatch.setenv("EDGELUT_SCRIPT", str(folder))
    return folder


@pytest.fixture
def hosted(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime `scripted` as one that runs on this machine's processor; pauses between rounds are not waited for."""
    monkeypatch.setattr(type(registry.load_runtime("scripted")), "hosted", True)
    monkeypatch.setattr(Policy, "pause_s", lambda policy, round_s: 0.0)


@pytest.fixture
def phone(script: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that tells the phone what to do; one round is one flight, and nothing is waited for."""
    folder = script.parent / "phones"
    names = {"edgelut.devices": {"phone": f"{OUTSIDE}.phone"}, "edgelut.runtimes": {"phone": f"{OUTSIDE}.phone"}}
    install_plugins(folder, names, "phones")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), os.environ["PYTHONPATH"])))
    monkeypatch.setattr(flights, "FLIGHT_S", 0.0)
    monkeypatch.setattr(cooling, "PAUSE_S", 0.0)
    monkeypatch.setattr(checking, "Worker", InlineWorker)
    return script


@pytest.fixture
def lab(
    database: Path, tmp_path: Path, quick_exports: None, inline: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    """A service over the database in the home, and agents of another home."""
    monkeypatch.setattr(agents, "POLL_S", 0.2)
    monkeypatch.setattr(agents, "SOON_S", 0.1)
    with open_store(f"sqlite:///{database}") as opened:
        made = Lab(opened, tmp_path / "agent")
        yield made
        wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("edgelut-work")])
        made.line.end()
