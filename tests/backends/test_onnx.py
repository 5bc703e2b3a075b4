from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.testing import load, parity_error, small_block
from edgelut.errors import ArtifactCorrupted, BackendMissing, Unsupported

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'edgelut-service[onnx]'")


@pytest.fixture
def exporter() -> Any:
    return load("exporters", "onnx")


@pytest.fixture
def runtime() -> Any:
    return load("runtimes", "onnxruntime-cpu")


@pytest.fixture
def host() -> Any:
    return load("devices", "host")


def export(onnx_exporter: Any, folder: Path, precision: str = "fp32", **options: Any) -> Path:
    path: Path = folder / f"{precision}.onnx"
    onnx_exporter.export(*small_block(), precision, path, options)
    return path


def test_the_file_names_its_ends_and_no_place_or_writer(exporter: Any, tmp_path: Path) -> None:
    path = export(exporter, tmp_path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["y"]
    assert (model.producer_name, model.doc_string, len(model.metadata_props)) == ("", "", 0)
    assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("opset", [17, 20])
def test_the_opset_is_an_option(exporter: Any, tmp_path: Path, opset: int) -> None:
    assert onnx.load(export(exporter, tmp_path, opset=opset)).opset_import[0].version == opset


def test_fp16_holds_halves_from_end_to_end(exporter: Any, tmp_path: Path) -> None:
    graph = onnx.load(export(exporter, tmp_path, "fp16")).graph
    half = onnx.TensorProto.FLOAT16
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {half}
    assert {weight.data_type for weight in graph.initializer} == {half}
    assert "Cast" not in {node.op_type for node in graph.node}


def test_int8_has_unsigned_activations_and_signed_weights_for_each_channel(exporter: Any, tmp_path: Path) -> None:
    graph = onnx.load(export(exporter, tmp_path, "int8")).graph
    weights = {weight.name: weight for weight in graph.initializer}
    pairs = [
        (weights[node.input[0]], weights[node.input[1]])
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in weights
    ]
    kernels = [(weight, scale) for weight, scale in pairs if len(weight.dims) == 4]
    assert {weight.data_type for weight, _ in kernels} == {onnx.TensorProto.INT8}
    assert sorted(tuple(scale.dims) for _, scale in kernels) == [(16,), (32,)]
    zeros = [weights[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert [zero.data_type for zero in zeros] == [onnx.TensorProto.UINT8] * 4


def test_int8_runs_in_integer_kernels_and_is_close(exporter: Any, runtime: Any, host: Any, tmp_path: Path) -> None:
    module, inputs = small_block()
    with runtime.open(export(exporter, tmp_path, "int8"), host, "int8", 1, "cpu") as session:
        outputs = session.run({"x": inputs["x"].numpy()})
    error = parity_error(outputs, module(inputs["x"]).detach().numpy(), inputs["x"].numpy())
    assert 1e-4 < error < 0.05


def test_an_unknown_exporter_and_a_training_module_are_refused(exporter: Any, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="trace or dynamo"):
        export(exporter, tmp_path, exporter="magic")
    module, inputs = small_block()
    with pytest.raises(Unsupported, match=r"eval\(\)"):
        exporter.export(module.train(), inputs, "fp32", tmp_path / "x.onnx", {})


def test_the_dynamo_exporter_says_what_it_needs_or_works(
    exporter: Any, runtime: Any, host: Any, tmp_path: Path
) -> None:
    try:
        path = export(exporter, tmp_path, exporter="dynamo")
    except BackendMissing as error:
        assert "pip install onnxscript" in str(error)
        pytest.skip(str(error))
    module, inputs = small_block()
    with runtime.open(path, host, "fp32", 1, "cpu") as session:
        outputs = session.run({"x": inputs["x"].numpy()})
    assert parity_error(outputs, module(inputs["x"]).detach().numpy(), inputs["x"].numpy()) < 1e-5
    assert b".py" not in path.read_bytes()


def test_export_is_silent(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from backends import registry, testing
exporter, runtime, host = registry.load_exporter("onnx"), registry.load_runtime("onnxruntime-cpu"), registry.load_device("host")
for precision in exporter.precisions:
    path = Path({str(tmp_path)!r}, precision + ".onnx")
    exporter.export(*testing.small_block(), precision, path, {{}})
    try:
        with runtime.open(path, host, precision, 1, "cpu"):
            pass
    except ValueError:
        assert precision == "fp16"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def model_of(nodes: list[Any], weights: dict[str, Any]) -> Any:
    shape = (1, 8, 8)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_int8_that_stays_in_float_is_refused(runtime: Any, host: Any, tmp_path: Path) -> None:
    node = onnx.helper.make_node
    quantized = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("MatMul", ["d", "w"], ["y"]),
    ]
    weights = {"scale": np.float32(0.1), "zero": np.uint8(0), "w": np.ones((8, 8), np.float32)}
    onnx.save(model_of(quantized, weights), tmp_path / "half-way.onnx")
    opening = runtime.open(tmp_path / "half-way.onnx", host, "int8", 1, "cpu")
    with (
        pytest.raises(Unsupported, match=r"1 of 1 convolutions and matrix products of half-way\.onnx stayed in float"),
        opening,
    ):
        pass


def test_a_file_without_heavy_operators_is_the_same_in_int8(runtime: Any, host: Any, tmp_path: Path) -> None:
    onnx.save(model_of([onnx.helper.make_node("Relu", ["x"], ["y"])], {}), tmp_path / "relu.onnx")
    with runtime.open(tmp_path / "relu.onnx", host, "int8", 1, "cpu") as session:
        assert session.run({"x": -np.ones((1, 8, 8), np.float32)})[0].max() == 0


def test_fp16_is_refused_where_it_would_be_computed_in_fp32(
    exporter: Any, runtime: Any, host: Any, tmp_path: Path
) -> None:
    path = export(exporter, tmp_path, "fp16")
    try:
        with runtime.open(path, host, "fp16", 1, "cpu"):
            pytest.skip("this CPU has fp16 kernels")
    except Unsupported as error:
        assert "computes in fp32 between casts" in str(error)


def test_a_file_that_onnxruntime_cannot_read_is_corrupted(runtime: Any, host: Any, tmp_path: Path) -> None:
    broken = model_of([onnx.helper.make_node("Add", ["x", "absent"], ["y"])], {})
    onnx.save(broken, tmp_path / "broken.onnx")
    with (
        pytest.raises(ArtifactCorrupted, match=r"broken\.onnx"),
        runtime.open(tmp_path / "broken.onnx", host, "fp32", 1, "cpu"),
    ):
        pass


def test_several_threads_give_the_same_outputs(exporter: Any, runtime: Any, host: Any, tmp_path: Path) -> None:
    inputs = {"x": small_block()[1]["x"].numpy()}
    path = export(exporter, tmp_path)
    with runtime.open(path, host, "fp32", 1, "cpu") as one, runtime.open(path, host, "fp32", 2, "cpu") as two:
        np.testing.assert_allclose(one.run(inputs)[0], two.run(inputs)[0], rtol=1e-5, atol=1e-6)


def test_timing_before_preparing_is_an_error(exporter: Any, runtime: Any, host: Any, tmp_path: Path) -> None:
    with (
        runtime.open(export(exporter, tmp_path), host, "fp32", 1, "cpu") as session,
        pytest.raises(RuntimeError, match="prepare"),
    ):
        session.time(1)
