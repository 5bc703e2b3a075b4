"""Other ways to a latency target on the same supernet and table: what slimming has to beat.

Networks are compared by accuracy with inherited weights, as slimming compares them, and all are trained from scratch later.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor, nn

from supernet.slim import extract, narrower
from supernet.supernet import STAGES, State, Supernet

from .latency import LatencyModel
from .slimming import Evaluate, TargetOutOfReach, path_importance

BAND = 0.9  # of the target: networks that are faster still are looked at last
PROPOSALS = 40  # for each look that a search has
POPULATION = (10, 20)

Four: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network and what is known of it; `accuracy` is with inherited weights, None where nobody looked."""

    state: State
    latency_ms: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class _Genes:
    depths: Four
    widths: Four
    mb3d: int


Watch: TypeAlias = Callable[[Candidate], None]


def uniform(supernet: Supernet, latency: LatencyModel, target_ms: float) -> Candidate:
    """Return the full network with every width times one factor, the largest that meets the target.

    Widths are rounded to the nearest of the space; all blocks and all MB3D that can stand at the end remain, and of each stage
    the first channels, for it is trained from scratch. Raises TargetOutOfReach.
    """
    full = supernet.full()
    least_ms = float("inf")
    for widths in _scaled(latency):
        channels = (range(widths[0]), range(widths[1]), range(widths[2]), range(widths[3]))
        state = State(full.kept, tuple(map(tuple, channels)), full.mb3d)  # type: ignore[arg-type]
        ms = latency.latency_ms(state.config(supernet.config))
        if ms <= target_ms:
            return Candidate(state, ms, None)
        least_ms = min(least_ms, ms)
    raise TargetOutOfReach(
        f"the full network is never as fast as {target_ms:g} ms on {latency.target}, however narrow: with all blocks of "
        f"depths {full.depths} the least is {least_ms:.4g} ms"
    )


def random_search(
    supernet: Supernet,
    latency: LatencyModel,
    target_ms: float,
    evaluate: Evaluate,
    budget: int,
    seed: int,
    *,
    channels: Sequence[Tensor],
    watch: Watch = lambda _: None,
) -> Candidate:
    """Return the most accurate of `budget` distinct networks that were drawn by the seed and meet the target.

    Depth and width of each stage and the number of MB3D are drawn evenly; `channels` is the importance of each stage's channels
    in the full network, four of (channels,). Networks within 10 % of the target are looked at as they come; where 40 draws a
    look give too few of them, the slowest of the faster ones follow. Raises TargetOutOfReach where none met the target.
    """
    networks = _Networks(supernet, latency, channels)
    looks = _Looks(networks, target_ms, evaluate, budget, watch)
    draw = random.Random(seed)
    for _ in range(PROPOSALS * budget):
        if looks.left == 0:
            break
        looks.offer(networks.drawn(draw))
    return looks.best()


