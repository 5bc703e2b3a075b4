"""cold: a block that is measured with flushed caches; as a module it is that block."""

from __future__ import annotations

from edgelut.sequences import COLD

from .chain import Chain

KIND = COLD


class Cold(Chain):
    """A chain of one block."""
