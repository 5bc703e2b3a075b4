"""What an export format, a runtime and a device must each provide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgelut.errors import Unsupported
from edgelut.types import Clock, Params, Scalar

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Timing:
    """What `Session.time` measured: one value a sample, each the total of `inner` calls, in ns on the device's own clock.

    `cpu_ns` is the calling thread's CPU time; a device that has no such clock gives an empty tuple. Where `Loaded.clock` is
    `instructions`, `wall_ns` holds instructions executed, `cpu_ns` is empty, and neither is a time.
    """

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What opening a session cost and what it really got.

    `unit` is the compute unit that was asked for and obtained; `ran_on` the one that calls really ran on, where the runtime can
    tell the two apart: `cpu`, `gpu`, `ne`, or several in the order of their shares, joined by `+`.
    """

    unit: str
    providers: tuple[str, ...] = ()
    load_ns: int | None = None  # reading and preparing the artifact, optimisation included
    compile_ns: int | None = None  # the part of it that a device could do ahead of time, where it can be told apart
    facts: Params = field(default_factory=Params)  # options that a row must remember
    ran_on: str = ""
    clock: Clock | None = None  # of the samples, where it is not what `Timing` says: `instructions`
    peak_memory_bytes: int | None = None  # of opening and preparing, where calls run in no process of ours


@dataclass(frozen=True, slots=True)
class DeviceState:
    """How a device is just now. `throttled` says why what was just timed cannot be kept; empty where it can."""

    observed: Mapping[str, Scalar] = field(default_factory=dict)  # names start with `observed_`
    throttled: str = ""


@dataclass(frozen=True, slots=True)
class Attached:
    """A device that a host sees. `name` is what `--device` takes; `why` says why it cannot be used, and the remedy."""

    name: str
    facts: Params = field(
        default_factory=Params
    )  # device_model, soc, os, serial, battery, thermal state: what is known
    why: str = ""

    @property
    def usable(self) -> bool:
        """True where nothing speaks against it."""
        return not self.why


class Exporter(ABC):
    """Turns a module into a file. `backends/exporters/onnx.py` holds the one for the format `onnx`.

    Obligations: the file is the same (by `digest`) for the same module in another process and on another day; nothing is left
    behind when it fails; what it cannot do raises Unsupported; it reads neither network nor environment.
    """

    suffix: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]  # the first is what is exported where nothing is said
    checked: ClassVar[bool] = True  # False: the files hold no numbers, so there are no outputs to compare
    options: ClassVar[Mapping[str, Scalar]] = {}  # with their defaults; part of the artifact's key

    @property
    @abstractmethod
    def version(self) -> str:
        """The exporter's own version and those of the libraries that write the file."""

    @abstractmethod
    def export(
        self, module: Any, inputs: Mapping[str, Any], precision: str, path: Path, options: Mapping[str, Scalar]
    ) -> None:
        """Write an evaluation-mode torch module, called with `inputs` (name -> tensor) in order, to `path`."""

    @abstractmethod
    def digest(self, path: Path) -> str:
        """Return the SHA-256 (64 hex digits) of what the file means, without dates and random names."""


class Session(ABC):
    """A loaded artifact, ready to run."""

    loaded: Loaded
    first_call_ns: int | None = None  # about what a call took in `prepare`, of a session that counts instructions

    @abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs for named float32 inputs, as float32, to be compared with the module's own."""

    @abstractmethod
    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Bind the inputs that `time` uses, so that no call pays for it."""

    @abstractmethod
    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Take that many samples of `inner` calls each; no warm-up of its own. `prepare` was called before."""

    def begin(self, warmups: int, iterations: int, inner: int = 1, *, cold: bool = False) -> Callable[[], Timing]:
        """Ask for a burst, after `warmups` calls that are thrown away, and return what waits for its `Timing`.

        Where calls run on another device, several bursts are begun before the first one is waited for, in the order in which
        they were begun, so that the device goes from one to the next without waiting for the host. `cold` fills the caches
        with something else before each sample; a session that cannot raises Unsupported.
        """
        if cold:
            raise Unsupported(f"{type(self).__name__} cannot empty the caches of where it runs: no cold row")

        def wait() -> Timing:
            if warmups:
                self.time(1, warmups)
            return self.time(iterations, inner)

        return wait


