"""Block latencies of mobile networks, by device: what a search job installs."""

from . import efficientformer, errors, wire
from .blocks import EMBEDDING, FLAT, HEAD, IDENTITY, KINDS, MB3D, MB4D, STEM, BlockKind
from .errors import EdgelutError, InvalidSpec, LatencyNotFound
from .query import Page, Query, Row
from .table import LatencySource, LatencyTable, MemoryTable
from .types import Artifact, BlockSpec, Entry, Latency, NetworkSpec, Params, Run, Target

__version__ = "0.1.0"

__all__ = [
    "EMBEDDING",
    "FLAT",
    "HEAD",
    "IDENTITY",
    "KINDS",
    "MB3D",
    "MB4D",
    "STEM",
    "Artifact",
    "BlockKind",
    "BlockSpec",
    "EdgelutError",
    "Entry",
    "InvalidSpec",
    "Latency",
    "LatencyNotFound",
    "LatencySource",
    "LatencyTable",
    "MemoryTable",
    "NetworkSpec",
    "Page",
    "Params",
    "Query",
    "Row",
    "Run",
    "Target",
    "efficientformer",
    "errors",
    "wire",
]
