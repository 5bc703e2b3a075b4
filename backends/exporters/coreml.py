"""The format `coreml`: an ML Program package, from `torch.export` through coremltools."""

from __future__ import annotations

import gc
import hashlib
import operator
import os
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch._export.verifier import Verifier
from torch.export import ExportedProgram

from backends.base import Exporter
from backends.mil.package import read_model, weight_files
from backends.mil.toolchain import Builder, coremltools, no_progress, quiet
from edgelut.errors import Unsupported
from edgelut.types import Scalar

TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
VERSION = 1
FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, LookupError)  # what torch.export and coremltools raise
VARYING = "com.github.apple.coremltools.conversion_date"

# The aten operators (without overload) of our blocks: all functional, each with a converter of its own. For a program of these
# alone, run_decompositions (0.2 s CPU) and the passes that PASSES leaves out change nothing: a test compares the packages.
PLAIN = frozenset((
    "adaptive_avg_pool2d", "add", "avg_pool2d", "batch_norm", "clone", "contiguous", "conv2d", "div",
    "gelu", "hardswish", "layer_norm", "linear", "matmul", "mean", "mul", "permute", "relu", "reshape", "softmax",
    "split", "split_with_sizes", "sub", "transpose", "unsqueeze", "view",
))  # fmt: skip

# coremltools 9's default pipeline without its passes for complex numbers, quantized weights, loops, images, gather, states and
# the like. A pass costs a validation of the whole program whether it changes anything or not.
PASSES = (
    "update_output_dtypes", "cast_optimization", "noop_elimination", "const_elimination",
    "sanitize_input_output_names", "divide_to_multiply", "const_elimination", "const_deduplication",
    "noop_elimination", "fuse_matmul_weight_bias", "fuse_linear_bias", "fuse_squeeze_expand_dims",
    "reduce_transposes", "fuse_conv_scale", "fuse_conv_bias", "fuse_layernorm_or_instancenorm",
    "fuse_elementwise_to_batchnorm", "fuse_reduce_mean", "fuse_conv_batchnorm", "fuse_conv_scale", "fuse_conv_bias",
    "fuse_conv_batchnorm", "merge_consecutive_relus", "merge_consecutive_reshapes", "merge_consecutive_transposes",
    "fuse_transpose_matmul", "expand_high_rank_reshape_and_transpose", "reduce_transposes", "remove_redundant_ops",
    "dedup_op_and_var_names", "add_fp16_cast", "update_output_dtypes", "const_elimination", "dead_code_elimination",
    "cast_optimization", "dead_code_elimination", "const_elimination", "const_deduplication",
    "dead_code_elimination", "fuse_transpose_matmul", "dead_code_elimination", "noop_elimination",
    "dedup_op_and_var_names", "reduce_transposes", "remove_redundant_ops", "topological_reorder",
    "dead_code_elimination",
)  # fmt: skip


class CoreML(Exporter):
    """Writes `.mlpackage` folders on any system; only Apple's systems can compile and run them.

    iOS15 knows no fp16 inputs and outputs: there an fp16 package computes in fp16 between casts, and takes and returns fp32.
    """

    suffix = ".mlpackage"
    precisions = ("fp16", "fp32")
    options: ClassVar[Mapping[str, Scalar]] = {"target": "iOS16"}
    version = (
        f"coreml exporter {VERSION}; coremltools {coremltools.__version__}; torch {torch.__version__.split('+')[0]}"
    )

    def export(
        self, module: Any, inputs: Mapping[str, Any], precision: str, path: Path, options: Mapping[str, Scalar]
    ) -> None:
        """Write the package; its inputs have the given names, its output is `y` (several: `y0`, `y1`, ...)."""
        target = _target(precision, options)
        with tempfile.TemporaryDirectory(prefix=".coreml-", dir=path.parent) as folder, _silence(), _young_heap():
            package = Path(folder) / f"package{self.suffix}"
            try:
                _convert(_capture(module, inputs), inputs, precision, target, package)
            except FAILURES as error:
                traceback.clear_frames(error.__traceback__)  # they hold coremltools' temporary folder
                _require_space(Path(folder), module)
                raise Unsupported(f"coreml cannot export {type(module).__name__}: {error}") from error
            if path.exists():
                shutil.rmtree(path)
            package.rename(path)

    def digest(self, path: Path) -> str:
        """Hash the model without its conversion date, and the weights; the manifest holds nothing but random names."""
        model = read_model(path)
        model.description.metadata.userDefined.pop(VARYING, None)
        sha = hashlib.sha256()
        weights = [file.read_bytes() for file in weight_files(path)]
        for content in (model.SerializeToString(deterministic=True), *weights):
            sha.update(len(content).to_bytes(8, "little") + content)
        return sha.hexdigest()


