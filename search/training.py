"""Training a supernet or a network: AdamW, warm-up and cosine, checkpoints to go on from, metrics in a file.

One process by default; several processes and GPUs through Lightning Fabric, which also brings mixed precision.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgelut.errors import EdgelutError
from supernet.supernet import Supernet

from .data import Data, Split, batches

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"
CPU = Path("/proc/cpuinfo")
Loss = Callable[[nn.Module], Tensor]
Precision: TypeAlias = Literal["auto", "fp32"]


class CheckpointUnlike(EdgelutError, ValueError):
    """A folder holds a checkpoint of another training: says what differs."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a network is trained; the defaults are the paper's where it says (section 5), for one batch of 1024.

    `lr` is for a batch of 1024 and scaled with the batch. `alpha_lr` is that of a supernet's choices, which get Adam without
    weight decay; their temperature falls from `tau` to `tau_end` in equal ratios.
    """

    epochs: int = 300
    batch: int = 1024
    lr: float = 1e-3
    weight_decay: float = 0.025
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.1
    alpha_lr: float = 1e-2
    tau: float = 1.0
    tau_end: float = 1.0
    clip: float = 5.0  # of the gradient's norm; 0 is none
    precision: Precision = "auto"  # bf16 mixed with fp32 wherever the hardware computes it, or fp32 alone
    augment: bool = True
    seed: int = 0
    checkpoint_s: float = 60.0  # between two checkpoints; a kill loses what came since
    evaluate_every: int = 1  # epochs between looks at the validation images; the last always


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to: accuracies are shares of images, of the last epoch."""

    valid_accuracy: float
    test_accuracy: float | None
    epochs: int
    steps: int
    seconds: float
    resumed_steps: int = 0  # that were not done again


