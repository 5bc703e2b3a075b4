"""The tasks of a timing worker, called in this process with the runtime whose times are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from backends.base import Array, Loaded, Session, Timing
from edgelut.errors import ArtifactCorrupted, BackendMissing, Unsupported
from edgelut.types import Target
from profiler import timing
from profiler.checking import standard_inputs
from profiler.errors import TaskFailed

NULL = Target("null", "null")
SHAPES = {"x": (1, 4, 5, 5)}


@pytest.fixture(autouse=True)
def no_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is open: tests that time in this process may have left theirs, as a worker does that is ended."""
    monkeypatch.setattr(timing, "_sessions", {})


@pytest.fixture
def artifact(tmp_path: Path) -> str:
    file = tmp_path / "artifact.json"
    file.write_text(json.dumps({"module": "x", "inputs": {"x": [1, 4, 5, 5]}}))
    return str(file)


def test_opening_says_what_was_loaded_and_how_long_a_call_takes(artifact: str) -> None:
    opened = timing.open_session(1, artifact, NULL, SHAPES)
    assert (opened.call_ns, opened.loaded.unit, opened.loaded.load_ns) == (1100, "cpu", 1000)
    assert opened.peak_memory_bytes is None or opened.peak_memory_bytes >= 0
    timing.close_session(1)


def test_a_burst_has_the_samples_asked_for_each_of_inner_calls(artifact: str) -> None:
    timing.open_session(2, artifact, NULL, SHAPES)
    for warmups in (0, 2):
        burst = timing.time_session(2, warmups, samples=5, inner=3)
        assert burst.wall_ns == burst.cpu_ns == (3300,) * 5
    timing.close_session(2)


def test_a_closed_session_is_gone_and_closing_it_again_is_harmless(artifact: str) -> None:
    timing.open_session(3, artifact, NULL, SHAPES)
    timing.close_session(3)
    timing.close_session(3)
    with pytest.raises(KeyError):
        timing.time_session(3, 0, 1, 1)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target("null", "null", "fp16"), "fp32 on cpu"),
        (Target("null", "null", "fp32", 1, "gpu"), "not fp32 on gpu"),
        (Target("null", "coreml-mil"), "never gives a latency"),
    ],
)
def test_what_a_runtime_cannot_do_is_refused(artifact: str, target: Target, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        timing.open_session(4, artifact, target, SHAPES)
    assert 4 not in timing._sessions


def test_an_artifact_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artifact.json").write_text("{")
    with pytest.raises(ArtifactCorrupted):
        timing.open_session(5, str(tmp_path / "artifact.json"), NULL, SHAPES)


def test_facts_hold_machine_versions_and_the_environment_that_the_runtime_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = timing.facts("null", "null")
    assert facts["device_model"] == "null" and facts["runtime_version"] == "1" and facts["reference"] >= 1  # type: ignore[operator]
    assert not [name for name in facts if name.startswith("env_")]
    timing.facts("host", "onnxruntime-cpu")  # its import sets the variable too
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "seen")
    assert timing.facts("host", "onnxruntime-cpu")["env_ORT_DISABLE_TELEMETRY"] == "seen"


def test_unknown_backends_list_those_there_are() -> None:
    with pytest.raises(BackendMissing, match=r"no runtime 'nought'; there are .*null"):
        timing.facts("null", "nought")
    with pytest.raises(BackendMissing, match=r"no device 'nought'; there are .*host.*, null"):
        timing.settle("nought", 1.0)


def test_the_reference_kernel_is_timed_on_both_clocks() -> None:
    found = timing.time_reference(1, 4)
    assert found.wall_ns > 0 and found.cpu_ns > 0


def test_the_reference_is_the_geometric_mean_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"quick": 1e4, "slow": 1e6}
    monkeypatch.setattr(timing, "_kernels", lambda: times)
    monkeypatch.setattr(timing, "_warm", lambda kernel, calls: None)
    monkeypatch.setattr(
        timing, "time_calls", lambda kernel, samples: Timing((int(kernel),) * samples, (int(kernel),) * samples)
    )
    assert timing.time_reference(1, 4).cpu_ns == pytest.approx(1e5)


def test_inputs_are_the_same_in_every_process() -> None:
    first, second = standard_inputs({"x": (2, 3), "y": (1,)}), standard_inputs({"y": (1,), "x": (2, 3)})
    assert first["x"].tobytes() == second["x"].tobytes() and first["x"].dtype == "float32"
    assert abs(float(first["x"][0, 0]) - 1.117622) < 1e-6


class Recorder(Session):
    """Writes down what is begun and waited for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.loaded = Loaded("cpu")
        self._name, self._log = name, log

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        return []

    def prepare(self, inputs: Mapping[str, Array]) -> None: ...

    def time(self, iterations: int, inner: int = 1) -> Timing:
        self._log.append(f"wait {self._name}")
        return Timing((5,) * iterations, ())

    def begin(self, warmups: int, iterations: int, inner: int = 1, *, cold: bool = False) -> Callable[[], Timing]:
        self._log.append(f"begin {self._name}")
        if cold:
            raise Unsupported("no cold rows")
        return lambda: self.time(iterations, inner)


@pytest.fixture
def flown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sessions 1 and 2 are open; returns what is done to them."""
    log: list[str] = []
    for number in (1, 2):
        timing._sessions[number] = timing._Open(Recorder(str(number), log), ExitStack())
    return log


BURSTS = [timing.Burst(1, 0, 3), timing.Burst(None, 1, 2), timing.Burst(2, 0, 3)]


def test_a_flight_is_begun_before_it_is_waited_for_but_for_a_reference_that_cannot_be(flown: list[str]) -> None:
    found = timing.fly("null", "null", BURSTS)
    assert flown == ["begin 1", "wait 1", "begin 2", "wait 2"]
    assert [one.timing is not None for one in found] == [True, False, True]
    assert all(one.reference is None and one.error is None for one in found)
    flown.clear()
    timing.fly("null", "null", [BURSTS[0], BURSTS[2]])
    assert flown == ["begin 1", "begin 2", "wait 1", "wait 2"]


def test_a_burst_that_is_refused_is_told_in_its_place_and_the_others_fly(flown: list[str]) -> None:
    found = timing.fly("null", "null", [timing.Burst(1, 0, 3, cold=True), BURSTS[2]])
    assert isinstance(found[0].error, Unsupported) and found[1].timing == Timing((5,) * 3, ())


def test_what_a_library_raises_ends_the_flight(flown: list[str]) -> None:
    found = timing.fly("null", "null", [timing.Burst(9, 0, 3), BURSTS[2]])
    (only,) = found
    assert isinstance(only.error, TaskFailed) and "KeyError" in str(only.error)


def test_never_more_bursts_are_in_the_air_than_a_device_can_hold(
    flown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "AHEAD", 2)
    timing.fly("null", "null", [timing.Burst(1, 0, 1)] * 4)
    high = now = 0
    for line in flown:
        now += 1 if line.startswith("begin") else -1
        high = max(high, now)
    assert high == 2 and now == 0
