"""What backends said of themselves is found again without loading them, and only while it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backends import registry
from edgelut.blocks import IDENTITY, MB4D
from edgelut.errors import BackendMissing
from edgelut.types import Params
from profiler import export_points, toolchains
from profiler.artifacts import ArtifactStore
from profiler.export_points import ExportPool, find_stored
from profiler.request import ExportRequest
from profiler.toolchains import Toolchains, probe
from tests.fakes import ROOT

HEAVY = ("torch", "onnxruntime", "coremltools")


@pytest.fixture(autouse=True)
def _now() -> None:
    """What is installed is looked at anew: tests before these had folders of their own on the path."""
    toolchains._installed.cache_clear()
    toolchains._files.cache_clear()


def test_what_a_runtime_said_is_what_it_says(tmp_path: Path) -> None:
    for name in ("null", "onnxruntime-cpu"):
        told = Toolchains(tmp_path).load_runtime(name)
        loaded = registry.load_runtime(name)
        assert (told.version, told.hosted, told.timed) == (loaded.version, loaded.hosted, loaded.timed)
        assert (told.formats, told.precisions, told.units) == (loaded.formats, loaded.precisions, loaded.units)
        assert dict(told.env) == dict(loaded.env) and told.emulated == loaded.emulated


def test_a_process_that_asks_later_loads_nothing(tmp_path: Path) -> None:
    Toolchains(tmp_path).load_runtime("onnxruntime-cpu")
    code = f"""
import sys
from pathlib import Path
from profiler.toolchains import Toolchains
found = Toolchains(Path({str(tmp_path)!r})).find_runtime("onnxruntime-cpu")
print(found.version, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == f"{registry.load_runtime('onnxruntime-cpu').version} []"


def test_what_is_not_known_is_none_until_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchains, "_is_loaded", lambda *_: False)
    known = Toolchains(tmp_path)
    assert known.find_runtime("null") is None and known.find_exporter("null") is None
    assert known.runtime("null").hosted is False
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_name_that_there_is_not_is_an_error_that_lists_the_names(tmp_path: Path) -> None:
    for ask in (Toolchains(tmp_path).runtime, Toolchains(tmp_path).load_runtime):
        with pytest.raises(BackendMissing, match=r"no runtime .tvm.; there are .*null"):
            ask("tvm")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("how", ["other packages", "other sources", "damaged", "of another shape"])
def test_what_no_longer_holds_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(toolchains, "_is_loaded", lambda *_: False)
    Toolchains(tmp_path).load_runtime("null")
    assert Toolchains(tmp_path).find_runtime("null") is not None
    (file,) = tmp_path.rglob("*.json")
    if how == "other packages":
        monkeypatch.setattr(toolchains, "_installed", lambda: ["torch-9.dist-info"])
    elif how == "other sources":
        monkeypatch.setattr(toolchains, "_files", lambda package: [(package, 1, 1)])
    elif how == "damaged":
        file.write_text(file.read_text()[:-20])
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), "traits": {"formats": 3}}))
    assert Toolchains(tmp_path).find_runtime("null") is None


def test_a_runtime_that_cannot_be_loaded_is_remembered_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise BackendMissing(f"runtime {name!r} needs acme: pip install acme")

    with monkeypatch.context() as patched:
        patched.setattr(registry, "load_runtime", load)
        with pytest.raises(BackendMissing, match="pip install acme"):
            probe(tmp_path, "null")
    monkeypatch.setattr(toolchains, "_is_loaded", lambda *_: False)
    with pytest.raises(BackendMissing, match="pip install acme"):
        Toolchains(tmp_path).runtime("null")


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Toolchains(tmp_path / "file").load_runtime("null").version == "1"


@pytest.mark.parametrize(
    ("format_", "precision", "options"),
    [("null", "fp32", {}), ("onnx", "fp32", {}), ("onnx", "fp16", {"opset": 19}), ("torchscript", "fp32", {})],
)
def test_an_artifact_is_found_without_its_exporter_under_the_key_that_the_exporter_stored_it_under(
    home: Path, monkeypatch: pytest.MonkeyPatch, format_: str, precision: str, options: dict[str, int]
) -> None:
    from profiler import exporting

    exporting._remember.cache_clear()
    kind = IDENTITY if format_ == "null" else MB4D
    wanted = ExportRequest(kind.spec(16, 7), format_, precision, Params(options))
    root = home / "artifacts"
    assert find_stored(wanted, root, Toolchains.beside(root)) is None
    made, new = exporting.export(wanted.artifact_spec, format_, precision, options, root)
    assert new and find_stored(wanted, root, Toolchains.beside(root)) == made
    monkeypatch.setattr(export_points, "Worker", None)  # a worker that is started is an error
    found = []
    with ExportPool(root) as pool:
        pool.export_all([wanted], lambda *done: found.append(done), lambda *failed: found.append(failed))
    assert found == [(0, made, False)]


def test_a_damaged_artifact_is_left_to_the_worker_that_makes_it_again(home: Path) -> None:
    from profiler import exporting

    exporting._remember.cache_clear()
    wanted, root = ExportRequest(IDENTITY.spec(16, 7), "null", "fp32"), home / "artifacts"
    made, _ = exporting.export(wanted.artifact_spec, "null", "fp32", {}, root)
    made.path.write_text("damaged")
    assert find_stored(wanted, root, Toolchains.beside(root)) is None
    again, new = exporting.export(wanted.artifact_spec, "null", "fp32", {}, root)
    assert new and ArtifactStore(root).by_hash([again.artifact.sha256])


def test_nothing_is_made_out_of_turn(home: Path, quick_exports: None) -> None:
    from contextlib import contextmanager

    turns: list[str] = []

    @contextmanager
    def turn():  # type: ignore[no-untyped-def]
        turns.append("taken")
        yield
        turns.append("given")

    wanted = [ExportRequest(IDENTITY.spec(width, 4), "null", "fp32") for width in (8, 16)]
    with ExportPool(home / "artifacts") as pool:
        pool.export_all(wanted, lambda *_: turns.append("made"), lambda *_: None, turn)
    assert turns == ["taken", "made", "made", "given"]
