"""Rows of a table as a file of another format, in place whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgelut.errors import StorageError
from edgelut.types import Entry

from .base import Format


def write_file(path: Path, format_: Format, entries: Sequence[Entry]) -> int:
    """Write rows to a file in the order of tables and return its size in bytes; raise Unsupported, StorageError."""
    content = format_.write(sorted(entries, key=_order))
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return len(content)


def _order(entry: Entry) -> tuple[object, ...]:
    spec = entry.spec
    widths = (spec.width_in, spec.width_out, -spec.resolution, spec.batch)
    return str(entry.target), spec.kind, *widths, spec.key


__all__ = ["write_file"]
