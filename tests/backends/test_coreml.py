"""The Core ML exporter: what its packages say is what the modules compute, and they are the same everywhere."""

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgelut import blocks as kinds
from edgelut.errors import ArtifactCorrupted, Unsupported
from edgelut.types import BlockSpec

pytest.importorskip("coremltools", reason="the extra 'coreml' is not installed")

from backends.devices.null import Null as NullDevice
from backends.exporters import coreml
from backends.exporters.coreml import TARGETS, CoreML
from backends.mil.package import read_model, weight_files
from backends.mil.toolchain import coremltools
from backends.runtimes.coreml_mil import CoreMLMIL
from supernet.blocks import build, example_inputs

TOLERANCE = {"fp32": 1e-5, "fp16": 3e-3}  # of the largest value of the residual branch
SPECS = {
    "stem": kinds.STEM.spec(24, 16),
    "stem hardswish": kinds.STEM.spec(24, 16, params={"activation": "hardswish", "stride": 2}),
    "MB4D 48": kinds.MB4D.spec(48, 7),
    "MB4D 96 hardswish": kinds.MB4D.spec(96, 7, params={"activation": "hardswish", "pool": 5}),
    "MB4D 16 relu": kinds.MB4D.spec(16, 9, params={"activation": "relu", "pool": 7}),
    "embedding 4d": kinds.EMBEDDING.spec(16, 8, width_out=24),
    "embedding 3d": kinds.EMBEDDING.spec(16, 8, width_out=24, params={"layout": "3d"}),
    "flat": kinds.FLAT.spec(24, 7),
    "MB3D 64": kinds.MB3D.spec(64, 7),
    "MB3D 40 relu": kinds.MB3D.spec(40, 5, params={"activation": "relu"}),
    "MB3D batch 2": kinds.MB3D.spec(32, 4, batch=2),
    "head 3d": kinds.HEAD.spec(32, 4, width_out=10),
    "head 4d": kinds.HEAD.spec(32, 4, width_out=10, params={"layout": "4d", "distillation": 0}),
    "identity": kinds.IDENTITY.spec(8, 4),
}
CHILD = """
import sys
from pathlib import Path
from edgelut import blocks
from backends.exporters.coreml import CoreML
from supernet.blocks import build, example_inputs
for index, spec in enumerate((blocks.MB4D.spec(16, 7), blocks.MB3D.spec(16, 3))):
    path = Path(sys.argv[1]) / f"{index}.mlpackage"
    CoreML().export(build(spec), example_inputs(spec), "fp16", path, {})
    print(CoreML().digest(path))
"""


class Unconvertible(nn.Module):
    """Fails in the middle of the conversion, which has made up names by then: one value cannot be both `x` and `y1`."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return nn.functional.hardswish(x), x.clone()


class Others(nn.Module):
    """The operators that the exporter knows and our blocks do not use."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).split(4, dim=1)
        pooled = nn.functional.adaptive_avg_pool2d((a / 3 - b.clone()).relu(), 1)
        return (pooled.reshape(1, 4).unsqueeze(1) * 2).transpose(1, 2)


class Pair(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, a * b


def export(spec: BlockSpec, precision: str, path: Path, **options: str) -> str:
    """Export a block; return the package's digest."""
    CoreML().export(build(spec), example_inputs(spec), precision, path, options)
    return CoreML().digest(path)


def branch_error(spec: BlockSpec, precision: str, path: Path) -> float:
    """Return max |dy| / max |branch| of the package against the module; the branch is y, less x where y holds it."""
    module, inputs = build(spec), example_inputs(spec)
    with torch.no_grad():
        expected = module(*inputs.values()).numpy()
    arrays = {name: value.numpy() for name, value in inputs.items()}
    with CoreMLMIL().open(path, NullDevice(), precision, 1, "cpu") as session:
        (got,) = session.run(arrays)
    branch = expected - arrays["x"] if module.residual else expected
    return float(np.abs(got - expected).max() / np.abs(branch).max())


def io_types(path: Path) -> set[str]:
    description = read_model(path).description
    types = (feature.type.multiArrayType for feature in (*description.input, *description.output))
    return {kind.ArrayDataType.Name(kind.dataType) for kind in types}


def normal_package(folder: Path) -> Path:
    path = folder / "block.mlpackage"
    export(SPECS["MB4D 16 relu"], "fp16", path)
    return path


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", SPECS)
def test_a_package_computes_what_its_block_computes(name: str, precision: str, tmp_path: Path) -> None:
    path = tmp_path / "block.mlpackage"
    export(SPECS[name], precision, path)
    assert branch_error(SPECS[name], precision, path) <= TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["MB4D 96 hardswish", "MB3D 64", "identity"])
def test_every_target_computes_the_same(name: str, target: str, precision: str, tmp_path: Path) -> None:
    path = tmp_path / "block.mlpackage"
    export(SPECS[name], precision, path, target=target)
    assert branch_error(SPECS[name], precision, path) <= TOLERANCE[precision]
    assert read_model(path).specificationVersion == 6 + TARGETS.index(target)
    half = precision == "fp16" and target != "iOS15"
    assert io_types(path) == {"FLOAT16" if half else "FLOAT32"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["MB4D 48", "MB3D 64", "embedding 3d", "head 4d", "others"])
