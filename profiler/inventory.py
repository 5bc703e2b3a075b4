"""What backends there are, which of them work here, and tables of them for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from backends import registry
from edgelut.errors import BackendMissing
from edgelut.types import Artifact


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend: what it is, whether it can be used here, and if not, what to type."""

    axis: str
    name: str
    usable: bool
    version: str
    about: str


def inventory() -> list[BackendRow]:
    """Return every backend by loading it; one whose toolchain is missing carries the install line."""
    rows = []
    for axis in registry.AXES:
        for name in registry.names(axis):
            try:
                rows.append(_row(axis, name))
            except BackendMissing as error:
                rows.append(BackendRow(axis[:-1], name, False, "", str(error)))
    return rows


def _row(axis: registry.Axis, name: str) -> BackendRow:
    if axis == "exporters":
        exporter = registry.load_exporter(name)
        return BackendRow("exporter", name, True, exporter.version, ", ".join(exporter.precisions))
    if axis == "runtimes":
        runtime = registry.load_runtime(name)
        about = f"{', '.join(runtime.formats)}: {', '.join(runtime.precisions)}"
        return BackendRow("runtime", name, True, runtime.version, about + ("" if runtime.timed else "; numerics only"))
    kind = registry.device_class(name)
    if kind.instanced:
        found = kind.attached()
        why = next((one.why for one in found if one.name == name), "")  # the backend itself is missing something
        return BackendRow("device", name, not why, "", why or f"{len(found)} attached: 'edgelut devices'")
    facts = registry.load_device(name).facts()
    return BackendRow("device", name, True, str(facts.get("os", "")), str(facts.get("device_model", "")))


def inventory_table(rows: Sequence[BackendRow]) -> Table:
    """Return one line a backend."""
    table = Table("axis", "name", "usable", "what", "version", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(row.axis, row.name, "yes" if row.usable else "no", row.about, row.version)
    return table


def artifacts_table(artifacts: Sequence[Artifact]) -> Table:
    """Return one line an artifact."""
    table = Table("block", "format", "precision", "sha256", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("KiB", justify="right")
    table.add_column("error", justify="right")
    for artifact in artifacts:
        table.add_row(
            str(artifact.spec),
            artifact.format,
            artifact.precision,
            artifact.sha256[:12],
            f"{artifact.size_bytes / 1024:,.0f}",
            f"{artifact.parity_error:.1e}",
        )
    return table
