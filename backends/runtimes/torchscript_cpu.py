"""The runtime `torchscript-cpu`: libtorch's TorchScript interpreter on the CPU, in fp32."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, ClassVar

import torch

from backends.base import Array, Device, Loaded, Runtime, Session, Timing, as_float32
from backends.clock import time_calls
from edgelut.errors import ArtifactCorrupted, Unsupported
from edgelut.types import Params

FACTS = "edgelut.json"  # written by the exporter
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
WARM_CALLS = 3  # the first call profiles, the second compiles for what it saw, the third is as fast as all later ones


@dataclass(frozen=True, slots=True)
class _Feed:
    """How the module wants its inputs."""

    layout: str
    shapes: dict[str, tuple[int, ...]]

    def tensors(self, inputs: Mapping[str, Array]) -> list[torch.Tensor]:
        """Return the inputs in order and layout; raise ValueError for other names."""
        if set(self.shapes) != set(inputs):
            raise ValueError(f"the artifact takes {', '.join(self.shapes)}, not {', '.join(inputs)}")
        return [self.lay(torch.tensor(inputs[name], dtype=torch.float32)) for name in self.shapes]

    def lay(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor in the layout, which concerns maps (B, C, H, W) only."""
        return tensor.contiguous(memory_format=LAYOUTS[self.layout]) if tensor.dim() == 4 else tensor.contiguous()


class TorchscriptSession(Session):
    """A loaded module. The number of threads is the whole process's: it is set again before each burst."""

    def __init__(self, module: Any, feed: _Feed, threads: int, loaded: Loaded) -> None:
        self.loaded = loaded
        self._module, self._feed, self._threads = module, feed, threads
        self._call: Callable[[], object] | None = None

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs."""
        _set_threads(self._threads)
        with torch.inference_mode():
            outputs = self._module(*self._feed.tensors(inputs))
        return as_float32([outputs] if isinstance(outputs, torch.Tensor) else outputs)

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Keep the inputs as tensors in the module's layout."""
        with torch.inference_mode():
            self._call = partial(self._module, *self._feed.tensors(inputs))

    def time(self, iterations: int, inner: int = 1) -> Timing:
        """Time calls on the kept tensors."""
        if self._call is None:
            raise RuntimeError("prepare(inputs) comes before time()")
        _set_threads(self._threads)
        with torch.inference_mode():
            return time_calls(self._call, iterations, inner)


class TorchscriptCpu(Runtime):
    """Runs frozen modules. `compile_ns` is its warm-up, which opening does: the executor specialises in its first calls.

    Without `env`, glibc returns each large tensor to the kernel and a call pays over 1,000 page faults; facts say what was set.
    """

    formats = ("torchscript",)
    precisions = ("fp32",)
    env: ClassVar[Mapping[str, str]] = {
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # glibc ignores more than 32 MB
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_TOP_PAD_": str(64 << 20),
    }

    @property
    def version(self) -> str:
        """The version of torch."""
        return f"torch {torch.__version__}"

    @contextmanager
    def open(self, artifact: Path, device: Device, precision: str, threads: int, unit: str) -> Iterator[Session]:
        """Load the file and warm it up; raise Unsupported where float32 would be computed in less."""
        if precision not in self.precisions or unit not in self.units or not device.local:
            raise Unsupported(f"torchscript-cpu runs fp32 on cpu of this machine, not {precision} on {unit}")
        if torch.get_float32_matmul_precision() != "highest":
            raise Unsupported(
                "torch may compute float32 in bfloat16: torch.set_float32_matmul_precision('highest') first"
            )
        before = torch.get_num_threads()
        _set_threads(threads)
        started = perf_counter_ns()
        module, feed = _load(artifact)
        loaded = perf_counter_ns()
        _warm(module, feed)
        ended = perf_counter_ns()
        facts = Params({**{name: os.environ.get(name, "unset") for name in self.env}, "memory_format": feed.layout})
        try:
            yield TorchscriptSession(
                module, feed, threads, Loaded("cpu", ("cpu",), ended - started, ended - loaded, facts)
            )
        finally:
            torch.set_num_threads(before)


def _set_threads(threads: int) -> None:
    """Give operators that many threads and the interpreter one; raise Unsupported if torch does not."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        with suppress(RuntimeError):  # too late in this process; only forking modules would use them
            torch.set_num_interop_threads(1)
    if torch.get_num_threads() != threads:
        raise Unsupported(f"torch gave {torch.get_num_threads()} threads, not {threads}")


def _load(artifact: Path) -> tuple[Any, _Feed]:
    """Return the module and how to feed it; raise ArtifactCorrupted, or OSError where there is no file."""
    artifact.stat()
    extra = {FACTS: ""}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
            module = torch.jit.load(str(artifact), _extra_files=extra)  # type: ignore[no-untyped-call]
        facts = json.loads(extra[FACTS])
        feed = _Feed(facts["memory_format"], {name: tuple(shape) for name, shape in facts["inputs"]})
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactCorrupted(f"{artifact.name} is no TorchScript file of ours: {reason}") from error
    return module, feed


def _warm(module: Any, feed: _Feed) -> None:
    """Call the module until it is specialised to its shapes."""
    zeros = [feed.lay(torch.zeros(shape)) for shape in feed.shapes.values()]
    with torch.inference_mode():
        for _ in range(WARM_CALLS):
            module(*zeros)
