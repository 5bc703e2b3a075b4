"""The runtime `onnxruntime-cpu`: onnxruntime's own CPU kernels, its sessions in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import ClassVar

# Since 1.29 onnxruntime reports models to its maker unless told not to before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

from backends.base import Array, Device, Loaded, Runtime, Session, Timing, as_float32
from backends.clock import time_calls
from backends.onnx_precision import PROVIDER, check_precision, load_session, session_options
from edgelut.errors import Unsupported
from edgelut.types import Params, Scalar

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
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
        check_precision(artifact, precision)
        started = perf_counter_ns()
        session = load_session(artifact, session_options(threads))
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
