"""How a run's samples are kept: a version byte, then varints of the smallest sample and of each one's distance from it.

Timings of one run lie near each other, so a sample of milliseconds takes 2 to 3 bytes instead of 8 (JSON: 8 to 11).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgelut.errors import StorageError

VERSION = 1


def pack(samples: Sequence[int]) -> bytes:
    """Return the samples, whole numbers of any size, as bytes."""
    out = bytearray((VERSION,))
    if samples:
        least = min(samples)
        _append(out, least << 1 if least >= 0 else (-least << 1) - 1)  # zigzag: a sign costs one bit
        for sample in samples:
            _append(out, sample - least)
    return bytes(out)


def unpack(blob: bytes) -> tuple[int, ...]:
    """Return the samples; raise StorageError for bytes that `pack` did not write."""
    if not blob or blob[0] != VERSION:
        raise StorageError(f"samples of format {blob[:1].hex() or 'nothing'}; this version reads format {VERSION}")
    numbers = list(_numbers(blob[1:]))
    if not numbers:
        return ()
    least = numbers[0] >> 1 if numbers[0] & 1 == 0 else -((numbers[0] + 1) >> 1)
    return tuple(least + number for number in numbers[1:])


def _append(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise StorageError("samples end in the middle of a number: the row is damaged")
