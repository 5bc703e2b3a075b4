"""The tasks of an export worker without torch: the format `null` of a block, with the pace that the options say.

Options: `all` is the pace of every block, `slow` the width of one whose pace is `by`, `broken` the width of one that fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from backends import registry
from edgelut.blocks import get_kind
from edgelut.types import Artifact, BlockSpec, Scalar
from profiler.artifacts import ArtifactStore, Stored, artifact_key, size_bytes


def export(
    spec: BlockSpec, format: str, precision: str, options: Mapping[str, Scalar], root: Path
) -> tuple[Stored, bool]:
    """Return the stored artifact and whether it had to be made."""
    exporter, store = registry.load_exporter(format), ArtifactStore(root)
    key = artifact_key(spec, format, precision, options, exporter.version, "1")
    found = store.find(key)
    if found is not None:
        return found, False
    pace: Scalar = options.get("all", 1.0)
    if options.get("slow") == spec.width_in:
        pace = options["by"]
    if options.get("broken") == spec.width_in:
        pace = "broken"
    shape = get_kind(spec.kind).input_shape(spec)
    with store.workplace() as folder:
        path = folder / f"artifact{exporter.suffix}"
        path.write_text(json.dumps({"module": spec.kind, "inputs": {"x": shape}, "pace": pace}))
        artifact = Artifact(spec, format, precision, exporter.digest(path), exporter.version, 0.0, size_bytes(path))
        return store.add(key, artifact, path, {"x": shape}), True
