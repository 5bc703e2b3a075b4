"""Stands in for coremltools' native module, which is in its wheel for macOS alone: compiles by copying, predicts by the MIL
interpreter, and says of each call that it took what `TIMES_NS` says, a little more and less by turns."""

from __future__ import annotations

import atexit
import itertools
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

TIMES_NS = {"CPU_ONLY": 2_000_000, "CPU_AND_NE": 500_000, "CPU_AND_GPU": 900_000, "ALL": 450_000}
PLANS = {
    "CPU_ONLY": {"cpu": 1.0},
    "CPU_AND_NE": {"ne": 0.97, "cpu": 0.03},
    "CPU_AND_GPU": {"gpu": 1.0},
    "ALL": {"ne": 0.6, "gpu": 0.3, "cpu": 0.1},
}
JITTER = (1.0, 1.004, 0.999, 1.002)
DTYPES = {65552: "Float16", 65568: "Float32"}


class _MLCPUComputeDeviceProxy:
    pass


class _MLGPUComputeDeviceProxy:
    pass


class _MLNeuralEngineComputeDeviceProxy:
    def get_total_core_count(self) -> int:
        return 16


class _MLComputePlanProxy:
    def __init__(self, path: str, unit: str) -> None:
        self._units = list(PLANS[unit].items())
        self.model_structure = _structure(len(self._units))

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        from coremltools.models import compute_device, compute_plan

        if operation.operator_name == "const":
            return None
        made = {
            "cpu": lambda: compute_device.MLCPUComputeDevice(_MLCPUComputeDeviceProxy()),
            "gpu": lambda: compute_device.MLGPUComputeDevice(_MLGPUComputeDeviceProxy()),
            "ne": lambda: compute_device.MLNeuralEngineComputeDevice(_MLNeuralEngineComputeDeviceProxy()),
        }[self._units[operation.__proxy__][0]]()
        return compute_plan.MLComputePlanDeviceUsage(made, [made])

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        from coremltools.models import compute_plan

        if operation.operator_name == "const":
            return None
        return compute_plan.MLComputePlanCost(self._units[operation.__proxy__][1])


class _MLModelAssetProxy:
    pass


class _MLModelProxy:
    def __init__(self, path: str, unit: str, function: str, hints: Any, asset: Any) -> None:
        place = Path(path)
        self._compiled = place if place.suffix == ".mlmodelc" else Path(self.compileModel(path))
        started = time.perf_counter_ns()
        self._facts = json.loads((self._compiled / "fake.json").read_text())
        self._load_ns = time.perf_counter_ns() - started
        self._times = (int(TIMES_NS[unit] * one) for one in itertools.cycle(JITTER))
        self._known: tuple[dict[str, Any], dict[str, Any]] | None = None  # inputs, and what they give
        self._last_ns: int | None = None

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return 9

    @staticmethod
    def compileModel(path: str) -> str:
        """Copy the package, and write down what a compiler would know of it."""
        from coremltools.proto import Model_pb2

        model = Model_pb2.Model()
        model.ParseFromString((Path(path) / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
        if not model.mlProgram.functions:
            raise RuntimeError("Error compiling model: there is no program in it")
        folder = tempfile.mkdtemp(prefix="fake-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        compiled = Path(folder) / "model.mlmodelc"
        shutil.copytree(path, compiled / "package")
        outputs = {
            one.name: {"shape": list(one.type.multiArrayType.shape), "dtype": DTYPES[one.type.multiArrayType.dataType]}
            for one in model.description.output
        }
        (compiled / "fake.json").write_text(json.dumps({"outputs": outputs}))
        return str(compiled)

    @staticmethod
    def get_compute_plan(path: str, unit: str) -> Any:
        from coremltools.models.compute_plan import MLComputePlan

        assert path.endswith(".mlmodelc")
        return MLComputePlan(_MLComputePlanProxy(path, unit))

    @staticmethod
    def get_model_structure(path: str) -> Any:
        return _structure(1)

    def predict(self, data: dict[str, Any], state: Any = None) -> dict[str, Any]:
        from backends.mil.program import Program

        if self._known is None or any(data[name] is not value for name, value in self._known[0].items()):
            outputs = Program(self._compiled / "package").run(data)
            self._known = dict(data), dict(zip(self._facts["outputs"], outputs, strict=True))
        self._last_ns = next(self._times)
        return self._known[1]

    def get_compiled_model_path(self) -> str:
        return str(self._compiled)

    def get_load_duration_in_nano_seconds(self) -> int:
        return self._load_ns

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        return self._last_ns


def _structure(operations: int) -> Any:
    """A constant and so many operations."""
    from coremltools.models import compute_plan as plan

    made = [
        plan.MLModelStructureProgramOperation({}, kind, [], [], number)
        for number, kind in [(-1, "const"), *((number, "conv") for number in range(operations))]
    ]
    block = plan.MLModelStructureProgramBlock([], made, ["y"])
    return plan.MLModelStructure(
        None, plan.MLModelStructureProgram({"main": plan.MLModelStructureProgramFunction([], block)}), None
    )
