"""The command line in this process, and as real processes, with a data folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from db.engine import SqlStore, open_store
from edgelut import MB3D, MB4D, Target, cli
from edgelut.testing import make_entry
from profiler import export_points, rounds, timing
from tests.fakes import OUTSIDE, ROOT, InlineWorker, install_plugins

EDGELUT = Path(sys.executable).parent / "edgelut"
NULL = ("--runtime", "null", "--device", "null", "--format", "null")
HOST = Target("host", "onnxruntime-cpu")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """Its one line of complaint; nothing else was said."""
        assert self.out == "" and self.err.startswith("error: ") and self.err.count("\n") == 1, self
        return self.err


Command = Callable[..., Done]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, which does not exist yet."""
    for name in ("EDGELUT_DATABASE_URL", "EDGELUT_URL", "EDGELUT_TOKEN", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGELUT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def edgelut(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process, with exports and timings in it too."""
    monkeypatch.setattr(export_points, "TASKS", f"{OUTSIDE}.exporting")
    monkeypatch.setattr(export_points, "Worker", InlineWorker)
    monkeypatch.setattr(rounds, "Worker", InlineWorker)
    steady = timing.ReferenceTime(1e6, 1e6)  # the real kernels would use every core of this process
    monkeypatch.setattr(timing, "time_reference", lambda warmups, samples: steady)

    def run(*argv: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["edgelut", *argv])
        monkeypatch.setattr(cli.app, "registered_groups", [])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Done(0 if code is None else int(code), *capfd.readouterr())

    return run


@pytest.fixture
def process() -> Command:
    """Run a command as a real process."""

    def run(*argv: str, **env: str) -> Done:
        done = subprocess.run(
            [str(EDGELUT), *argv], capture_output=True, text=True, env={**os.environ, **env}, timeout=120, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def filled_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with a few rows."""
    file = tmp_path_factory.mktemp("filled") / "edgelut.db"
    with open_store(f"sqlite:///{file}", migrate=True) as store:
        store.put_many(
            [
                *(make_entry(width * 1e4, MB3D.spec(width, 14), HOST) for width in (208, 224, 240)),
                make_entry(5e5, MB3D.spec(224, 7), HOST, doubts=("noisy",)),
                make_entry(3e5, MB4D.spec(224, 14), Target("host", "torchscript-cpu")),
            ]
        )
    return file


@pytest.fixture
def filled(home: Path, filled_database: Path) -> Iterator[SqlStore]:
    """The store in the home, with a few rows."""
    home.mkdir()
    shutil.copy(filled_database, home / "edgelut.db")
    with open_store(f"sqlite:///{home / 'edgelut.db'}") as store:
        yield store


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that tells the runtime `scripted` what to do, in processes too."""
    plugins, folder = tmp_path / "plugins", tmp_path / "script"
    folder.mkdir()
    install_plugins(plugins, {"edgelut.runtimes": {"scripted": f"{OUTSIDE}.scripted"}})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(plugins), str(ROOT))))
    monkeypatch.setenv("EDGELUT_SCRIPT", str(folder))
    return folder
