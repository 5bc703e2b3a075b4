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

from torch import Tensor

from edgelut.efficientformer import Config
from supernet.slim import extract, narrower
from supernet.supernet import STAGES, State, Supernet

from .latency import LatencyModel
from .slimming import Evaluate, TargetOutOfReach, path_importance

BAND = 0.9  # random search first looks at networks between this share of the target and the target
DRAWS = 20_000  # networks that random search draws at most
TRIALS = 20  # networks that evolution proposes at most, for each that it may evaluate
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
    in the full network, four of (channels,). Networks within 10 % of the target are taken as they come; where 20,000 draws give
    fewer than `budget` of them, the slowest of the faster ones follow. Raises TargetOutOfReach where none met the target.
    """
    networks = _Networks(supernet, latency, channels)
    draw = random.Random(seed)
    near: list[_Genes] = []
    faster: list[_Genes] = []
    seen: set[_Genes] = set()
    for _ in range(DRAWS):
        genes = networks.draw(draw)
        if genes in seen:
            continue
        seen.add(genes)
        ms = networks.ms(genes)
        if ms <= target_ms:
            (near if ms > BAND * target_ms else faster).append(genes)
        if len(near) == budget:
            break
    if not near and not faster:
        raise networks.out_of_reach(target_ms, seen)
    faster.sort(key=networks.ms, reverse=True)
    found = []
    for genes in (near + faster)[:budget]:
        found.append(networks.look(genes, evaluate))
        watch(found[-1])
    return _best(found)


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

    The target is a constraint: a network that misses it is not evaluated and ranks by how much it misses, and one that was
    evaluated before is not again; neither uses up budget, and at most 20 proposals a look are made. `channels` as in
    `random_search`. Raises TargetOutOfReach where no proposal met the target.
    """
    import optuna

    networks = _Networks(supernet, latency, channels)
    population = min(max(budget // 6, POPULATION[0]), POPULATION[1])
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    optuna.logging.set_verbosity(said)
    found: dict[_Genes, Candidate] = {}
    seen: set[_Genes] = set()
    for _ in range(TRIALS * max(budget, population)):
        if len(found) >= budget:
            break
        trial = study.ask()
        genes = networks.suggested(trial.suggest_int)
        seen.add(genes)
        over = networks.ms(genes) - target_ms
        trial.set_constraint("over_ms", over)
        if over <= 0 and genes not in found:
            found[genes] = networks.look(genes, evaluate)
            watch(found[genes])
        study.tell(trial, found[genes].accuracy if genes in found else 0.0)
    if not found:
        raise networks.out_of_reach(target_ms, seen)
    return _best(list(found.values()))


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the most accurate candidate, the first of equals; one that nobody looked at comes last."""
    return max(candidates, key=lambda one: -1.0 if one.accuracy is None else one.accuracy)


class _Networks:
    """The networks of a space by depths, widths and number of MB3D: the most important positions and channels are kept."""

    def __init__(self, supernet: Supernet, latency: LatencyModel, channels: Sequence[Tensor]) -> None:
        self._supernet, self._latency, self._channels = supernet, latency, channels
        self._most: Four = supernet.config.depths
        self._widths = [latency.space.widths(stage) for stage in range(STAGES)]
        self._order = []
        for stage in range(STAGES):
            worth = [path_importance(path, "published") for path in supernet.paths(stage)]
            self._order.append(sorted(range(len(worth)), key=lambda index: (-worth[index], index)))

    def draw(self, source: random.Random) -> _Genes:
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
        return self._latency.latency_ms(_config(self._supernet, genes))

    def look(self, genes: _Genes, evaluate: Evaluate) -> Candidate:
        """Return a network with its accuracy with inherited weights."""
        full = self._supernet.full()
        kept = [tuple(sorted(order[:depth])) for order, depth in zip(self._order, genes.depths, strict=True)]
        state = State(tuple(kept), full.channels, genes.mb3d)  # type: ignore[arg-type]
        for stage, width in enumerate(genes.widths):
            if width < len(full.channels[stage]):
                state = narrower(state, stage, width, self._channels[stage])
        return Candidate(state, self.ms(genes), evaluate(extract(self._supernet, state)))

    def out_of_reach(self, target_ms: float, seen: set[_Genes]) -> TargetOutOfReach:
        """Return the error of a search none of whose networks met the target."""
        fastest = min(map(self.ms, seen))
        return TargetOutOfReach(
            f"none of {len(seen)} networks that were tried is as fast as {target_ms:g} ms on {self._latency.target}: the "
            f"fastest takes {fastest:.4g} ms"
        )


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


def _config(supernet: Supernet, genes: _Genes) -> Config:
    return replace(supernet.config, widths=genes.widths, depths=genes.depths, mb3d=genes.mb3d, name="")


def _four(values: Sequence[int]) -> Four:
    a, b, c, d = values
    return a, b, c, d