def test_the_short_pipeline_writes_what_the_default_one_writes(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Others().eval() if name == "others" else build(SPECS[name])
    inputs = {"x": torch.randn(1, 8, 6, 6)} if name == "others" else example_inputs(SPECS[name])
    path, exporter = tmp_path / "block.mlpackage", CoreML()
    exporter.export(module, inputs, precision, path, {})
    short = exporter.digest(path)
    default = [step.removeprefix("common::") for step in coremltools.PassPipeline.DEFAULT.passes]
    monkeypatch.setattr(coreml, "PASSES", default)
    exporter.export(module, inputs, precision, path, {})
    assert exporter.digest(path) == short


def test_every_block_goes_the_short_way_and_every_operator_that_may_is_tried() -> None:
    modules = [(build(spec), example_inputs(spec)) for spec in SPECS.values()]
    modules.append((Others().eval(), {"x": torch.randn(1, 8, 6, 6)}))
    tried = set()
    for module, inputs in modules:
        with coreml._silence():
            program, plain = coreml._capture(module, inputs)
        assert plain
        tried |= {node.target._opname for node in program.graph.nodes if hasattr(node.target, "_opname")}
    assert tried == coreml.PLAIN | {"index"}


def test_a_module_of_other_operators_goes_the_long_way_and_computes_the_same(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Tanh()).eval()
    x, path = torch.randn(1, 3, 8, 8), tmp_path / "other.mlpackage"
    with coreml._silence():
        assert not coreml._capture(module, {"x": x})[1]
    CoreML().export(module, {"x": x}, "fp32", path, {})
    with CoreMLMIL().open(path, NullDevice(), "fp32", 1, "cpu") as session:
        np.testing.assert_allclose(session.run({"x": x.numpy()})[0], module(x).detach().numpy(), atol=1e-6)


def test_inputs_and_outputs_have_their_names(tmp_path: Path) -> None:
    path, pair = tmp_path / "pair.mlpackage", {"a": torch.randn(2, 3), "b": torch.randn(2, 3)}
    CoreML().export(Pair(), pair, "fp32", path, {})
    description = read_model(path).description
    assert [feature.name for feature in description.input] == ["a", "b"]
    assert [feature.name for feature in description.output] == ["y0", "y1"]
    with CoreMLMIL().open(path, NullDevice(), "fp32", 1, "cpu") as session:
        total, product = session.run({name: value.numpy() for name, value in pair.items()})
    np.testing.assert_allclose(total, pair["a"] + pair["b"])
    np.testing.assert_allclose(product, pair["a"] * pair["b"])


def test_digests_are_equal_in_other_processes_whatever_the_hash_seed(tmp_path: Path) -> None:
    specs = (kinds.MB4D.spec(16, 7), kinds.MB3D.spec(16, 3))
    here = [export(spec, "fp16", tmp_path / "here.mlpackage") for spec in specs]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "4321", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split() == here
    assert done.stderr == ""


def test_a_digest_leaves_out_the_date_and_the_manifest_and_nothing_else(tmp_path: Path) -> None:
    path = normal_package(tmp_path)
    before, file = CoreML().digest(path), path / "Data/com.apple.CoreML/model.mlmodel"
    model = read_model(path)
    model.description.metadata.userDefined[coreml.VARYING] = "1984-01-24"
    file.write_bytes(model.SerializeToString())
    (path / "Manifest.json").write_text("{}")
    assert CoreML().digest(path) == before
    model.description.metadata.userDefined["another"] = "1984-01-24"
    file.write_bytes(model.SerializeToString())
    assert CoreML().digest(path) != before


def test_a_changed_weight_changes_the_digest(tmp_path: Path) -> None:
    path = normal_package(tmp_path)
    before, (file,) = CoreML().digest(path), weight_files(path)
    content = bytearray(file.read_bytes())
    content[-65] ^= 1
    file.write_bytes(content)
    assert CoreML().digest(path) != before


def test_a_failed_export_leaves_nothing_behind_and_the_next_package_as_it_would_be(tmp_path: Path) -> None:
    path = tmp_path / "block.mlpackage"
    before = export(SPECS["MB4D 96 hardswish"], "fp16", path)
    with pytest.raises(Unsupported, match=r"cannot export Unconvertible.*'y1'"):
        CoreML().export(Unconvertible(), {"x": torch.eye(3)[None]}, "fp32", tmp_path / "no.mlpackage", {})
    assert [file.name for file in tmp_path.iterdir()] == ["block.mlpackage"]
    assert export(SPECS["MB4D 96 hardswish"], "fp16", path) == before


def test_an_export_replaces_an_older_package(tmp_path: Path) -> None:
    path = tmp_path / "block.mlpackage"
    old = export(SPECS["flat"], "fp32", path)
    assert export(SPECS["identity"], "fp32", path) != old
    assert branch_error(SPECS["identity"], "fp32", path) == 0


@pytest.mark.parametrize(
    ("precision", "options", "says"),
    [
        ("int8", {}, "fp16 and fp32, not 'int8'"),
        ("fp16", {"target": "iOS14"}, "iOS15, iOS16, iOS17, iOS18"),
        ("fp16", {"opset": 20}, "no option opset; it has target"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_choices(
    precision: str, options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match=says):
        CoreML().export(nn.ReLU(), {"x": torch.ones(1, 2)}, precision, tmp_path / "no.mlpackage", options)
    assert not list(tmp_path.iterdir())


def test_the_digest_of_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupted, match="no Core ML package"):
        CoreML().digest(tmp_path / "none.mlpackage")


def test_the_heap_is_thawed_again_but_a_heap_that_was_frozen_stays_so(tmp_path: Path) -> None:
    gc.unfreeze()  # what tests before this one froze
    normal_package(tmp_path)
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        normal_package(tmp_path)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_the_version_names_the_libraries_that_write_the_file() -> None:
    assert f"coremltools {coremltools.__version__}" in CoreML().version
    assert "torch 2." in CoreML().version