@dataclass(slots=True)
class _Progress:
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a training is, for whoever watches."""

    step: int
    steps: int
    epoch: float
    loss: float
    accuracy: float | None
    seconds_left: float
    seconds: float = 0.0
    lr: float = 0.0
    tau: float | None = None  # of a supernet


def train(
    model: nn.Module,
    data: Data,
    settings: TrainSettings,
    folder: Path,
    *,
    watch: Callable[[Step], None] = lambda _: None,
    extra_loss: Loss | None = None,
    test: bool = False,
    fabric: Any = None,
) -> Trained:
    """Train a model in place on `data.train`; what is in `folder` is gone on from, to the step.

    `extra_loss` is added to the loss of each batch: an expected latency, for instance. With `test` the test images are looked
    at, once, at the end. `fabric` is a launched lightning_fabric.Fabric; without one, one process on the CPU or the first
    GPU. Raises CheckpointUnlike where the folder is of another training.
    """
    fabric = fabric or one_process(settings.precision)
    return _Training(model, data, settings, folder, watch, extra_loss, fabric).run(test)


def one_process(precision: Precision = "auto") -> Any:
    """Return a Fabric for this process alone: on the first GPU where there is one, else on the CPU."""
    from lightning_fabric import Fabric

    quiet()
    where = "cuda" if torch.cuda.is_available() else "cpu"
    return Fabric(accelerator=where, devices=1, precision=mixed(precision))  # type: ignore[arg-type]


def mixed(precision: Precision) -> str:
    """Return Fabric's word for a precision: what this machine's GPU, or without one its CPU, computes in hardware."""
    if precision == "fp32":
        return "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    flags = CPU.read_text() if CPU.exists() else ""
    return "bf16-mixed" if "avx512_bf16" in flags or "amx_bf16" in flags else "32-true"


def quiet() -> None:
    """Keep the engine from saying what it does: whoever watches is told."""
    for name in ("lightning_fabric.utilities.rank_zero", "lightning_fabric.utilities.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _Training:
    def __init__(
        self,
        model: nn.Module,
        data: Data,
        settings: TrainSettings,
        folder: Path,
        watch: Callable[[Step], None],
        extra_loss: Loss | None,
        fabric: Any,
    ) -> None:
        self._raw, self._data, self._settings, self._folder = model, data, settings, folder
        self._watch, self._extra, self._fabric = watch, extra_loss, fabric
        self._per_epoch = max(1, len(data.train) // (settings.batch * fabric.world_size)) if len(data.train) else 0
        self._steps = self._per_epoch * settings.epochs
        self._done = _Progress()
        # Convolutions of 1x1 are products of matrices as the values lie then.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own = optimizers(model, settings)
        self._model, *self._optimizers = fabric.setup(model, *own)

    def run(self, test: bool) -> Trained:
        if not self._steps:
            raise EdgelutError(f"{self._data.name} has no images to train on")
        self._folder.mkdir(parents=True, exist_ok=True)
        resumed = self._resume()
        accuracy = None
        started = saved = time.monotonic()
        while self._done.step < self._steps:
            epoch, start = divmod(self._done.step, self._per_epoch)
            for images, labels in self._epoch(epoch, start):
                self._step(images, labels)
                if time.monotonic() - saved > self._settings.checkpoint_s:
                    self._save(started)
                    saved = time.monotonic()
            accuracy = self._end_epoch(epoch, started)
            self._save(started)
            saved = time.monotonic()
        if accuracy is None:
            accuracy = self._accuracy(self._data.valid)
        final = self._accuracy(self._data.test) if test else None
        seconds = self._done.seconds + time.monotonic() - started
        return Trained(accuracy, final, self._settings.epochs, self._steps, seconds, resumed)

    def _epoch(self, epoch: int, start: int) -> Iterable[tuple[Tensor, Tensor]]:
        settings, fabric = self._settings, self._fabric
        found = batches(
            self._data.train,
            settings.batch,
            seed=settings.seed * 100_003 + epoch,
            augment=settings.augment,
            rank=fabric.global_rank,
            ranks=fabric.world_size,
            start=start,
        )
        for index, batch in enumerate(found):
            if start + index < self._per_epoch:
                images, labels = fabric.to_device(batch)
                yield images.contiguous(memory_format=torch.channels_last), labels

    def _step(self, images: Tensor, labels: Tensor) -> None:
        settings = self._settings
        # Each step draws by its own seed: a training that was cut off goes on with the numbers that it would have had.
        torch.manual_seed((settings.seed * 1_000_003 + self._done.step) * 1024 + self._fabric.global_rank)
        share = self._done.step / self._steps
        self._schedule(share)
        self._model.train()
        loss = classification_loss(self._model(images), labels, settings.label_smoothing)
        if self._extra is not None:
            loss = loss + self._extra(self._raw)
        self._fabric.backward(loss)
        if settings.clip:
            self._fabric.clip_gradients(
                self._model, self._optimizers[0], max_norm=settings.clip, error_if_nonfinite=False
            )
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._done.step += 1
        self._done.losses.append(float(loss.detach()))

    def _schedule(self, share: float) -> None:
        settings = self._settings
        warm = settings.warmup_epochs / settings.epochs
        factor = (
            min(1.0, (share + 1 / self._steps) / warm)
            if share < warm
            else _cosine((share - warm) / max(1e-9, 1 - warm))
        )
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * (factor if group["scheduled"] else 1.0)
        if isinstance(self._raw, Supernet):
            self._raw.tau = settings.tau * (settings.tau_end / settings.tau) ** share

    def _end_epoch(self, epoch: int, started: float) -> float | None:
        settings, done = self._settings, self._done
        last = epoch + 1 == settings.epochs
        looks = last or (epoch + 1) % settings.evaluate_every == 0
        accuracy = self._accuracy(self._data.valid) if looks else None
        loss = sum(done.losses) / len(done.losses) if done.losses else math.nan
        done.losses = []
        seconds = done.seconds + time.monotonic() - started
        line = {"step": done.step, "steps": self._steps, "epoch": epoch + 1, "loss": loss, "accuracy": accuracy}
        line["seconds"] = round(seconds, 3)
        lr: float = self._optimizers[0].param_groups[0]["lr"]
        tau = self._raw.tau if isinstance(self._raw, Supernet) else None
        line |= {"lr": lr} if tau is None else {"lr": lr, "tau": tau}
        if self._fabric.is_global_zero:
            with (self._folder / METRICS).open("a") as file:
                file.write(json.dumps(line) + "\n")
        left = seconds / done.step * (self._steps - done.step)
        self._watch(Step(done.step, self._steps, epoch + 1, loss, accuracy, left, seconds, lr, tau))
        return accuracy

    def _accuracy(self, split: Split) -> float:
        return accuracy(self._raw, split, device=self._fabric.device)

    # Checkpoints

    def _identity(self) -> dict[str, Any]:
        what = {
            key: value
            for key, value in asdict(self._settings).items()
            if key not in ("checkpoint_s", "evaluate_every", "precision")
        }
        shapes = {name: list(value.shape) for name, value in self._raw.state_dict().items()}
        return {**what, "data": self._data.name, "images": len(self._data.train), "shapes": shapes}

    def _resume(self) -> int:
        path = self._folder / CHECKPOINT
        if not path.exists():
            (self._folder / METRICS).unlink(missing_ok=True)
            return 0
        held = torch.load(path, map_location=self._fabric.device, weights_only=True)
        unlike = [key for key, value in self._identity().items() if held["identity"].get(key) != value]
        if unlike:
            key = unlike[0]
            raise CheckpointUnlike(
                f"{path} is of a training with another {key}: give another folder, or delete it to start anew"
            )
        self._raw.load_state_dict(held["model"])
        for optimizer, state in zip(self._optimizers, held["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._done = _Progress(held["step"], held["seconds"], list(held["losses"]))
        _keep_lines(self._folder, self._done.step)
        return self._done.step

    def _save(self, started: float) -> None:
        """Write the checkpoint whole: the old one is there until the new one is."""
        if not self._fabric.is_global_zero:
            return
        held = {
            "identity": self._identity(),
            "model": self._raw.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "step": self._done.step,
            "seconds": self._done.seconds + time.monotonic() - started,
            "losses": self._done.losses,
        }
        staged = self._folder / f"{CHECKPOINT}.tmp"
        with staged.open("wb") as file:
            torch.save(held, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self._folder / CHECKPOINT)


def optimizers(model: nn.Module, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Return AdamW for the weights, without decay of norms, biases and scales; and Adam for a supernet's choices."""
    lr = settings.lr * settings.batch / 1024
    weights = model.weights() if isinstance(model, Supernet) else list(model.parameters())
    decayed = [value for value in weights if value.ndim >= 2]
    others = [value for value in weights if value.ndim < 2]
    how = {"lr": lr, "base_lr": lr, "scheduled": True}
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay, **how},
                {"params": others, "weight_decay": 0.0, **how},
            ]
        )
    ]
    if isinstance(model, Supernet):
        of_choices = {"lr": settings.alpha_lr, "base_lr": settings.alpha_lr, "scheduled": False}
        found.append(torch.optim.Adam([{"params": model.alphas(), **of_choices}]))
    return found


