"""The contracts of exporters, runtimes and devices as pytest suites, for the backends of this tree and for yours.

    from backends.testing import RuntimeContract

    class TestMine(RuntimeContract):
        @pytest.fixture
        def runtime(self):
            return Mine()

Every fixture is a hook. A backend whose toolchain is missing is a skip with its reason, and a failure where the environment
variable EDGELUT_REQUIRED_BACKENDS names it (`onnx,onnxruntime-cpu`, or `all`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import registry
from backends.base import Array, Device, Exporter, Runtime
from backends.testing_devices import DeviceContract as DeviceContract
from edgelut.errors import ArtifactCorrupted, BackendMissing, Unsupported

REQUIRED = "EDGELUT_REQUIRED_BACKENDS"
# RMS error of the outputs over the RMS of what the module adds to its input. Blocks of every kind: fp16 0.1 %, int8 1-3 %.
TOLERANCES = {"fp32": 1e-5, "fp16": 3e-3, "int8": 0.05}
SUBPROCESS_S = 240
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "something else": lambda content: b"?" * 99,
}
Case = tuple[Any, dict[str, Any]]  # a module and its inputs


def load(axis: registry.Axis, name: str) -> Any:
    """Return a backend; skip the test where its toolchain is missing, or fail it where the environment requires it."""
    loaders = {"exporters": registry.load_exporter, "runtimes": registry.load_runtime, "devices": registry.load_device}
    try:
        return loaders[axis](name)
    except BackendMissing as error:
        if {name, "all"} & set(os.environ.get(REQUIRED, "").split(",")):
            raise
        pytest.skip(str(error))


def small_block() -> Case:
    """Return a residual bottleneck of two convolutions with weights of order one, and its input (1, 16, 8, 8)."""
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        """x + conv(gelu(norm(conv(x))))"""

        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(
                nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.GELU(), nn.Conv2d(32, 16, 3, padding=1)
            )

        def forward(self, x: Any) -> Any:
            """Map (B, 16, 8, 8) to the same."""
            return x + self.branch(x)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = Bottleneck().eval()
        norm: Any = module.branch[1]
        norm.running_mean.normal_(0.0, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
        return module, {"x": torch.randn(1, 16, 8, 8)}


def identity() -> Case:
    """Return a module that gives back its input."""
    import torch

    return torch.nn.Identity().eval(), {"x": torch.arange(48.0).reshape(1, 3, 4, 4)}


def failing() -> Case:
    """Return a module that cannot be called."""
    import torch

    class Failing(torch.nn.Module):
        """Raises."""

        def forward(self, x: Any) -> Any:
            """Raise."""
            raise RuntimeError("fails on purpose")

    return Failing().eval(), {"x": torch.zeros(1, 3, 4, 4)}


def resolve(name: str) -> Any:
    """Return what `module:name` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def parity_error(outputs: list[Array], expected: Array, x: Array) -> float:
    """Return the RMS error over the RMS of what the module adds to `x` (of its output, where it adds nothing or reshapes)."""
    branch = expected - x if expected.shape == x.shape and not np.array_equal(expected, x) else expected
    return float(np.sqrt(np.mean((outputs[0] - expected) ** 2) / np.mean(branch**2)))


def digests(exporter: str, factory: str, folder: Path) -> list[str]:
    """Export a case in every precision and return the digests; the names are `module:name`, as another process needs them."""
    chosen: Exporter = resolve(exporter)()
    module, inputs = resolve(factory)()
    found = []
    for precision in chosen.precisions:
        path = folder / f"{precision}{chosen.suffix}"
        chosen.export(module, inputs, precision, path, chosen.options)
        found.append(chosen.digest(path))
    return found


