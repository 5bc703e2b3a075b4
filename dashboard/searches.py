"""Searches as pages show them: what their events tell, put together; whoever may submit wrote them, so each is read with care."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean, stdev
from typing import Any

import msgspec

from edgelut import wire
from edgelut.efficientformer import Config
from edgelut.errors import InvalidSpec
from edgelut.searches import SLACK, SearchEvent, SearchRun

from .address import link
from .networks import address_of

METHODS = ("slimmed", "evolutionary", "random", "uniform", "full")
SAID = {
    "slimmed": "found by slimming",
    "evolutionary": "found by an evolutionary search",
    "random": "the best of random draws",
    "uniform": "every width scaled alike",
    "full": "the whole supernet's network",
}
SYMBOLS = {"running": "▶ running", "done": "✓ done", "failed": "✖ failed", "interrupted": "× interrupted"}
CHIPS = {"running": "good", "done": "good", "failed": "bad", "interrupted": "warn"}
SILENT_S = 300.0  # a search that runs and says nothing for so long may have been killed
Four = tuple[int, int, int, int]


class SearchesPage(msgspec.Struct, frozen=True):
    """What GET /searches answers."""

    searches: list[SearchRun]
    next_cursor: str | None = None


class EventsPage(msgspec.Struct, frozen=True):
    """What GET /searches/{id}/events answers."""

    events: list[SearchEvent]


class Epoch(msgspec.Struct, frozen=True):
    """A point of a training."""

    of: str
    step: int
    loss: float | None = None
    accuracy: float | None = None
    steps: int | None = None
    epoch: float | None = None
    lr: float | None = None
    seconds: float | None = None
    tau: float | None = None


class Action(msgspec.Struct, frozen=True):
    """Something that a round of slimming could do."""

    kind: str
    what: str
    latency_ms: float
    accuracy: float
    drop: float
    saving_ms: float
    score: float | None = None


class Round(msgspec.Struct, frozen=True):
    """A round of slimming: where it stood, what it could do, and what it did."""

    round: int
    latency_ms: float
    accuracy: float
    depths: Four
    widths: Four
    mb3d: int
    actions: tuple[Action, ...] = ()
    chosen: int | None = None

    @property
    def taken(self) -> Action | None:
        """The action that it took; None for the last one, which met the target."""
        return self.actions[self.chosen] if self.chosen is not None and 0 <= self.chosen < len(self.actions) else None


class Shape(msgspec.Struct, frozen=True):
    """A network of the family."""

    widths: Four
    depths: Four
    mb3d: int
    resolution: int = 224
    stem_stride: int = 4
    classes: int = 1000
    distillation: bool = True


class Network(msgspec.Struct, frozen=True):
    """A network that was trained."""

    method: str
    seed: int
    config: Shape
    predicted_ms: float
    valid_accuracy: float | None = None
    test_accuracy: float | None = None
    inherited_accuracy: float | None = None
    measured_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    parameters: int | None = None

    @property
    def name(self) -> str:
        """Its method with its seed."""
        return f"{self.method} seed {self.seed}"

    @property
    def ms(self) -> float:
        """Its latency as a whole where that was measured, else the sum of its rows."""
        return self.predicted_ms if self.measured_ms is None else self.measured_ms

    @property
    def accuracy(self) -> float | None:
        """Of test images, else of validation images."""
        return self.valid_accuracy if self.test_accuracy is None else self.test_accuracy

    @property
    def off(self) -> float | None:
        """The sum of its rows against what was measured, less 1."""
        return self.predicted_ms / self.measured_ms - 1 if self.measured_ms else None


@dataclass(slots=True)
class Story:
    """What happened in a search, as far as it has been read. What comes again takes the place of what was before."""

    stages: list[tuple[datetime, str]] = field(default_factory=list)
    epochs: dict[str, dict[int, Epoch]] = field(default_factory=dict)
    rounds: dict[int, Round] = field(default_factory=dict)
    networks: dict[tuple[str, int], Network] = field(default_factory=dict)
    last: int = -1  # number of the last event
    unread: int = 0  # events that are not in the form of storage.md

    def add(self, events: Iterable[SearchEvent]) -> set[str]:
        """Take further events and return the kinds that came; those that cannot be read are counted."""
        kinds: set[str] = set()
        for event in events:
            if event.number > self.last:
                self.last = event.number
                kinds.add(event.kind)
                try:
                    self._take(event)
                except InvalidSpec:
                    self.unread += 1
        return kinds

    def _take(self, event: SearchEvent) -> None:
        if event.kind == "stage":
            self.stages.append((event.at, str(event.content.get("text", ""))))
        elif event.kind == "epoch":
            epoch = wire.load(Epoch, event.content)
            self.epochs.setdefault(epoch.of, {})[epoch.step] = epoch
        elif event.kind == "round":
            round_ = wire.load(Round, event.content)
            self.rounds[round_.round] = round_
        else:
            network = wire.load(Network, event.content)
            self.networks[network.method, network.seed] = network

    @property
    def path(self) -> list[Round]:
        """The rounds in order."""
        return [self.rounds[number] for number in sorted(self.rounds)]

    @property
    def found(self) -> list[Network]:
        """The networks by method and seed."""
        return sorted(self.networks.values(), key=lambda one: (rank(one.method), one.method, one.seed))

    def training(self, of: str) -> list[Epoch]:
        """Return the points of a training in order."""
        epochs = self.epochs.get(of, {})
        return [epochs[step] for step in sorted(epochs)]


def rank(method: str) -> int:
    """Return a method's place: those that are known first."""
    return METHODS.index(method) if method in METHODS else len(METHODS)


