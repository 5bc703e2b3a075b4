"""A search from end to end: table, supernet, slimming, other ways to compare with, training and measuring of what was found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from edgelut.compose import GUESSED, Composition, compose
from edgelut.efficientformer import Config, network
from edgelut.errors import InvalidSpec
from edgelut.sequences import network_spec
from edgelut.table import LatencySource
from edgelut.types import BlockSpec, Target
from supernet.efficientformer import EfficientFormer
from supernet.slim import extract
from supernet.supernet import State, Supernet

from . import baselines
from .baselines import Candidate
from .data import Data, load
from .evaluation import inherited_accuracy, stage_channels
from .filling import Estimating, Measure, fill
from .latency import LatencyModel
from .presets import Preset
from .processes import train_in
from .slimming import Evaluate, Round, SearchUnlike, TargetOutOfReach, read_rounds, slim
from .training import CHECKPOINT, Step, Trained, TrainSettings, mixed

PLAN, CANDIDATES, RESULT = "search.json", "candidates.json", "result.json"
METHODS = ("slimmed", "uniform", "random", "evolutionary")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is searched for. `target_ms` None is the preset's share of the full network's latency.

    `seed` is that of the supernet and of all choices; each found network is trained with so many `seeds`, from 0. With
    `compare`, the other ways search too, with as many looks at networks as slimming took. `initial` is a checkpoint of L1, L3 or
    L7 that the supernet starts from. Networks are trained in so many `processes`, each on a GPU of its own where there are any.
    """

    preset: Preset
    target: Target
    target_ms: float | None = None
    seed: int = 0
    seeds: int = 1
    compare: bool = False
    initial: Path | None = None
    processes: int = 1

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a folder's search to go on."""
        own = {**asdict(self.preset), "name": self.preset.name}
        own = {name: value for name, value in own.items() if name not in ("half_width", "max_rounds")}
        found = {"preset": own, "target": str(self.target), "target_ms": self.target_ms, "seed": self.seed}
        loaded: dict[str, Any] = json.loads(json.dumps({**found, "initial": str(self.initial or "")}))
        return loaded


class Watcher(Protocol):
    """Who is told how far a search is."""

    def begun(self, full_ms: float, target_ms: float, rows: Mapping[str, int]) -> None:
        """The table is complete: what the full network costs, what is searched for, and how many rows are of which kind."""

    def stage(self, text: str) -> None:
        """Something else begins."""

    def step(self, of: str, step: Step) -> None:
        """A training got on."""

    def round(self, found: Round) -> None:
        """Slimming took a step."""

    def network(self, found: Mapping[str, Any]) -> None:
        """A network was trained: see `Outcome.networks`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search came to. `networks` has one mapping for each network and seed, as `network_content` writes it.

    `lookup_share` is the time spent in the table over that of slimming, None where slimming was done before. `rows` counts the
    space's rows: those that were measured, those that were estimated.
    """

    target_ms: float
    full_ms: float
    rounds: tuple[Round, ...]
    networks: tuple[Mapping[str, Any], ...]
    lookups: int
    lookup_share: float | None
    rows: Mapping[str, int]
    seconds: Mapping[str, float]  # of each part, as far as it was done now
    precision: str  # that this machine trains in