class Runtime(ABC):
    """Runs files of the given formats on devices that it can reach.

    Obligations: a provider, precision or unit that was asked for and not really obtained raises Unsupported; it never falls
    back. The provider is part of the runtime's name.
    """

    formats: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[str, ...]]
    units: ClassVar[tuple[str, ...]] = ("cpu",)
    timed: ClassVar[bool] = True  # False: numerics only; its `time` raises Unsupported
    hosted: ClassVar[bool] = (
        True  # its calls run on this machine's processor: the reference kernel beside them speaks for it
    )
    emulated: ClassVar[bool] = False  # True: its rows are of the kind `emulated`, as are all that count instructions
    devices: ClassVar[tuple[str, ...]] = (
        "local",
    )  # that it reaches: `local`, names of device backends, or `*` for all
    env: ClassVar[Mapping[str, str]] = {}  # set in the worker before the interpreter starts, and recorded

    @property
    @abstractmethod
    def version(self) -> str:
        """The version of the library that runs the file."""

    @abstractmethod
    def open(
        self, artifact: Path, device: Device, precision: str, threads: int, unit: str
    ) -> AbstractContextManager[Session]:
        """Load the artifact; raise Unsupported, ArtifactCorrupted, or DeviceUnusable where the device went away."""

    def time_reference(self, device: Device, warmups: int, samples: int) -> Timing | None:
        """Time fixed kernels on a device that is not this machine, one value a kernel: its p10; None where it has none.

        Called between bursts; by it a device's drift is divided out.
        """
        return None

    def begin_reference(self, device: Device, warmups: int, samples: int) -> Callable[[], Timing | None]:
        """Ask for what `time_reference` gives and return what waits for it, as `Session.begin` does.

        A runtime that leaves this out is never asked for both at once.
        """
        return lambda: self.time_reference(device, warmups, samples)


class Process(ABC):
    """A program that runs on a device and speaks in lines."""

    @abstractmethod
    def send(self, line: str) -> None:
        """Write a line to its standard input; raise DeviceUnusable, or OSError with its last error output where it has ended."""

    @abstractmethod
    def read(self, timeout_s: float) -> str:
        """Return the next line of its standard output; raise TimeoutError, or as `send`."""

    @abstractmethod
    def close(self) -> None:
        """End it. Idempotent."""


class Device(ABC):
    """Where commands run and files go.

    Obligations: `facts` names whose value varies by itself start with `observed_`; every call ends within its timeout; a device
    that is not there, or goes away, raises DeviceUnusable with the remedy. Making one reaches for nothing: the first call does.

    A backend for many devices of one kind takes which one after a colon: `android:SERIAL` is `Android("SERIAL")`.
    """

    local: ClassVar[bool] = False  # True: the device is this machine, and sessions may live in this process
    instanced: ClassVar[bool] = False  # True: which one must be said, after a colon
    runtime: ClassVar[str] = "onnxruntime-cpu"  # what is measured with where none is named

    @classmethod
    def attached(cls) -> list[Attached]:
        """List those that this host sees just now, usable or not; never raises."""
        return []

    @abstractmethod
    def facts(self) -> dict[str, Scalar]:
        """Return what a row must remember of the machine: model, OS build, governor, load, temperature."""

    def settle(self, timeout_s: float = 60.0) -> None:  # noqa: B027 - most devices are always ready
        """Wait until it is cool and idle enough to time on; raise DeviceBusy after `timeout_s`."""

    @abstractmethod
    def push(self, path: Path) -> str:
        """Bring a file or folder to the device, once for the same content; return its path there."""

    @abstractmethod
    def run(self, argv: Sequence[str], timeout_s: float) -> bytes:
        """Run a command there; return its standard output; raise TimeoutError, or OSError with its error output."""

    def state(self) -> DeviceState:
        """Return how it is just now: asked before and after each round."""
        return DeviceState()

    def pull(self, path: str, to: Path) -> None:
        """Bring a file from the device; raise FileNotFoundError."""
        raise Unsupported(f"no files come from {type(self).__name__.lower()}")

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program there that speaks in lines."""
        raise Unsupported(f"no programs run on {type(self).__name__.lower()}")

    def clean(self) -> int:
        """Remove everything that `push` brought; return how many bytes it held."""
        raise Unsupported(f"nothing of ours is kept on {type(self).__name__.lower()}")


def as_float32(arrays: Sequence[Any]) -> list[Array]:
    """Return arrays as contiguous float32."""
    return [np.ascontiguousarray(array, dtype=np.float32) for array in arrays]
