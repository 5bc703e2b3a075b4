"""The format `torchscript`: a traced, frozen module that knows its inputs' names, shapes and memory layout."""

from __future__ import annotations

import copy
import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch

from backends.base import Exporter
from edgelut.errors import ArtifactCorrupted, Unsupported
from edgelut.types import Scalar, canonical

FACTS = "edgelut.json"  # the extra file: how a session must feed the module
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MANGLE = re.compile(rb"___torch_mangle_\d+\.")  # counts the classes that this process has scripted


class TorchScript(Exporter):
    """Traces and freezes. fp32 only: without AVX512-FP16 torch's half kernels are 5-20 times slower than its float ones."""

    suffix = ".pt"
    precisions = ("fp32",)
    options: ClassVar[Mapping[str, Scalar]] = {"memory_format": "channels_last"}

    @property
    def version(self) -> str:
        """Ours and torch's."""
        return f"1 torch {torch.__version__}"

    def export(
        self, module: Any, inputs: Mapping[str, Any], precision: str, path: Path, options: Mapping[str, Scalar]
    ) -> None:
        """Write `path`; the layout concerns 4-d inputs and weights, and sessions feed the module accordingly."""
        layout = str(self._check(module, precision, options)["memory_format"])
        # Saved to memory first: torch reports a full disk as a RuntimeError, Python as the OSError that it is.
        content = _frozen(copy.deepcopy(module), inputs, layout)
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            ready = Path(folder, path.name)
            ready.write_bytes(content)
            ready.replace(path)

    def digest(self, path: Path) -> str:
        """Hash the constants, the code without the mangle counter, and what sessions must know."""
        whole = hashlib.sha256()
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in sorted(archive.namelist()):
                    name = MANGLE.sub(b"", entry.partition("/")[2].encode())
                    if name.startswith((b"constants/", b"extra/")) or name.endswith(b".py"):
                        content = MANGLE.sub(b"", archive.read(entry))
                        whole.update(b"%s %d\n%s" % (name, len(content), content))
        except zipfile.BadZipFile as error:
            raise ArtifactCorrupted(f"{path.name} is no TorchScript archive: {error}") from error
        return whole.hexdigest()

    def _check(self, module: Any, precision: str, options: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return all options; raise Unsupported for what cannot be exported."""
        if precision not in self.precisions:
            raise Unsupported(
                f"torchscript is written in fp32, not {precision}: torch's CPU kernels gain nothing from it"
            )
        chosen = {**self.options, **options}
        if unknown := sorted(set(chosen) - set(self.options)):
            raise Unsupported(f"torchscript has no option {', '.join(unknown)}; its options: {', '.join(self.options)}")
        if chosen["memory_format"] not in LAYOUTS:
            raise Unsupported(
                f"torchscript: memory_format must be {' or '.join(LAYOUTS)}, not {chosen['memory_format']!r}"
            )
        if module.training:
            raise Unsupported(f"{type(module).__name__} is in training mode; call its eval() first")
        return chosen


def _frozen(module: Any, inputs: Mapping[str, Any], layout: str) -> bytes:
    """Return the archive of a module that may be changed."""
    memory_format = LAYOUTS[layout]
    module = module.to(memory_format=memory_format)
    example = tuple(
        value.contiguous(memory_format=memory_format) if value.dim() == 4 else value.contiguous()
        for value in inputs.values()
    )
    facts = {
        "memory_format": layout,
        "inputs": [[name, list(value.shape)] for name, value in inputs.items()],
        "precision": "fp32",
    }
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        frozen = torch.jit.freeze(torch.jit.trace(module, example, check_trace=False))  # type: ignore[no-untyped-call]
        torch.jit.save(frozen, buffer, _extra_files={FACTS: canonical(facts)})
    return buffer.getvalue()
