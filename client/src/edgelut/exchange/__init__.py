"""Other people's latency tables in and out: formats (one file each), their checks, and what a row of somebody else says of itself.

A row that somebody else measured is never mistaken for one of ours: its block has a kind of its own (`nn-meter.conv`), its
provenance names who published it, in which file and when it was read, and it carries that doubt in words.
"""

from __future__ import annotations

from .base import Asked, Figure, Format, KeyedFormat
from .exporting import write_file
from .importing import Import, open_table, plan, store
from .registry import load, names

__all__ = [
    "Asked",
    "Figure",
    "Format",
    "Import",
    "KeyedFormat",
    "load",
    "names",
    "open_table",
    "plan",
    "store",
    "write_file",
]
