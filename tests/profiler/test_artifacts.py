"""The store of exported files: atomic, checked byte by byte, and clean after every failure."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgelut import MB4D
from edgelut.errors import ArtifactCorrupted, StorageError
from edgelut.types import Artifact
from profiler.artifacts import ArtifactStore, Stored, artifact_key, bytes_digest, size_bytes
from tests.fakes import ROOT

SPEC = MB4D.spec(16, 7)
KEY = artifact_key(SPEC, "onnx", "fp32", {}, "1", "1")
SHAPES = {"x": (1, 16, 7, 7)}


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def artifact(sha256: str = "ab" * 32) -> Artifact:
    return Artifact(SPEC, "onnx", "fp32", sha256, "1", 1e-7, 3)


def add(artifacts: ArtifactStore, key: str = KEY, content: bytes = b"abc", sha256: str = "ab" * 32) -> Stored:
    with artifacts.workplace() as folder:
        file = folder / "artifact.onnx"
        file.write_bytes(content)
        return artifacts.add(key, artifact(sha256), file, SHAPES)


def add_folder(artifacts: ArtifactStore) -> Stored:
    with artifacts.workplace() as folder:
        package = folder / "artifact.mlpackage"
        (package / "Data").mkdir(parents=True)
        (package / "Manifest.json").write_text("{}")
        (package / "Data" / "weight.bin").write_bytes(b"weights")
        return artifacts.add(KEY, artifact(), package, SHAPES)


def files(root: Path) -> list[str]:
    return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())


@pytest.mark.parametrize("put", [add, add_folder])
def test_what_was_added_is_found_again(artifacts: ArtifactStore, put: Callable[[ArtifactStore], Stored]) -> None:
    assert artifacts.find(KEY) is None
    stored, found = put(artifacts), ArtifactStore(artifacts.root).find(KEY)
    assert found is not None and found.artifact == stored.artifact and found.path == stored.path
    assert {name: tuple(shape) for name, shape in found.shapes.items()} == SHAPES
    assert size_bytes(found.path) == (3 if put is add else 9)
    assert not list((artifacts.root / "tmp").iterdir())


def test_an_artifact_is_found_by_its_hash_whatever_its_key(artifacts: ArtifactStore) -> None:
    one = add(artifacts, "aa11", b"abc", "ab" * 32)
    other = add(artifacts, "bb22", b"abcd", "cd" * 32)
    assert artifacts.by_hash({"ab" * 32, "ef" * 32}) == {"ab" * 32: one}
    assert artifacts.by_hash({"ab" * 32, "cd" * 32}) == {"ab" * 32: one, "cd" * 32: other}
    assert artifacts.by_hash(set()) == {} and ArtifactStore(artifacts.root / "none").by_hash({"ab" * 32}) == {}


def test_a_damaged_artifact_is_not_found_by_its_hash_unless_another_is_whole(artifacts: ArtifactStore) -> None:
    add(artifacts, "aa11", b"abc").path.write_bytes(b"abd")
    assert artifacts.by_hash({"ab" * 32}) == {}
    whole = add(artifacts, "bb22", b"abc and metadata")
    (artifacts.root / "keys" / "cc").mkdir()
    (artifacts.root / "keys" / "cc" / "cc33.json").write_text("{")
    assert artifacts.by_hash({"ab" * 32}) == {"ab" * 32: whole}


def test_every_part_of_a_key_tells_artifacts_apart() -> None:
    keys = {
        KEY,
        artifact_key(MB4D.spec(24, 7), "onnx", "fp32", {}, "1", "1"),
        artifact_key(SPEC, "coreml", "fp32", {}, "1", "1"),
        artifact_key(SPEC, "onnx", "fp16", {}, "1", "1"),
        artifact_key(SPEC, "onnx", "fp32", {"opset": 20}, "1", "1"),
        artifact_key(SPEC, "onnx", "fp32", {}, "2", "1"),
        artifact_key(SPEC, "onnx", "fp32", {}, "1", "2"),
    }
    assert len(keys) == 7


@pytest.mark.parametrize("content", [b"", b"abd", b"abcd"])
def test_a_file_that_changed_is_not_given(artifacts: ArtifactStore, content: bytes) -> None:
    add(artifacts).path.write_bytes(content)
    with pytest.raises(ArtifactCorrupted, match="is not what was written"):
        artifacts.find(KEY)


def test_a_file_that_is_gone_is_told(artifacts: ArtifactStore) -> None:
    add(artifacts).path.unlink()
    with pytest.raises(ArtifactCorrupted):
        artifacts.find(KEY)


@pytest.mark.parametrize(
    "damage",
    [
        lambda package: (package / "Data" / "weight.bin").write_bytes(b"Weights"),
        lambda package: (package / "Data" / "weight.bin").rename(package / "Data" / "weights.bin"),
        lambda package: (package / "more").write_text(""),
        lambda package: (package / "Manifest.json").unlink(),
    ],
)
def test_a_folder_is_checked_file_by_file_names_included(
    artifacts: ArtifactStore, damage: Callable[[Path], Any]
) -> None:
    damage(add_folder(artifacts).path)
    with pytest.raises(ArtifactCorrupted):
        artifacts.find(KEY)


def entry_of(artifacts: ArtifactStore) -> Path:
    (entry,) = (artifacts.root / "keys").rglob("*.json")
    return entry


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '{"artifact": {}}', "\ud800"],
    ids=["empty", "cut", "list", "7", "null", "bare", "bytes"],
)
def test_a_damaged_index_entry_is_told_and_after_discarding_it_the_artifact_is_added_anew(
    artifacts: ArtifactStore, text: str
) -> None:
    add(artifacts)
    entry_of(artifacts).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ArtifactCorrupted, match="index entry"):
        artifacts.find(KEY)
    artifacts.discard(KEY)
    assert artifacts.find(KEY) is None
    add(artifacts)
    assert artifacts.find(KEY) is not None


@pytest.mark.parametrize("name", ["artifact", "path", "bytes_sha256", "shapes"])
def test_an_index_entry_that_lacks_a_field_is_damaged(artifacts: ArtifactStore, name: str) -> None:
    add(artifacts)
    entry = entry_of(artifacts)
    row = json.loads(entry.read_text())
    del row[name]
    entry.write_text(json.dumps(row))
    with pytest.raises(ArtifactCorrupted, match="index entry"):
        artifacts.find(KEY)


def test_discarding_forgets_the_file_and_is_harmless_where_there_is_none(artifacts: ArtifactStore) -> None:
    artifacts.discard(KEY)
    stored = add(artifacts)
    artifacts.discard(KEY)
    assert artifacts.find(KEY) is None and not stored.path.exists() and files(artifacts.root) == []


@pytest.mark.parametrize("path", ["x", "", "..", "../precious/file", "keys/x", "objects/x", "/"])
def test_discarding_removes_nothing_but_an_object_whatever_a_damaged_entry_says(
    artifacts: ArtifactStore, path: str, tmp_path: Path
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    other = add(artifacts, "f" * 32, b"other", "cd" * 32)
    add(artifacts)
    entry = artifacts._entry(KEY)
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "path": path}))
    artifacts.discard(KEY)
    assert (tmp_path / "precious" / "file").exists() and other.path.exists()
    assert artifacts.find("f" * 32) is not None


def test_a_damaged_file_is_not_taken_for_an_equal_one_that_is_added(artifacts: ArtifactStore) -> None:
    stored = add(artifacts)
    stored.path.write_bytes(b"damaged")
    entry_of(artifacts).unlink()
    again = add(artifacts)
    assert again.path.read_bytes() == b"abc" and artifacts.find(KEY) is not None


def test_files_of_one_meaning_and_other_bytes_do_not_disturb_each_other(artifacts: ArtifactStore) -> None:
    first = add(artifacts, "a" * 32, b"made on Monday")
    second = add(artifacts, "b" * 32, b"made on Tuesday")
    for key, stored in (("a" * 32, first), ("b" * 32, second)):
        found = artifacts.find(key)
        assert found is not None and found.path == stored.path


def test_adding_again_keeps_what_is_there(artifacts: ArtifactStore) -> None:
    before = add(artifacts).path.stat().st_ino
    assert add(artifacts).path.stat().st_ino == before
    assert len(files(artifacts.root)) == 2


ADDER = """
import sys
from pathlib import Path
from tests.profiler.test_artifacts import KEY, ArtifactStore, add
artifacts = ArtifactStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    add(artifacts, f"{number:032x}", b"abc%d" % number, f"{number:064x}")
    assert artifacts.find(f"{number:032x}") is not None
