"""Searches by name: which space, which images, and how long each part takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgelut.efficientformer import CONFIGS, Config
from edgelut.errors import InvalidSpec
from supernet.metapath import Noise
from supernet.slim import Criterion

from .latency import Space
from .slimming import SlimSettings
from .training import TrainSettings

NORMALISED = SlimSettings(importance="normalised", overshoot=False)
PUBLISHED = SlimSettings(importance="published")


@dataclass(frozen=True, slots=True)
class Preset:
    """A search but for its target: `config` is the largest network of its space.

    `supernet` and `network` say how the supernet and what is found are trained; `images` of the validation images are looked
    at for each candidate, after BN statistics were estimated anew over `calibration` batches. `share` is the target where none
    is given: of the full network's latency. `half_width` and `max_rounds` are those of rows that have to be measured.
    """

    name: str
    data: str
    config: Config
    supernet: TrainSettings
    network: TrainSettings
    slim: SlimSettings = NORMALISED
    limit: int | None = None  # training images
    images: int = 2000
    calibration: int = 8
    batch: int = 250  # of those looks
    criterion: Criterion = "taylor"
    noise: Noise = "uniform"
    latency_weight: float = 0.0  # of the expected latency, as a share of the full network's, in the supernet's loss
    share: float = 0.5
    half_width: float = 0.01
    max_rounds: int = 40

    @property
    def space(self) -> Space:
        """All networks of the search."""
        return Space(self.config, self.slim.step)


# Section 5 of the paper: AdamW, weight decay 0.025, 1e-3 for a batch of 1024, cosine, 5 epochs of warm-up, 300 epochs.
PAPER = TrainSettings()
SMALL = TrainSettings(
    epochs=5, batch=128, lr=2.4e-2, warmup_epochs=0.5, label_smoothing=0.1, alpha_lr=1e-2, checkpoint_s=30.0
)
TINY = TrainSettings(epochs=4, batch=64, lr=3e-2, warmup_epochs=0.5, augment=False, alpha_lr=5e-2)


def _imagenet(name: str) -> Preset:
    largest = replace(CONFIGS[name], mb3d=0, name="")
    label = f"imagenet-{name.rpartition('-')[2]}"
    return Preset(label, "", largest, PAPER, PAPER, PUBLISHED, images=10_000, calibration=64, half_width=0.02)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "digits",
            "digits",
            Config((16, 16, 32, 32), (1, 1, 2, 2), 0, resolution=32, stem_stride=2, classes=10, distillation=False),
            TINY,
            TINY,
            images=200,
            calibration=4,
            batch=64,
            half_width=0.05,
            max_rounds=8,
        ),
        Preset(
            "fashion-small",
            "fashion-mnist",
            Config((32, 48, 64, 96), (2, 2, 3, 2), 0, resolution=32, stem_stride=2, classes=10, distillation=False),
            SMALL,
            replace(SMALL, epochs=3),
            limit=25_600,
            max_rounds=60,
        ),
        Preset(
            "fashion",
            "fashion-mnist",
            Config((48, 64, 96, 160), (3, 3, 5, 4), 0, resolution=32, stem_stride=2, classes=10, distillation=False),
            replace(SMALL, epochs=30, warmup_epochs=2.0),
            replace(SMALL, epochs=30, warmup_epochs=2.0),
            images=6000,
        ),
        *(_imagenet(name) for name in CONFIGS),
    )
}


def get(name: str) -> Preset:
    """Return a preset by name; raise InvalidSpec, which lists them."""
    found = PRESETS.get(name.lower())
    if found is None:
        raise InvalidSpec(f"no preset {name!r} of a search; there are {', '.join(PRESETS)}")
    return found
