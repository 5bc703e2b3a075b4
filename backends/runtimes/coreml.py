"""The runtime `coreml`: Core ML itself, on this Mac or on a phone that is attached to it.

`hosted`: on the Mac its calls do run on this machine's processor, wholly (`cpu_only`) or in part: so no export and no other
measurement may go on beside them. On a phone nothing runs here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from backends.apple import mac
from backends.base import Device, Runtime, Session
from edgelut.errors import BackendMissing, Unsupported

if TYPE_CHECKING:
    from backends.apple.app import App

UNITS = (
    "cpu_only",
    "cpu_and_ne",
    "cpu_and_gpu",
    "all",
)  # the first is what outputs are checked on: no unit rounds less


@runtime_checkable
class HasApp(Protocol):
    """A device that runs the ModelRunner app."""

    def app(self) -> App:
        """Return it; raise DeviceUnusable."""


class CoreML(Runtime):
    """Runs packages by coremltools. Its units say where operations may run, `Loaded.ran_on` where Core ML puts them.

    Making one raises BackendMissing where there is no Core ML; coremltools is imported by the first `open`.
    """

    formats = ("coreml",)
    precisions = ("fp16", "fp32")
    units = UNITS
    devices = ("local", "iphone")

    def __init__(self) -> None:
        if not mac.version():
            raise BackendMissing(
                "runtime 'coreml' needs macOS, where Core ML is; run 'edgelut agent --apple' on a Mac, see docs/apple.md"
            )

    @property
    def version(self) -> str:
        """The versions of macOS, whose Core ML it is, and of coremltools."""
        try:
            return f"Core ML of macOS {mac.version()}; coremltools {version('coremltools')}"
        except PackageNotFoundError as error:
            raise BackendMissing("runtime 'coreml' needs coremltools: pip install 'edgelut-service[coreml]'") from error

    def open(
        self, artifact: Path, device: Device, precision: str, threads: int, unit: str
    ) -> AbstractContextManager[Session]:
        """Load a package; `threads` must be 1, for Core ML chooses its own."""
        if precision not in self.precisions or unit not in self.units:
            has = f"{' and '.join(self.precisions)} on {', '.join(self.units)}"
            raise Unsupported(f"coreml runs {has}, not {precision} on {unit}")
        if threads != 1:
            raise Unsupported(f"coreml has no number of threads, Core ML chooses it: ask for 1, not {threads}")
        from backends.apple import coreml

        if device.local:
            return coreml.open_on_mac(artifact, precision, unit)
        if isinstance(device, HasApp):
            return coreml.open_on_phone(device.app(), artifact, precision, unit)
        raise Unsupported(f"coreml runs on this Mac and on iPhones, not on {type(device).__name__.lower()}")
