"""How runners are built: once for the same content, whole or not at all, and with a word on what is missing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backends.testing import load
from edgelut.errors import BackendMissing, StorageError, Unsupported

build = pytest.importorskip("backends.native.build", reason="needs numpy: pip install 'edgelut-service[onnx]'")
toolchain = pytest.importorskip("backends.native.toolchain")
HERE = platform.machine()


@pytest.fixture(autouse=True)
def compiler() -> None:
    """Skip where runners cannot be built, or fail where they must be."""
    load("runtimes", "onnxruntime-native")


def test_a_bundle_is_built_once_and_says_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.bundle(HERE, False, tmp_path)
    assert first.facts["onnxruntime"] == toolchain.onnxruntime_version()
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {"edgelut-runner", "libonnxruntime.so.1"}
    for name, file in manifest["files"].items():
        assert hashlib.sha256((first.folder / name).read_bytes()).hexdigest() == file["sha256"]
    monkeypatch.setattr(toolchain.Compiler, "compile", None)
    assert build.bundle(HERE, False, tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]


def test_a_portable_one_brings_its_own_loader_and_c_library(tmp_path: Path) -> None:
    found = build.bundle(HERE, True, tmp_path)
    names = {path.name for path in found.folder.iterdir()}
    assert {found.loader, "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"} <= names
    assert found.argv("/there")[0] == f"/there/{found.loader}"
    assert all(os.access(found.folder / name, os.X_OK) for name in (found.loader, "edgelut-runner"))
    assert not any(path.is_symlink() for path in found.folder.iterdir())
    done = subprocess.run(
        found.argv(str(found.folder)), env={}, input="", capture_output=True, text=True, timeout=30, check=False
    )
    assert json.loads(done.stdout)["onnxruntime"] == toolchain.onnxruntime_version()


def test_another_source_is_another_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "sources"
    shutil.copytree(build.SOURCES, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    first = build.bundle(HERE, False, tmp_path / "runners")
    monkeypatch.setattr(build, "SOURCES", copy)
    assert build.bundle(HERE, False, tmp_path / "runners") == first
    with (copy / "kernels.h").open("a") as file:
        file.write("/* changed */\n")
    assert build.bundle(HERE, False, tmp_path / "runners").folder != first.folder


def test_one_that_lost_a_file_is_built_again(tmp_path: Path) -> None:
    first = build.bundle(HERE, False, tmp_path)
    (first.folder / "libonnxruntime.so.1").unlink()
    assert build.bundle(HERE, False, tmp_path) == first
    assert (first.folder / "libonnxruntime.so.1").exists()
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]


def test_two_at_once_make_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: build.bundle(HERE, False, tmp_path), range(3)))
    assert found[0] == found[1] == found[2]
    assert [path.name for path in tmp_path.iterdir()] == [found[0].folder.name]


def test_what_a_killed_process_left_is_removed_in_time(tmp_path: Path) -> None:
    for name, age_s in (("old", build.STALE_S + 60), ("young", 60)):
        left = tmp_path / f".building-{name}"
        left.mkdir()
        then = left.stat().st_mtime - age_s
        os.utime(left, (then, then))
    build.bundle(HERE, False, tmp_path)
    assert [path.name for path in tmp_path.glob(".building-*")] == [".building-young"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(toolchain, "fetch_library", full)
    with pytest.raises(StorageError, match="No space left on device; free space or set EDGELUT_HOME"):
        build.bundle(HERE, False, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_missing_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendMissing, match=r"apt-get install gcc libc6-dev$"):
        build.bundle(HERE, False, tmp_path)
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    with pytest.raises(BackendMissing, match=rf"gcc-{other.replace('_', '-')}-linux-gnu libc6-dev-\w+-cross"):
        build.bundle(other, True, tmp_path)


def test_a_runtime_without_any_compiler_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(load("runtimes", "onnxruntime-native"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendMissing, match="apt-get install gcc"):
        kind()
    (tmp_path / "edgelut-runner").touch(0o755)
    monkeypatch.setenv("EDGELUT_RUNNER_DIR", str(tmp_path))
    kind()


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "sources"
    broken.mkdir()
    (broken / "runner.c").write_text("int main(void) { return x; }\n")
    monkeypatch.setattr(build, "SOURCES", broken)
    with pytest.raises(BackendMissing, match=r"cannot build the runner.*error: .x. undeclared"):
        build.bundle(HERE, False, tmp_path / "runners")
    assert not any((tmp_path / "runners").iterdir())


def test_a_wheel_that_does_not_come_is_said_with_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_CONFIG_FILE", os.devnull), ("PIP_FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        BackendMissing, match=r"pip cannot fetch onnxruntime==\S+ for riscv64.*No matching distribution"
    ):
        toolchain.fetch_library("riscv64", tmp_path / "library")
    assert not any(tmp_path.iterdir())


def test_a_machine_that_none_is_built_for_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"armv7l.*EDGELUT_RUNNER_DIR"):
        build.bundle("armv7l", True, tmp_path)


def test_a_users_own_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.user_bundle() is None
    monkeypatch.setenv("EDGELUT_RUNNER_DIR", str(tmp_path))
    with pytest.raises(BackendMissing, match=r"holds no executable 'edgelut-runner'.*docs/native\.md"):
        build.user_bundle()
    (tmp_path / "edgelut-runner").touch(0o755)
    assert build.user_bundle().argv("/there") == ["/there/edgelut-runner"]


def test_one_of_ours_may_be_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = build.bundle(HERE, True, tmp_path)
    monkeypatch.setenv("EDGELUT_RUNNER_DIR", str(ours.folder))
    assert build.user_bundle() == ours


def test_looking_for_one_imports_no_onnxruntime() -> None:
    code = (
        "import sys, backends.native.toolchain as t; t.onnxruntime_version(); assert 'onnxruntime' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
