"""A format that holds the module's name and size, for tests of everything above it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.base import Exporter
from edgelut.errors import Unsupported
from edgelut.types import Scalar


class Null(Exporter):
    """Writes what `module` is called and which inputs it takes."""

    suffix = ".json"
    precisions = ("fp32",)
    checked = False
    version = "1"

    def export(
        self, module: Any, inputs: Mapping[str, Any], precision: str, path: Path, options: Mapping[str, Scalar]
    ) -> None:
        """Write a small JSON file, whole or not at all."""
        if precision not in self.precisions:
            raise Unsupported(f"null exports {', '.join(self.precisions)}, not {precision}")
        shapes = {name: [int(side) for side in value.shape] for name, value in inputs.items()}
        text = json.dumps({"module": type(module).__name__, "inputs": shapes}, sort_keys=True)
        staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            staged.write_text(text)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)

    def digest(self, path: Path) -> str:
        """Hash the file."""
        return hashlib.sha256(path.read_bytes()).hexdigest()