def meets(network: Network, target_ms: float) -> bool:
    """Say whether a network is at most 2 % above the target."""
    return network.ms <= target_ms * (1 + SLACK)


@dataclass(frozen=True, slots=True)
class Method:
    """What one way of searching came to, over its seeds; accuracies are of test images, else of validation images."""

    name: str
    networks: tuple[Network, ...]

    @property
    def accuracies(self) -> list[float]:
        """Those that are known."""
        return [one.accuracy for one in self.networks if one.accuracy is not None]

    @property
    def mean(self) -> float | None:
        """Their mean."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """Their standard deviation, from two on."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def ms(self) -> float:
        """The mean latency."""
        return fmean(one.ms for one in self.networks)


def methods(networks: Sequence[Network]) -> list[Method]:
    """Return the methods of networks that are in order."""
    names = dict.fromkeys(one.method for one in networks)
    return [Method(name, tuple(one for one in networks if one.method == name)) for name in names]


def share_of(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage; empty for none."""
    return "" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def ms_of(value: float | None) -> str:
    """Return milliseconds; empty for none."""
    return "" if value is None else f"{value:.4g} ms"


def going(run: SearchRun) -> str:
    """Return what a search does now and how far that is."""
    if run.state != "running":
        return SYMBOLS[run.state]
    share = "" if run.share is None else f" {math.floor(100 * run.share)} %"
    return f"{SYMBOLS['running']}{share}: {run.stage or 'begun'}"


def silence(run: SearchRun, now: datetime | None = None) -> str:
    """Return how long a search that is said to run was not heard of, where that is long; else nothing."""
    quiet = ((now or datetime.now(UTC)) - run.updated_at).total_seconds()
    if run.state != "running" or quiet < SILENT_S:
        return ""
    span = (
        f"{quiet / 60:.0f} min"
        if quiet < 5400
        else f"{quiet / 3600:.0f} h"
        if quiet < 172_800
        else f"{quiet / 86400:.0f} days"
    )
    return f"nothing was heard of it for {span}: it may have been killed"


def composer(network: Network, run: SearchRun) -> str:
    """Return the address of the page that shows a network on the search's target; none for one that is not of the family."""
    shape: Mapping[str, Any] = msgspec.structs.asdict(network.config)
    try:
        config = Config(**shape, name="efficientformer-l1")
    except InvalidSpec:
        return ""
    return link("/network", **address_of(config), targets=str(run.target))


def thinned(points: Sequence[Epoch], most: int = 400) -> list[Epoch]:
    """Return at most so many points of a training: a chart has no more pixels. The losses between two are their mean."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    found = []
    for start in range(0, len(points), size):
        some = points[start : start + size]
        losses = [one.loss for one in some if one.loss is not None]
        accuracies = [one.accuracy for one in some if one.accuracy is not None]
        found.append(
            msgspec.structs.replace(
                some[-1], loss=fmean(losses) if losses else None, accuracy=accuracies[-1] if accuracies else None
            )
        )
    return found
