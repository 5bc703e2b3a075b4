"""The runtime over its runner: here, on a device that is not this machine, and where things die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.testing import RuntimeContract, load, small_block
from edgelut.blocks import EMBEDDING, HEAD, MB3D, MB4D, STEM
from edgelut.errors import ArtifactCorrupted, BackendMissing, DeviceUnusable, EdgelutError, Unsupported

link = pytest.importorskip("backends.native.link", reason="needs numpy: pip install 'edgelut-service[onnx]'")
far = pytest.importorskip("tests.backends.far")
OPENED: str = far.OPENED
SPECS = [
    STEM.spec(24, 64),
    MB4D.spec(48, 14),
    MB4D.spec(40, 14, params={"pool": 7, "activation": "hardswish"}),
    EMBEDDING.spec(48, 14, width_out=96),
    MB3D.spec(96, 7),
    HEAD.spec(96, 7, width_out=100),
]


@pytest.fixture
def runtime() -> Any:
    return load("runtimes", "onnxruntime-native")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Any]:
    """A device that is not this machine."""
    device = far.Far(tmp_path / "far")
    yield device
    close(device)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    load("exporters", "onnx").export(*small_block(), "fp32", path, {})
    return path


@pytest.fixture
def inputs() -> dict[str, Any]:
    return {"x": small_block()[1]["x"].numpy()}


@pytest.fixture
def answering(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a runner of the test's own on the device."""

    def answer(**answers: str) -> None:
        monkeypatch.setenv("EDGELUT_RUNNER_DIR", str(far.write_runner(tmp_path / "own", **answers)))

    return answer


def close(device: Any) -> None:
    runner = link._runners.pop(device, None)
    if runner is not None:
        runner.close()


def pid(device: Any) -> int:
    return int(link.runner_of(device).hello["pid"])


def kill(device: Any) -> None:
    """End the runner as the kernel does where memory ends, and wait until it is gone."""
    runner = link.runner_of(device)
    os.kill(pid(device), signal.SIGKILL)
    runner._process._child.wait(10)


class TestFar(RuntimeContract):
    """The contract on a device that is not this machine."""

    @pytest.fixture
    def runtime(self) -> Any:
        return load("runtimes", "onnxruntime-native")

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[Any]:
        device = far.Far(tmp_path / "far")
        yield device
        close(device)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_outputs_are_those_of_onnxruntime_cpu_bit_for_bit(runtime: Any, spec: Any, tmp_path: Path) -> None:
    blocks = pytest.importorskip("supernet.blocks")
    path, inputs = tmp_path / "block.onnx", blocks.example_inputs(spec)
    load("exporters", "onnx").export(blocks.build(spec), inputs, "fp32", path, {})
    arrays = {name: value.numpy() for name, value in inputs.items()}
    host, found = load("devices", "host"), []
    for one in (runtime, load("runtimes", "onnxruntime-cpu")):
        with one.open(path, host, "fp32", 1, "cpu") as session:
            found.append(session.run(arrays))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_int8_gives_the_same_bits_too(runtime: Any, tmp_path: Path, inputs: dict[str, Any]) -> None:
    path, found = tmp_path / "block.onnx", []
    load("exporters", "onnx").export(*small_block(), "int8", path, {})
    for one in (runtime, load("runtimes", "onnxruntime-cpu")):
        with one.open(path, load("devices", "host"), "int8", 1, "cpu") as session:
            found.append(session.run(inputs)[0])
    np.testing.assert_array_equal(*found)


def test_two_threads_give_the_same_outputs(runtime: Any, model: Path, inputs: dict[str, Any]) -> None:
    found = []
    for threads in (1, 2):
        with runtime.open(model, load("devices", "host"), "fp32", threads, "cpu") as session:
            found.append(session.run(inputs)[0])
            session.prepare(inputs)
            assert session.time(2).wall_ns
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_many_models_live_in_one_process_that_stays(
    runtime: Any, device: Any, model: Path, inputs: dict[str, Any]
) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as one, runtime.open(model, device, "fp32", 1, "cpu") as other:
        first = pid(device)
        np.testing.assert_array_equal(one.run(inputs)[0], other.run(inputs)[0])
    with runtime.open(model, device, "fp32", 1, "cpu"):
        assert pid(device) == first
    assert sorted(device.pushed) == sorted([Path(link.runner_of(device).there).name, "inputs", "model.onnx"])


