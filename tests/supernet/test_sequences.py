"""Chains, networks and cold blocks as modules: distinct weights, the same function as their blocks, exported like any block."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import nn

from edgelut import EMBEDDING, FLAT, HEAD, MB3D, MB4D, STEM, BlockSpec
from edgelut.efficientformer import Config, network
from edgelut.errors import BackendMissing
from edgelut.sequences import blocks_of, chain, cold, in_context, network_spec
from supernet import blocks

SMALL = network(Config((16, 24, 32, 48), (1, 1, 2, 2), 1, resolution=32, classes=10))
SPECS = [
    chain(MB4D.spec(16, 8)),
    chain(MB3D.spec(16, 4)),
    in_context(STEM.spec(16, 32)),
    in_context(EMBEDDING.spec(16, 8, width_out=24)),
    in_context(EMBEDDING.spec(16, 8, width_out=24, params={"layout": "3d"})),
    in_context(FLAT.spec(16, 4)),
    in_context(HEAD.spec(16, 4, width_out=10)),
    network_spec(SMALL),
    cold(MB4D.spec(16, 8)),
]
every_sequence = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind} {spec}")


def parts(spec: BlockSpec) -> list[nn.Module]:
    return list(blocks.build(spec).get_submodule("blocks").children())


@every_sequence
@torch.no_grad()
def test_a_sequence_is_its_blocks_one_after_another(spec: BlockSpec) -> None:
    module, x = blocks.build(spec), blocks.example_inputs(spec)["x"]
    expected = x
    children = list(module.get_submodule("blocks").children())
    assert [type(child) for child in children] == [blocks.load(block.kind) for block in blocks_of(spec)]
    for child in children:
        expected = child(expected)
    assert torch.equal(module(x), expected)
    assert not module.training and not any(child.training for child in children)
    assert tuple(expected.shape) == blocks.kind(spec.kind).output_shape(spec)
    assert expected.std() > 0.05 and expected.isfinite().all()


@pytest.mark.parametrize("spec", [MB4D.spec(16, 8), MB3D.spec(16, 4)], ids=str)
def test_the_copies_of_a_chain_share_no_weights(spec: BlockSpec) -> None:
    states = [dict(part.named_parameters()) for part in parts(chain(spec))]
    assert len(states) == len(blocks_of(chain(spec)))
    for one, other in combinations(states, 2):
        for name, value in one.items():
            assert value.data_ptr() != other[name].data_ptr() and not torch.equal(value, other[name]), name


def test_a_chain_to_be_trained_has_the_papers_weights_distinct_too() -> None:
    first, second, *_ = blocks.build(chain(MB4D.spec(16, 8)), init="paper").get_submodule("blocks").children()
    scales = [value for name, value in first.named_parameters() if name.endswith("gamma")]
    assert scales and all(bool((scale == 1e-5).all()) for scale in scales)
    weights = [next(value for value in part.parameters() if value.ndim == 4) for part in (first, second)]
    assert not torch.equal(*weights)


@every_sequence
def test_a_sequence_costs_what_its_blocks_cost(spec: BlockSpec) -> None:
    assert blocks.macs(spec) == sum(map(blocks.macs, blocks_of(spec)))
    assert blocks.parameters(spec) == sum(map(blocks.parameters, blocks_of(spec)))
    assert blocks.parameters(spec) == sum(value.numel() for value in blocks.build(spec).parameters())


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[5]], ids=["chain", "context"])
def test_a_chain_is_exported_to_onnx_and_computes_the_same(spec: BlockSpec, tmp_path: Path) -> None:
    from backends import registry

    try:
        exporter, runtime = registry.load_exporter("onnx"), registry.load_runtime("onnxruntime-cpu")
    except BackendMissing as error:
        pytest.skip(str(error))
    module, inputs, path = blocks.build(spec), blocks.example_inputs(spec), tmp_path / "chain.onnx"
    exporter.export(module, inputs, "fp32", path, exporter.options)
    with torch.no_grad():
        expected = module(**inputs)
    device = registry.load_device("host")
    with runtime.open(path, device, "fp32", 1, "cpu") as session:
        (found,) = session.run({name: value.numpy() for name, value in inputs.items()})
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
