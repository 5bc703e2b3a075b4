"""The precision that an ONNX file holds and that onnxruntime's CPU kernels compute it in, and how a session here is opened."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

# Before it is imported: see backends/runtimes/onnxruntime_cpu.py.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from edgelut.errors import ArtifactCorrupted, Unsupported

onnxruntime.disable_telemetry_events()

PROVIDER = "CPUExecutionProvider"
ERRORS_ONLY = 3  # its warnings are of optimised files that we throw away; what fails is raised besides
HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
INTEGER = {"QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat"}


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of every session: threads spin while a call lasts and not into the next session's burst."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def load_session(artifact: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Return a session; raise ArtifactCorrupted, or Unsupported for an operator without a kernel."""
    try:
        return onnxruntime.InferenceSession(str(artifact), options, providers=[PROVIDER])
    except failures.NotImplemented as error:
        raise Unsupported(f"onnxruntime has no kernel for {artifact.name}: {error}") from error
    except (
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.RuntimeException,
    ) as error:
        raise ArtifactCorrupted(f"onnxruntime cannot read {artifact.name}: {error}") from error


def check_precision(artifact: Path, precision: str) -> None:
    """Raise Unsupported if the file, or what the optimiser made of it, computes in another precision; OSError where it is none.

    Once in a process for the same file: the check takes as long as loading does, and a cold row has the hot one's.
    """
    _check_once(artifact, artifact.stat().st_mtime_ns, precision)


@cache
def _check_once(artifact: Path, modified_ns: int, precision: str) -> None:
    _check(artifact, precision)


def _check(artifact: Path, precision: str) -> None:
    file = _read(artifact)
    holds = _file_precision(file)
    heavy = _count(file, HEAVY)
    if holds != precision and not (precision == "int8" and holds == "fp32" and not heavy):
        raise Unsupported(f"{artifact.name} is {holds}, not {precision}")
    casts = _casts_to_float(file)
    del file
    optimized = _optimized(artifact)
    if precision == "fp16" and _casts_to_float(optimized) > casts:
        raise Unsupported(
            f"onnxruntime has no fp16 kernels for {artifact.name} on this CPU: it computes in fp32 between casts"
        )
    integer = _count(optimized, INTEGER)
    if precision == "int8" and integer < heavy:
        raise Unsupported(
            f"{heavy - integer} of {heavy} convolutions and matrix products of {artifact.name} stayed in float"
        )
    if precision == "fp32" and (integer or _narrow(optimized)):
        raise Unsupported(f"onnxruntime computes {artifact.name} in less than fp32")


def _read(artifact: Path) -> onnx.ModelProto:
    """Return the file's graph; raise ArtifactCorrupted, or OSError where there is no file."""
    try:
        model = onnx.load(artifact, load_external_data=False)
    except DecodeError as error:
        raise ArtifactCorrupted(f"{artifact.name} is no ONNX file: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise ArtifactCorrupted(f"{artifact.name} holds no graph")
    return model


def _optimized(artifact: Path) -> onnx.ModelProto:
    """Return the graph that sessions run, its large weights left in a file that is gone; costs about one more load."""
    with TemporaryDirectory(prefix="edgelut-") as folder:
        options = session_options(1)
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        for key, value in (
            ("session.disable_prepacking", "1"),
            ("session.optimized_model_external_initializers_file_name", "weights"),
            ("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
        ):
            options.add_session_config_entry(key, value)
        load_session(artifact, options)
        return onnx.load(options.optimized_model_filepath, load_external_data=False)


def _file_precision(model: onnx.ModelProto) -> str:
    """Return the precision that the file was exported in."""
    if _count(model, {"QuantizeLinear", "DequantizeLinear"}):
        return "int8"
    return "fp16" if _narrow(model) else "fp32"


def _narrow(model: onnx.ModelProto) -> bool:
    """Return whether half-precision numbers occur: as an input, a weight or the result of a cast."""
    half = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    inputs = {value.type.tensor_type.elem_type for value in model.graph.input}
    weights = {weight.data_type for weight in model.graph.initializer}
    return bool(half & (inputs | weights | set(_casts(model))))


def _casts(model: onnx.ModelProto) -> list[int]:
    """Return the types that are cast to."""
    return [
        field.i for node in model.graph.node if node.op_type == "Cast" for field in node.attribute if field.name == "to"
    ]


def _casts_to_float(model: onnx.ModelProto) -> int:
    return _casts(model).count(TensorProto.FLOAT)


def _count(model: onnx.ModelProto, kinds: set[str]) -> int:
    return sum(node.op_type in kinds for node in model.graph.node)