def test_it_says_what_it_loaded(runtime: Any, device: Any, model: Path, inputs: dict[str, Any]) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare(inputs)
        loaded = session.loaded
    assert loaded.load_ns > 0
    assert loaded.peak_memory_bytes > 0
    assert (loaded.unit, loaded.ran_on, loaded.clock) == ("cpu", "cpu", None)
    assert loaded.facts["onnxruntime"] in runtime.version


def test_outputs_leave_nothing_behind_on_the_device(
    runtime: Any, device: Any, model: Path, inputs: dict[str, Any]
) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.run(inputs)
        session.run(inputs)
    assert len(list(device.folder.rglob("*.out"))) == 1
    link.close_all()
    assert not list(device.folder.rglob("*.out"))


def test_bursts_are_begun_before_they_are_waited_for(
    runtime: Any, device: Any, model: Path, inputs: dict[str, Any]
) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as one, runtime.open(model, device, "fp32", 1, "cpu") as other:
        one.prepare(inputs)
        other.prepare(inputs)
        waits = [one.begin(2, 3), other.begin(0, 4, 2), one.begin(0, 2, cold=True)]
        reference = runtime.begin_reference(device, 0, 3)
        last = other.begin(0, 1)
        assert len(last().wall_ns) == 1  # in whatever order they are waited for
        assert [len(wait().wall_ns) for wait in waits] == [3, 4, 2]
        assert len(reference().wall_ns) == 5


def test_the_reference_kernels_run_there_and_not_here(runtime: Any, device: Any) -> None:
    timing = runtime.time_reference(device, 1, 4)
    assert len(timing.wall_ns) == len(timing.cpu_ns) == 5
    assert min(timing.wall_ns) > 0
    assert runtime.time_reference(load("devices", "host"), 1, 4) is None


def test_other_inputs_in_between_are_not_what_is_timed(
    runtime: Any, device: Any, model: Path, inputs: dict[str, Any]
) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare(inputs)
        session.run({"x": inputs["x"] * 2})
        session.time(1)
        assert session._bound == inputs["x"].tobytes()


