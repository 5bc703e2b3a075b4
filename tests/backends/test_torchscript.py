from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.testing import load, parity_error, small_block
from edgelut.errors import ArtifactCorrupted, Unsupported

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgelut-service[torchscript]'")


@pytest.fixture
def exporter() -> Any:
    return load("exporters", "torchscript")


@pytest.fixture
def runtime() -> Any:
    return load("runtimes", "torchscript-cpu")


@pytest.fixture
def host() -> Any:
    return load("devices", "host")


def export(exporter: Any, folder: Path, **options: Any) -> Path:
    path: Path = folder / "block.pt"
    exporter.export(*small_block(), "fp32", path, options)
    return path


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_file_says_how_to_feed_it(exporter: Any, runtime: Any, host: Any, tmp_path: Path, layout: str) -> None:
    module, inputs = small_block()
    with runtime.open(export(exporter, tmp_path, memory_format=layout), host, "fp32", 1, "cpu") as session:
        outputs = session.run({"x": inputs["x"].numpy()})
    assert session.loaded.facts["memory_format"] == layout
    assert parity_error(outputs, module(inputs["x"]).detach().numpy(), inputs["x"].numpy()) < 1e-5


def test_layouts_have_different_digests(exporter: Any, tmp_path: Path) -> None:
    layouts = ("contiguous", "channels_last")
    assert len({exporter.digest(export(exporter, tmp_path, memory_format=layout)) for layout in layouts}) == 2


def test_half_precision_and_unknown_layouts_are_refused(exporter: Any, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="fp32, not fp16"):
        exporter.export(*small_block(), "fp16", tmp_path / "block.pt", {})
    with pytest.raises(Unsupported, match="contiguous or channels_last, not 'diagonal'"):
        export(exporter, tmp_path, memory_format="diagonal")


def test_float32_that_may_be_computed_in_less_is_refused(
    exporter: Any, runtime: Any, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export(exporter, tmp_path)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    with pytest.raises(Unsupported, match="bfloat16"), runtime.open(path, host, "fp32", 1, "cpu"):
        pass


def test_the_number_of_threads_is_set_for_each_session_and_put_back(
    exporter: Any, runtime: Any, host: Any, tmp_path: Path
) -> None:
    path, before = export(exporter, tmp_path), torch.get_num_threads()
    inputs = {"x": small_block()[1]["x"].numpy()}
    with runtime.open(path, host, "fp32", 1, "cpu") as one, runtime.open(path, host, "fp32", 2, "cpu") as two:
        for session, threads in ((one, 1), (two, 2), (one, 1)):
            session.prepare(inputs)
            session.time(1)
            assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == before


def test_opening_warms_up_and_says_what_it_cost(exporter: Any, runtime: Any, host: Any, tmp_path: Path) -> None:
    with runtime.open(export(exporter, tmp_path), host, "fp32", 1, "cpu") as session:
        assert 0 < session.loaded.compile_ns < session.loaded.load_ns


def test_a_script_of_another_writer_is_refused(runtime: Any, host: Any, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    with (
        pytest.raises(ArtifactCorrupted, match="no TorchScript file of ours"),
        runtime.open(path, host, "fp32", 1, "cpu"),
    ):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is configured so")
def test_with_its_environment_a_call_pays_no_page_faults(exporter: Any, runtime: Any, tmp_path: Path) -> None:
    path = export(exporter, tmp_path)
    code = f"""
import resource
import torch
from pathlib import Path
from backends import registry, testing
runtime, host = registry.load_runtime("torchscript-cpu"), registry.load_device("host")
with runtime.open(Path({str(path)!r}), host, "fp32", 1, "cpu") as session:
    assert not [name for name, value in runtime.env.items() if session.loaded.facts[name] != value], session.loaded.facts
    session.prepare({{"x": testing.small_block()[1]["x"].numpy()}})
    session.time(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    session.time(100)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {**os.environ, **runtime.env}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100
