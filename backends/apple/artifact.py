"""What a Core ML package says of itself, checked before Apple's compiler sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backends.base import Array
from backends.mil.package import read_model
from backends.mil.program import Program
from backends.mil.toolchain import FeatureTypes_pb2
from edgelut.errors import Unsupported

Feature = FeatureTypes_pb2.ArrayFeatureType
DTYPES = {Feature.FLOAT16: "float16", Feature.FLOAT32: "float32", Feature.DOUBLE: "float64", Feature.INT32: "int32"}


@dataclass(frozen=True, slots=True)
class Interface:
    """Inputs and outputs of a package, in its order; the inputs with their element types."""

    inputs: dict[str, str]
    outputs: tuple[str, ...]

    def require(self, inputs: dict[str, Array]) -> None:
        """Raise ValueError for inputs of other names."""
        if set(inputs) != set(self.inputs):
            raise ValueError(f"the artifact takes {', '.join(self.inputs)}, not {', '.join(inputs)}")

    def own(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Return the inputs in the package's own element types; raise ValueError for other names."""
        self.require(inputs)
        return {name: np.ascontiguousarray(inputs[name], kind) for name, kind in self.inputs.items()}


def read_interface(package: Path, precision: str) -> Interface:
    """Return a package's inputs and outputs; raise ArtifactCorrupted, or Unsupported where it computes in another precision."""
    description = read_model(package).description
    try:
        found = Program(package).precisions()
    except Unsupported:  # an operation that our interpreter does not know is no fault of the package
        found = set()
    if found - {precision}:
        raise Unsupported(f"{package.name} computes in {' and '.join(sorted(found))}, not {precision}")
    inputs = {one.name: DTYPES.get(one.type.multiArrayType.dataType, "float32") for one in description.input}
    return Interface(inputs, tuple(one.name for one in description.output))
