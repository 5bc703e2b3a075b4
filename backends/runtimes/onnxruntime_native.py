"""The runtime `onnxruntime-native`: onnxruntime's CPU kernels in a C program of ours, on this machine or on a phone."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from backends.base import Array, Device, Loaded, Runtime, Session, Timing, as_float32
from backends.native import build, toolchain
from backends.native.link import Answer, Asked, Interrupted, Runner, quoted, runner_of
from backends.onnx_precision import PROVIDER, check_precision
from edgelut.errors import BackendMissing, EdgelutError, Unsupported
from edgelut.types import Params, Scalar

LEAST_S = 120.0  # that a burst is waited for
SLOWER = 50  # times as long as the calls before may calls take
OPEN_S = 600.0
TRIES = 3  # of what another session's death interrupted
FACTS: dict[str, Scalar] = {"graph_optimization": "all", "execution": "sequential", "spinning": "within a call"}

T = TypeVar("T")


class NativeSession(Session):
    """A model that is open in the device's runner. Where that died over another one, it is opened again in the next."""

    def __init__(self, device: Device, artifact: Path, threads: int, unit: str) -> None:
        self._device, self._artifact, self._threads, self._unit = device, artifact, threads, unit
        self._runner: Runner | None = None
        self._number = 0
        self._inputs: tuple[tuple[str, np.dtype[Any]], ...] = ()
        self._prepared = self._bound = b""  # what `time` is to use, and what is bound there now
        self._call_s = 0.0
        self.loaded = Loaded(unit)
        _retry(self._live)

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs."""
        content = self._content(inputs)
        return as_float32(_retry(lambda: self._run(content)))

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Bind inputs and outputs to memory of onnxruntime's own, there."""
        self._prepared = self._content(inputs)
        _retry(lambda: self._bind(self._live(), self._prepared))

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Time calls on the bound memory, by the clock of where they run; or count their instructions."""
        return self.begin(0, iterations, inner)()

    def begin(self, warmups: int, iterations: int, inner: int = 1, *, cold: bool = False) -> Callable[[], Timing]:
        """Send a burst to the runner, which comes to it after those that were sent before."""
        if not self._prepared:
            raise RuntimeError("prepare(inputs) comes before time()")
        if cold and inner != 1:
            raise Unsupported("a cold sample is one call: caches are emptied before each")
        waiting = [_retry(lambda: self._begin(warmups, iterations, inner, cold))]

        def again() -> Timing:
            runner, asked = waiting.pop() if waiting else self._begin(warmups, iterations, inner, cold)
            return _timing(runner.wait(asked), iterations, self.loaded.clock == "instructions")

        def wait() -> Timing:
            started = time.perf_counter()
            timing = _retry(again)
            self._call_s = max(self._call_s, (time.perf_counter() - started) / (warmups + iterations * inner))
            return timing

        return wait

    def close(self) -> None:
        """Release the model; one whose runner has ended is released already."""
        runner, self._runner = self._runner, None
        if runner is not None and not runner.is_dead:
            with suppress(EdgelutError):
                runner.ask(f"close {self._number}")
            runner.drop_number(self._number)

    def _begin(self, warmups: int, iterations: int, inner: int, cold: bool) -> tuple[Runner, Asked]:
        runner = self._live()
        self._bind(runner, self._prepared)
        runner.pin(runner.mask_of(self._unit))
        timeout_s = LEAST_S + SLOWER * self._call_s * (warmups + iterations * inner)
        if cold:
            return runner, runner.begin(f"cold {self._number} {iterations}", timeout_s)
        return runner, runner.begin(f"time {self._number} {warmups} {iterations} {inner}", timeout_s)

    def _live(self) -> Runner:
        """Return the runner, with the model open in it."""
        runner = runner_of(self._device)
        if runner is not self._runner:
            self._open(runner)
            self._runner = runner
        return runner

    def _open(self, runner: Runner) -> None:
        if runner.counts and self._threads != 1:
            raise Unsupported(
                f"{runner.name} counts the instructions of one thread, not of {self._threads}: --threads 1"
            )
        runner.pin(runner.mask_of(self._unit))  # before, for the threads that it starts
        there = self._device.push(self._artifact)
        number = runner.take_number()
        try:
            answer = runner.ask(f"open {number} {quoted(there)} {self._threads}", OPEN_S)
            self._inputs = tuple((name, dtype) for name, dtype, _ in _ends(answer["inputs"]))
            self.loaded = self._loaded(runner, answer)
        except EdgelutError:
            runner.drop_number(number)
            raise
        self._number, self._bound = number, b""

    def _loaded(self, runner: Runner, answer: Answer) -> Loaded:
        facts = {**FACTS, "onnxruntime": str(runner.hello["onnxruntime"])}
        if not self._device.local:  # the kernels beside its rows are the runner's own
            facts["reference"] = str(runner.hello.get("reference", ""))
        return Loaded(
            self._unit,
            (PROVIDER,),
            None if runner.counts else answer["load_ns"],  # an emulated machine's clock says nothing
            facts=Params(facts),
            ran_on="cpu",
            clock="instructions" if runner.counts else None,
            peak_memory_bytes=answer.get("peak_memory_bytes"),
        )

    def _content(self, inputs: Mapping[str, Array]) -> bytes:
        """Return the inputs as the runner reads them: raw, in the order and the types of the graph."""
        names = [name for name, _ in self._inputs]
        if set(names) != set(inputs):
            raise ValueError(f"the artifact takes {', '.join(names)}, not {', '.join(inputs)}")
        return b"".join(np.ascontiguousarray(inputs[name], dtype=dtype).tobytes() for name, dtype in self._inputs)

    def _bind(self, runner: Runner, content: bytes) -> None:
        if content == self._bound:
            return
        with tempfile.TemporaryDirectory(prefix="edgelut-") as folder:
            path = Path(folder, "inputs")
            path.write_bytes(content)
            there = quoted(self._device.push(path))
            started = time.perf_counter_ns()
            answer = runner.ask(f"bind {self._number} {there}", OPEN_S)
        if runner.counts:
            self.first_call_ns = time.perf_counter_ns() - started
        self._bound = content
        peak = answer.get("peak_memory_bytes")
        if peak is not None:
            self.loaded = replace(self.loaded, peak_memory_bytes=peak)

    def _run(self, content: bytes) -> list[Array]:
        runner = self._live()
        self._bind(runner, content)
        answer, written = runner.outputs(self._number, OPEN_S)
        return _outputs(written, _ends(answer["outputs"]))


class OnnxruntimeNative(Runtime):
    """Runs ONNX on onnxruntime's CPU provider with the options of `onnxruntime-cpu`, in a runner of its own.

    On a phone `cpu` is the big cores and `cpu-little` the others; on this machine `cpu` is all of them. int8 opens by what the
    optimiser makes of a file on this machine.
    """

    formats = ("onnx",)
    precisions = ("fp32", "int8")
    units = ("cpu", "cpu-little")
    devices = ("local", "android")
    env: ClassVar[Mapping[str, str]] = {"ORT_DISABLE_TELEMETRY": "1"}

    def __init__(self) -> None:
        """Look for what a runner is made with; raise BackendMissing where nothing can be made."""
        if build.user_bundle() is not None:
            return
        toolchain.onnxruntime_version()
        if platform.system() != "Linux":
            raise BackendMissing(
                f"onnxruntime-native builds its runner on Linux, not on {platform.system()}: {build.VARIABLE} names "
                "a folder with your own"
            )
        try:
            toolchain.find_compiler(platform.machine())
        except BackendMissing as missing:
            try:
                toolchain.find_compiler("aarch64")
            except BackendMissing:
                raise missing from None

    @property
    def version(self) -> str:
        """The version of onnxruntime and that of the runner."""
        return f"onnxruntime {toolchain.onnxruntime_version()} runner {build.VERSION}"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        """Open the file in the device's runner, which is started where there is none."""
        if precision not in self.precisions or unit not in self.units:
            raise Unsupported(
                f"onnxruntime-native runs {', '.join(self.precisions)} on {', '.join(self.units)}, not {precision} on {unit}"
            )
        check_precision(artifact, precision)
        session = NativeSession(device, artifact, threads, unit)
        try:
            yield session
        finally:
            session.close()

    def time_reference(self, device: Device, warmups: int, samples: int) -> Timing | None:
        """Time the runner's kernels there; None on this machine, which has its own, and where nothing is timed."""
        return self.begin_reference(device, warmups, samples)()

    def begin_reference(self, device: Device, warmups: int, samples: int) -> Callable[[], Timing | None]:
        """Send the kernels to the runner, which comes to them after the bursts that were sent before."""
        if device.local or runner_of(device).counts:
            return lambda: None

        def begin() -> tuple[Runner, Asked]:
            runner = runner_of(device)
            runner.pin(runner.mask_of("cpu"))
            return runner, runner.begin(f"reference {warmups} {samples}", LEAST_S)

        waiting = [_retry(begin)]

        def again() -> Timing:
            runner, asked = waiting.pop() if waiting else begin()
            answer = runner.wait(asked)
            kernels = answer["wall_ns"]
            return _timing(answer, len(kernels) if isinstance(kernels, list) else 0, counts=False)

        return lambda: _retry(again)


