"""Latency-driven slimming: from the supernet to a network that meets a target (EfficientFormer, section 4.2, algorithm 1)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from edgelut.errors import EdgelutError
from supernet.metapath import IDENTITY, MetaPath
from supernet.slim import extract, narrower
from supernet.supernet import STAGES, State, Supernet

from .latency import LatencyModel

ROUNDS = "rounds.jsonl"
Importance: TypeAlias = Literal["published", "normalised"]
ActionKind: TypeAlias = Literal["depth", "mb3d", "width"]
Evaluate: TypeAlias = Callable[[nn.Module], float]  # a network with inherited weights -> its accuracy
Channels: TypeAlias = Callable[[nn.Module], list[Tensor]]  # such a network -> the importance of each stage's channels


class TargetOutOfReach(EdgelutError, ValueError):
    """No network of the space is as fast as the target: says which is the fastest that was found."""


class SearchUnlike(EdgelutError, ValueError):
    """A folder holds the rounds of another search: says what differs."""


@dataclass(frozen=True, slots=True)
class SlimSettings:
    """How the search goes. `published` importance is as the paper has it; `normalised` takes means where it takes sums.

    `overshoot` counts all that an action saves, as published; without it, what lies beyond the target counts for nothing, which
    matters where one action is a large part of what there is to save.
    """

    importance: Importance = "published"
    step: int = 16
    overshoot: bool = True
    max_rounds: int = 1000


@dataclass(frozen=True, slots=True)
class Action:
    """One way to make a network faster, with what it costs; `score` is the accuracy lost for each ms that counts."""

    kind: ActionKind
    what: str
    state: State
    latency_ms: float
    accuracy: float
    drop: float
    saving_ms: float
    counted_ms: float  # of the saving

    @property
    def score(self) -> float:
        """Accuracy lost per counted ms; less is better, and below zero it gains."""
        return self.drop / self.counted_ms


@dataclass(frozen=True, slots=True)
class Round:
    """One round: where it stood, what it could do, and what it did. The last one, which met the target, did nothing."""

    number: int
    state: State
    latency_ms: float
    accuracy: float
    actions: tuple[Action, ...]
    chosen: int | None

    def as_json(self) -> dict[str, Any]:
        """Return the line that is written of it."""
        actions = [{**asdict(one), "state": one.state.as_json(), "score": one.score} for one in self.actions]
        return {
            "round": self.number,
            "latency_ms": self.latency_ms,
            "accuracy": self.accuracy,
            "state": self.state.as_json(),
            "actions": actions,
            "chosen": self.chosen,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Round:
        """Return the round of a line."""
        actions = []
        for one in value["actions"]:
            fields = {name: found for name, found in one.items() if name != "score"}
            actions.append(Action(**{**fields, "state": State.from_json(one["state"])}))
        state = State.from_json(value["state"])
        return cls(value["round"], state, value["latency_ms"], value["accuracy"], tuple(actions), value["chosen"])


def path_importance(path: MetaPath, how: Importance) -> float:
    """Return how much a position matters: the probabilities of its blocks over that of the identity.

    Stages 1 and 2: p4D / pI; stages 3 and 4: (p3D + p4D) / pI, or half of it where it is normalised, so that equal
    probabilities are worth the same in all stages.
    """
    shares: dict[str, float] = dict(zip(path.choices, path.probabilities().tolist(), strict=True))
    blocks = [share for name, share in shares.items() if name != IDENTITY]
    return sum(blocks) / (len(blocks) if how == "normalised" else 1) / shares[IDENTITY]


def stage_importance(supernet: Supernet, state: State, stage: int, how: Importance) -> float:
    """Return how much a stage matters: the sum over its kept positions, or their mean where it is normalised."""
    paths = supernet.paths(stage)
    kept = [path_importance(paths[position], how) for position in state.kept[stage]]
    return sum(kept) / (len(kept) if how == "normalised" else 1)


def slim(
    supernet: Supernet,
    latency: LatencyModel,
    target_ms: float,
    evaluate: Evaluate,
    channels: Channels,
    folder: Path,
    settings: SlimSettings | None = None,
    *,
    watch: Callable[[Round], None] = lambda _: None,
) -> list[Round]:
    """Slim a trained supernet until its sum of rows is at or under the target; return the rounds.

    Every round is written to `folder` before the next begins; a search that was cut off goes on after its last one. It is
    deterministic as far as `evaluate` and `channels` are. Raises TargetOutOfReach, and SearchUnlike where the folder holds
    another search.
    """
    settings = settings or SlimSettings()
    folder.mkdir(parents=True, exist_ok=True)
    rounds = _read(folder, _identity(supernet, latency, target_ms, settings))
    walk = _Walk(supernet, latency, evaluate, channels, settings)
    for one in rounds:
        watch(one)
    while not rounds or rounds[-1].chosen is not None:
        if len(rounds) >= settings.max_rounds:
            raise EdgelutError(f"the search did not reach {target_ms:g} ms in {settings.max_rounds} rounds")
        if rounds:
            taken = rounds[-1].actions[rounds[-1].chosen or 0]
            state, accuracy = taken.state, taken.accuracy
        else:
            state = supernet.full()
            accuracy = evaluate(extract(supernet, state))
        found = walk.round(len(rounds), state, accuracy, target_ms)
        _append(folder / ROUNDS, found.as_json())
        rounds.append(found)
        watch(found)
        if found.chosen is None and found.latency_ms > target_ms:
            raise TargetOutOfReach(
                f"no network of the space is as fast as {target_ms:g} ms on {latency.target}: the search ended at "
                f"{found.latency_ms:.4g} ms, with depths {state.depths} and widths {state.widths}"
            )
    return rounds


class _Walk:
    """The three actions of a round, and the choice."""

    def __init__(
        self, supernet: Supernet, latency: LatencyModel, evaluate: Evaluate, channels: Channels, settings: SlimSettings
    ) -> None:
        self._supernet, self._latency, self._settings = supernet, latency, settings
        self._evaluate, self._channels = evaluate, channels

    def round(self, number: int, state: State, accuracy: float, target_ms: float) -> Round:
        latency_ms = self._ms(state)
        if latency_ms <= target_ms:
            return Round(number, state, latency_ms, accuracy, (), None)
        actions: list[Action] = []
        ways: tuple[tuple[ActionKind, Iterator[tuple[str, State]]], ...] = (
            ("depth", self._depth(state)),
            ("mb3d", self._mb3d(state)),
            ("width", self._width(state)),
        )
        for kind, candidates in ways:
            # The first that saves time: one that does not is no way to a target, however little it costs.
            for what, after in candidates:
                saving = latency_ms - self._ms(after)
                if saving > 0:
                    got = self._evaluate(extract(self._supernet, after))
                    counted = saving if self._settings.overshoot else min(saving, latency_ms - target_ms)
                    actions.append(Action(kind, what, after, latency_ms - saving, got, accuracy - got, saving, counted))
                    break
        chosen = min(range(len(actions)), key=lambda index: (actions[index].score, index)) if actions else None
        return Round(number, state, latency_ms, accuracy, tuple(actions), chosen)

    def _ms(self, state: State) -> float:
        return self._latency.latency_ms(state.config(self._supernet.config))

    def _depth(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield states without one block, the least important first; a stage keeps one."""
        places = [
            (path_importance(self._supernet.paths(stage)[position], self._settings.importance), stage, position)
            for stage in range(STAGES)
            for position in state.kept[stage]
            if len(state.kept[stage]) > 1
        ]
        kinds = state.kinds()
        for _, stage, position in sorted(places):
            kept = list(state.kept)
            kept[stage] = tuple(one for one in kept[stage] if one != position)
            mb3d = state.mb3d - (kinds[stage, position] == "MB3D")
            yield f"stage {stage + 1} without block {position + 1}", State(_four(kept), state.channels, mb3d)

    def _mb3d(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield the state whose first MB3D is an MB4D."""
        if state.mb3d:
            stage, position = next(place for place, kind in state.kinds().items() if kind == "MB3D")
            yield f"stage {stage + 1} block {position + 1} as MB4D", replace(state, mb3d=state.mb3d - 1)

    def _width(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield states with one stage a step narrower, the least important stage first."""
        how, step = self._settings.importance, self._settings.step
        order = sorted(
            (stage_importance(self._supernet, state, stage, how), stage)
            for stage in range(STAGES)
            if state.widths[stage] > step
        )
        if not order:
            return
        importance = self._channels(extract(self._supernet, state))
        for _, stage in order:
            width = (state.widths[stage] - 1) // step * step  # the next multiple below
            yield f"stage {stage + 1} at width {width}", narrower(state, stage, width, importance[stage])


def _identity(supernet: Supernet, latency: LatencyModel, target_ms: float, settings: SlimSettings) -> dict[str, Any]:
    """Return what must be equal for a search to go on."""
    return {
        "target": str(latency.target),
        "target_ms": target_ms,
        "settings": asdict(settings),
        "config": json.loads(json.dumps(asdict(supernet.config))),
        "full_ms": latency.latency_ms(supernet.full().config(supernet.config)),
        "alphas": [[round(value, 6) for value in alpha.tolist()] for alpha in supernet.alphas()],
    }


def read_rounds(folder: Path) -> list[Round]:
    """Return the rounds that a folder holds; a last line that a kill cut off is none."""
    path = folder / ROUNDS
    found: list[Round] = []
    for line in path.read_text().splitlines()[1:] if path.exists() else []:
        try:
            found.append(Round.from_json(json.loads(line)))
        except ValueError:
            break
    return found


def _read(folder: Path, identity: dict[str, Any]) -> list[Round]:
    """Return the rounds of this search that are written already, and leave the file ready for the next."""
    path = folder / ROUNDS
    if path.exists():
        held = json.loads(path.read_text().splitlines()[0])
        unlike = [name for name, value in identity.items() if held.get(name) != value]
        if unlike:
            raise SearchUnlike(f"{path} is of a search with another {unlike[0]}: give another folder, or delete it")
    rounds = read_rounds(folder)
    staged = path.with_suffix(".tmp")
    staged.write_text("".join(json.dumps(line) + "\n" for line in [identity, *(one.as_json() for one in rounds)]))
    staged.replace(path)
    return rounds


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _four(
    stages: Sequence[tuple[int, ...]],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    a, b, c, d = stages
    return a, b, c, d