def classification_loss(logits: Tensor | tuple[Tensor, Tensor], labels: Tensor, smoothing: float) -> Tensor:
    """Return the cross entropy of logits (B, classes), or the mean of both heads'."""
    heads = logits if isinstance(logits, tuple) else (logits,)
    losses = [functional.cross_entropy(one, labels, label_smoothing=smoothing) for one in heads]
    return torch.stack(losses).mean()


@torch.no_grad()
def accuracy(
    model: nn.Module, split: Split, *, batch: int = 500, device: Any = "cpu", most: int | None = None
) -> float:
    """Return the share of a split's images (of its first `most`) that a model classifies rightly; in evaluation mode."""
    was = model.training
    model.eval()
    right = seen = 0
    for images, labels in batches(split, batch):
        logits = model(images.to(device, memory_format=torch.channels_last))
        right += int((logits.argmax(1).cpu() == labels).sum())
        seen += len(labels)
        if most is not None and seen >= most:
            break
    model.train(was)
    return right / max(1, seen)


@torch.no_grad()
def recalibrate(
    model: nn.Module, split: Split, *, batch: int = 250, count: int = 8, seed: int = 0, device: Any = "cpu"
) -> None:
    """Estimate the statistics of all BN layers anew, as means over `count` batches: those that are inherited are of another net."""
    norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm2d)]
    before = [one.momentum for one in norms]
    was = model.training
    for one in norms:
        one.reset_running_stats()
        one.momentum = None  # a cumulative mean
    model.train()
    for number, (images, _) in enumerate(batches(split, batch, seed=seed)):
        if number >= count:
            break
        model(images.to(device, memory_format=torch.channels_last))
    for one, momentum in zip(norms, before, strict=True):
        one.momentum = momentum
    model.train(was)


def read_metrics(folder: Path) -> list[Mapping[str, Any]]:
    """Return the lines of a training's metrics: step, steps, epoch, loss, accuracy, lr, seconds; and tau of a supernet.

    A last line that a kill cut off is none.
    """
    path = folder / METRICS
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _keep_lines(folder: Path, step: int) -> None:
    """Drop the lines of steps that a kill undid, and a last one that it cut off."""
    kept = [json.dumps(line) + "\n" for line in read_metrics(folder) if line["step"] <= step]
    (folder / METRICS).write_text("".join(kept))


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