def _require_space(folder: Path, module: Any) -> None:
    """Raise the system's OSError if the weights do not fit on the disk: coremltools' writer does not say why it failed."""
    probe = folder / "probe"
    with probe.open("wb") as file:
        file.write(bytes(4096))
        for value in module.state_dict().values():
            file.write(bytes(value.numel() * value.element_size()))
        file.flush()
        os.fsync(file.fileno())
    probe.unlink()


def _target(precision: str, options: Mapping[str, Scalar]) -> str:
    """Return the deployment target that was asked for; raise Unsupported."""
    target = str({**CoreML.options, **options}["target"])
    unknown = sorted(set(options) - set(CoreML.options))
    if precision not in CoreML.precisions:
        raise Unsupported(f"coreml exports {' and '.join(CoreML.precisions)}, not {precision!r}")
    if unknown:
        raise Unsupported(f"coreml has no option {', '.join(unknown)}; it has {', '.join(CoreML.options)}")
    if target not in TARGETS:
        raise Unsupported(f"coreml has no target {target!r}; there are {', '.join(TARGETS)}")
    return target


def _capture(module: Any, inputs: Mapping[str, Any]) -> tuple[ExportedProgram, bool]:
    """Return the module as an ATen program, and whether it holds nothing but PLAIN operators."""
    with torch.no_grad():
        program = torch.export.export(module, tuple(inputs.values()))
        if set(program.graph_signature.user_outputs) & set(program.graph_signature.user_inputs):
            program = torch.export.export(_Copy(module), tuple(inputs.values()))
    varying = set(program.graph_signature.user_inputs)
    if all(_is_plain(node, varying) for node in program.graph.nodes if node.op == "call_function"):
        # Relabelled, not traced again; the checks of the ATen dialect run here all the same.
        return program._update(program.graph_module, program.graph_signature, verifiers=[Verifier]), True
    return program.run_decompositions({}), False


def _is_plain(node: torch.fx.Node, varying: set[Any]) -> bool:
    """Tell a PLAIN operator; `index` is one where it picks from a parameter, for then it is a constant."""
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        return False
    if node.target._opname == "index":
        return all(source.op == "placeholder" and source.name not in varying for source in node.all_input_nodes)
    return node.target._opname in PLAIN


class _Copy(torch.nn.Module):
    """A module that returns its input, behind a reshape: coremltools cannot give one value two names."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        outputs = self.module(*inputs)
        if isinstance(outputs, torch.Tensor):
            return outputs.reshape(outputs.shape)
        return tuple(output.reshape(output.shape) for output in outputs)


def _convert(
    captured: tuple[ExportedProgram, bool], inputs: Mapping[str, Any], precision: str, target: str, package: Path
) -> None:
    """Convert to an ML Program, written to `package` by coremltools itself (saving afterwards would write it twice)."""
    program, plain = captured
    count = len(program.graph_signature.user_outputs)
    names = ["y"] if count == 1 else [f"y{index}" for index in range(count)]
    io = np.float16 if precision == "fp16" and target != "iOS15" else np.float32
    Builder.name_count.clear()  # a conversion that failed leaves its names used, and this package would differ for it
    coremltools.convert(
        program,
        source="pytorch",
        convert_to="mlprogram",
        inputs=[coremltools.TensorType(name=name, shape=tuple(x.shape), dtype=io) for name, x in inputs.items()],
        outputs=[coremltools.TensorType(name=name, dtype=io) for name in names],
        minimum_deployment_target=getattr(coremltools.target, target),
        compute_precision=coremltools.precision.FLOAT16 if precision == "fp16" else coremltools.precision.FLOAT32,
        pass_pipeline=_pipeline(plain),
        skip_model_load=True,
        package_dir=str(package),
    )


def _pipeline(plain: bool) -> Any:
    """Return the passes to run: a pipeline of its own for each conversion, which coremltools changes."""
    pipeline = coremltools.PassPipeline.DEFAULT
    if plain:
        pipeline.passes = [f"common::{name}" for name in PASSES]
    return pipeline


@contextmanager
def _silence() -> Iterator[None]:
    """Hold back what coremltools 9 and torch 2.13 say on every conversion, and nothing else."""
    with quiet(), no_progress(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Function _TORCH_OPS_REGISTRY\.", DeprecationWarning)
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        warnings.filterwarnings("ignore", r"Implicitly cleaning up <TemporaryDirectory", ResourceWarning)
        yield


@contextmanager
def _young_heap() -> Iterator[None]:
    """Keep the collector off everything that was alive before: coremltools collects, and a process with torch has a large heap.

    Freezing and unfreezing move one list, whatever its length; a heap that the process froze itself stays frozen.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
