"""The tasks of an export worker without torch: the format `null` of any block, as `profiler.exporting` stores it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from backends import registry
from edgelut.blocks import get_kind
from edgelut.errors import ArtifactCorrupted, Unsupported
from edgelut.types import Artifact, BlockSpec, Scalar
from profiler.artifacts import ArtifactStore, Stored, artifact_key, size_bytes


def export(
    spec: BlockSpec, format: str, precision: str, options: Mapping[str, Scalar], root: Path
) -> tuple[Stored, bool]:
    """Return the stored artifact and whether it had to be made."""
    if spec.width_in == 13:
        raise Unsupported("13 is not exported")
    exporter, store = registry.load_exporter(format), ArtifactStore(root)
    key = artifact_key(spec, format, precision, options, exporter.version, "1")
    try:
        found = store.find(key)
    except ArtifactCorrupted:
        store.discard(key)
        found = None
    if found is not None:
        return found, False
    shape = get_kind(spec.kind).input_shape(spec)
    with store.workplace() as folder:
        path = folder / f"artifact{exporter.suffix}"
        path.write_text(json.dumps({"module": spec.kind, "inputs": {"x": shape}}))
        artifact = Artifact(spec, format, precision, exporter.digest(path), exporter.version, 0.0, size_bytes(path))
        return store.add(key, artifact, path, {"x": shape}), True
