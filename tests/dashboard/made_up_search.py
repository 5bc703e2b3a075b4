"""Searches as `edgelut search` would tell them, made up: one that ended with all its methods, and one that is slimming.

No figure in them was measured; the same call makes the same events.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from edgelut.searches import EventKind, SearchEvent, SearchLog, SearchRun
from edgelut.types import Target

BEGAN = datetime(2026, 11, 2, 9, 12, tzinfo=UTC)
TARGET_MS, FULL_MS = 3.4, 6.8
DONE, GOING = "3f9c1e5ab2774d08", "a41b07c2d9e85f36"
LARGEST = {"widths": [48, 96, 192, 384], "depths": [3, 2, 6, 4]}
ABOUT = {
    "preset": "fashion",
    "data": "fashion-mnist, 25,600 images",
    "seed": 0,
    "full_ms": FULL_MS,
    "settings": {"importance": "normalised", "epochs": 30, "batch": 128},
    "config": {**LARGEST, "resolution": 224, "stem_stride": 4},
}
WAYS = (
    ("depth", "drop the last block of stage {}"),
    ("mb3d", "turn block {} into MB3D"),
    ("width", "narrow stage {} by 16"),
)


class Told:
    """Events with their numbers and times."""

    def __init__(self) -> None:
        self.events: list[SearchEvent] = []
        self._at = BEGAN

    def add(self, kind: EventKind, after_s: float, /, **content: Any) -> None:
        self._at += timedelta(seconds=after_s)
        self.events.append(SearchEvent(len(self.events), kind, content, self._at))


def train(told: Told, of: str, epochs: int, best: float, seed: int = 0) -> None:
    """A training: the loss falls, the accuracy rises to about its best."""
    draw = random.Random(f"{of} {seed}")
    for n in range(1, epochs + 1):
        part = n / epochs
        told.add(
            "epoch", 14.0, of=of, step=200 * n, steps=200 * epochs, epoch=float(n),
            loss=0.42 + 1.9 * math.exp(-4.2 * part) + draw.gauss(0, 0.02),
            accuracy=best - 0.42 * math.exp(-5 * part) + draw.gauss(0, 0.003),
            lr=0.012 * (1 + math.cos(math.pi * part)), seconds=14.0 * n,
            **({"tau": 1.0 - 0.9 * part} if of == "supernet" else {}),
        )  # fmt: skip


def slim(told: Told, rounds: int) -> Iterator[dict[str, Any]]:
    """Rounds from the whole network to the target."""
    draw = random.Random("slimming")
    widths, depths, mb3d, accuracy = list(LARGEST["widths"]), list(LARGEST["depths"]), 0, 0.861
    saving = (FULL_MS - TARGET_MS) / (rounds - 0.4)
    latency = FULL_MS
    for number in count():
        over = latency <= TARGET_MS
        actions = []
        for kind, what in () if over else WAYS:
            stage = draw.choice((1, 2, 3, 3, 4))
            saves, drop = saving * draw.uniform(0.8, 1.2), abs(draw.gauss(0.004, 0.004)) - 0.001
            actions.append(
                {
                    "kind": kind, "what": what.format(stage), "latency_ms": latency - saves, "accuracy": accuracy - drop,
                    "drop": drop, "saving_ms": saves, "score": drop / saves,
                }
            )  # fmt: skip
        chosen = min(range(len(actions)), key=lambda place: actions[place]["score"]) if actions else None
        content = {
            "round": number, "latency_ms": latency, "accuracy": accuracy, "depths": list(depths), "widths": list(widths),
            "mb3d": mb3d, "actions": actions, "chosen": chosen,
        }  # fmt: skip
        told.add("round", 21.0, **content)
        yield content
        if chosen is None:
            return
        taken = actions[chosen]
        latency, accuracy = taken["latency_ms"], taken["accuracy"]
        if taken["kind"] == "depth":
            depths[2] = max(1, depths[2] - 1)
        elif taken["kind"] == "mb3d":
            mb3d = min(mb3d + 1, depths[2] + depths[3])
        else:
            place = int(taken["what"].split()[2]) - 1
            widths[place] = max(16, widths[place] - 16)


def network(
    told: Told,
    method: str,
    seed: int,
    shape: Mapping[str, Any],
    accuracy: float,
    predicted: float,
    measured: bool = True,
) -> None:
    """A network that was trained, and measured as a whole."""
    draw = random.Random(f"{method} {seed}")
    test = accuracy + draw.gauss(0, 0.003)
    config = {**shape, "resolution": 224, "stem_stride": 4, "classes": 10}
    told.add(
        "network", 30.0, method=method, seed=seed, config=config, predicted_ms=predicted, low_ms=0.972 * predicted,
        high_ms=1.028 * predicted, measured_ms=predicted * (1 + draw.gauss(0.004, 0.009)) if measured else None,
        inherited_accuracy=None if method == "uniform" else test - 0.06, valid_accuracy=test + 0.004, test_accuracy=test,
        parameters=int(2.1e6 * predicted),
    )  # fmt: skip


def ended() -> list[SearchEvent]:
    """A search with everything: supernet, slimming, all methods by three seeds."""
    told = Told()
    told.add("stage", 1.0, text="measuring 12 blocks that the table lacks")
    told.add("stage", 95.0, text="training the supernet")
    train(told, "supernet", 30, 0.868)
    told.add("stage", 1.0, text="slimming to 3.4 ms")
    last = list(slim(told, 24))[-1]
    found = {name: last[name] for name in ("widths", "depths", "mb3d")}
    for method, accuracy, ms, shape in (
        ("slimmed", 0.912, last["latency_ms"], found),
        ("evolutionary", 0.909, 3.38, {"widths": [32, 80, 160, 304], "depths": [2, 2, 4, 3], "mb3d": 2}),
        ("random", 0.903, 3.31, {"widths": [48, 64, 144, 288], "depths": [2, 1, 5, 3], "mb3d": 1}),
        ("uniform", 0.894, 3.36, {"widths": [32, 64, 128, 256], "depths": [3, 2, 6, 4], "mb3d": 0}),
        ("full", 0.924, FULL_MS, {**LARGEST, "mb3d": 0}),
    ):
        for seed in range(1 if method == "full" else 3):
            told.add("stage", 1.0, text=f"training {method} seed {seed}")
            train(told, f"{method} seed {seed}", 12, accuracy, seed)
            network(told, method, seed, shape, accuracy, ms * (1 - 0.012 * seed if method != "slimmed" else 1))
    return told.events


def going(rounds: int = 9) -> list[SearchEvent]:
    """A search in the middle of slimming."""
    told = Told()
    told.add("stage", 1.0, text="training the supernet")
    train(told, "supernet", 20, 0.86)
    told.add("stage", 1.0, text="slimming to 3.4 ms")
    for _, _ in zip(range(rounds), slim(told, 24), strict=False):
        pass
    return told.events


def search(id: str, name: str, target: Target) -> SearchRun:
    """The search that events are of."""
    return SearchRun(id, name, "running", target, TARGET_MS, ABOUT, BEGAN, BEGAN)


def post(log: SearchLog, target: Target) -> dict[str, str]:
    """Tell both searches; return their ids by what they are."""
    log.put_search(search(DONE, "fashion on the phone", target))
    tell(log, DONE, ended())
    log.end_search(DONE, "done")
    log.put_search(search(GOING, "fashion, again", target))
    tell(log, GOING, going())
    return {"search": DONE, "searching": GOING}


def tell(log: SearchLog, id: str, events: Sequence[SearchEvent]) -> None:
    """Tell events, as many at once as may be."""
    for start in range(0, len(events), 500):
        log.add_search_events(id, events[start : start + 500])
