"""The content-addressed store of exported files: found by key, held by hash, written atomically."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgelut import wire
from edgelut.errors import ArtifactCorrupted, StorageError
from edgelut.types import Artifact, BlockSpec, Scalar, digest


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact in the store: its metadata, where it lies, and the shapes of its inputs."""

    artifact: Artifact
    path: Path
    shapes: Mapping[str, Sequence[int]]


def artifact_key(
    spec: BlockSpec, format_: str, precision: str, options: Mapping[str, Scalar], exporter_version: str, weights: str
) -> str:
    """Return the hash of all that decides what an exported file holds."""
    return digest([spec.key, format_, precision, dict(options), exporter_version, weights])


class ArtifactStore:
    """A folder of exported files.

    Obligations: `find` gives what `add` stored, or None, or raises ArtifactCorrupted; it never gives a file whose bytes are not
    those that were written. Two processes may add at once. A failed `add` leaves nothing behind but what was there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Stored | None:
        """Return the artifact of that key after checking every byte of it."""
        return self._read(self._entry(key))

    def by_hash(self, wanted: Collection[str]) -> dict[str, Stored]:
        """Return those artifacts of these canonical hashes that are here whole, after checking every byte of them."""
        found: dict[str, Stored] = {}
        for entry in sorted((self.root / "keys").glob("*/*.json")):
            try:
                sha256 = json.loads(entry.read_text())["artifact"]["sha256"]
                stored = self._read(entry) if sha256 in wanted and sha256 not in found else None
            except (OSError, ValueError, KeyError, TypeError):  # damaged: another entry may hold the same file
                continue
            if stored is not None:
                found[sha256] = stored
        return found

    def _read(self, entry: Path) -> Stored | None:
        try:
            with self._clear_errors():
                row = json.loads(entry.read_text())
            stored = Stored(wire.load(Artifact, row["artifact"]), self.root / row["path"], row["shapes"])
            written = row["bytes_sha256"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactCorrupted(
                f"the index entry {entry} is damaged ({error}); delete it to export again"
            ) from error
        if not stored.path.exists() or bytes_digest(stored.path) != written:
            raise ArtifactCorrupted(
                f"{stored.path} is not what was written; delete it to export {stored.artifact.spec} again"
            )
        return stored

    def add(self, key: str, artifact: Artifact, file: Path, shapes: Mapping[str, Sequence[int]]) -> Stored:
        """Take over a finished file or folder; an equal one that is there already is kept instead."""
        with self._clear_errors():
            written = bytes_digest(file)
            path = self.root / "objects" / written[:2] / written / f"artifact{file.suffix}"
            self._adopt(file, path, written)
            row = {
                "artifact": wire.dump(artifact),
                "path": str(path.relative_to(self.root)),
                "bytes_sha256": written,
                "shapes": {name: list(shape) for name, shape in shapes.items()},
            }
            self._write(self._entry(key), json.dumps(row, indent=1))
        return Stored(artifact, path, row["shapes"])

    def discard(self, key: str) -> None:
        """Forget a damaged artifact, so that it is exported again."""
        entry = self._entry(key)
        try:
            folder = (self.root / json.loads(entry.read_text())["path"]).parent
            if folder.parent.parent == self.root / "objects":  # a damaged entry may name any place
                _remove(folder)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the entry itself is damaged: there is no object to find by it
        entry.unlink(missing_ok=True)

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """Give a private folder on the store's disk, gone afterwards."""
        folder = self.root / "tmp" / uuid.uuid4().hex
        with self._clear_errors():
            folder.mkdir(parents=True)
        try:
            with self._clear_errors():
                yield folder
        finally:
            _remove(folder)

    def _entry(self, key: str) -> Path:
        return self.root / "keys" / key[:2] / f"{key}.json"

    def _adopt(self, file: Path, path: Path, written: str) -> None:
        """Rename into place; a rename of the whole folder is what makes it atomic."""
        if path.exists():
            if bytes_digest(path) == written:
                return
            _remove(path.parent)  # damaged since
        staged = file.parent / f"object-{uuid.uuid4().hex}"
        staged.mkdir()
        file.rename(staged / path.name)
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        try:
            staged.rename(path.parent)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not path.exists():  # a folder that lost its file: what is ours is the content
                _remove(path.parent)
                staged.rename(path.parent)

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            with staged.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            staged.rename(path)
        finally:
            staged.unlink(missing_ok=True)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
                raise
            raise StorageError(
                f"cannot keep artifacts in {self.root}: {error.strerror}; free space or set EDGELUT_HOME"
            ) from error


def bytes_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder with their names."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            total.update(str(file.relative_to(path)).encode() + b"\0")
            with file.open("rb") as content:
                total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
