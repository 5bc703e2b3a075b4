"""Images come as they are stored, augmented by a seed alone, and split the same everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from search import data
from search.data import DataMissing, batches, load


def test_digits_are_split_once_for_all() -> None:
    one, again = load("digits", 32), load("digits", 32)
    assert (one.classes, one.resolution, len(one.train), len(one.valid), len(one.test)) == (10, 32, 1294, 143, 360)
    for ours, theirs in ((one.train, again.train), (one.valid, again.valid), (one.test, again.test)):
        images, labels = ours.batch([0, 5], None)
        assert images.shape == (2, 3, 32, 32) and torch.equal(images, theirs.batch([0, 5], None)[0])
        assert labels.dtype == torch.int64
    assert len(load("digits", limit=100).train) == 100


def test_pixels_are_normalised() -> None:
    images, _ = load("digits", 8).train.batch(range(1000), None)
    assert abs(float(images.mean())) < 0.05 and float(images.std()) == pytest.approx(1, abs=0.05)


def test_a_shuffled_pass_takes_every_image_once_and_goes_on_anywhere() -> None:
    split = load("digits", 8).test
    whole = list(batches(split, 50, seed=3, augment=True))
    assert len(whole) == 7 and {len(labels) for _, labels in whole} == {50}
    later = list(batches(split, 50, seed=3, augment=True, start=5))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole[5:], later, strict=True))
    assert not torch.equal(whole[0][1], next(iter(batches(split, 50, seed=4)))[1])
    assert sum(len(labels) for _, labels in batches(split, 50)) == 360


def test_processes_share_a_pass() -> None:
    split = load("digits", 8).test
    alone = [labels for _, labels in batches(split, 60, seed=1)]
    shared = [list(batches(split, 30, seed=1, rank=rank, ranks=2)) for rank in range(2)]
    for number, labels in enumerate(alone):
        both = torch.cat([shared[rank][number][1] for rank in range(2)])
        assert sorted(both.tolist()) == sorted(labels.tolist())


def test_augmentation_moves_images_and_keeps_what_is_in_them() -> None:
    split = load("digits", 32).train
    plain, labels = split.batch(range(8), None)
    moved, same = split.batch(range(8), torch.Generator().manual_seed(0))
    assert torch.equal(labels, same) and moved.shape == plain.shape and not torch.equal(moved, plain)
    assert torch.equal(moved, split.batch(range(8), torch.Generator().manual_seed(0))[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, shade in (("cat", 60), ("dog", 200)):
        for number in range(20):
            pixels = np.clip(rng.normal(shade, 5, (40, 60, 3)), 0, 255).astype(np.uint8)
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_any_folder_of_images_will_do(folder: Path) -> None:
    found = load(str(folder), 32)
    assert (found.classes, found.resolution) == (2, 32)
    assert (len(found.train), len(found.valid), len(found.test)) == (32, 4, 4)
    images, labels = found.train.batch(range(32), None)
    assert images.shape == (32, 3, 32, 32)
    bright = images.mean((1, 2, 3)) > 0.5
    assert torch.equal(bright, labels == 1)
    cropped, _ = found.train.batch(range(4), torch.Generator().manual_seed(1))
    assert cropped.shape == (4, 3, 32, 32)


def test_a_folder_with_parts_of_its_own_is_split_by_them(folder: Path) -> None:
    (folder / "train").mkdir()
    (folder / "val").mkdir()
    for name in ("cat", "dog"):
        (folder / "val" / name).mkdir()
        (folder / name / "0.png").rename(folder / "val" / name / "0.png")
        (folder / name).rename(folder / "train" / name)
    found = load(str(folder), 32)
    assert (len(found.train), len(found.valid), len(found.test)) == (35, 2, 3)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataMissing, match="no data set 'imagenet': give fashion-mnist, digits, or a folder"):
        load("imagenet")
    with pytest.raises(DataMissing, match="one folder of images"):
        load(str(tmp_path))
    monkeypatch.setattr(data, "FASHION", tmp_path)
    with pytest.raises(DataMissing, match="apt-get install dataset-fashion-mnist"):
        load("fashion-mnist")


def test_fashion_mnist_is_read_from_the_distributions_package() -> None:
    if not data.FASHION.is_dir() and not os.environ.get("CI"):
        pytest.skip("dataset-fashion-mnist is not installed")
    found = load("fashion-mnist")
    assert (len(found.train), len(found.valid), len(found.test)) == (54000, 6000, 10000)
    images, labels = found.test.batch(range(2000), None)
    assert images.shape == (2000, 3, 32, 32) and sorted(set(labels.tolist())) == list(range(10))
