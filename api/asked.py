"""What batches ask, read once: a search asks for the same specs again and again, and to check and hash one takes 25 µs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from edgelut import wire
from edgelut.errors import InvalidSpec

from .bodies import LIMIT, SpecIn, TargetIn

MOST_BYTES = 32 * 2**20
OVERHEAD = 200  # bytes that a spec costs beside its text


class Asked(NamedTuple):
    """A batch's specs and target as keys."""

    keys: list[str]
    target_key: str
    require_unit: str | None


class _Batch(Struct, frozen=True, forbid_unknown_fields=True):
    specs: Annotated[list[msgspec.Raw], Meta(max_length=LIMIT)]
    target: msgspec.Raw
    at: msgspec.Raw | None = None
    mark: msgspec.Raw | None = None
    require_unit: str | None = None


class AskedBefore:
    """Keys by the very bytes of a spec's JSON, each read, checked and hashed when they came first. Safe for threads.

    A key that the bytes state was compared with the spec's own then, and the same bytes are always the same spec.
    """

    def __init__(self) -> None:
        self._keys: dict[bytes, str] = {}
        self._bytes = 0

    def read(self, body: bytes, stored: Mapping[bytes, str]) -> Asked | None:
        """Return what a batch of the table as it is asks for; None for any other, and for one that is malformed: what reads
        it whole says why. `stored` are the keys of the table's own specs by their JSON, in the form that has the key."""
        try:
            batch = msgspec.json.decode(body, type=_Batch)
            if batch.at is not None or batch.mark is not None:
                return None
            target_key = wire.decode(TargetIn, bytes(batch.target)).value().key
            known = self._keys
            keys = [stored.get(text) or known.get(text) or self._read(text) for text in map(bytes, batch.specs)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidSpec):
            return None
        return Asked(keys, target_key, batch.require_unit)

    def _read(self, text: bytes) -> str:
        key = wire.decode(SpecIn, text).value().key
        if self._bytes > MOST_BYTES:
            self._keys, self._bytes = {}, 0
        self._keys[text] = key
        self._bytes += len(text) + OVERHEAD
        return key