class Search:
    """One search in one folder; made again with the same plan it goes on where it was cut off.

    `measure` has missing rows measured, None where they are only to be told; with `estimating` as few as estimates of the others
    need. `measure_found` whether what was found is measured as a whole.
    """

    def __init__(
        self,
        plan: Plan,
        source: LatencySource,
        folder: Path,
        watcher: Watcher,
        *,
        measure: Measure | None = None,
        estimating: Estimating | None = None,
    ) -> None:
        self._plan, self._source, self._folder, self._watcher, self._measure = plan, source, folder, watcher, measure
        self._estimating = estimating
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._seconds: dict[str, float] = {}

    def run(self, measure_found: Measure | None = None) -> Outcome:
        """Search; raise IncompleteNetwork where the table lacks rows, TargetOutOfReach, SearchUnlike, DataMissing."""
        self._keep_plan()
        plan, preset = self._plan, self._plan.preset
        data = load(preset.data, preset.config.resolution, limit=preset.limit)
        preset = replace(preset, config=replace(preset.config, classes=data.classes))
        with self._timed("table"):
            latency, self._source = fill(
                self._source,
                plan.target,
                preset.space,
                measure=self._measure,
                estimating=self._estimating,
                tell=self._watcher.stage,
            )
        torch.manual_seed(plan.seed)
        supernet = Supernet(preset.config, noise=preset.noise)
        full_ms = latency.latency_ms(supernet.full().config(supernet.config))
        target_ms = plan.target_ms or preset.share * full_ms
        if target_ms >= full_ms:
            raise InvalidSpec(
                f"the whole space meets {target_ms:g} ms: its largest network takes {full_ms:.4g} ms on {plan.target}"
            )
        rows = {"measured": len(latency.rows) - latency.estimated, "estimated": latency.estimated}
        self._watcher.begun(full_ms, target_ms, rows)
        with self._timed("supernet"):
            self._train_supernet(supernet, data, preset, latency, full_ms)
        supernet.eval()
        evaluate = inherited_accuracy(
            data, images=preset.images, calibration=preset.calibration, batch=preset.batch, device=self._device
        )
        with self._timed("slimming"):
            rounds, share = self._slim(supernet, data, latency, target_ms, evaluate, preset)
        candidates = {"slimmed": Candidate(rounds[-1].state, rounds[-1].latency_ms, rounds[-1].accuracy)}
        if plan.compare:
            with self._timed("others"):
                candidates |= self._others(supernet, data, latency, target_ms, evaluate, rounds, preset)
        configs = {name: one.state.config(supernet.config) for name, one in candidates.items()}
        with self._timed("wholes"):
            compositions = self._compositions(configs, measure_found)
        networks = self._train_found(candidates, configs, compositions, data, preset)
        found = Outcome(
            target_ms,
            full_ms,
            tuple(rounds),
            tuple(networks),
            latency.lookups,
            share,
            rows,
            dict(self._seconds),
            mixed(preset.network.precision),
        )
        _write(self._folder / RESULT, outcome_json(found))
        return found

    def _keep_plan(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path, own = self._folder / PLAN, self._plan.identity()
        if not path.exists():
            _write(path, own)
            return
        held = json.loads(path.read_text())
        unlike = [name for name, value in own.items() if held.get(name) != value]
        if unlike:
            raise SearchUnlike(
                f"{self._folder} holds a search with another {unlike[0].replace('_', ' ')}: give another folder, or delete it"
            )

    def _train_supernet(
        self, supernet: Supernet, data: Data, preset: Preset, latency: LatencyModel, full_ms: float
    ) -> None:
        initial, folder = self._plan.initial, self._folder / "supernet"
        self._watcher.stage("training the supernet")
        if initial is not None and not (folder / CHECKPOINT).exists():
            inherited = supernet.load_checkpoint(_checkpoint(initial))
            parts = (
                f"{len(inherited.taken)} parts taken from {initial.name}, {len(inherited.left)} keep their own weights"
            )
            self._watcher.stage(parts)

        settings = replace(preset.supernet, seed=self._plan.seed)
        weight = preset.latency_weight / full_ms
        extra = ExpectedLatency({spec: latency.block_ms(spec) for spec in latency.rows}, weight) if weight else None
        self._train("supernet", supernet, data, settings, folder, extra_loss=extra)

    def _slim(
        self,
        supernet: Supernet,
        data: Data,
        latency: LatencyModel,
        target_ms: float,
        evaluate: Evaluate,
        preset: Preset,
    ) -> tuple[list[Round], float | None]:
        self._watcher.stage("slimming")
        channels = stage_channels(data, preset.criterion, preset.calibration, batch=preset.batch, device=self._device)
        folder = self._folder / "slimming"
        known, asked, started = len(read_rounds(folder)), latency.seconds, time.monotonic()
        rounds = slim(supernet, latency, target_ms, evaluate, channels, folder, preset.slim, watch=self._watcher.round)
        seconds = time.monotonic() - started
        return rounds, (latency.seconds - asked) / seconds if len(rounds) > known else None

    def _others(
        self,
        supernet: Supernet,
        data: Data,
        latency: LatencyModel,
        target_ms: float,
        evaluate: Evaluate,
        rounds: Sequence[Round],
        preset: Preset,
    ) -> dict[str, Candidate]:
        """Return what the other ways find with as many looks as slimming took; from the folder, what was found before."""
        path = self._folder / CANDIDATES
        held = json.loads(path.read_text()) if path.exists() else {}
        budget, seed = 1 + sum(len(one.actions) for one in rounds), self._plan.seed
        found: dict[str, Candidate] = {name: _candidate(value) for name, value in held.items()}
        if set(found) >= set(METHODS[1:]):
            return found
        full = extract(supernet, supernet.full())
        looks = stage_channels(data, preset.criterion, preset.calibration, batch=preset.batch, device=self._device)
        channels = looks(full)
        ways: dict[str, Callable[[], Candidate]] = {
            "uniform": lambda: baselines.uniform(supernet, latency, target_ms),
            "random": lambda: baselines.random_search(
                supernet, latency, target_ms, evaluate, budget, seed, channels=channels
            ),
            "evolutionary": lambda: baselines.evolutionary(
                supernet, latency, target_ms, evaluate, budget, seed, channels=channels
            ),
        }
        for name, way in ways.items():
            if name in found:
                continue
            self._watcher.stage(f"{name} search, {budget} looks" if name != "uniform" else "uniform scaling")
            try:
                found[name] = way()
            except TargetOutOfReach as error:
                self._watcher.stage(f"{name}: {error}")
                continue
            _write(path, {known: _candidate_json(one) for known, one in found.items()})
        return found

    def _compositions(self, configs: Mapping[str, Config], measure_found: Measure | None) -> dict[str, Composition]:
        """Return each network's sum, and beside it its own row where it was measured as a whole."""
        nets = {name: network(config) for name, config in configs.items()}
        specs = list(dict.fromkeys(map(network_spec, nets.values())))
        known = self._source.find_many(specs, self._plan.target)
        lacks = [spec for spec, entry in zip(specs, known, strict=True) if entry is None]
        if lacks and measure_found is not None:
            self._watcher.stage(f"measuring {len(lacks)} found networks as a whole")
            measure_found(lacks)
        return {name: compose(one, self._plan.target, self._source) for name, one in nets.items()}

    def _train_found(
        self,
        candidates: Mapping[str, Candidate],
        configs: Mapping[str, Config],
        compositions: Mapping[str, Composition],
        data: Data,
        preset: Preset,
    ) -> list[Mapping[str, Any]]:
        networks: list[Mapping[str, Any]] = []
        for seed in range(self._plan.seeds):
            for name, config in configs.items():
                label = f"{name} seed {seed}"
                self._watcher.stage(f"training {label}")
                torch.manual_seed(seed)
                model = EfficientFormer(network(config))
                settings = replace(preset.network, seed=seed)
                folder = self._folder / "networks" / f"{name}-{seed}"
                with self._timed(label):
                    trained = self._train(label, model, data, settings, folder, test=True)
                parameters = sum(value.numel() for value in model.parameters())
                content = network_content(name, seed, config, candidates[name], compositions[name], trained, parameters)
                networks.append(content)
                self._watcher.network(content)
        return networks

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[part] = time.monotonic() - began

    def _train(
        self,
        label: str,
        model: nn.Module,
        data: Data,
        settings: TrainSettings,
        folder: Path,
        *,
        extra_loss: ExpectedLatency | None = None,
        test: bool = False,
    ) -> Trained:
        def watch(step: Step) -> None:
            self._watcher.step(label, step)

        processes = self._plan.processes
        return train_in(processes, model, data, settings, folder, watch=watch, extra_loss=extra_loss, test=test)


@dataclass(frozen=True, slots=True)
class ExpectedLatency:
    """A term of the loss: a weight times the supernet's expected latency, by the ms of its blocks."""

    rows: Mapping[BlockSpec, float]
    weight: float

    def __call__(self, model: nn.Module) -> torch.Tensor:
        assert isinstance(model, Supernet)
        return self.weight * model.expected_latency(self.rows.__getitem__)


def network_content(
    method: str,
    seed: int,
    config: Config,
    candidate: Candidate,
    composition: Composition,
    trained: Trained,
    parameters: int,
) -> dict[str, Any]:
    """Return what is told of a found and trained network: its shape, the table's word, the device's, and its accuracies."""
    measured = composition.measured
    shape = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    return {
        "method": method,
        "seed": seed,
        "config": {name: value for name, value in shape.items() if name != "name"},
        "predicted_ms": composition.ms,
        "low_ms": composition.interval_low_ns / 1e6,
        "high_ms": composition.interval_high_ns / 1e6,
        "estimated_rows": sum(part.entry.kind in GUESSED for part in composition.parts),
        "measured_ms": None if measured is None else measured.latency.ms,
        "measured_half_width": None if measured is None else measured.latency.half_width,
        "inherited_accuracy": candidate.accuracy,
        "valid_accuracy": trained.valid_accuracy,
        "test_accuracy": trained.test_accuracy,
        "parameters": parameters,
    }


def outcome_json(found: Outcome) -> dict[str, Any]:
    """Return the JSON form of a result; the rounds are in `slimming/rounds.jsonl`."""
    return {
        "target_ms": found.target_ms,
        "full_ms": found.full_ms,
        "rounds": len(found.rounds),
        "networks": [dict(one) for one in found.networks],
        "lookups": found.lookups,
        "lookup_share": found.lookup_share,
        "rows": dict(found.rows),
        "seconds": dict(found.seconds),
        "precision": found.precision,
    }


def _checkpoint(path: Path) -> Mapping[str, Any]:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InvalidSpec(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # whatever a file that is none makes of it
        raise InvalidSpec(f"{path} is no checkpoint that can be read safely: {error}") from error
    if not isinstance(held, Mapping):
        raise InvalidSpec(f"{path} holds a {type(held).__name__}, not the weights of a network by name")
    return held


def _candidate_json(one: Candidate) -> dict[str, Any]:
    return {"state": one.state.as_json(), "latency_ms": one.latency_ms, "accuracy": one.accuracy}


def _candidate(value: Mapping[str, Any]) -> Candidate:
    return Candidate(State.from_json(value["state"]), value["latency_ms"], value["accuracy"])


def _write(path: Path, content: Mapping[str, Any]) -> None:
    staged = path.with_suffix(".tmp")
    staged.write_text(json.dumps(content, indent=1) + "\n")
    staged.replace(path)