class ExporterContract:
    """What every exporter keeps. Hooks: `exporter`, and `factory`, the `module:function` that returns a case."""

    @pytest.fixture
    def exporter(self) -> Exporter:
        """The exporter under test."""
        raise NotImplementedError("give a fixture `exporter`")

    @pytest.fixture
    def factory(self) -> str:
        """What is exported."""
        return "backends.testing:small_block"

    @pytest.fixture
    def case(self, factory: str) -> Case:
        """The module and its inputs."""
        case: Case = resolve(factory)()
        return case

    @pytest.fixture
    def path(self, exporter: Exporter, tmp_path: Path) -> Path:
        """Where to export to; its folder is empty."""
        folder = tmp_path / "export"
        folder.mkdir()
        return folder / f"block{exporter.suffix}"

    def test_says_what_it_is(self, exporter: Exporter) -> None:
        assert isinstance(exporter.version, str)
        assert exporter.version
        assert exporter.suffix.startswith(".")
        assert exporter.precisions

    def test_writes_every_precision_that_it_names_and_nothing_else(
        self, exporter: Exporter, case: Case, path: Path
    ) -> None:
        for precision in exporter.precisions:
            exporter.export(*case, precision, path, exporter.options)
            assert list(path.parent.iterdir()) == [path], precision
            assert len(bytes.fromhex(exporter.digest(path))) == 32

    def test_refuses_a_precision_that_it_does_not_write(self, exporter: Exporter, case: Case, path: Path) -> None:
        with pytest.raises(Unsupported):
            exporter.export(*case, "fp7", path, exporter.options)
        assert not any(path.parent.iterdir())

    def test_refuses_an_option_that_it_does_not_have(self, exporter: Exporter, case: Case, path: Path) -> None:
        if not exporter.options:
            pytest.skip("has no options")
        with pytest.raises(Unsupported, match="colour"):
            exporter.export(*case, exporter.precisions[0], path, {**exporter.options, "colour": "blue"})

    def test_leaves_the_module_as_it_was(self, exporter: Exporter, case: Case, path: Path) -> None:
        def state() -> list[Any]:
            return [(name, value.dtype, value.stride(), value.tolist()) for name, value in case[0].state_dict().items()]

        before = state()
        for precision in exporter.precisions:
            exporter.export(*case, precision, path, exporter.options)
        assert state() == before

    def test_writes_the_same_again_and_in_another_process(
        self, exporter: Exporter, factory: str, tmp_path: Path
    ) -> None:
        name = f"{type(exporter).__module__}:{type(exporter).__qualname__}"
        first = digests(name, factory, tmp_path)
        assert digests(name, factory, tmp_path) == first
        code = f"from backends.testing import *; print(*digests({name!r}, {factory!r}, Path({str(tmp_path)!r})))"
        environment = {**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SUBPROCESS_S,
            check=False,
        )
        assert done.stdout.split() == first, done.stderr

    def test_other_weights_give_another_digest(self, exporter: Exporter, case: Case, path: Path) -> None:
        module, inputs = case
        parameters = list(module.parameters())
        if not parameters:
            pytest.skip("the module has no weights")
        found = set()
        for step in (1.0, 1.5):
            parameters[-1].data *= step
            exporter.export(module, inputs, exporter.precisions[0], path, exporter.options)
            found.add(exporter.digest(path))
        assert len(found) == 2

    def test_leaves_nothing_behind_when_it_fails(self, exporter: Exporter, path: Path) -> None:
        done = False
        with suppress(Exception):
            exporter.export(*failing(), exporter.precisions[0], path, exporter.options)
            done = True
        assert list(path.parent.iterdir()) == ([path] if done else [])

    def test_a_missing_folder_is_an_os_error(self, exporter: Exporter, case: Case, path: Path) -> None:
        with pytest.raises(OSError, match="nowhere"):
            exporter.export(*case, exporter.precisions[0], path.parent / "nowhere" / path.name, exporter.options)

    def test_a_full_disk_is_an_os_error_and_leaves_nothing_behind(
        self, exporter: Exporter, case: Case, path: Path
    ) -> None:
        with pytest.raises(OSError), file_size_limit(16):
            exporter.export(*case, exporter.precisions[0], path, exporter.options)
        assert not any(path.parent.iterdir())