def evolutionary(
    supernet: Supernet,
    latency: LatencyModel,
    target_ms: float,
    evaluate: Evaluate,
    budget: int,
    seed: int,
    *,
    channels: Sequence[Tensor],
    watch: Watch = lambda _: None,
) -> Candidate:
    """Return the most accurate of up to `budget` networks that NSGA-II (Deb et al. 2002) proposes under the target.

    To be within 10 % under the target is a constraint: a network that is not ranks by how far it is off, and neither it nor one
    that was looked at before uses up budget. Where 40 proposals a look give too few, the slowest of the faster ones follow.
    `channels` as in `random_search`. Raises TargetOutOfReach where no proposal met the target.
    """
    import optuna

    networks = _Networks(supernet, latency, channels)
    looks = _Looks(networks, target_ms, evaluate, budget, watch)
    population = min(max(budget // 3, POPULATION[0]), POPULATION[1])
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    optuna.logging.set_verbosity(said)
    for _ in range(PROPOSALS * budget):
        if looks.left == 0:
            break
        trial = study.ask()
        genes = networks.suggested(trial.suggest_int)
        looks.offer(genes)
        trial.set_constraint("off_ms", looks.off_ms(genes))
        study.tell(trial, looks.accuracy(genes))
    return looks.best()


class _Looks:
    """The networks that a search proposed, and those of them that it looked at: `budget` at most."""

    def __init__(self, networks: _Networks, target_ms: float, evaluate: Evaluate, budget: int, watch: Watch) -> None:
        self._networks, self._target_ms, self._budget = networks, target_ms, budget
        self._evaluate, self._watch = evaluate, watch
        self._ms: dict[_Genes, float] = {}
        self._found: dict[_Genes, Candidate] = {}

    @property
    def left(self) -> int:
        """How many networks may still be looked at."""
        return self._budget - len(self._found)

    def offer(self, genes: _Genes) -> None:
        """Take a proposal: it is looked at if it is new and near the target."""
        if genes not in self._ms:
            self._ms[genes] = self._networks.ms(genes)
            if self.off_ms(genes) <= 0:
                self._look(genes)

    def off_ms(self, genes: _Genes) -> float:
        """Return by how much a proposal is slower than the target or faster than the band under it; 0 or less within."""
        return max(self._ms[genes] - self._target_ms, BAND * self._target_ms - self._ms[genes])

    def accuracy(self, genes: _Genes) -> float:
        """Return a proposal's accuracy, 0 where nobody looked."""
        return self._found[genes].accuracy or 0.0 if genes in self._found else 0.0

    def best(self) -> Candidate:
        """Use what is left of the budget and return the most accurate network, the first of equals."""
        faster = [genes for genes, ms in self._ms.items() if ms <= self._target_ms and genes not in self._found]
        for genes in sorted(faster, key=self._ms.__getitem__, reverse=True)[: self.left]:
            self._look(genes)
        if not self._found:
            raise TargetOutOfReach(
                f"none of {len(self._ms)} networks that were tried is as fast as {self._target_ms:g} ms on "
                f"{self._networks.target}: the fastest takes {min(self._ms.values()):.4g} ms"
            )
        return max(self._found.values(), key=lambda one: one.accuracy or 0.0)

    def _look(self, genes: _Genes) -> None:
        model, state = self._networks.extracted(genes)
        self._found[genes] = Candidate(state, self._ms[genes], self._evaluate(model))
        self._watch(self._found[genes])


class _Networks:
    """The networks of a space by depths, widths and number of MB3D: the most important positions and channels are kept."""

    def __init__(self, supernet: Supernet, latency: LatencyModel, channels: Sequence[Tensor]) -> None:
        self.target = latency.target
        self._supernet, self._latency, self._channels = supernet, latency, channels
        self._most: Four = supernet.config.depths
        self._widths = [latency.space.widths(stage) for stage in range(STAGES)]
        self._order = []
        for stage in range(STAGES):
            worth = [path_importance(path, "published") for path in supernet.paths(stage)]
            self._order.append(sorted(range(len(worth)), key=lambda index: (-worth[index], index)))

    def drawn(self, source: random.Random) -> _Genes:
        """Return a network of the space drawn evenly, gene by gene."""
        depths = _four([source.randint(1, most) for most in self._most])
        widths = _four([source.choice(widths) for widths in self._widths])
        return _Genes(depths, widths, source.randint(0, self._room(depths)))

    def suggested(self, suggest_int: Callable[[str, int, int], int]) -> _Genes:
        """Return a network of suggested genes; more MB3D than fit are as many as fit."""
        depths = _four([suggest_int(f"depth{stage}", 1, most) for stage, most in enumerate(self._most)])
        chosen = [suggest_int(f"width{stage}", 0, len(widths) - 1) for stage, widths in enumerate(self._widths)]
        widths = _four([widths[index] for widths, index in zip(self._widths, chosen, strict=True)])
        mb3d = suggest_int("mb3d", 0, self._room(self._most))
        return _Genes(depths, widths, min(mb3d, self._room(depths)))

    def _room(self, depths: Four) -> int:
        """Return how many MB3D can stand at the end: tokens stay tokens."""
        room = 0
        for stage in reversed(range(STAGES)):
            if stage not in self._supernet.mb3d_stages:
                break
            room += depths[stage]
        return room

    def ms(self, genes: _Genes) -> float:
        """Return the sum of a network's rows, in ms."""
        config = replace(self._supernet.config, widths=genes.widths, depths=genes.depths, mb3d=genes.mb3d)
        return self._latency.latency_ms(config)

    def extracted(self, genes: _Genes) -> tuple[nn.Module, State]:
        """Return a network with the weights that it inherits, and its state."""
        full = self._supernet.full()
        kept = [tuple(sorted(order[:depth])) for order, depth in zip(self._order, genes.depths, strict=True)]
        state = State(tuple(kept), full.channels, genes.mb3d)  # type: ignore[arg-type]
        for stage, width in enumerate(genes.widths):
            if width < len(full.channels[stage]):
                state = narrower(state, stage, width, self._channels[stage])
        return extract(self._supernet, state), state


def _scaled(latency: LatencyModel) -> list[Four]:
    """Return the widths that one factor gives all stages, from the full ones down, each once.

    A stage's rounded width changes half-way between two of the space; half-way itself rounds down. So 1 and those factors give
    every result that there is.
    """
    widths = [latency.space.widths(stage) for stage in range(STAGES)]
    factors = {Fraction(1)}
    for stage in widths:
        factors |= {Fraction(low + high, 2 * stage[-1]) for low, high in pairwise(stage)}
    found: dict[Four, None] = {}
    for factor in sorted(factors, reverse=True):
        rounded = [min(stage, key=lambda width: (abs(width - factor * stage[-1]), width)) for stage in widths]
        found[_four(rounded)] = None
    return list(found)


def _four(values: Sequence[int]) -> Four:
    a, b, c, d = values
    return a, b, c, d
