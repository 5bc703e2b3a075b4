"""Real exports of small blocks, and artifacts whose numbers are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from backends import registry
from backends.base import Exporter
from backends.exporters import onnx
from edgelut.blocks import IDENTITY, MB4D
from edgelut.errors import ParityFailed, Unsupported
from profiler import exporting

SPEC = MB4D.spec(16, 7)


class Perturbing(Exporter):
    """Exports the module with one weight of one layer off."""

    suffix = ".onnx"
    precisions = ("fp32",)
    version = "1"

    def __init__(self, name: str, by: float) -> None:
        self._name, self._by, self._exporter = name, by, registry.load_exporter("onnx")

    def export(
        self, module: Any, inputs: Mapping[str, Any], precision: str, path: Path, options: Mapping[str, Any]
    ) -> None:
        weight = dict(module.named_parameters())[self._name]
        with torch.no_grad():
            before = weight.flatten()[0].item()
            weight.view(-1)[0] = before + self._by
            self._exporter.export(module, inputs, precision, path, self._exporter.options)
            weight.view(-1)[0] = before

    def digest(self, path: Path) -> str:
        return self._exporter.digest(path)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Any:
    def plant_(name: str, by: float) -> None:
        exporter = Perturbing(name, by)
        monkeypatch.setattr(registry, "load_exporter", lambda _: exporter)

    return plant_


@pytest.mark.parametrize("name", ["fc1.weight", "fc2.weight", "norm2.bias", "scale1.gamma"])
def test_a_planted_wrong_weight_fails_parity_and_nothing_is_kept(plant: Any, name: str, tmp_path: Path) -> None:
    plant(name, 0.05)
    with pytest.raises(ParityFailed, match=r"MB4D 16 @7 as onnx fp32: outputs are .* allowed are 1e-05"):
        exporting.export(SPEC, "onnx", "fp32", {}, tmp_path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_the_same_export_without_the_wrong_weight_passes(plant: Any, tmp_path: Path) -> None:
    plant("fc1.weight", 0.0)
    stored, made = exporting.export(SPEC, "onnx", "fp32", {}, tmp_path)
    assert made and 0 <= stored.artifact.parity_error <= 1e-5


def test_a_real_export_is_made_once_and_again_when_it_is_damaged(tmp_path: Path) -> None:
    first, made = exporting.export(SPEC, "onnx", "fp32", {}, tmp_path)
    assert made and first.artifact.size_bytes == first.path.stat().st_size
    again, made = exporting.export(SPEC, "onnx", "fp32", {}, tmp_path)
    assert not made and again.artifact == first.artifact
    good = first.path.read_bytes()
    first.path.write_bytes(good[:-1])
    again, made = exporting.export(SPEC, "onnx", "fp32", {}, tmp_path)
    assert made and again.artifact == first.artifact and again.path.read_bytes() == good


def test_an_artifact_that_only_passes_its_input_on_fails_parity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(registry.load_exporter("null")), "checked", True)
    with pytest.raises(ParityFailed, match="outputs are 1 of the branch off"):
        exporting.export(SPEC, "null", "fp32", {}, tmp_path)
    assert exporting.export(IDENTITY.spec(8, 4), "null", "fp32", {}, tmp_path)[1]


def test_an_option_of_an_exporter_is_part_of_its_artifacts_key(tmp_path: Path) -> None:
    defaults = registry.load_exporter("onnx").options
    assert exporting.export(SPEC, "onnx", "fp32", {}, tmp_path)[1]
    assert not exporting.export(SPEC, "onnx", "fp32", dict(defaults), tmp_path)[1]


def test_what_an_exporter_does_not_have_is_refused_with_what_it_has(tmp_path: Path) -> None:
    exporter = registry.load_exporter("onnx")
    with pytest.raises(Unsupported, match=f"no option nought; its options: {', '.join(sorted(exporter.options))}"):
        exporting.export(SPEC, "onnx", "fp32", {"nought": 1}, tmp_path)
    with pytest.raises(Unsupported, match="not as fp8"):
        exporting.export(SPEC, "onnx", "fp8", {}, tmp_path)
    assert onnx.__name__ == type(exporter).__module__
