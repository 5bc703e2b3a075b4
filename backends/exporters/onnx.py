"""The format `onnx`: one self-contained ONNX file in fp32, fp16 or statically quantised int8."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

# Since 1.29 onnxruntime reports models to its maker unless told not to before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from backends.base import Exporter
from edgelut.errors import BackendMissing, Unsupported
from edgelut.types import Scalar

onnxruntime.disable_telemetry_events()
onnxruntime.set_default_logger_severity(3)  # errors: the quantiser's sessions warn of the quantiser's own leftovers

# Only these are quantised: their integer kernels win 2-4 times, while an integer add or softmax wins nothing on a CPU and
# costs accuracy (MB3D: an RMS error of 29 % of the residual branch with every operator quantised, 2 % with these).
QUANTIZED = ("Conv", "Gemm", "MatMul")
CALIBRATION_DRAWS = 4  # beside the example itself
PROTOBUF_LIMIT = 2**31  # bytes that one protobuf message can hold


class Onnx(Exporter):
    """Traces the module; fp16 is the traced half-precision module, int8 a QDQ graph (u8 activations, s8 weights)."""

    suffix = ".onnx"
    precisions = ("fp32", "fp16", "int8")
    options: ClassVar[Mapping[str, Scalar]] = {"opset": 20, "exporter": "trace"}

    @property
    def version(self) -> str:
        """Ours, and those of torch, onnx and (for int8) onnxruntime."""
        return f"1 torch {torch.__version__} onnx {onnx.__version__} onnxruntime {onnxruntime.__version__}"

    def export(
        self, module: Any, inputs: Mapping[str, Any], precision: str, path: Path, options: Mapping[str, Scalar]
    ) -> None:
        """Write `path`; its inputs are named as given and its output `y`, in float16 for fp16 and float32 otherwise."""
        chosen = self._check(module, precision, options)
        if precision == "fp16":
            module = copy.deepcopy(module).half()
            inputs = {name: value.half() if value.is_floating_point() else value for name, value in inputs.items()}
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            model = _trace(module, inputs, chosen, Path(folder))
            if precision == "int8":
                model = _quantize(model, inputs, Path(folder))
            ready = Path(folder, path.name)
            ready.write_bytes(_canonical(model))
            ready.replace(path)

    def digest(self, path: Path) -> str:
        """Hash the graph without its producer, comments and metadata."""
        return hashlib.sha256(_canonical(onnx.load(path, load_external_data=False))).hexdigest()

    def _check(self, module: Any, precision: str, options: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return all options; raise Unsupported or BackendMissing for what cannot be exported."""
        if precision not in self.precisions:
            raise Unsupported(f"onnx is written in {', '.join(self.precisions)}, not {precision}")
        chosen = {**self.options, **options}
        if unknown := sorted(set(chosen) - set(self.options)):
            raise Unsupported(f"onnx has no option {', '.join(unknown)}; its options: {', '.join(self.options)}")
        if chosen["exporter"] not in ("trace", "dynamo"):
            raise Unsupported(f"onnx: exporter must be trace or dynamo, not {chosen['exporter']!r}")
        if chosen["exporter"] == "dynamo" and find_spec("onnxscript") is None:
            raise BackendMissing("onnx with exporter 'dynamo' needs onnxscript: pip install onnxscript")
        if module.training:
            raise Unsupported(f"{type(module).__name__} is in training mode; call its eval() first")
        return chosen


def _trace(module: Any, inputs: Mapping[str, Any], options: Mapping[str, Scalar], folder: Path) -> onnx.ModelProto:
    """Return the module as a graph."""
    size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    if size >= PROTOBUF_LIMIT:
        raise Unsupported(f"{type(module).__name__} has {size / 1e9:.1f} GB of weights; one onnx file holds 2.1 GB")
    path = folder / "traced.onnx"
    with _quiet():
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            dynamo=options["exporter"] == "dynamo",
            opset_version=int(options["opset"]),
            input_names=list(inputs),
            output_names=["y"],
            external_data=False,
            verbose=False,
        )
    return onnx.load(path)


def _quantize(model: onnx.ModelProto, inputs: Mapping[str, Any], folder: Path) -> onnx.ModelProto:
    """Return the graph with quantised operands around its heavy operators.

    s8 activations stay unfused in onnxruntime's x86 kernels, hence u8.
    """
    source, folded, quantized = (folder / f"{stage}.onnx" for stage in ("source", "folded", "quantized"))
    onnx.save(model, source)
    quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
    quantize_static(
        str(folded),
        str(quantized),
        _Calibration(inputs),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(quantized)


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """The example inputs, then normal draws of their mean and deviation; the same in every process."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        example = {name: value.detach().numpy() for name, value in inputs.items()}
        self._draws = iter([example, *(_draw(example, seed) for seed in range(CALIBRATION_DRAWS))])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs, None after the last."""
        return next(self._draws, None)


def _draw(example: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return inputs that are distributed as the example is; integers are repeated as they are."""
    random = np.random.default_rng(seed)
    return {
        name: random.normal(value.mean(), value.std(), value.shape).astype(value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in example.items()
    }


def _canonical(model: onnx.ModelProto) -> bytes:
    """Return the file's bytes without what says who wrote it, when and from which source line."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for field in ("producer_name", "producer_version", "doc_string", "metadata_props"):
        bare.ClearField(field)
    graph = bare.graph
    for part in (
        graph,
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *bare.functions,
    ):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    content: bytes = bare.SerializeToString(deterministic=True)
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Filter the deprecation of the tracing exporter and the dynamo exporter's talk; both exporters are used knowingly."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning
            )
            warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning, module="torch.onnx")
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
