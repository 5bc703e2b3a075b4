"""ONNX's own reference evaluator: numpy, operator by operator, in the precision that the file says; numerics, never a latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.reference import ReferenceEvaluator

from backends.base import Array, Device, Loaded, Runtime, Session, Timing, as_float32
from edgelut.errors import ArtifactCorrupted, Unsupported

HALF = onnx.TensorProto.FLOAT16


class ReferenceSession(Session):
    """Evaluates the graph in numpy."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.loaded = Loaded(unit="cpu")
        self._evaluator = ReferenceEvaluator(model)
        self._types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs."""
        feeds = {
            name: np.asarray(value, dtype=np.float16 if self._types[name] == HALF else np.float32)
            for name, value in inputs.items()
        }
        return as_float32(list(self._evaluator.run(None, feeds)))

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Nothing to bind."""

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Refuse: numpy's time says nothing about a device."""
        raise Unsupported("onnx-reference checks numerics only: it never gives a latency")


class OnnxReference(Runtime):
    """Says what a file means where no runtime here has kernels for its precision, as fp16 on most CPUs."""

    formats = ("onnx",)
    precisions = ("fp32", "fp16", "int8")
    timed = False

    @property
    def version(self) -> str:
        """The version of onnx."""
        return f"onnx {onnx.__version__}"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        """Load the file; raise ArtifactCorrupted where it is none."""
        if precision not in self.precisions or unit not in self.units:
            raise Unsupported(f"onnx-reference runs {', '.join(self.precisions)} on cpu, not {precision} on {unit}")
        try:
            model = onnx.load(artifact)
            onnx.checker.check_model(model)
        except (DecodeError, onnx.checker.ValidationError) as error:
            raise ArtifactCorrupted(f"{artifact.name} is no ONNX file: {error}") from error
        if not model.graph.node:
            raise ArtifactCorrupted(f"{artifact.name} holds no graph")
        held = _precision(model)
        if held != precision and not (precision == "int8" and held == "fp32"):
            raise Unsupported(f"{artifact.name} is {held}, not {precision}")
        yield ReferenceSession(model)


def _precision(model: onnx.ModelProto) -> str:
    """Return the precision that the file was exported in."""
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return "int8"
    types = {value.type.tensor_type.elem_type for value in model.graph.input}
    return "fp16" if HALF in types else "fp32"
