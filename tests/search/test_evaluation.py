"""Two looks at one network agree, and both are on the statistics of the network itself."""

from __future__ import annotations

import pytest
import torch

from edgelut.efficientformer import Config
from search.data import Data, batches, load
from search.evaluation import First, inherited_accuracy, stage_channels
from search.training import accuracy, recalibrate
from supernet.efficientformer import EfficientFormer
from supernet.slim import CRITERIA, channel_importance, extract, narrower
from supernet.supernet import Supernet

CONFIG = Config((16, 16, 16, 32), (1, 1, 1, 1), 0, resolution=32, classes=10, stem_stride=4, distillation=False)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", 32, limit=300)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(CONFIG).eval()


def network(supernet: Supernet, width: int = 32) -> EfficientFormer:
    state = supernet.full()
    return extract(supernet, state if width == 32 else narrower(state, 3, width, torch.arange(32.0)))


def test_accuracy_is_that_of_the_first_images_with_statistics_of_the_network_s_own(
    digits: Data, supernet: Supernet
) -> None:
    evaluate = inherited_accuracy(digits, images=70, calibration=2, batch=50)
    model = network(supernet, 16)
    recalibrate(model, digits.train, batch=50, count=2)
    expected = accuracy(model, First(digits.valid, 70))
    assert evaluate(network(supernet, 16)) == evaluate(network(supernet, 16)) == expected
    assert expected * 70 == pytest.approx(round(expected * 70))


def test_no_more_images_are_looked_at_than_there_are(digits: Data) -> None:
    assert len(First(digits.valid, 10**6)) == len(digits.valid) == 143
    assert sum(len(labels) for _, labels in batches(First(digits.valid, 70), 50)) == 70


def test_channels_are_judged_by_the_same_images_each_time(digits: Data, supernet: Supernet) -> None:
    channels = stage_channels(digits, "taylor", 2, batch=50)
    one, again = channels(network(supernet)), channels(network(supernet))
    assert [len(stage) for stage in one] == [16, 16, 16, 32]
    assert all(torch.equal(ours, theirs) and float(ours.min()) >= 0 for ours, theirs in zip(one, again, strict=True))
    assert all(float(stage.max()) > 0 for stage in one)
    fewer = stage_channels(digits, "taylor", 1, batch=50)(network(supernet))
    assert not torch.equal(fewer[0], one[0])


@pytest.mark.parametrize("criterion", [one for one in CRITERIA if one != "taylor"])
def test_other_criteria_look_at_weights_alone(digits: Data, supernet: Supernet, criterion: str) -> None:
    found = stage_channels(digits, criterion)(network(supernet))  # type: ignore[arg-type]
    expected = channel_importance(network(supernet), criterion)  # type: ignore[arg-type]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
