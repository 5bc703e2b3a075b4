"""A MIL program made ready to run: its constants as tensors, its operations in order, its rounding as declared."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from backends.base import Array
from edgelut.errors import ArtifactCorrupted, Unsupported

from .ops import OPS, Op
from .package import Weights, read_model
from .toolchain import MIL_pb2

Value: TypeAlias = Tensor | str
DTYPES = {
    MIL_pb2.BOOL: "?", MIL_pb2.FLOAT16: "<f2", MIL_pb2.FLOAT32: "<f4", MIL_pb2.FLOAT64: "<f8",
    MIL_pb2.INT8: "<i1", MIL_pb2.INT16: "<i2", MIL_pb2.INT32: "<i4", MIL_pb2.INT64: "<i8",
    MIL_pb2.UINT8: "<u1", MIL_pb2.UINT16: "<u2", MIL_pb2.UINT32: "<u4",
}  # fmt: skip
PRECISIONS = {"float16": "fp16", "float32": "fp32", "float64": "fp64"}
MOVES = ("cast", "identity")  # they say nothing of the precision that a program computes in
LISTS = ("values",)  # the inputs that are lists of tensors


@dataclass(frozen=True, slots=True)
class Type:
    """What the program declares of a tensor; `dtype` is numpy's name for it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of a value computed earlier."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: what it computes, from what (a Ref, a constant, or a list of these), and what it declares to give."""

    kind: str
    function: Op
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Type]


class Program:
    """The main function of a package's ML Program.

    Reads every constant when it is made: raises Unsupported for an operation or type that it does not know, ArtifactCorrupted
    for a package that contradicts itself.
    """

    def __init__(self, package: Path) -> None:
        self.name = package.name
        model = read_model(package)
        if model.WhichOneof("Type") != "mlProgram":
            raise ArtifactCorrupted(f"{self.name} holds no ML Program")
        function, block = _main(model.mlProgram, self.name)
        _check_known({operation.type for operation in block.operations} - {"const"})
        self._weights = Weights(package)
        self.inputs = {entry.name: _type(entry.type) for entry in function.inputs}
        self.outputs = tuple(block.outputs)
        self._constants: dict[str, Value] = {}
        self._operations: list[Operation] = []
        for operation in block.operations:
            if operation.type == "const":
                self._constants[operation.outputs[0].name] = self._value(operation.attributes["val"])
            else:
                self._operations.append(self._operation(operation))
        self._check_names()

    def precisions(self) -> set[str]:
        """Return the precisions of what it computes and of its weights; scalars (an epsilon) and casts do not count."""
        computing = [operation for operation in self._operations if operation.kind not in MOVES]
        kinds = {kind.dtype for operation in computing for kind in operation.outputs.values()}
        weights = [value for value in self._constants.values() if isinstance(value, Tensor) and value.ndim]
        names = {np.dtype(kind).name for kind in kinds} | {str(value.dtype).removeprefix("torch.") for value in weights}
        return {PRECISIONS[name] for name in names if name in PRECISIONS}

    @torch.no_grad()
    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs in their order; raise ValueError for inputs that are not the program's."""
        values: dict[str, Value] = {**self._constants, **self._given(inputs)}
        for operation in self._operations:
            values.update(self._step(operation, values))
        return [_widen(values[name]).numpy() for name in self.outputs]  # type: ignore[union-attr]

    def _given(self, inputs: Mapping[str, Array]) -> dict[str, Value]:
        has = {name: kind.shape for name, kind in self.inputs.items()}
        given = {name: tuple(array.shape) for name, array in inputs.items()}
        if given != has:
            raise ValueError(f"{self.name} takes {has}, not {given}")
        return {name: _tensor(array).to(_torch_dtype(self.inputs[name].dtype)) for name, array in inputs.items()}

    def _step(self, operation: Operation, values: Mapping[str, Value]) -> dict[str, Value]:
        """Compute in fp32, then round to what the program declares."""
        bound = {name: _resolve(value, values) for name, value in operation.inputs.items()}
        try:
            result = operation.function(**bound)
        except (RuntimeError, IndexError, ValueError) as error:
            if isinstance(error, Unsupported | ArtifactCorrupted):
                raise
            raise ArtifactCorrupted(f"{self.name}: {operation.kind} -> {_names(operation)}: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        declared = [kind.shape for kind in operation.outputs.values()]
        if [tuple(tensor.shape) for tensor in results] != declared:
            gives = [list(tensor.shape) for tensor in results]
            raise ArtifactCorrupted(
                f"{self.name}: {operation.kind} -> {_names(operation)}: gives {gives}, not {declared}"
            )
        rounded = zip(operation.outputs.items(), results, strict=True)
        return {name: tensor.to(_torch_dtype(kind.dtype)) for (name, kind), tensor in rounded}

    def _operation(self, proto: Any) -> Operation:
        function = OPS[proto.type]
        _check_inputs(proto, function)
        inputs = {}
        for name, argument in proto.inputs.items():
            bound = [
                Ref(one.name) if one.WhichOneof("binding") == "name" else self._value(one.value)
                for one in argument.arguments
            ]
            inputs[name] = bound if name in LISTS else bound[0]
        return Operation(proto.type, function, inputs, {entry.name: _type(entry.type) for entry in proto.outputs})

    def _value(self, proto: Any) -> Value:
        """Return a constant, given in place or in a weight file."""
        declared = proto.type.tensorType
        if proto.WhichOneof("value") == "immediateValue":
            tensor = proto.immediateValue.tensor
            form = tensor.WhichOneof("value")
            if declared.dataType == MIL_pb2.STRING and form == "strings":
                return str(tensor.strings.values[0])
            kind = _type(proto.type)
            return _tensor(_immediate(tensor, form, kind, self.name))
        if proto.WhichOneof("value") != "blobFileValue":
            raise ArtifactCorrupted(f"{self.name}: a constant without a value")
        kind, blob = _type(proto.type), proto.blobFileValue
        return _tensor(self._weights.get(blob.fileName, blob.offset, kind.dtype, kind.shape))

    def _check_names(self) -> None:
        """Check that whatever is used was given before."""
        known = {*self.inputs, *self._constants}
        for operation in self._operations:
            for value in operation.inputs.values():
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, Ref) and one.name not in known:
                        raise ArtifactCorrupted(f"{self.name}: {operation.kind} takes {one.name}, which nothing gives")
            known.update(operation.outputs)
        if not known.issuperset(self.outputs):
            raise ArtifactCorrupted(f"{self.name}: nothing gives its outputs {', '.join(self.outputs)}")


