from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.testing import TOLERANCES, load, parity_error
from edgelut.blocks import EMBEDDING, FLAT, HEAD, IDENTITY, MB3D, MB4D, STEM
from edgelut.types import BlockSpec

blocks = pytest.importorskip("supernet.blocks", reason="needs torch: pip install 'edgelut-service[onnx]'")

SPECS = [
    STEM.spec(24, 64),
    MB4D.spec(48, 14),
    MB4D.spec(40, 14, params={"pool": 7, "activation": "hardswish"}),
    EMBEDDING.spec(48, 14, width_out=96),
    EMBEDDING.spec(48, 14, width_out=96, params={"layout": "3d"}),
    FLAT.spec(48, 7),
    MB3D.spec(96, 7),
    HEAD.spec(96, 7, width_out=100),
    IDENTITY.spec(48, 7),
]
TARGETS = [
    ("onnx", "onnxruntime-cpu", "fp32"),
    ("onnx", "onnxruntime-cpu", "int8"),
    ("torchscript", "torchscript-cpu", "fp32"),
]


def outputs(spec: BlockSpec) -> tuple[Any, Any, Any]:
    module, inputs = blocks.build(spec), blocks.example_inputs(spec)
    return module, inputs, module(inputs["x"]).detach().numpy()


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("form", "runtime", "precision"), TARGETS)
def test_every_block_kind_gives_its_modules_outputs(
    form: str, runtime: str, precision: str, spec: BlockSpec, tmp_path: Path
) -> None:
    module, inputs, expected = outputs(spec)
    exporter, path = load("exporters", form), tmp_path / "block"
    exporter.export(module, inputs, precision, path, exporter.options)
    with load("runtimes", runtime).open(path, load("devices", "host"), precision, 1, "cpu") as session:
        found = session.run({"x": inputs["x"].numpy()})
    assert parity_error(found, expected, inputs["x"].numpy()) <= TOLERANCES[precision]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_fp16_is_close_wherever_it_is_computed(spec: BlockSpec, tmp_path: Path) -> None:
    """Through onnxruntime itself, which our runtime refuses where it computes halves in fp32: the weights are halves anyway."""
    exporter, path = load("exporters", "onnx"), tmp_path / "block"
    onnxruntime = pytest.importorskip("onnxruntime")
    module, inputs, expected = outputs(spec)
    exporter.export(module, inputs, "fp16", path, exporter.options)
    halves = inputs["x"].numpy().astype(np.float16)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": halves})
    assert found[0].dtype == np.float16
    assert parity_error([found[0].astype(np.float32)], expected, inputs["x"].numpy()) <= TOLERANCES["fp16"]
