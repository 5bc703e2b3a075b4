"""Training in several processes, which this one starts and follows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from torch import nn

from edgelut.errors import EdgelutError

from .data import Data
from .training import CHECKPOINT, METRICS, Loss, Step, Trained, TrainSettings, mixed, quiet, read_metrics, train

FOLLOW_S = 1.0  # between two looks at what the others wrote down


def train_in(
    processes: int,
    model: nn.Module,
    data: Data,
    settings: TrainSettings,
    folder: Path,
    *,
    watch: Callable[[Step], None] = lambda _: None,
    extra_loss: Loss | None = None,
    test: bool = False,
) -> Trained:
    """Train in so many processes that this one starts, each on a GPU of its own where there are any; one is `train`.

    A step looks at `settings.batch` images in each of them. `data` and `extra_loss` must be fit for pickling.
    """
    if processes == 1:
        return train(model, data, settings, folder, watch=watch, extra_loss=extra_loss, test=test)
    from lightning_fabric import Fabric

    quiet()
    where = "cuda" if torch.cuda.is_available() else "cpu"
    if where == "cuda" and processes > torch.cuda.device_count():
        raise EdgelutError(f"{processes} processes want as many GPUs, and there are {torch.cuda.device_count()}")
    how: Any = mixed(settings.precision)
    fabric = Fabric(accelerator=where, devices=processes, strategy="ddp_spawn", precision=how)
    # One thing to the engine: it would look for modules inside of what it is given, which frozen values do not allow.
    work = partial(_train_one, model=model, data=data, settings=settings, folder=folder, extra=extra_loss, test=test)
    followed = Event()
    follower = Thread(target=_follow, args=(folder, watch, followed), daemon=True)
    follower.start()
    try:
        trained = Trained(**fabric.launch(work))
    finally:
        followed.set()
        follower.join()
    held = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    model.load_state_dict(held["model"])
    return trained


def _train_one(
    fabric: Any, model: nn.Module, data: Data, settings: TrainSettings, folder: Path, extra: Loss | None, test: bool
) -> dict[str, Any]:
    """Train in one of several processes; return `Trained` as a dictionary."""
    quiet()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // fabric.world_size))
    own = deepcopy(model)  # its memory is shared with the other processes
    return asdict(train(own, data, settings, folder, extra_loss=extra, test=test, fabric=fabric))


def _follow(folder: Path, watch: Callable[[Step], None], ended: Event) -> None:
    """Tell of the epochs that other processes write down."""
    path, told = folder / METRICS, len(read_metrics(folder))
    while True:
        last = ended.wait(FOLLOW_S)
        lines = path.read_text().splitlines() if path.exists() else []
        for text in lines[told:]:
            try:
                line = json.loads(text)
            except ValueError:
                break
            told += 1
            left = line["seconds"] / line["step"] * (line["steps"] - line["step"])
            counts = (line["step"], line["steps"], line["epoch"])
            watch(Step(*counts, line["loss"], line["accuracy"], left, line["seconds"], line["lr"], line.get("tau")))
        if last:
            return
