"""The one JSON form of the values: on the wire, in a snapshot, in `--json` output."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from .errors import InvalidSpec
from .types import Artifact, BlockSpec, Entry, Latency, NetworkSpec, Params, Run, Target

T = TypeVar("T")


def dump(value: Any) -> Any:
    """Return a value (or a list, tuple or mapping of values) as plain JSON data."""
    return msgspec.to_builtins(value, enc_hook=_encode)


def encode(value: Any) -> bytes:
    """Return a value as JSON bytes."""
    return msgspec.json.encode(value, enc_hook=_encode)


def load(type_: type[T], data: Any) -> T:
    """Return JSON data as a value of that type; raise InvalidSpec, which says where it is wrong."""
    try:
        return msgspec.convert(data, type_, dec_hook=_decode)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidSpec(f"not a {type_.__name__}: {error}") from error


def decode(type_: type[T], data: bytes | str) -> T:
    """Return JSON bytes as a value of that type; raise InvalidSpec, which says where they are wrong."""
    try:
        return msgspec.json.decode(data, type=type_, dec_hook=_decode)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise InvalidSpec(f"not a {type_.__name__}: {error}") from error


def _encode(value: Any) -> Any:
    if isinstance(value, Params):
        return value.as_dict()
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def _decode(type_: type[Any], data: Any) -> Any:
    if type_ is Params:
        if not isinstance(data, dict):
            raise InvalidSpec(f"expected an object of parameters, not {data!r}")
        return Params(data)
    raise NotImplementedError(f"{type_.__name__} has no JSON form")


__all__ = [
    "Artifact",
    "BlockSpec",
    "Entry",
    "Latency",
    "NetworkSpec",
    "Run",
    "Target",
    "decode",
    "dump",
    "encode",
    "load",
]
