"""A training learns, goes on after a kill as if nothing had been, and is the same in one process and in two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgelut.efficientformer import Config, network
from search.data import Data, load
from search.processes import train_in
from search.training import (
    METRICS,
    CheckpointUnlike,
    Step,
    TrainSettings,
    accuracy,
    optimizers,
    read_metrics,
    recalibrate,
    train,
)
from supernet.efficientformer import EfficientFormer
from supernet.supernet import Supernet

CONFIG = Config((16, 16, 16, 32), (1, 1, 1, 1), 0, resolution=32, classes=10, stem_stride=4, distillation=False)
QUICK = TrainSettings(epochs=3, batch=64, lr=2e-2, warmup_epochs=0.5, augment=False, label_smoothing=0.0)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", 32, limit=640)


def fresh(config: Config = CONFIG, seed: int = 0) -> EfficientFormer:
    torch.manual_seed(seed)
    return EfficientFormer(network(config))


class Killed(Exception):
    """What stands for a kill."""


def test_it_learns_and_says_how_far_it_is(digits: Data, tmp_path: Path) -> None:
    model, seen = fresh(), []
    before = accuracy(model, digits.test)
    found = train(model, digits, QUICK, tmp_path, watch=seen.append, test=True)
    assert found.test_accuracy is not None and found.test_accuracy > before + 0.3
    assert (found.steps, found.epochs, found.resumed_steps) == (30, 3, 0)
    assert [step.step for step in seen] == [10, 20, 30] and seen[-1].seconds_left == 0
    lines = read_metrics(tmp_path)
    assert [line["epoch"] for line in lines] == [1, 2, 3] and lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["accuracy"] == found.valid_accuracy == seen[-1].accuracy


def test_what_was_cut_off_goes_on_to_the_same_weights(digits: Data, tmp_path: Path) -> None:
    whole, cut = fresh(), fresh()
    train(whole, digits, QUICK, tmp_path / "whole")

    def stop(step: Step) -> None:
        if step.step == 20:
            raise Killed

    with pytest.raises(Killed):
        train(cut, digits, QUICK, tmp_path / "cut", watch=stop)
    with (tmp_path / "cut" / METRICS).open("a") as file:
        file.write('{"step": 25, "epo')  # a line that the kill cut off
    other = fresh(seed=1)
    found = train(other, digits, QUICK, tmp_path / "cut")
    assert found.resumed_steps == 10  # the checkpoint of the first epoch: the second's was not written yet
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, other.state_dict()[name], atol=1e-6), name
    ours, theirs = read_metrics(tmp_path / "cut"), read_metrics(tmp_path / "whole")
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=1e-4)
    again = train(fresh(seed=2), digits, QUICK, tmp_path / "cut")
    assert again.resumed_steps == 30 and again.valid_accuracy == found.valid_accuracy


def test_a_folder_of_another_training_is_not_gone_on_with(digits: Data, tmp_path: Path) -> None:
    one = TrainSettings(epochs=1, batch=320)
    train(fresh(), digits, one, tmp_path)
    with pytest.raises(CheckpointUnlike, match="another lr: give another folder"):
        train(fresh(), digits, TrainSettings(epochs=1, batch=320, lr=1.0), tmp_path)


def test_a_supernet_learns_weights_and_choices_and_its_temperature_falls(digits: Data, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Supernet(CONFIG)
    settings = TrainSettings(epochs=2, batch=128, tau=2.0, tau_end=0.5, augment=False, alpha_lr=0.1)
    before = [alpha.detach().clone() for alpha in net.alphas()]
    rows = {"MB4D": 5.0, "MB3D": 5.0}
    train(net, digits, settings, tmp_path, extra_loss=lambda _: net.expected_latency(lambda s: rows.get(s.kind, 0.0)))
    assert all(not torch.equal(one, alpha) for one, alpha in zip(before, net.alphas(), strict=True))
    assert all(path.probabilities()[-1] > 0.4 for _, _, path in net.places())  # time costs, and the identity costs none
    assert 0.5 < net.tau < 0.7 and [line["tau"] for line in read_metrics(tmp_path)] == sorted(
        (line["tau"] for line in read_metrics(tmp_path)), reverse=True
    )


def test_choices_have_an_optimiser_of_their_own_and_norms_no_decay() -> None:
    net = Supernet(CONFIG)
    weights, choices = optimizers(net, TrainSettings(batch=512))
    assert isinstance(weights, torch.optim.AdamW) and isinstance(choices, torch.optim.Adam)
    assert [group["weight_decay"] for group in weights.param_groups] == [0.025, 0.0]
    assert weights.param_groups[0]["lr"] == pytest.approx(5e-4)
    assert {value.ndim for value in weights.param_groups[1]["params"]} == {1}
    assert choices.param_groups[0]["weight_decay"] == 0 and len(choices.param_groups[0]["params"]) == 4
    assert sum(len(group["params"]) for one in (weights, choices) for group in one.param_groups) == len(
        list(net.parameters())
    )


def test_recalibrated_statistics_are_the_means_of_what_the_layers_see(digits: Data) -> None:
    model = fresh().eval()
    norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
    with torch.no_grad():
        for one in norms:
            one.running_mean.fill_(9.0)  # type: ignore[union-attr]
    recalibrate(model, digits.train, batch=100, count=6)
    images, _ = digits.train.batch(range(600), None)
    block = model.blocks[0]
    with torch.no_grad():
        first = block.get_submodule("conv1")(images).mean((0, 2, 3))
    assert torch.allclose(norms[0].running_mean, first, atol=0.05)  # type: ignore[arg-type]
    assert not model.training and {one.momentum for one in norms} == {0.1}


def test_two_processes_train_one_network_and_are_followed(digits: Data, tmp_path: Path) -> None:
    model, seen = fresh(), list[Step]()
    found = train_in(2, model, digits, QUICK, tmp_path, watch=seen.append, test=True)
    assert (found.steps, found.epochs) == (15, 3)  # half as many steps, of twice as many images
    assert [step.step for step in seen] == [5, 10, 15] and seen[-1].accuracy == found.valid_accuracy
    assert accuracy(model, digits.test) == found.test_accuracy
    again = train_in(2, fresh(seed=1), digits, QUICK, tmp_path, test=True)
    assert again.resumed_steps == 15 and again.test_accuracy == found.test_accuracy
