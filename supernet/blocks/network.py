"""network: a whole network as one block, so that it is exported, measured and kept as blocks are."""

from __future__ import annotations

from edgelut.sequences import NETWORK

from .chain import Chain

KIND = NETWORK


class Network(Chain):
    """A chain that starts with images and ends with logits."""
