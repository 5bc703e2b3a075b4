"""The runtime `onnxruntime-cpu`: onnxruntime's own CPU kernels, and a check of the precision that they compute in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import ClassVar

# Since 1.29 onnxruntime reports models to its maker unless told not to before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from backends.base import Array, Device, Loaded, Runtime, Session, Timing, as_float32
from backends.clock import time_calls
from edgelut.errors import ArtifactCorrupted, Unsupported
from edgelut.types import Params, Scalar

onnxruntime.disable_telemetry_events()

PROVIDER = "CPUExecutionProvider"
ERRORS_ONLY = 3  # its warnings are of optimised files that we throw away; what fails is raised besides
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
INTEGER = {"QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
FACTS: dict[str, Scalar] = {"graph_optimization": "all", "execution": "sequential", "spinning": "within a call"}


class OnnxruntimeSession(Session):
    """An InferenceSession whose inputs and outputs stay bound while it is timed."""

    def __init__(self, session: onnxruntime.InferenceSession, loaded: Loaded) -> None:
        self.loaded = loaded
        self.binding: onnxruntime.IOBinding | None = None  # what `prepare` bound
        self._session = session

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs."""
        return as_float32(self._session.run(None, self._feeds(inputs)))

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Bind inputs and outputs to memory of onnxruntime's own, which is aligned alike in every process."""
        feeds = self._feeds(inputs)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, _own(array))
        for output, array in zip(self._session.get_outputs(), self._session.run(None, feeds), strict=True):
            binding.bind_ortvalue_output(output.name, _own(array))
        self.binding = binding

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Time calls on the bound memory."""
        if self.binding is None:
            raise RuntimeError("prepare(inputs) comes before time()")
        return time_calls(partial(self._session.run_with_iobinding, self.binding), iterations, inner)

    def _feeds(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the inputs in the types that the graph takes."""
        wanted = {value.name: DTYPES[value.type] for value in self._session.get_inputs()}
        if set(wanted) != set(inputs):
            raise ValueError(f"the artifact takes {', '.join(wanted)}, not {', '.join(inputs)}")
        return {name: np.ascontiguousarray(inputs[name], dtype=dtype) for name, dtype in wanted.items()}


class OnnxruntimeCpu(Runtime):
    """Runs ONNX on the CPU provider, all optimisations on.

    fp16 opens only where the processor has fp16 kernels; elsewhere onnxruntime computes in fp32 between casts of its own.
    int8 opens only if every convolution and matrix product of the file became an integer kernel; a file that has none of
    them (a reshape, an identity) is the same in int8 as in fp32.
    """

    formats = ("onnx",)
    precisions = ("fp32", "fp16", "int8")
    env: ClassVar[Mapping[str, str]] = {"ORT_DISABLE_TELEMETRY": "1"}

    @property
    def version(self) -> str:
        """The version of onnxruntime."""
        return f"onnxruntime {onnxruntime.__version__}"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        """Load the file; raise Unsupported where the provider or the precision was not obtained."""
        if precision not in self.precisions or unit not in self.units or not device.local:
            raise Unsupported(
                f"onnxruntime-cpu runs {', '.join(self.precisions)} on cpu of this machine, not {precision} on {unit}"
            )
        # Before the session that counts and gone by then, so that load_ns and the peak of memory are that session's.
        _check_once(artifact, artifact.stat().st_mtime_ns, precision)
        started = perf_counter_ns()
        session = _load(artifact, _options(threads))
        load_ns = perf_counter_ns() - started
        obtained = tuple(session.get_providers())
        if obtained != (PROVIDER,):
            raise Unsupported(f"onnxruntime gave {', '.join(obtained)} where {PROVIDER} alone was asked for")
        yield OnnxruntimeSession(session, Loaded("cpu", obtained, load_ns, None, Params(FACTS)))


def _own(array: Array) -> onnxruntime.OrtValue:
    """Return a copy in onnxruntime's memory."""
    value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type)
    value.update_inplace(array)
    return value


def _options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of every session: threads spin while a call lasts and not into the next session's burst."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _load(artifact: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
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


@cache
def _check_once(artifact: Path, modified_ns: int, precision: str) -> None:
    """Check a file's precision, once in a process: the check takes as long as loading does, and a cold row has the hot one's."""
    _check_precision(artifact, precision)


def _check_precision(artifact: Path, precision: str) -> None:
    """Raise Unsupported if the file, or what the optimiser made of it, computes in another precision."""
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
        options = _options(1)
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        for key, value in (
            ("session.disable_prepacking", "1"),
            ("session.optimized_model_external_initializers_file_name", "weights"),
            ("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
        ):
            options.add_session_config_entry(key, value)
        _load(artifact, options)
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