"""


def test_two_processes_may_add_the_same_at_once(artifacts: ArtifactStore) -> None:
    adders = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", ADDER, str(artifacts.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(2)
    ]
    for adder in adders:
        assert adder.stdout is not None and adder.stdout.readline() == "ready\n"
    for adder in adders:
        assert adder.stdin is not None
        adder.stdin.write("go\n")
        adder.stdin.flush()
    for adder in adders:
        _, said = adder.communicate(timeout=60)
        assert adder.returncode == 0, said
    assert len(files(artifacts.root)) == 200
    assert all(artifacts.find(f"{number:032x}") is not None for number in range(100))


@pytest.mark.parametrize("at", ["rename", "mkdir", "open", "fsync"])
def test_a_failed_add_leaves_nothing_but_what_was_there(
    artifacts: ArtifactStore, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(artifacts, "f" * 32, b"other", "cd" * 32)
    before = files(artifacts.root)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="No space left on device; free space"), artifacts.workplace() as folder:
        (folder / "artifact.onnx").write_bytes(b"abc")
        with monkeypatch.context() as patch:
            patch.setattr(os if at == "fsync" else Path, at, full)
            artifacts.add(KEY, artifact(), folder / "artifact.onnx", SHAPES)
    assert [name for name in files(artifacts.root) if name.startswith(("keys", "tmp"))] == [
        name for name in before if name.startswith(("keys", "tmp"))
    ]
    assert artifacts.find(KEY) is None and artifacts.find("f" * 32) is not None
    add(artifacts)
    assert artifacts.find(KEY) is not None


def test_an_exporter_that_fails_leaves_nothing(artifacts: ArtifactStore) -> None:
    with pytest.raises(ZeroDivisionError), artifacts.workplace() as folder:
        (folder / "half").write_text("half")
        raise ZeroDivisionError
    assert files(artifacts.root) == [] and not list((artifacts.root / "tmp").iterdir())


def test_a_place_that_is_no_folder_cannot_keep_artifacts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    artifacts = ArtifactStore(tmp_path / "file" / "artifacts")
    with pytest.raises(StorageError, match="cannot keep artifacts in"):
        artifacts.find(KEY)
    with pytest.raises(StorageError, match="Not a directory"):
        add(artifacts)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system where this process may; what is mounted is gone afterwards."""
    place = tmp_path / "mount"
    place.mkdir()

    def mount(options: str) -> Path:
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no program 'mount' here")
        if done.returncode:
            pytest.skip(f"this process may not mount a file system: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def test_a_disk_that_is_full_refuses_the_artifact_and_keeps_the_others(mounted: Callable[[str], Path]) -> None:
    artifacts = ArtifactStore(mounted("size=128k"))
    kept = add(artifacts, "f" * 32, b"x" * 40_000, "cd" * 32)
    before = files(artifacts.root)
    with pytest.raises(StorageError, match="No space left on device"):
        add(artifacts, KEY, b"y" * 200_000)
    assert files(artifacts.root) == before
    found = artifacts.find("f" * 32)
    assert found is not None and found.path == kept.path
    add(artifacts, KEY, b"y" * 1000)
    assert artifacts.find(KEY) is not None


def test_a_disk_that_is_read_only_is_read_and_not_written(mounted: Callable[[str], Path]) -> None:
    artifacts = ArtifactStore(mounted("size=128k"))
    add(artifacts, "f" * 32, sha256="cd" * 32)
    mounted("remount,ro")
    assert artifacts.find("f" * 32) is not None
    with pytest.raises(StorageError, match="Read-only file system"):
        add(artifacts)


def test_the_digest_of_a_folder_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "file").write_text("1")
    assert bytes_digest(tmp_path / "a") == bytes_digest(tmp_path / "b")
    os.utime(tmp_path / "b" / "in" / "file", (0, 0))
    assert bytes_digest(tmp_path / "a") == bytes_digest(tmp_path / "b")
    (tmp_path / "b" / "in" / "file").rename(tmp_path / "b" / "file")
    assert bytes_digest(tmp_path / "a") != bytes_digest(tmp_path / "b")
