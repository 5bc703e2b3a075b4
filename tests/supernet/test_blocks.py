"""Every kind of block, found by discovery, passes these; a new file brings its own cases by its KIND's defaults."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgelut.blocks import EMBEDDING, FLAT, HEAD, IDENTITY, KINDS, MB3D, MB4D, STEM
from edgelut.errors import InvalidSpec, UnknownKind
from edgelut.sequences import COLD, SEQUENCES, SequenceKind
from edgelut.types import BlockSpec
from supernet import blocks
from supernet.blocks.base import LayerScale


def default_spec(name: str) -> BlockSpec:
    """A small spec of any kind, all parameters at their defaults."""
    kind = blocks.kind(name)
    if isinstance(kind, SequenceKind):
        return kind.of((MB4D.spec(16, 8),) * (1 if kind is COLD else 2))
    return kind.spec(16, 8, width_out=24 if kind.widens and kind.width_in is None else None)


SPECS = [
    *(default_spec(name) for name in blocks.names()),
    STEM.spec(24, 16, params={"stride": 2}),
    STEM.spec(15, 12, params={"stride": 1, "activation": "hardswish"}),
    MB4D.spec(48, 7, batch=2, params={"expansion": 3, "pool": 5, "activation": "relu"}),
    MB4D.spec(16, 2, params={"pool": 7, "activation": "hardswish"}),
    EMBEDDING.spec(16, 8, width_out=32, batch=2, params={"layout": "3d", "kernel": 5}),
    EMBEDDING.spec(16, 7, width_out=8, params={"kernel": 7, "stride": 1}),
    FLAT.spec(16, 5, batch=3),
    MB3D.spec(32, 7, batch=2),
    MB3D.spec(24, 1),
    MB3D.spec(40, 4, params={"heads": 3, "key_dim": 8, "attn_ratio": 2, "expansion": 2, "activation": "relu"}),
    HEAD.spec(32, 7, width_out=10, batch=2, params={"layout": "4d"}),
    HEAD.spec(32, 1, width_out=10, params={"distillation": 0}),
    IDENTITY.spec(16, 4, params={"layout": "3d"}),
]
every_spec = pytest.mark.parametrize(
    "spec", SPECS, ids=lambda spec: f"{spec} {' '.join(map(str, spec.params.values()))}"
)


def run(spec: BlockSpec, module: nn.Module | None = None) -> Tensor:
    with torch.no_grad():
        out: Tensor = (module or blocks.build(spec))(**blocks.example_inputs(spec))
    return out


def fingerprint(spec: BlockSpec, **options: Any) -> str:
    state = blocks.build(spec, **options).state_dict()
    data = b"".join(value.numpy().tobytes() for value in (*state.values(), *blocks.example_inputs(spec).values()))
    return hashlib.sha256(data).hexdigest()


def counted_macs(module: nn.Module, inputs: dict[str, Tensor]) -> int:
    """Count the multiplications of convolutions and linears by what they read and write."""
    total = 0

    def hook(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        total += output.numel() * layer.weight[0].numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(hook)
    with torch.no_grad():
        module(**inputs)
    return total


def test_every_kind_that_a_client_can_write_has_its_module() -> None:
    assert blocks.names() == sorted(name.lower() for name in (*KINDS, *SEQUENCES))
    for name, kind in KINDS.items():
        assert blocks.kind(name) is kind


def test_a_kind_is_found_whatever_its_case_and_an_unknown_one_lists_those_there_are() -> None:
    assert blocks.load("mb4d") is blocks.load("MB4D") is blocks.load("Mb4D")
    with pytest.raises(
        UnknownKind, match=r"no block kind 'mb5d'; there are chain, cold, embedding, flat, .*mb3d, mb4d, .*stem"
    ):
        blocks.load("MB5D")


def test_listing_imports_no_kind_and_weights_are_the_same_in_another_process() -> None:
    script = (
        "import hashlib, sys\n"
        "from edgelut.blocks import MB3D\n"
        "from supernet import blocks\n"
        "assert blocks.names()\n"
        "assert not {'supernet.blocks.' + name for name in blocks.names()} & set(sys.modules)\n"
        "spec = MB3D.spec(16, 3)\n"
        "values = [*blocks.build(spec).state_dict().values(), *blocks.example_inputs(spec).values()]\n"
        "print(hashlib.sha256(b''.join(value.numpy().tobytes() for value in values)).hexdigest())\n"
    )
    root = Path(blocks.__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == fingerprint(MB3D.spec(16, 3))


OUT_OF_TREE = """
import torch
from edgelut.blocks import BlockKind
from supernet.blocks import Block

KIND = BlockKind("Shift_By", {"steps": 1})

