"""The supernet holds every network of its space exactly, draws its choices as the paper says, and narrows consistently."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgelut.efficientformer import Config, get_config
from edgelut.errors import InvalidSpec
from supernet import checkpoints, slim
from supernet.blocks import Block
from supernet.efficientformer import build_network
from supernet.metapath import MetaPath
from supernet.slim import extract, narrower
from supernet.supernet import State, Supernet
from supernet.weights import generator, randomize

SMALL = Config((16, 32, 48, 64), (2, 2, 3, 2), 0, resolution=32, classes=10, stem_stride=2)


def make(config: Config = SMALL, **how: object) -> Supernet:
    """A supernet whose weights and statistics are of order one, so that every part of it shows."""
    torch.manual_seed(0)
    net = Supernet(config, **how)  # type: ignore[arg-type]
    for number, block in enumerate(one for one in net.modules() if isinstance(one, Block)):
        randomize(block, generator("random", number))
    return net.eval()


def images(config: Config = SMALL, count: int = 2) -> Tensor:
    return torch.rand(count, 3, config.resolution, config.resolution, generator=generator("images"))


@pytest.fixture(scope="module")
def net() -> Supernet:
    return make()


@pytest.mark.parametrize("stride, resolution", [(1, 32), (2, 32), (4, 64), (4, 224)])
def test_it_takes_small_images_as_well_as_224(stride: int, resolution: int) -> None:
    config = replace(SMALL, stem_stride=stride, resolution=resolution, depths=(1, 1, 1, 1))
    assert make(config)(images(config, 1)).shape == (1, 10)


def test_stages_1_and_2_choose_from_mb4d_and_the_identity_and_3_and_4_from_mb3d_too(net: Supernet) -> None:
    choices = [{path.choices for path in net.paths(stage)} for stage in range(4)]
    assert choices == [{("MB4D", "I")}] * 2 + [{("MB4D", "MB3D", "I")}] * 2
    assert [alpha.tolist() for alpha in net.alphas()] == [[0, 0]] * 4 + [[0, 0, 0]] * 5


def test_a_position_is_the_weighted_sum_of_its_choices() -> None:
    path = MetaPath(8, 4, ("MB4D", "MB3D", "I")).eval()
    for number, name in enumerate(("MB4D", "MB3D")):
        randomize(path.branch(name), generator("random", number))
    x = torch.randn(2, 8, 4, 4)
    weights = torch.tensor([0.5, 0.2, 0.3])
    alone = {name: path.only(x, name) for name in path.choices}
    expected = 0.5 * alone["MB4D"] + 0.2 * alone["MB3D"] + 0.3 * x
    assert torch.allclose(path(x, weights), expected, atol=1e-5) and torch.equal(alone["I"], x)


def test_the_weights_of_choices_are_softmax_of_alpha_and_noise_over_tau() -> None:
    path = MetaPath(8, 4, ("MB4D", "I"))
    with torch.no_grad():
        path.alpha.copy_(torch.tensor([1.0, -1.0]))
    assert torch.allclose(path.weights("none", 2.0), torch.tensor([0.5, -0.5]).softmax(0))
    torch.manual_seed(3)
    drawn = path.weights("uniform", 1.0)
    torch.manual_seed(3)
    assert torch.allclose(drawn, (path.alpha + torch.rand(2)).softmax(0))


def test_gumbel_noise_chooses_as_often_as_the_probabilities_say() -> None:
    path = MetaPath(8, 4, ("MB4D", "I"))
    with torch.no_grad():
        path.alpha.copy_(torch.tensor([1.0, 0.0]))
        torch.manual_seed(0)
        chosen = sum(int(path.weights("gumbel", 1.0).argmax()) == 0 for _ in range(4000)) / 4000
        uniform = sum(int(path.weights("uniform", 1.0).argmax()) == 0 for _ in range(4000)) / 4000
    assert chosen == pytest.approx(float(path.probabilities()[0].detach()), abs=0.03)
    assert uniform == 1.0  # noise of at most 1 never turns a lead of 1: what the paper draws is no Gumbel noise


def test_training_draws_noise_and_evaluation_does_not(net: Supernet) -> None:
    x = images()
    assert torch.equal(net(x), net(x))
    trained = make(replace(SMALL, distillation=False))
    for one in trained.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.momentum = 0.0
    trained.train()
    assert not torch.equal(trained(x), trained(x))
    trained.noise = "none"
    assert torch.allclose(trained(x), trained(x))


STATES = {
    "full": None,
    "no MB3D": State(((0, 1), (0, 1), (0, 1, 2), (0, 1)), (), 0),  # type: ignore[arg-type]
    "one block a stage": State(((1,), (0,), (2,), (1,)), (), 1),  # type: ignore[arg-type]
    "MB3D into stage 3": State(((0,), (1,), (0, 2), (0, 1)), (), 3),  # type: ignore[arg-type]
    "MB3D in stage 4": State(((0, 1), (0,), (1, 2), (0, 1)), (), 1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", STATES)
def test_an_extracted_network_computes_what_the_supernet_computes_with_one_hot_choices(
    net: Supernet, name: str
) -> None:
    given = STATES[name]
    state = net.full() if given is None else State(given.kept, net.full().channels, given.mb3d)
    found = extract(net, state)
    with torch.no_grad():
        ours, theirs = found(images()), net.run_state(images(), state)
        assert torch.equal(ours, theirs) or torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert theirs.std() > 0.01
    assert found.spec.blocks[0].width_out == 16 and sum(b.kind == "MB3D" for b in found.spec.blocks) == state.mb3d


def test_one_hot_alphas_make_the_supernet_the_extracted_network(net: Supernet) -> None:
    state = State(((0,), (0, 1), (1, 2), (0,)), net.full().channels, 2)
    sharp = make()
    with torch.no_grad():
        for stage, position, path in sharp.places():
            wanted = state.kinds().get((stage, position), "I")
            path.alpha.copy_(torch.tensor([200.0 if name == wanted else -200.0 for name in path.choices]))
        assert torch.allclose(sharp(images()), extract(sharp, state)(images()), rtol=1e-5, atol=1e-6)


def test_a_channel_that_is_written_and_read_by_nothing_is_the_one_that_goes_and_nothing_changes() -> None:
    net = make()
    dead = (3, 9)
    with torch.no_grad():
        for path in net.paths(1):
            block = path.branch("MB4D")
            block.get_parameter("fc1.weight")[:, dead] = 0
            block.get_parameter("fc2.weight")[:, 5:21:2] = 0  # so that 8 hidden channels say nothing either
            block.get_parameter("scale1.gamma")[[*dead]] = 0
            block.get_parameter("scale2.gamma")[[*dead]] = 0
        net.embeddings[0].get_parameter("norm.weight")[[*dead]] = 0
        net.embeddings[0].get_parameter("norm.bias")[[*dead]] = 0
        net.embeddings[1].get_parameter("conv.weight")[:, dead] = 0
    state = State(((0, 1), (0, 1), (0,), (0,)), net.full().channels, 1)
    labels = torch.tensor([1, 2])
    for criterion in slim.CRITERIA:
        model = extract(net, state)
        found = slim.channel_importance(model, criterion, [(images(), labels)])
        assert [len(one) for one in found] == [16, 32, 48, 64]
        narrow = narrower(state, 1, 30, found[1])
        assert set(range(32)) - set(narrow.channels[1]) == set(dead), criterion
    with torch.no_grad():
        assert torch.allclose(extract(net, narrow)(images()), model(images()), rtol=1e-4, atol=1e-5)


def test_narrowing_is_consistent_through_every_stage(net: Supernet) -> None:
    state = State(((0,), (0, 1), (0, 2), (1,)), net.full().channels, 2)
    for stage, width in enumerate((8, 16, 32, 48)):
        importance = torch.rand(len(state.channels[stage]), generator=generator("importance", stage))
        state = narrower(state, stage, width, importance)
    model = extract(net, state)
    assert slim.model_widths(model) == state.widths == (8, 16, 32, 48)
    assert model(images()).isfinite().all()
    kept = list(state.channels[1])
    source = net.paths(1)[0].branch("MB4D")
    block = model.blocks[3]
    assert isinstance(block, Block) and block.spec.kind == "MB4D" and block.spec.width_in == 16
    assert torch.equal(block.get_parameter("scale2.gamma"), source.get_parameter("scale2.gamma")[kept])


@pytest.mark.parametrize(
    "state, said",
    [
        (State(((), (0,), (0,), (0,)), ((0,), (0,), (0,), (0,)), 0), "stage 1 must keep positions of 0..1"),
        (State(((0,), (5,), (0,), (0,)), ((0,), (0,), (0,), (0,)), 0), "stage 2 must keep positions of 0..1"),
        (State(((0,), (0,), (0,), (0,)), ((1, 0), (0,), (0,), (0,)), 0), "stage 1 must keep channels of 0..15"),
    ],
)
def test_a_state_that_cannot_be_says_what_can(net: Supernet, state: State, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        extract(net, state)


def test_states_survive_json(net: Supernet) -> None:
    state = net.full()
    assert State.from_json(state.as_json()) == state
    assert state.config(SMALL).widths == SMALL.widths and state.mb3d == 5


def test_the_expected_latency_is_the_sum_of_probabilities_times_rows_and_has_a_gradient() -> None:
    net = make()
    total = net.expected_latency(lambda spec: {"MB4D": 2.0, "MB3D": 3.0}.get(spec.kind, 0.5))
    fixed = 0.5 * 5  # stem, three embeddings, head
    assert total.item() == pytest.approx(fixed + 4 * 2.0 / 2 + 5 * (2.0 + 3.0) / 3, rel=1e-5)
    torch.autograd.backward(total)
    assert all(alpha.grad is not None and alpha.grad[-1] < 0 for alpha in net.alphas())  # less identity, more time


@pytest.mark.parametrize("naming", ["timm", "official", "edgelut"])
def test_a_published_checkpoint_starts_the_supernet_where_shapes_allow(naming: str) -> None:
    trained = build_network("L1", 7)
    weights = {
        "timm": checkpoints.to_timm,
        "official": checkpoints.to_official,
        "edgelut": lambda model: model.state_dict(),
    }[naming](trained)
    config = replace(get_config("L1"), depths=(4, 3, 7, 5), mb3d=0, name="")
    net = Supernet(config).eval()
    found = net.load_checkpoint(weights)  # type: ignore[arg-type]
    assert found.left == {} and len(found.taken) == 3 + 2 + 15
    state = State(((0, 1, 2), (0, 1), (0, 1, 2, 3, 4, 5), (0, 1, 2, 3)), net.full().channels, 1)
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(extract(net, state)(x), trained(x), rtol=1e-4, atol=1e-5)


def test_what_a_checkpoint_does_not_fit_keeps_its_own_weights_and_says_why() -> None:
    weights = build_network("L1", 7).state_dict()
    net = Supernet(replace(get_config("L1"), widths=(48, 96, 224, 512), depths=(3, 1, 6, 4), classes=10, name=""))
    found = net.load_checkpoint(weights)
    assert "stage 2 block 2 MB4D" in found.left and "head" in found.left and "embedding 3" in found.left
    assert "(1000, 448), not (10, 512)" in found.left["head"] or "norm.weight" in found.left["head"]
    assert "stage 1 block 1 MB4D" in found.taken
    with pytest.raises(checkpoints.CheckpointMismatch):
        net.load_checkpoint({"stages.0.blocks.0.ls1.gamma": torch.ones(3)})
