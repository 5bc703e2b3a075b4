"""`edgelut search slim` on the embedded default: rows measured for real, a network found, trained and measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgelut.sources import open_source
from edgelut.types import Target
from search.cli import search_app
from search.report import read_csv

SECONDS = 900


def edgelut(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGELUT_HOME": str(home), "COLUMNS": "80"}
    environment.pop("EDGELUT_URL", None)
    command = [sys.executable, "-m", "edgelut", "search", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.slow
def test_the_loop_of_search_table_and_profiler_closes(tmp_path: Path) -> None:
    refused = edgelut(tmp_path, "slim", "digits")
    assert refused.returncode != 0 and "--measure-missing" in refused.stderr and "Traceback" not in refused.stderr
    done = edgelut(tmp_path, "slim", "digits", "--measure-missing", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (one,) = found["networks"]
    assert one["method"] == "slimmed" and one["predicted_ms"] <= found["target_ms"] < found["full_ms"]
    assert one["measured_ms"] > 0 and one["test_accuracy"] > 0.5
    folder = tmp_path / "searches" / "digits-host-onnxruntime-cpu-0"
    for name in ("path.png", "front.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    (row,) = read_csv(folder / "networks.csv")
    assert row["method"] == "slimmed"
    source = open_source(f"sqlite:///{tmp_path / 'edgelut.db'}")
    (told,) = source.list_searches()  # type: ignore[attr-defined]
    assert told.state == "done" and told.target == Target("host", "onnxruntime-cpu") and told.events > 8
    again = edgelut(tmp_path, "slim", "digits", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["networks"] == found["networks"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["slim", "x"], "no preset 'x' of a search; there are digits"),
        (["slim", "imagenet-l1"], "imagenet-l1 needs images: give --data FOLDER"),
        (["slim", "digits", "--importance", "much"], "--importance is published or normalised, not 'much'"),
        (["slim", "digits", "--url", "http://a", "--database", "sqlite:///b"], "give one of them"),
        (["slim", "digits", "--like", "host"], "--like helps estimates: give --estimate-missing too"),
        (["slim", "digits", "--estimate-missing", "--measure-share", "0.3"], "give --measure-missing and"),
        (["slim", "digits", "--estimate-missing", "--like", "a//b"], "'a//b' is no target"),
    ],
)
def test_what_cannot_be_searched_says_what_to_type(words: list[str], said: str) -> None:
    result = CliRunner().invoke(search_app, words)
    assert result.exit_code != 0 and said in str(result.exception)


def test_presets_are_listed() -> None:
    result = CliRunner().invoke(search_app, ["presets"], env={"COLUMNS": "80"})
    assert result.exit_code == 0 and "fashion-small" in result.stdout and "64-128-320-512" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
