"""The worked examples of CONTRIBUTING.md: installed outside the tree, held to the contracts, and measured with all together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

from backends import registry
from backends.base import Device, Exporter, Runtime
from backends.testing import DeviceContract, ExporterContract, RuntimeContract
from tests.docs import markdown
from tests.docs.markdown import ROOT

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgelut-service[torchscript]'")

DOCUMENT = ROOT / "CONTRIBUTING.md"
GROUPS = {
    "supernet/blocks": "edgelut.blocks",
    "backends/exporters": "edgelut.exporters",
    "backends/runtimes": "edgelut.runtimes",
    "backends/devices": "edgelut.devices",
}
EXAMPLES = {
    block.words[1]: block.text
    for block in markdown.blocks(DOCUMENT)
    if block.language == "python" and "example" in block.words
}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path with the examples as a distribution, as `pip install` would leave it."""
    folder = tmp_path_factory.mktemp("site")
    package, facts = folder / "edgelut_examples", folder / "edgelut_examples-1.dist-info"
    package.mkdir()
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: edgelut-examples\nVersion: 1\n")
    points = ""
    for path, text in EXAMPLES.items():
        group, name = GROUPS[str(Path(path).parent)], Path(path).stem
        (package / f"{name}.py").write_text(text)
        points += f"[{group}]\n{name.replace('_', '-')} = edgelut_examples.{name}\n"
    (facts / "entry_points.txt").write_text(points)
    sys.path.insert(0, str(folder))
    invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    invalidate_caches()
    registry._load.cache_clear()
    registry._class.cache_clear()


def test_there_is_one_example_of_each() -> None:
    assert sorted(str(Path(path).parent) for path in EXAMPLES) == sorted(GROUPS)


def test_the_groups_are_those_that_the_document_names() -> None:
    text = DOCUMENT.read_text()
    assert all(f'[project.entry-points."{group}"]' in text for group in GROUPS.values())


class TestBlock:
    def test_is_a_kind_like_any_other(self) -> None:
        from supernet import blocks

        kind = blocks.kind("dwconv")
        spec = kind.spec(16, 8, params={"kernel": 5})
        module, inputs = blocks.build(spec), blocks.example_inputs(spec)
        assert tuple(module(inputs["x"]).shape) == kind.output_shape(spec)
        assert sum(value.numel() for value in module.parameters()) == blocks.parameters(spec) == (25 + 4) * 16
        assert blocks.macs(spec) == 8 * 8 * 25 * 16

    def test_its_weights_are_far_from_the_identity(self) -> None:
        from supernet import blocks

        spec = blocks.kind("dwconv").spec(16, 8)
        x = blocks.example_inputs(spec)["x"]
        assert (blocks.build(spec)(x) - x).abs().max() > 0.1


class TestExporter(ExporterContract):
    @pytest.fixture
    def exporter(self) -> Exporter:
        return registry.load_exporter("pt2")


class TestRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> Runtime:
        return registry.load_runtime("torch-eager")


class TestDevice(DeviceContract):
    @pytest.fixture
    def device(self) -> Iterator[Device]:
        allowed = os.sched_getaffinity(0)
        yield registry.load_device("host-pinned")
        os.sched_setaffinity(0, allowed)


def test_all_four_measure_a_block_together(installed: Path, tmp_path: Path) -> None:
    argv = ["profile", "--block", "dwconv", "--width", "8", "--resolution", "4", "--max-rounds", "2", "--json"]
    argv += ["--runtime", "torch-eager", "--device", "host-pinned"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "EDGELUT_HOME": str(tmp_path)}
    code = "from edgelut.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *argv],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)["measured"]
    assert (row["spec"]["kind"], row["target"]["device"], row["target"]["runtime"]) == (
        "dwconv",
        "host-pinned",
        "torch-eager",
    )
    assert row["provenance"]["format"] == "pt2"
    assert row["latency"]["p10_ns"] > 0
