"""A Core ML package on disk: its model, its weight files, and the blobs in them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from backends.base import Array
from edgelut.errors import ArtifactCorrupted, Unsupported

from .toolchain import Model_pb2

CONTENT = Path("Data/com.apple.CoreML")
FOLDER = "@model_path"  # how a model names the folder that it lies in

# A weight file: a header (blobs, version), then for each blob its metadata and, at the offset that these give, its bytes; each
# begins on a multiple of 64. A model refers to a blob by the offset of its metadata.
ALIGNMENT = 64
HEADER = struct.Struct("<II56x")
METADATA = struct.Struct("<IIQQ40x")  # sentinel, element type, size in bytes, offset
SENTINEL = 0xDEADBEEF
VERSIONS = (1, 2)
DTYPES = {1: "<f2", 2: "<f4", 3: "<u1", 4: "<i1", 6: "<i2", 7: "<u2", 14: "<i4", 15: "<u4"}


def read_model(package: Path) -> Any:
    """Return the parsed model; raise ArtifactCorrupted."""
    file = package / CONTENT / "model.mlmodel"
    model = Model_pb2.Model()
    try:
        model.ParseFromString(file.read_bytes())
    except OSError as error:
        raise ArtifactCorrupted(f"{package.name} is no Core ML package: {error}") from error
    except DecodeError as error:
        raise ArtifactCorrupted(f"{package.name}: {file.name} cannot be parsed: {error}") from error
    return model


def weight_files(package: Path) -> list[Path]:
    """List the weight files in the order of their names."""
    return sorted((package / CONTENT / "weights").glob("*"))


class Weights:
    """The weight files of a package, read when first asked for."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._files: dict[str, bytes] = {}

    def get(self, name: str, offset: int, dtype: str, shape: tuple[int, ...]) -> Array:
        """Return the blob whose metadata lie at `offset` of a file, as the program declares it; raise ArtifactCorrupted."""
        content = self._read(name)
        where = f"{self._package.name}: {Path(name).name} at byte {offset}"
        if offset % ALIGNMENT or offset + METADATA.size > len(content):
            raise ArtifactCorrupted(f"{where}: no blob there; the file has {len(content)} bytes")
        sentinel, kind, size, start = METADATA.unpack_from(content, offset)
        if sentinel != SENTINEL:
            raise ArtifactCorrupted(f"{where}: a blob begins with {SENTINEL:#x}, not {sentinel:#x}")
        if kind not in DTYPES:
            raise Unsupported(f"{where}: elements of type {kind}; known are {', '.join(map(str, DTYPES))}")
        if start % ALIGNMENT or start + size > len(content):
            raise ArtifactCorrupted(f"{where}: truncated: bytes {start} to {start + size} of {len(content)}")
        if np.dtype(DTYPES[kind]) != np.dtype(dtype):
            raise ArtifactCorrupted(
                f"{where}: {np.dtype(DTYPES[kind]).name}, where the program says {np.dtype(dtype).name}"
            )
        array = np.frombuffer(content, DTYPES[kind], size // np.dtype(dtype).itemsize, start)
        if array.size != int(np.prod(shape)):
            raise ArtifactCorrupted(f"{where}: {array.size} elements, where the program says {list(shape)}")
        return array.reshape(shape)

    def _read(self, name: str) -> bytes:
        if name not in self._files:
            folder = self._package / CONTENT
            try:
                file = (folder / name.replace(FOLDER, ".", 1)).resolve()
                content = file.read_bytes() if file.is_relative_to(folder.resolve()) else b""
            except (OSError, ValueError) as error:  # ValueError: a name with a null byte
                raise ArtifactCorrupted(f"{self._package.name}: {name!r} cannot be read: {error}") from error
            if len(content) < HEADER.size or HEADER.unpack_from(content)[1] not in VERSIONS:
                raise ArtifactCorrupted(f"{self._package.name}: {Path(name).name} is no weight file of a known version")
            self._files[name] = content
        return self._files[name]