def _retry(call: Callable[[], T]) -> T:
    """Call again what another's death interrupted, TRIES times in all."""
    for _ in range(TRIES - 1):
        with suppress(Interrupted):
            return call()
    return call()


def _timing(answer: Answer, samples: int, counts: bool) -> Timing:
    """Return a burst's samples; raise EdgelutError where they are not as many whole numbers as were asked for."""
    wall = answer["instructions" if counts else "wall_ns"]
    cpu = [] if counts else answer["cpu_ns"]
    for values, wanted in ((wall, samples), (cpu, 0 if counts else samples)):
        if not isinstance(values, list) or len(values) != wanted or not all(type(value) is int for value in values):
            raise EdgelutError(f"the runner gave no {samples} samples but {str(dict(answer))[:200]}")
    return Timing(tuple(wall), tuple(cpu))


def _ends(said: Any) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Return the names, types and shapes of inputs or outputs; the types are little-endian."""
    try:
        return [(str(end["name"]), np.dtype(end["type"]).newbyteorder("<"), tuple(end["shape"])) for end in said]
    except (KeyError, TypeError) as error:
        raise EdgelutError(f"the runner describes inputs or outputs by {str(said)[:200]}") from error


def _outputs(content: bytes, ends: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]) -> list[Array]:
    """Cut a file of outputs into arrays."""
    arrays, place = [], 0
    for name, dtype, shape in ends:
        count = prod(shape)
        if place + count * dtype.itemsize > len(content):
            raise EdgelutError(f"the runner wrote {len(content)} bytes of outputs, too few for {name} {shape}")
        arrays.append(np.frombuffer(content, dtype, count, place).reshape(shape))
        place += count * dtype.itemsize
    if place != len(content):
        raise EdgelutError(f"the runner wrote {len(content)} bytes of outputs, more than its {place} of {len(ends)}")
    return arrays