def _main(program: Any, name: str) -> tuple[Any, Any]:
    """Return the main function and its block; a protobuf map would make up what it lacks."""
    function = program.functions.get("main", None)
    if function is None or function.opset not in function.block_specializations:
        raise ArtifactCorrupted(f"{name} lacks a main function for its operation set")
    return function, function.block_specializations[function.opset]


def _check_known(kinds: set[str]) -> None:
    unknown = sorted(kinds - set(OPS))
    if unknown:
        raise Unsupported(f"MIL operation {', '.join(unknown)}; known are {', '.join(sorted(OPS))}")


def _check_inputs(operation: Any, function: Op) -> None:
    """Compare the inputs that an operation is given with those that it knows and needs."""
    known = inspect.signature(function).parameters
    unknown = sorted(set(operation.inputs) - set(known))
    if unknown:
        raise Unsupported(f"MIL {operation.type} with input {', '.join(unknown)}; known are {', '.join(known)}")
    given = {name for name, argument in operation.inputs.items() if argument.arguments}
    needed = {name for name, one in known.items() if one.default is one.empty} | set(operation.inputs)
    if needed - given:
        raise ArtifactCorrupted(f"MIL {operation.type} without its input {', '.join(sorted(needed - given))}")


def _type(proto: Any) -> Type:
    """Return a declared tensor type; raise Unsupported for a shape that is not fixed, or elements that torch lacks."""
    declared = proto.tensorType
    if proto.WhichOneof("type") != "tensorType" or declared.dataType not in DTYPES:
        raise Unsupported(
            f"MIL {proto.WhichOneof('type')} of elements {declared.dataType}; known are tensors of plain numbers"
        )
    if any(side.WhichOneof("dimension") != "constant" for side in declared.dimensions):
        raise Unsupported("MIL shapes that are not fixed")
    return Type(DTYPES[declared.dataType], tuple(int(side.constant.size) for side in declared.dimensions))


def _immediate(tensor: Any, form: str | None, kind: Type, name: str) -> Array:
    if form == "bytes":
        array = np.frombuffer(tensor.bytes.values, kind.dtype)
    else:
        array = np.asarray(getattr(tensor, form).values if form else [], kind.dtype)
    if array.size != prod(kind.shape):
        raise ArtifactCorrupted(
            f"{name}: a constant of {array.size} elements, where the program says {list(kind.shape)}"
        )
    return array.reshape(kind.shape)


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(
        np.array(array)
    )  # a copy: what was read from a file cannot be written to, and torch warns of it


def _torch_dtype(name: str) -> torch.dtype:
    return torch.from_numpy(np.empty(0, name)).dtype


def _widen(value: Value) -> Value:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float16 else value


def _resolve(value: Any, values: Mapping[str, Value]) -> Any:
    if isinstance(value, list):
        return [_resolve(one, values) for one in value]
    return _widen(values[value.name] if isinstance(value, Ref) else value)


def _names(operation: Operation) -> str:
    return ", ".join(operation.outputs)
