from __future__ import annotations

from backends.devices.null import Null


class Pad(Null):
    """A pad."""
