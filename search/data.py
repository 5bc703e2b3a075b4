"""Images to train on: Fashion-MNIST from the distribution's package, any folder of images, and digits for quick tries.

Small sets are held in memory as bytes and augmented a batch at a time; a folder's images are read as they are needed.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgelut.errors import EdgelutError

FASHION = Path("/usr/share/datasets/fashion-mnist")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"}
VALID_SHARE = 0.1  # of the training images, where a set brings no validation images of its own
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for folders


class DataMissing(EdgelutError, FileNotFoundError):
    """Images are not where they were looked for: says what to install or what a folder must look like."""


class Split(Protocol):
    """Some labelled images. Safe to read from several places at once."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], draw: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, R, R), normalised, and labels (B,). With `draw` they are augmented, by its numbers alone."""


@dataclass(frozen=True, slots=True)
class Data:
    """A set of images: what is learnt from, what choices are made by, and what is only ever looked at last."""

    name: str
    classes: int
    resolution: int
    train: Split
    valid: Split
    test: Split


def batches(
    split: Split,
    size: int,
    *,
    seed: int | None = None,
    augment: bool = False,
    rank: int = 0,
    ranks: int = 1,
    start: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of a split, in order or shuffled by `seed`; the images of one seed are the same whatever `start` is.

    Of several processes each takes every `ranks`-th batch's share; in a shuffled pass the last, smaller batch is left out.
    """
    order = np.arange(len(split))
    if seed is not None:
        np.random.default_rng(seed).shuffle(order)
    step = size * ranks
    whole = seed is not None and len(order) >= step
    last = len(order) - len(order) % step if whole else len(order)
    for number, begin in enumerate(range(0, last, step)):
        if number < start:
            continue
        own = order[begin : begin + step][rank::ranks]
        draw = None
        if augment:
            draw = torch.Generator().manual_seed(((seed or 0) * 1_000_003 + number) * 64 + rank)
        yield split.batch(own.tolist(), draw)


class InMemory:
    """Grey or colour images held as bytes: (N, C, H, W) of uint8, C being 1 or 3, and labels (N,)."""

    def __init__(
        self, images: Tensor, labels: Tensor, resolution: int, mean: float, std: float, *, flip: bool = True
    ) -> None:
        self._images, self._labels = images, labels
        self._resolution, self._mean, self._std, self._flip = resolution, mean, std, flip

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Sequence[int], draw: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return images scaled up or padded to the resolution; augmented by a shift of up to 1/8 and a flip."""
        index = torch.as_tensor(indices, dtype=torch.long)
        images = (self._images[index].float() / 255 - self._mean) / self._std
        images = _fit(images, self._resolution)
        if draw is not None:
            images = _shifted(images, self._resolution // 8, self._flip, draw)
        return images.expand(-1, 3, -1, -1).contiguous(), self._labels[index]


class Folder:
    """Images in files, read and decoded as they are needed."""

    def __init__(self, files: Sequence[tuple[Path, int]], resolution: int) -> None:
        self._files, self._resolution = list(files), resolution

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: Sequence[int], draw: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return centre crops, or with `draw` random crops of 8 % to 100 % of the area, flipped half of the time."""
        images = torch.stack([self._image(self._files[index][0], draw) for index in indices])
        return images, torch.tensor([self._files[index][1] for index in indices])

    def _image(self, path: Path, draw: torch.Generator | None) -> Tensor:
        from PIL import Image

        side = self._resolution
        with Image.open(path) as file:
            image = file.convert("RGB")
        box = _random_box(image.size, draw) if draw is not None else _centre_box(image.size)
        pixels = torch.from_numpy(np.array(image.resize((side, side), Image.Resampling.BICUBIC, box)))
        found = pixels.permute(2, 0, 1).float() / 255
        if draw is not None and torch.rand((), generator=draw) < 0.5:
            found = found.flip(2)
        return (found - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def load(name: str, resolution: int | None = None, *, limit: int | None = None, seed: int = 0) -> Data:
    """Return a set by name: `fashion-mnist`, `digits`, or a folder of images with one folder a class.

    A folder may hold `train` and `val` (or `valid`) folders, and `test`; otherwise shares of it are set aside. `limit` takes
    so many training images. Raises DataMissing.
    """
    if name == "fashion-mnist":
        return _fashion(resolution or 32, limit, seed)
    if name == "digits":
        return _digits(resolution or 32, limit, seed)
    root = Path(name).expanduser()
    if not root.is_dir():
        raise DataMissing(
            f"no data set {name!r}: give fashion-mnist, digits, or a folder with one folder of images a class"
        )
    return _folder(root, resolution or 224, limit, seed)


def _fashion(resolution: int, limit: int | None, seed: int) -> Data:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 grey images of 28 x 28, 10 classes."""
    images, labels = _idx("train-images-idx3-ubyte"), _idx("train-labels-idx1-ubyte")
    test_images, test_labels = _idx("t10k-images-idx3-ubyte"), _idx("t10k-labels-idx1-ubyte")
    how = {"resolution": resolution, "mean": 0.2860, "std": 0.3530}
    train, valid = _split(len(labels), limit, seed)
    return Data(
        "fashion-mnist",
        10,
        resolution,
        InMemory(images[train, None], labels[train].long(), **how),  # type: ignore[arg-type]
        InMemory(images[valid, None], labels[valid].long(), **how),  # type: ignore[arg-type]
        InMemory(test_images[:, None], test_labels.long(), **how),  # type: ignore[arg-type]
    )


def _digits(resolution: int, limit: int | None, seed: int) -> Data:
    """The 1,797 digits of 8 x 8 that scikit-learn ships; every fifth is for testing."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    held = load_digits()
    images = torch.from_numpy((held.images / 16 * 255).astype(np.uint8))[:, None]
    labels = torch.from_numpy(held.target).long()
    is_test = torch.arange(len(labels)) % 5 == 0
    train, valid = _split(int((~is_test).sum()), limit, seed)
    own, own_labels = images[~is_test], labels[~is_test]

    def make(images: Tensor, labels: Tensor) -> InMemory:
        return InMemory(images, labels, resolution, 0.305, 0.376, flip=False)

    return Data(
        "digits",
        10,
        resolution,
        make(own[train], own_labels[train]),
        make(own[valid], own_labels[valid]),
        make(images[is_test], labels[is_test]),
    )


def _folder(root: Path, resolution: int, limit: int | None, seed: int) -> Data:
    parts = {name: root / name for name in ("train", "val", "valid", "test") if (root / name).is_dir()}
    top = parts.get("train", root)
    classes = sorted(folder.name for folder in top.iterdir() if folder.is_dir())
    files = _files(top, classes)
    if len(classes) < 2 or not files:
        raise DataMissing(
            f"{top} must hold one folder of images ({', '.join(sorted(SUFFIXES))}) a class, two classes at least"
        )
    order = np.random.default_rng(seed).permutation(len(files))
    own = parts.get("val", parts.get("valid"))
    valid = _files(own, classes) if own else []
    test = _files(parts["test"], classes) if "test" in parts else []
    for held in (valid, test):
        if not held:
            count = max(1, int(len(files) * VALID_SHARE))
            held += [files[int(index)] for index in order[:count]]
            order = order[count:]
    train = [files[int(index)] for index in order][:limit]
    name = root.name
    return Data(name, len(classes), resolution, *(Folder(part, resolution) for part in (train, valid, test)))


def _files(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    return [
        (file, number)
        for number, name in enumerate(classes)
        for file in sorted((folder / name).rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]


def _idx(name: str) -> Tensor:
    """Read a file of the IDX format: two zero bytes, the type (8: bytes), the number of sizes, the sizes, the values."""
    path = FASHION / f"{name}.gz"
    if not path.is_file():
        raise DataMissing(f"{path} is not there: apt-get install dataset-fashion-mnist")
    with gzip.open(path) as file:
        content = file.read()
    zero, kind, sizes = struct.unpack_from(">HBB", content)
    shape = struct.unpack_from(f">{sizes}I", content, 4)
    if (zero, kind) != (0, 8) or len(content) != 4 + 4 * sizes + int(np.prod(shape)):
        raise DataMissing(f"{path} is no IDX file of bytes")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * sizes).reshape(shape).copy())


def _split(count: int, limit: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of training and validation images, drawn by the seed."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    valid = int(count * VALID_SHARE)
    return order[valid:][:limit], order[:valid]


def _fit(images: Tensor, side: int) -> Tensor:
    """Return images of that side: padded where they are a little smaller, scaled otherwise."""
    have = images.shape[-1]
    if have == side:
        return images
    if have < side <= have * 1.3:
        before = (side - have) // 2
        after = side - have - before
        return functional.pad(images, (before, after, before, after), value=float(images.min()))
    return functional.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=side < have)


def _shifted(images: Tensor, most: int, flip: bool, draw: torch.Generator) -> Tensor:
    """Return each image moved by up to `most` pixels each way and, where that is allowed, flipped half of the time."""
    count, side = len(images), images.shape[-1]
    padded = functional.pad(images, (most,) * 4, value=float(images.min()))
    x, y = torch.randint(0, 2 * most + 1, (2, count), generator=draw)
    columns = x[:, None] + torch.arange(side)
    if flip:
        turned = torch.rand(count, generator=draw) < 0.5
        columns = torch.where(turned[:, None], columns.flip(1), columns)
    rows = y[:, None] + torch.arange(side)
    number = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _centre_box(size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    side = min(width, height) * 0.875
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def _random_box(size: tuple[int, int], draw: torch.Generator) -> tuple[float, float, float, float]:
    width, height = size
    share, place_x, place_y, shape = torch.rand(4, generator=draw, dtype=torch.float64).tolist()
    area = width * height * (0.08 + 0.92 * share)
    ratio = float(np.exp((2 * shape - 1) * np.log(4 / 3)))
    w, h = min(width, (area * ratio) ** 0.5), min(height, (area / ratio) ** 0.5)
    x, y = (width - w) * place_x, (height - h) * place_y
    return x, y, x + w, y + h