def test_a_unit_is_the_cpus_that_the_device_says(
    runtime: Any, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    device = far.Far(tmp_path, big_mask=f"{1 << cpus[-1]:x}", little_mask=f"{1 << cpus[0]:x}")
    with (
        runtime.open(model, device, "fp32", 1, "cpu") as big,
        runtime.open(model, device, "fp32", 1, "cpu-little") as little,
    ):
        assert little.loaded.unit == "cpu-little"
        for session, cpu in ((big, cpus[-1]), (little, cpus[0]), (big, cpus[-1])):
            session.prepare(inputs)
            session.time(1)
            assert os.sched_getaffinity(pid(device)) == {cpu}
    close(device)


def test_there_are_no_little_cores_here(runtime: Any, model: Path) -> None:
    with (
        pytest.raises(Unsupported, match="host has no cpu-little"),
        runtime.open(model, load("devices", "host"), "fp32", 1, "cpu-little"),
    ):
        pass


def test_a_runner_that_was_killed_is_started_anew_and_models_opened_again(
    runtime: Any, device: Any, model: Path, inputs: dict[str, Any]
) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare(inputs)
        first = pid(device)
        kill(device)
        assert len(session.time(2).wall_ns) == 2
        assert pid(device) != first


def test_who_was_running_when_it_died_is_told_and_the_others_go_on(
    runtime: Any, device: Any, model: Path, inputs: dict[str, Any]
) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as one, runtime.open(model, device, "fp32", 1, "cpu") as other:
        one.prepare(inputs)
        other.prepare(inputs)
        running, waiting = one.begin(0, 100_000, 1000), other.begin(0, 3)
        kill(device)
        with pytest.raises(EdgelutError, match=r"the runner on far died: .* ended \(signal 9\)"):
            running()
        assert len(waiting().wall_ns) == 3
        assert len(one.time(1).wall_ns) == 1


def test_where_the_device_is_gone_that_is_said(runtime: Any, device: Any, model: Path, inputs: dict[str, Any]) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare(inputs)
        running = session.begin(0, 100_000, 1000)
        device.gone = True
        kill(device)
        with pytest.raises(DeviceUnusable, match="not attached; plug it in"):
            running()
        with pytest.raises(DeviceUnusable):
            session.time(1)
        device.gone = False
        assert len(session.time(1).wall_ns) == 1


@pytest.mark.parametrize(
    ("answers", "error", "match"),
    [
        ({"hello": "!sys.exit('no such libc')"}, EdgelutError, r"does not start on far.*\(exit 1\): no such libc"),
        ({"hello": "segmentation fault"}, EdgelutError, "does not start on far.*'segmentation fault'"),
        (
            {"hello": '{"ok": false, "error": "io", "message": "no lib"}'},
            EdgelutError,
            "does not start on far: .*no lib",
        ),
        ({"hello": '{"runner": 2, "onnxruntime": "3"}'}, EdgelutError, "speaks protocol 2, not 1"),
        ({"open": "!os._exit(3)"}, EdgelutError, r"the runner on far died.*\(exit 3\)"),
        ({"open": "{not json}"}, EdgelutError, r"answered 'open 0 .*' by '\{not json\}'"),
        ({"open": "[]"}, EdgelutError, "answered"),
        ({"open": '{"ok": true}'}, EdgelutError, "inputs"),
        ({"open": '{"ok": false, "error": "unsupported", "message": "no kernel"}'}, Unsupported, "no kernel"),
        ({"open": '{"ok": false, "error": "corrupted", "message": "torn"}'}, ArtifactCorrupted, "torn"),
        (
            {"open": '{"ok": false, "error": "memory", "message": "5 GB"}'},
            EdgelutError,
            r"out of memory: 5 GB \(on far\)",
        ),
        ({"time": '{"ok": true, "wall_ns": [1, 2], "cpu_ns": [1, 2, 3]}'}, EdgelutError, "no 3 samples"),
        ({"time": '{"ok": true, "wall_ns": [1, 2, "3"], "cpu_ns": [1, 2, 3]}'}, EdgelutError, "no 3 samples"),
        ({"time": '{"ok": true}'}, EdgelutError, "says nothing of 'wall_ns'"),
        ({"open": OPENED.replace("float32", "string9")}, EdgelutError, "describes inputs or outputs by"),
    ],
)
def test_a_runner_that_misbehaves_is_quoted(
    runtime: Any, device: Any, model: Path, answering: Any, answers: dict[str, str], error: type[Exception], match: str
) -> None:
    answering(**answers)
    with pytest.raises(error, match=match), runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare({"x": np.zeros(1, np.float32)})
        session.time(3)


def test_a_runner_that_does_not_answer_is_ended(
    runtime: Any, device: Any, model: Path, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(open="!time.sleep(60)")
    monkeypatch.setattr(sys.modules[type(runtime).__module__], "OPEN_S", 0.3)
    with (
        pytest.raises(EdgelutError, match=r"did not answer 'open 0 .*' in 0\.3 s"),
        runtime.open(model, device, "fp32", 1, "cpu"),
    ):
        pass
    assert link._runners[device].is_dead


def test_what_dies_whenever_it_is_idle_is_given_up(runtime: Any, device: Any, model: Path, answering: Any) -> None:
    answering(bind="!print('{\"ok\": true}', flush=True); os._exit(0)")
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare({"x": np.zeros(1, np.float32)})
        with pytest.raises(EdgelutError, match=r"ended|died"):
            session.time(1)


def test_a_users_own_runner_is_pushed_and_started_as_it_is(
    runtime: Any, device: Any, model: Path, answering: Any, tmp_path: Path
) -> None:
    answering(time='!print(\'{"ok": true, "wall_ns": [7], "cpu_ns": [7]}\', flush=True)')
    (tmp_path / "own" / "libc++_shared.so").touch()
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare({"x": np.zeros(1, np.float32)})
        assert session.time(1).wall_ns == (7,)
        assert session.loaded.facts["onnxruntime"] == "0.0.1"
    assert (Path(link.runner_of(device).there) / "libc++_shared.so").exists()


def test_a_machine_that_none_is_built_for_is_unsupported(runtime: Any, model: Path, tmp_path: Path) -> None:
    device = far.Far(tmp_path, machine="armv7l")
    with pytest.raises(Unsupported, match="armv7l"), runtime.open(model, device, "fp32", 1, "cpu"):
        pass


def test_time_before_prepare_and_calls_within_a_cold_sample_are_refused(
    runtime: Any, device: Any, model: Path, inputs: dict[str, Any]
) -> None:
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        with pytest.raises(RuntimeError, match="comes before"):
            session.time(1)
        session.prepare(inputs)
        with pytest.raises(Unsupported, match="one call"):
            session.begin(0, 1, 2, cold=True)


@pytest.mark.parametrize("end", ["", "os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_the_runner_ends_with_the_process_that_started_it(model: Path, end: str) -> None:
    load("runtimes", "onnxruntime-native")
    code = (
        "import os, sys\nfrom pathlib import Path\nimport numpy as np\nfrom backends import registry\n"
        "from backends.native import link\n"
        "runtime, host = registry.load_runtime('onnxruntime-native'), registry.load_device('host')\n"
        f"opened = runtime.open(Path({str(model)!r}), host, 'fp32', 1, 'cpu')\nsession = opened.__enter__()\n"
        "session.prepare({'x': np.zeros((1, 16, 8, 8), np.float32)})\n"
        "print(link.runner_of(host).hello['pid'], flush=True)\n"
    )
    code += f"session.begin(0, 100_000, 1000)\n{end}" if end else ""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    process = Path(f"/proc/{int(done.stdout)}/stat")
    for _ in range(300):
        if not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the runner goes on without anybody")


def needed(*tools: str) -> None:
    """Skip where a tool is missing, or fail where nothing may be skipped."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and "all" in os.environ.get("EDGELUT_REQUIRED_BACKENDS", ""):
        pytest.fail(f"needs {', '.join(missing)}")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install gcc-aarch64-linux-gnu qemu-user")


@pytest.fixture(scope="module")
def arm64() -> None:
    """Skip where no runner can be built for arm64 or run."""
    needed("aarch64-linux-gnu-gcc", "qemu-aarch64")
    try:
        link.build.bundle("aarch64", portable=True)
    except BackendMissing as error:
        if "all" in os.environ.get("EDGELUT_REQUIRED_BACKENDS", ""):
            raise
        pytest.skip(str(error))


@pytest.mark.usefixtures("arm64")
def test_arm64_code_gives_the_same_outputs(runtime: Any, model: Path, inputs: dict[str, Any], tmp_path: Path) -> None:
    device, found = far.Emulated(tmp_path), []
    for place in (device, load("devices", "host")):
        with runtime.open(model, place, "fp32", 1, "cpu") as session:
            found.append(session.run(inputs)[0])
    assert link.runner_of(device).hello["machine"] == "aarch64"
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)
    close(device)


@pytest.mark.usefixtures("arm64")
def test_on_an_emulated_machine_instructions_are_counted(
    runtime: Any, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    source = Path(__file__).parents[2] / "emulator" / "plugin" / "counter.c"
    plugin = tmp_path / "counter.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", str(source), "-o", str(plugin)], check=True, timeout=60)
    device = far.Emulated(tmp_path / "device", plugin)
    with runtime.open(model, device, "fp32", 1, "cpu") as session:
        session.prepare(inputs)
        assert (session.loaded.clock, session.loaded.load_ns) == ("instructions", None)
        timing = session.begin(2, 3)()
        assert timing.cpu_ns == ()
        assert max(timing.wall_ns) <= min(timing.wall_ns) * 1.0001
        assert session.time(1, inner=4).wall_ns[0] == pytest.approx(4 * timing.wall_ns[0], rel=0.01)
        time.sleep(2.1)  # since the model was opened: the next two calls take 340 and 108 instructions more
        assert abs(session.time(1).wall_ns[0] - timing.wall_ns[0]) < 100
        assert runtime.time_reference(device, 0, 3) is None
        with pytest.raises(Unsupported, match="of one thread, not of 2"), runtime.open(model, device, "fp32", 2, "cpu"):
            pass
    close(device)