class RuntimeContract:
    """What every runtime keeps. Hooks: `runtime`, `device`, `exporter` and `factory`."""

    @pytest.fixture
    def runtime(self) -> Runtime:
        """The runtime under test."""
        raise NotImplementedError("give a fixture `runtime`")

    @pytest.fixture
    def device(self) -> Device:
        """The device that it reaches."""
        device: Device = load("devices", "host")
        return device

    @pytest.fixture
    def exporter(self, runtime: Runtime) -> Exporter:
        """What writes its artifacts."""
        exporter: Exporter = load("exporters", runtime.formats[0])
        return exporter

    @pytest.fixture
    def factory(self) -> str:
        """What is exported and run."""
        return "backends.testing:small_block"

    @pytest.fixture
    def case(self, factory: str) -> Case:
        """The module and its inputs."""
        case: Case = resolve(factory)()
        return case

    @pytest.fixture
    def inputs(self, case: Case) -> dict[str, Array]:
        """The inputs as a session takes them."""
        return {name: value.numpy() for name, value in case[1].items()}

    @pytest.fixture
    def artifact(self, exporter: Exporter, case: Case, tmp_path: Path) -> Callable[[str], Path]:
        """A function that exports the case in a precision."""

        def export(precision: str) -> Path:
            if precision not in exporter.precisions:
                pytest.skip(f"{type(exporter).__name__} does not write {precision}")
            path = tmp_path / f"block{exporter.suffix}"
            exporter.export(*case, precision, path, exporter.options)
            return path

        return export

    @pytest.fixture
    def opened(self, runtime: Runtime, device: Device, artifact: Callable[[str], Path]) -> Iterator[Callable[[], Any]]:
        """A function that opens the case in the runtime's first precision with one thread."""
        path = artifact(runtime.precisions[0])
        with ExitStack() as stack:
            yield lambda: stack.enter_context(runtime.open(path, device, runtime.precisions[0], 1, runtime.units[0]))

    def test_says_what_it_is(self, runtime: Runtime) -> None:
        assert isinstance(runtime.version, str)
        assert runtime.version
        assert runtime.precisions
        assert runtime.units
        assert all(isinstance(text, str) for pair in runtime.env.items() for text in pair)

    def test_reads_formats_that_an_exporter_writes(self, runtime: Runtime) -> None:
        assert runtime.formats
        assert set(runtime.formats) <= set(registry.names("exporters"))

    @pytest.mark.parametrize("precision", TOLERANCES)
    def test_gives_the_outputs_of_the_module(
        self,
        runtime: Runtime,
        device: Device,
        artifact: Callable[[str], Path],
        case: Case,
        inputs: Mapping[str, Array],
        precision: str,
    ) -> None:
        if precision not in runtime.precisions:
            pytest.skip(f"does not run {precision}")
        path = artifact(precision)
        with ExitStack() as stack:
            try:
                session = stack.enter_context(runtime.open(path, device, precision, 1, runtime.units[0]))
            except Unsupported as error:
                assert precision != runtime.precisions[0], "its first precision must run everywhere"
                pytest.skip(str(error))
            outputs = session.run(inputs)
        assert all(output.dtype == np.float32 for output in outputs)
        expected = case[0](*case[1].values()).detach().numpy()
        assert parity_error(outputs, expected, inputs["x"]) <= TOLERANCES[precision]

    def test_refuses_a_precision_or_a_unit_that_it_does_not_have(
        self, runtime: Runtime, device: Device, artifact: Callable[[str], Path]
    ) -> None:
        path, precision, unit = artifact(runtime.precisions[0]), runtime.precisions[0], runtime.units[0]
        for asked in (("fp7", unit), (precision, "abacus")):
            with pytest.raises(Unsupported), runtime.open(path, device, asked[0], 1, asked[1]):
                pass

    def test_refuses_a_file_of_another_precision(
        self, runtime: Runtime, device: Device, exporter: Exporter, artifact: Callable[[str], Path]
    ) -> None:
        both = [precision for precision in runtime.precisions if precision in exporter.precisions]
        if len(both) < 2:
            pytest.skip("has one precision")
        path = artifact(both[0])
        with pytest.raises(Unsupported), runtime.open(path, device, both[1], 1, runtime.units[0]):
            pass

    def test_says_what_it_got(self, runtime: Runtime, opened: Callable[[], Any]) -> None:
        loaded = opened().loaded
        assert loaded.unit == runtime.units[0]
        assert loaded.load_ns is None or loaded.load_ns > 0
        assert loaded.compile_ns is None or loaded.load_ns is None or 0 <= loaded.compile_ns <= loaded.load_ns

    def test_two_sessions_can_be_open_at_once(self, opened: Callable[[], Any], inputs: Mapping[str, Array]) -> None:
        one, other = opened(), opened()
        np.testing.assert_array_equal(one.run(inputs)[0], other.run(inputs)[0])

    def test_refuses_inputs_of_another_name(
        self, runtime: Runtime, opened: Callable[[], Any], inputs: Mapping[str, Array]
    ) -> None:
        if runtime.formats == ("null",):
            pytest.skip("the null runtime takes any inputs")
        session = opened()
        with pytest.raises((ValueError, KeyError), match=r"x|other"):
            session.run({"other": inputs["x"]})

    def test_gives_one_time_for_each_sample_in_whole_nanoseconds(
        self, runtime: Runtime, opened: Callable[[], Any], inputs: Mapping[str, Array]
    ) -> None:
        if not runtime.timed:
            pytest.skip("runs for the numbers only")
        session = opened()
        session.prepare(inputs)
        timing = session.time(7)
        assert len(timing.wall_ns) == 7
        assert len(timing.cpu_ns) in (0, 7)
        assert all(type(sample) is int and sample > 0 for sample in timing.wall_ns + timing.cpu_ns)

    def test_a_sample_of_many_calls_takes_as_many_times_as_long(
        self, runtime: Runtime, opened: Callable[[], Any], inputs: Mapping[str, Array]
    ) -> None:
        if not runtime.timed:
            pytest.skip("runs for the numbers only")
        session = opened()
        session.prepare(inputs)
        session.time(5)
        single = min(session.time(20).wall_ns)
        assert min(session.time(5, inner=40).wall_ns) >= 10 * single

    def test_a_runtime_for_the_numbers_refuses_to_time(
        self, runtime: Runtime, opened: Callable[[], Any], inputs: Mapping[str, Array]
    ) -> None:
        if runtime.timed:
            pytest.skip("is timed")
        session = opened()
        session.prepare(inputs)
        with pytest.raises(Unsupported):
            session.time(1)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_artifact_is_said_to_be_corrupted(
        self, runtime: Runtime, device: Device, artifact: Callable[[str], Path], damage: str
    ) -> None:
        path = artifact(runtime.precisions[0])
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        largest = max(files, key=lambda file: file.stat().st_size)
        largest.write_bytes(DAMAGES[damage](largest.read_bytes()))
        with pytest.raises(ArtifactCorrupted), runtime.open(path, device, runtime.precisions[0], 1, runtime.units[0]):
            pass

    def test_a_missing_artifact_is_not_found(
        self, runtime: Runtime, device: Device, exporter: Exporter, tmp_path: Path
    ) -> None:
        path = tmp_path / f"nowhere{exporter.suffix}"
        # An artifact that is a folder may be called corrupted, since what is missing is a file of it.
        opening = runtime.open(path, device, runtime.precisions[0], 1, runtime.units[0])
        with pytest.raises((FileNotFoundError, ArtifactCorrupted), match="nowhere"), opening:
            pass


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: to the writer, a full disk."""
    resource = pytest.importorskip("resource", reason="this system has no file size limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
