"""The one place that imports coremltools: without its warnings about Apple's missing frameworks, and without progress bars."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what coremltools logs below CRITICAL, and restore the logger's level afterwards."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


with quiet(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import coremltools
    from coremltools.converters.mil.frontend.torch import ops as torch_ops
    from coremltools.converters.mil.mil import Builder
    from coremltools.converters.mil.mil.passes import pass_pipeline
    from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

__all__ = ["Builder", "FeatureTypes_pb2", "MIL_pb2", "Model_pb2", "coremltools", "no_progress", "quiet"]


def _as_is(items: object, **_: object) -> object:
    """Stand in for tqdm, which draws on stderr and starts a thread; torch imported it, so TQDM_DISABLE comes too late."""
    return items


@contextmanager
def no_progress() -> Iterator[None]:
    """Convert without progress bars."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(pass_pipeline, "tqdm", _as_is))
        stack.enter_context(patch.object(torch_ops, "_tqdm", _as_is))
        yield
