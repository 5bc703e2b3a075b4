"""Sessions of Core ML: one on this Mac, through coremltools' MLModel, and one in the app on a phone."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from backends.base import Array, Loaded, Session, Timing, as_float32
from backends.mil.toolchain import coremltools, quiet
from edgelut.errors import Unsupported
from edgelut.types import Params

from . import plan
from .app import App, PhoneModel
from .artifact import Interface, read_interface
from .plan import Shares

with quiet():
    from coremltools.models.compute_device import MLCPUComputeDevice, MLGPUComputeDevice, MLNeuralEngineComputeDevice
    from coremltools.models.compute_plan import MLComputePlan
    from coremltools.models.utils import compile_model

Pairs = list[tuple[str, float | None]]


class MacSession(Session):
    """A model that is loaded into this process.

    A call's time is what Core ML's `predictionFromFeatures:` took, as coremltools' native code reads it: what an application
    would see, without turning numpy arrays into Core ML's and back. Core ML has threads of its own, so there is no CPU time.
    """

    def __init__(self, model: Any, interface: Interface, loaded: Loaded) -> None:
        self.loaded = loaded
        self._model, self._interface = model, interface
        self._inputs: dict[str, Array] = {}

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs in the package's order."""
        self._interface.require(dict(inputs))
        outputs = self._model.predict(dict(inputs))
        return as_float32([outputs[name] for name in self._interface.outputs])

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Keep the inputs as float32, which coremltools would make of any other."""
        self._interface.require(dict(inputs))
        self._inputs = {name: np.ascontiguousarray(array, np.float32) for name, array in inputs.items()}

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Predict in a tight loop on the kept inputs."""
        model, inputs, predict = self._model, self._inputs, self._model.predict
        wall, repeats = [0] * iterations, range(inner)
        for index in range(iterations):
            spent = 0
            for _ in repeats:
                predict(inputs)
                spent += model.last_predict_duration_in_nano_seconds
            wall[index] = int(spent)
        return Timing(tuple(wall), ())


class PhoneSession(Session):
    """A model in the app on a phone. A call's time is what `prediction(from:)` took there, by mach_absolute_time.

    Warm-up calls lie in the same queue as the samples, so that the phone does not rest between them.
    """

    def __init__(self, app: App, model: PhoneModel, interface: Interface, loaded: Loaded) -> None:
        self.loaded = loaded
        self._app, self._model, self._interface = app, model, interface

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs in the package's order."""
        outputs = self._app.predict(self._model, self._interface.own(dict(inputs)))
        return as_float32([outputs[name] for name in self._interface.outputs])

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Keep the inputs in the package's own types; they go to the phone with the first burst."""
        self._app.bind(self._model, self._interface.own(dict(inputs)))

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Let the phone predict `iterations * inner` times without waiting for us between."""
        return self.begin(0, iterations, inner)()

    def begin(self, warmups: int, iterations: int, inner: int = 1, *, cold: bool = False) -> Callable[[], Timing]:
        """Put a burst, its warm-up calls first, behind those that lie before the app already."""
        if cold:
            raise Unsupported("the app on a phone cannot empty its caches: no cold row")
        queue = self._app.begin(self._model, warmups, iterations * inner)

        def wait() -> Timing:
            taken = self._app.wait(queue).durations_ns
            return Timing(tuple(sum(taken[index : index + inner]) for index in range(0, len(taken), inner)), ())

        return wait


@contextmanager
def open_on_mac(artifact: Path, precision: str, unit: str) -> Iterator[MacSession]:
    """Compile and load a package on this Mac; what loading took beyond Core ML's own load is compiling."""
    interface = read_interface(artifact, precision)
    started = perf_counter_ns()
    model = _load(artifact, unit)
    load_ns = perf_counter_ns() - started
    own_ns = int(model.load_duration_in_nano_seconds or load_ns)
    found = _mac_shares(model, unit)
    loaded = Loaded(unit, (unit.upper(),), load_ns, max(0, load_ns - own_ns), Params(found.facts()), found.ran_on)
    yield MacSession(model, interface, loaded)


@contextmanager
def open_on_phone(app: App, artifact: Path, precision: str, unit: str) -> Iterator[PhoneSession]:
    """Compile a package on this Mac, which no phone need do, and load it on a phone."""
    interface = read_interface(artifact, precision)
    with tempfile.TemporaryDirectory(prefix="edgelut-") as folder:
        compiled = Path(folder) / "model.mlmodelc"
        with _refusals(artifact):
            compile_model(str(artifact), str(compiled))
        model = app.open(compiled, unit.upper())
        try:
            found = _phone_shares(app, model)
            loaded = Loaded(unit, (model.unit,), model.load_ns or None, None, Params(found.facts()), found.ran_on)
            yield PhoneSession(app, model, interface, loaded)
        finally:
            app.release(model)


def _load(artifact: Path, unit: str) -> Any:
    """Return the loaded model; raise Unsupported with what Core ML said."""
    with quiet(), _refusals(artifact), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = coremltools.models.MLModel(str(artifact), compute_units=coremltools.ComputeUnit[unit.upper()])
    if model.__proxy__ is None:
        reason = "; ".join(str(one.message) for one in said) or "its specification is newer than this macOS"
        raise Unsupported(f"Core ML does not load {artifact.name} for {unit}: {reason}")
    return model


@contextmanager
def _refusals(artifact: Path) -> Iterator[None]:
    """Raise what Core ML refuses as Unsupported: the package was read and is whole."""
    try:
        yield
    except RuntimeError as error:
        raise Unsupported(f"Core ML does not compile {artifact.name}: {error}") from error


def _mac_shares(model: Any, unit: str) -> Shares:
    """Return the plan's shares; nothing before macOS 14.4, which has no plans."""
    try:
        found = MLComputePlan.load_from_path(
            path=model.get_compiled_model_path(), compute_units=coremltools.ComputeUnit[unit.upper()]
        )
    except (RuntimeError, ValueError):
        return Shares()
    program = found.model_structure.program
    functions = program.functions.values() if program else ()
    return plan.shares(_operations(found, (one for function in functions for one in function.block.operations)))


def _operations(found: Any, operations: Iterable[Any]) -> Iterator[tuple[str, float | None]]:
    """Yield the preferred unit of each operation that has one, with its estimated cost; a constant has none."""
    units = ((MLCPUComputeDevice, "cpu"), (MLGPUComputeDevice, "gpu"), (MLNeuralEngineComputeDevice, "ne"))
    for operation in operations:
        usage = found.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is None:
            continue
        cost = found.get_estimated_cost_for_mlprogram_operation(operation)
        name = next((name for kind, name in units if isinstance(usage.preferred_compute_device, kind)), "")
        if name:
            yield name, cost.weight if cost is not None else None


def _phone_shares(app: App, model: PhoneModel) -> Shares:
    """Return the plan's shares; nothing before iOS 17.4, which has no plans."""
    try:
        return plan.shares(app.plan(model))
    except Unsupported:
        return Shares()