class ShiftBy(Block):
    def __init__(self, spec):
        super().__init__(spec)
        self.steps = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x + self.steps.sum()

    @staticmethod
    def count_parameters(spec):
        return 3

    @staticmethod
    def count_macs(spec, attention=False):
        return 0
"""


def test_a_kind_outside_the_tree_joins_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shift_by_block.py").write_text(OUT_OF_TREE)
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("shift-by", "shift_by_block", "edgelut.blocks")
    monkeypatch.setattr(blocks, "entry_points", lambda group: [point] if group == "edgelut.blocks" else [])
    assert "shift-by" in blocks.names()
    spec = blocks.kind("shift_by").spec(4, 2)
    assert spec.kind == "Shift_By" and blocks.parameters(spec) == 3
    steps = blocks.build(spec).get_parameter("steps").detach()
    assert steps.min() >= 0.1 and steps.max() <= 0.5  # a parameter that no rule knows is not left at zero
    blocks._load.cache_clear()


def test_a_file_that_holds_no_block_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty_block.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("empty", "empty_block", "edgelut.blocks")
    monkeypatch.setattr(blocks, "entry_points", lambda group: [point])
    with pytest.raises(UnknownKind, match="empty_block must hold one Block and its KIND, but it holds 0 blocks"):
        blocks.load("empty")


def test_a_kind_must_bear_the_name_that_it_is_found_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "misnamed_block.py").write_text(OUT_OF_TREE)
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("shift", "misnamed_block", "edgelut.blocks")
    monkeypatch.setattr(blocks, "entry_points", lambda group: [point])
    with pytest.raises(UnknownKind, match="misnamed_block is listed as 'shift', but its KIND is named 'Shift_By'"):
        blocks.load("shift")


def test_a_spec_in_another_spelling_is_refused_for_its_key_is_another() -> None:
    with pytest.raises(InvalidSpec, match="'mb4d' is spelled 'MB4D'"):
        blocks.build(BlockSpec("mb4d", 16, 16, 7, params=MB4D.spec(16, 7).params))


@pytest.mark.parametrize("ask", [blocks.build, blocks.create, blocks.parameters, blocks.macs])
def test_a_spec_that_lacks_parameters_is_refused(ask: Any) -> None:
    with pytest.raises(InvalidSpec, match="lacks activation, expansion, pool"):
        ask(BlockSpec("MB4D", 16, 16, 7))


@every_spec
def test_a_block_writes_the_shape_that_its_kind_says(spec: BlockSpec) -> None:
    kind = blocks.kind(spec.kind)
    assert tuple(blocks.example_inputs(spec)["x"].shape) == kind.input_shape(spec)
    assert tuple(run(spec).shape) == kind.output_shape(spec)


@every_spec
def test_a_block_takes_a_batch_other_than_its_specs(spec: BlockSpec) -> None:
    module, x = blocks.build(spec), blocks.example_inputs(spec)["x"][:1]
    with torch.no_grad():
        both, one = module(torch.cat([x, x.flip(1), x])), module(x)
    assert both.shape[0] == 3
    torch.testing.assert_close(both[:1], one)
    torch.testing.assert_close(both[2:], one)


@every_spec
def test_analytic_counts_are_those_of_the_built_module(spec: BlockSpec) -> None:
    module, inputs = blocks.build(spec), blocks.example_inputs(spec)
    assert blocks.parameters(spec) == sum(value.numel() for value in module.parameters())
    assert blocks.macs(spec) == counted_macs(module, inputs)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(**inputs)
    assert 2 * blocks.macs(spec, attention=True) == counter.get_total_flops()


@every_spec
def test_random_weights_are_far_from_degenerate(spec: BlockSpec) -> None:
    module = blocks.build(spec)
    for name, value in module.named_parameters():
        assert value.count_nonzero() == value.numel(), f"{name} holds zeros"
    for layer in module.modules():
        if isinstance(layer, LayerScale):
            assert layer.gamma.min() >= 0.1 and layer.gamma.max() <= 0.5
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            assert layer.running_mean.abs().max() > 0.1 and (layer.running_var - 1).abs().max() > 0.1
    x, y = blocks.example_inputs(spec)["x"], run(spec)
    assert 0.1 < float(y.std()) < 3
    if module.residual:
        assert float((y - x).std()) > 0.1


@every_spec
def test_a_trace_holds_no_shape_reads_and_computes_the_same(spec: BlockSpec) -> None:
    module, inputs = blocks.build(spec), blocks.example_inputs(spec)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.(trace|freeze|script).*", category=DeprecationWarning)
        frozen = torch.jit.freeze(torch.jit.trace(module, (inputs["x"],)))  # type: ignore[no-untyped-call]
    assert "aten::size" not in str(frozen.graph)
    assert "aten::index" not in str(frozen.graph)  # the attention bias is a constant
    torch.testing.assert_close(frozen(inputs["x"]), run(spec, module), rtol=1e-5, atol=1e-5)


@every_spec
def test_an_exported_program_computes_the_same(spec: BlockSpec) -> None:
    module, inputs = blocks.build(spec), blocks.example_inputs(spec)
    program = torch.export.export(module, (inputs["x"],))
    assert not any("sym_size" in str(node.target) for node in program.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(inputs["x"]), run(spec, module))


def test_weights_depend_on_spec_seed_and_copy_alone() -> None:
    spec = MB4D.spec(16, 4)
    torch.manual_seed(1)
    first, state = fingerprint(spec), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "building must leave the global generator as it was"
    torch.manual_seed(2)
    assert fingerprint(spec) == fingerprint(spec, seed=0) == fingerprint(spec, copy=0) == first
    others = [
        fingerprint(spec, seed=1),
        fingerprint(spec, copy=1),
        fingerprint(spec, copy=2),
        fingerprint(spec, init="paper"),
    ]
    assert len({first, *others}) == 5
    assert fingerprint(spec, init="paper") == others[-1]
    assert fingerprint(MB4D.spec(16, 4, batch=2)) != first


def test_weights_and_inputs_are_what_they_always_were() -> None:
    spec = MB4D.spec(16, 4)
    assert fingerprint(spec) == "12e9bae344caa9d4ea0f6cc7555372831ca0b0b603e33ba46af38f25bf0171f1"


def test_example_inputs_differ_by_seed_and_have_variance_1() -> None:
    spec = MB4D.spec(48, 14)
    x, same, other = (blocks.example_inputs(spec, seed=seed)["x"] for seed in (0, 0, 1))
    assert torch.equal(x, same) and not torch.equal(x, other)
    assert abs(float(x.var()) - 1) < 0.05 and abs(float(x.mean())) < 0.05


def test_paper_weights_are_the_papers() -> None:
    mb3d, mb4d = blocks.build(MB3D.spec(64, 7), init="paper"), blocks.build(MB4D.spec(64, 7), init="paper")
    for block in (mb3d, mb4d):
        assert torch.equal(block.get_parameter("scale1.gamma"), torch.full((64,), 1e-5))
        for layer in ("fc1", "fc2"):
            assert block.get_parameter(f"{layer}.bias").abs().max() == 0
            assert 0.018 < float(block.get_parameter(f"{layer}.weight").detach().std()) < 0.022
    assert mb3d.get_parameter("attention.biases").abs().max() == 0
    assert 0.018 < float(mb3d.get_parameter("attention.qkv.weight").detach().std()) < 0.022


def test_a_head_averages_in_evaluation_and_returns_both_in_training() -> None:
    spec = HEAD.spec(16, 4, width_out=10)
    head, x = blocks.build(spec), blocks.example_inputs(spec)["x"]
    with torch.no_grad():
        first, second = head.train()(x)
        torch.testing.assert_close(head.eval()(x), (first + second) / 2)
    assert not torch.allclose(first, second)


def test_a_head_on_a_map_is_the_head_on_its_tokens() -> None:
    tokens, grid = HEAD.spec(16, 4, width_out=10), HEAD.spec(16, 4, width_out=10, params={"layout": "4d"})
    on_tokens, on_map = blocks.build(tokens), blocks.build(grid)
    on_map.load_state_dict(on_tokens.state_dict())
    x = blocks.example_inputs(grid)["x"]
    with torch.no_grad():
        torch.testing.assert_close(on_map(x), on_tokens(x.flatten(2).transpose(1, 2)))


def test_a_3d_embedding_is_the_4d_one_between_two_reshapes() -> None:
    grid, tokens = EMBEDDING.spec(8, 4, width_out=12), EMBEDDING.spec(8, 4, width_out=12, params={"layout": "3d"})
    on_map, on_tokens = blocks.build(grid), blocks.build(tokens)
    on_tokens.load_state_dict(on_map.state_dict())
    x = blocks.example_inputs(grid)["x"]
    with torch.no_grad():
        expected = on_map(x).flatten(2).transpose(1, 2)
        torch.testing.assert_close(on_tokens(x.flatten(2).transpose(1, 2)), expected)


def test_drop_path_drops_a_share_of_the_images_in_training_alone() -> None:
    block = blocks.build(FLAT.spec(4, 2))
    block.drop_rate = 0.25
    ones = torch.ones(4000, 3, 2)
    assert torch.equal(block.drop_path(ones), ones)
    torch.manual_seed(0)
    dropped = block.train().drop_path(ones)
    assert torch.equal(dropped.amin((1, 2)), dropped.amax((1, 2)))  # an image's branch goes as a whole
    assert sorted(set(dropped[:, 0, 0].tolist())) == [0.0, pytest.approx(4 / 3)]
    assert abs(float(dropped.mean()) - 1) < 0.05
