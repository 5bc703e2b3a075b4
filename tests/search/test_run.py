"""A search goes from the table to a trained network, tells what it does, and goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgelut.compose import IncompleteNetwork
from edgelut.efficientformer import Config, get_config, network
from edgelut.errors import InvalidSpec
from edgelut.sequences import blocks_of
from edgelut.table import MemoryTable
from edgelut.types import BlockSpec, Entry, Latency, Target
from search import presets
from search.filling import Estimating
from search.presets import Preset
from search.run import METHODS, RESULT, Plan, Search
from search.slimming import Round, SearchUnlike, SlimSettings
from search.training import CHECKPOINT, Step, TrainSettings, read_metrics
from supernet.efficientformer import build_network

TARGET = Target("phone", "onnxruntime-native")
QUICK = TrainSettings(epochs=2, batch=64, lr=2e-2, warmup_epochs=0.5, augment=False)
CONFIG = Config((16, 16, 32, 32), (1, 1, 2, 2), 0, resolution=32, stem_stride=2, classes=10, distillation=False)
PRESET = Preset(
    "tiny", "digits", CONFIG, QUICK, QUICK, SlimSettings("normalised"), 320, images=64, calibration=2, batch=64
)


class Killed(Exception):
    """What stands for a kill."""


def cost_ns(spec: BlockSpec) -> float:
    """A device on which width costs and MB3D is a little dearer; a whole network is the sum."""
    if spec.kind == "network":
        return sum(map(cost_ns, blocks_of(spec)))
    each = {"MB4D": 1.0, "MB3D": 1.5, "flat": 0.0}.get(spec.kind, 0.5)
    return 1e3 * each * spec.width_in * spec.width_out


@dataclass
class Lab:
    """A device whose rows are had by asking."""

    table: MemoryTable = field(default_factory=MemoryTable)
    asked: list[int] = field(default_factory=list)

    def measure(self, specs: Sequence[BlockSpec]) -> None:
        self.asked.append(len(specs))
        for spec in specs:
            ns = cost_ns(spec)
            latency = Latency(ns, ns, ns, ns, ns, 16, 100, slope_ns=ns if spec.kind in ("MB4D", "MB3D") else None)
            own = spec.kind in ("MB4D", "MB3D", "network")
            self.table.put(Entry(spec, TARGET, latency if own else replace(latency, context_ns=ns)))


@dataclass
class Seen:
    """Everything that a search told."""

    stages: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    networks: list[Mapping[str, Any]] = field(default_factory=list)
    start: tuple[float, float] = (0.0, 0.0)
    rows: Mapping[str, int] = field(default_factory=dict)
    dies_at: str = ""

    def begun(self, full_ms: float, target_ms: float, rows: Mapping[str, int]) -> None:
        self.start, self.rows = (full_ms, target_ms), rows

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def step(self, of: str, step: Step) -> None:
        if of == self.dies_at and step.epoch == 2:
            raise Killed
        self.steps.append(of)

    def round(self, found: Round) -> None:
        self.rounds.append(found)
        if self.dies_at == f"round {found.number}":
            raise Killed

    def network(self, found: Mapping[str, Any]) -> None:
        self.networks.append(found)


def search(folder: Path, lab: Lab, seen: Seen, **plan: Any) -> Search:
    return Search(Plan(PRESET, TARGET, **plan), lab.table, folder, seen, measure=lab.measure)


def test_a_search_has_its_rows_measured_finds_trains_and_measures_what_it_found(tmp_path: Path) -> None:
    lab, seen = Lab(), Seen()
    found = search(tmp_path, lab, seen, compare=True, seeds=2).run(measure_found=lab.measure)
    blocks = len(PRESET.space.blocks())
    assert lab.asked[0] == blocks and seen.stages[0] == f"measuring {blocks} rows that the table lacks"
    assert seen.start == (found.full_ms, found.target_ms) and found.target_ms == pytest.approx(found.full_ms / 2)
    assert found.rounds[-1].latency_ms <= found.target_ms < found.rounds[-2].latency_ms
    assert list(found.rounds) == seen.rounds and found.lookup_share is not None and 0 < found.lookup_share < 1
    assert [(one["method"], one["seed"]) for one in found.networks] == [(name, s) for s in (0, 1) for name in METHODS]
    assert found.rows == {"measured": blocks, "estimated": 0}
    for one in found.networks:
        assert one["estimated_rows"] == 0
        assert one["measured_ms"] == pytest.approx(one["predicted_ms"]) and one["predicted_ms"] <= found.target_ms
        assert 0 <= one["valid_accuracy"] <= 1 and 0 <= one["test_accuracy"] <= 1
        config = Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in one["config"].items()})
        assert one["parameters"] == sum(value.numel() for value in build_network(network(config)).parameters())
    by_method = {one["method"]: one for one in found.networks}
    assert by_method["uniform"]["inherited_accuracy"] is None and by_method["random"]["inherited_accuracy"] is not None
    assert json.loads((tmp_path / RESULT).read_text())["networks"] == [dict(one) for one in found.networks]


def test_what_the_table_lacks_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    lab, seen = Lab(), Seen()
    told = Search(Plan(PRESET, TARGET), lab.table, tmp_path, seen)
    with pytest.raises(IncompleteNetwork, match=f"needs {len(PRESET.space.blocks())} rows on .*--measure-missing"):
        told.run()
    assert not seen.stages and not (tmp_path / "supernet").exists()


def test_a_search_by_estimates_says_how_many_rows_were_measured_and_how_many_estimated(tmp_path: Path) -> None:
    lab, seen = Lab(), Seen()
    plan = Plan(PRESET, TARGET)
    found = Search(plan, lab.table, tmp_path, seen, measure=lab.measure, estimating=Estimating()).run(lab.measure)
    blocks, first = len(PRESET.space.blocks()), lab.asked[0]
    assert first < blocks and seen.stages[0].endswith(f", and estimating the other {blocks - first}")
    assert found.rows == seen.rows == json.loads((tmp_path / RESULT).read_text())["rows"]
    assert found.rows["estimated"] > 0 and sum(found.rows.values()) == blocks
    (one,) = found.networks
    assert 0 <= one["estimated_rows"] <= found.rows["estimated"]
    assert one["measured_ms"] == pytest.approx(one["predicted_ms"], rel=0.1)
    again = Seen()
    rerun = Search(plan, lab.table, tmp_path, again, estimating=Estimating()).run()
    assert rerun.rounds == found.rounds and rerun.networks == found.networks


@pytest.mark.parametrize("where", ["supernet", "round 1", "slimmed seed 0"])
def test_a_search_that_was_cut_off_comes_to_the_same_network(where: str, tmp_path: Path) -> None:
    lab, whole = Lab(), Seen()
    expected = search(tmp_path / "whole", lab, whole).run()
    with pytest.raises(Killed):
        search(tmp_path / "cut", lab, Seen(dies_at=where)).run()
    again = Seen()
    found = search(tmp_path / "cut", lab, again).run()
    assert found.rounds == expected.rounds and found.networks == expected.networks
    assert again.steps.count("supernet") == (1 if where == "supernet" else 0)
    lines = [line["epoch"] for line in read_metrics(tmp_path / "cut" / "networks" / "slimmed-0")]
    assert lines == [1, 2]


def test_a_folder_of_another_search_and_a_target_that_all_networks_meet_are_refused(tmp_path: Path) -> None:
    lab = Lab()
    with pytest.raises(InvalidSpec, match="its largest network takes"):
        search(tmp_path / "easy", lab, Seen(), target_ms=1e6).run()
    with pytest.raises(SearchUnlike, match="another seed: give another folder"):
        search(tmp_path / "easy", lab, Seen(), target_ms=1e6, seed=1).run()


def test_a_checkpoint_starts_the_supernet_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    lab, seen = Lab(), Seen()
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(InvalidSpec, match=r"text\.pt is no checkpoint that can be read safely"):
        search(tmp_path / "a", lab, seen, initial=tmp_path / "text.pt").run()
    torch.save(build_network("L1", init="random").state_dict(), tmp_path / "l1.pt")
    config = replace(get_config("L1"), mb3d=0, name="", resolution=32, depths=(1, 1, 1, 1), classes=10)
    quick = replace(QUICK, epochs=1, batch=32)
    wide = replace(PRESET, config=config, supernet=quick, network=quick, limit=32, images=16, calibration=1, batch=16)
    plan, taken = Plan(wide, TARGET, initial=tmp_path / "l1.pt"), Seen(dies_at="round 0")
    with pytest.raises(Killed):
        Search(plan, lab.table, tmp_path / "b", taken, measure=lab.measure).run()
    # Stem, three embeddings and an MB4D a stage; the head has other classes, deeper blocks no place, the MB3D another map.
    assert any(text.startswith("8 parts taken from l1.pt") for text in taken.stages), taken.stages


def test_the_expected_latency_joins_the_supernet_s_loss(tmp_path: Path) -> None:
    lab, chances = Lab(), []
    for weight in (0.0, 50.0):
        preset = replace(PRESET, latency_weight=weight, supernet=replace(QUICK, alpha_lr=0.1))
        with pytest.raises(Killed):
            folder = tmp_path / str(weight)
            Search(Plan(preset, TARGET), lab.table, folder, Seen(dies_at="round 0"), measure=lab.measure).run()
        held = torch.load(folder / "supernet" / CHECKPOINT, weights_only=True)["model"]
        alphas = [value.softmax(0)[-1] for name, value in held.items() if name.endswith("alpha")]
        chances.append(float(torch.stack(alphas).mean()))
    assert chances[1] > chances[0] + 0.1  # of the identity, which costs nothing


def test_presets_of_imagenet_have_the_paper_s_settings() -> None:
    found = presets.get("imagenet-l7")
    assert (found.config.resolution, found.config.widths) == (224, (96, 192, 384, 768))
    assert found.config.depths == (6, 6, 18, 8)
    settings = found.network
    assert (settings.epochs, settings.batch, settings.lr, settings.weight_decay) == (300, 1024, 1e-3, 0.025)
    assert settings.warmup_epochs == 5 and found.slim == SlimSettings("published", step=16)
    with pytest.raises(InvalidSpec, match="no preset 'x' of a search; there are digits, fashion-small"):
        presets.get("x")
