"""The supernet: every network of a search space at once, its weights shared (EfficientFormer, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgelut.blocks import MB3D, MB4D
from edgelut.efficientformer import CONFIGS, Config, network
from edgelut.errors import InvalidSpec
from edgelut.types import BlockSpec

from . import checkpoints
from .blocks import Block, create
from .efficientformer import EfficientFormer
from .metapath import IDENTITY, MetaPath, Noise

STAGES = 4
Stage = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """One network of the space, as the search walks through it.

    `kept` are the positions in each stage whose MetaPath is not the identity, `channels` the supernet's channels that each
    stage keeps, both ascending, and the last `mb3d` of all kept blocks are MB3D.
    """

    kept: tuple[Stage, Stage, Stage, Stage]
    channels: tuple[Stage, Stage, Stage, Stage]
    mb3d: int

    @property
    def depths(self) -> tuple[int, int, int, int]:
        """Blocks in each stage."""
        a, b, c, d = (len(stage) for stage in self.kept)
        return a, b, c, d

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels of each stage."""
        a, b, c, d = (len(stage) for stage in self.channels)
        return a, b, c, d

    def config(self, of: Config) -> Config:
        """Return the network that it is; raise InvalidSpec for one that cannot be."""
        return replace(of, widths=self.widths, depths=self.depths, mb3d=self.mb3d, name="")

    def kinds(self) -> dict[tuple[int, int], str]:
        """Return the kind of each kept block by (stage, position), in the network's order."""
        places = [(stage, position) for stage, kept in enumerate(self.kept) for position in kept]
        first = len(places) - self.mb3d
        return {place: MB3D.name if index >= first else MB4D.name for index, place in enumerate(places)}

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kept": [list(stage) for stage in self.kept],
            "channels": [list(stage) for stage in self.channels],
            "mb3d": self.mb3d,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        """Return the state of a JSON form."""
        return cls(_stages(value["kept"]), _stages(value["channels"]), int(value["mb3d"]))


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a checkpoint gave: names of the supernet's parts that were taken, and of those that keep their own weights and why."""

    taken: tuple[str, ...]
    left: Mapping[str, str]


class Supernet(nn.Module):
    """All networks up to `config`: its widths and depths are the largest, and its `mb3d` is not looked at.

    Stages 1 and 2 choose from MB4D and the identity, stages 3 and 4 from MB3D too. Each forward pass in training draws the
    noise of the choices anew; evaluation draws none. `tau` is the temperature, set by whoever trains.
    """

    def __init__(self, config: Config, *, noise: Noise = "uniform", mb3d_stages: Sequence[int] = (2, 3)) -> None:
        super().__init__()
        if not set(mb3d_stages) <= {2, 3}:
            raise InvalidSpec(
                f"MB3D is a choice in stages 3 and 4, not in {', '.join(str(s + 1) for s in mb3d_stages)}"
            )
        self.config = replace(config, mb3d=0, batch=1, name="")
        self.noise: Noise = noise
        self.tau = 1.0
        self.mb3d_stages = tuple(sorted(set(mb3d_stages)))
        fixed = _fixed(self.config)
        self.stem, self.head = create(fixed["stem"]), create(fixed["head"])
        self.embeddings = nn.ModuleList(create(fixed[f"embedding{stage}"]) for stage in range(1, STAGES))
        side = self.config.resolution // self.config.stem_stride
        self.stages = nn.ModuleList(
            nn.ModuleList(MetaPath(width, side >> stage, _choices(stage in self.mb3d_stages)) for _ in range(depth))
            for stage, (width, depth) in enumerate(zip(self.config.widths, self.config.depths, strict=True))
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # (B, 3, R, R)
        noise: Noise = self.noise if self.training else "none"

        def run(_: int, __: int, path: MetaPath, x: Tensor) -> Tensor:
            return path(x, path.weights(noise, self.tau))  # type: ignore[no-any-return]

        return self._through(images, run)

    def run_state(self, images: Tensor, state: State) -> Tensor | tuple[Tensor, Tensor]:  # (B, 3, R, R)
        """Run one network of the space at full width: every choice is one-hot, `state.channels` are not looked at."""
        kinds = state.kinds()

        def run(stage: int, position: int, path: MetaPath, x: Tensor) -> Tensor:
            return path.only(x, kinds.get((stage, position), IDENTITY))

        return self._through(images, run)

    def _through(
        self, images: Tensor, run: Callable[[int, int, MetaPath, Tensor], Tensor]
    ) -> Tensor | tuple[Tensor, Tensor]:
        x: Tensor = self.stem(images)
        for stage in range(STAGES):
            if stage:
                x = self.embeddings[stage - 1](x)
            for position, path in enumerate(self.paths(stage)):
                x = run(stage, position, path, x)
        logits: Tensor | tuple[Tensor, Tensor] = self.head(x)  # (B, classes); two in training with distillation
        return logits

    def paths(self, stage: int) -> list[MetaPath]:
        """Return the MetaPaths of a stage, in order."""
        found = self.stages[stage]
        assert isinstance(found, nn.ModuleList)
        return [path for path in found if isinstance(path, MetaPath)]

    def places(self) -> Iterator[tuple[int, int, MetaPath]]:
        """Yield (stage, position, MetaPath) from the first to the last."""
        for stage in range(STAGES):
            for position, path in enumerate(self.paths(stage)):
                yield stage, position, path

    def alphas(self) -> list[nn.Parameter]:
        """Return the parameters of the choices: of another optimiser than the weights, without weight decay."""
        return [path.alpha for _, _, path in self.places()]

    def weights(self) -> list[nn.Parameter]:
        """Return all other parameters."""
        own = {id(alpha) for alpha in self.alphas()}
        return [value for value in self.parameters() if id(value) not in own]

    def full(self) -> State:
        """Return where the search starts: every MetaPath and channel kept, and all MB3D that can stand at the end."""
        kept = tuple(tuple(range(depth)) for depth in self.config.depths)
        channels = tuple(tuple(range(width)) for width in self.config.widths)
        mb3d = 0
        for stage in reversed(range(STAGES)):  # tokens stay tokens up to the end
            if stage not in self.mb3d_stages:
                break
            mb3d += self.config.depths[stage]
        return State(kept, channels, mb3d)  # type: ignore[arg-type]

    def expected_latency(self, lut: Callable[[BlockSpec], float]) -> Tensor:
        """Return the expected latency in ms: sum_n p_n * LUT(block_n) over all MetaPaths, and the fixed parts.

        Differentiable in the alphas; as FBNet and ProxylessNAS have it. `lut` gives ms. Flats are not counted.
        """
        parts = _fixed(self.config).values()
        total = torch.tensor(float(sum(lut(spec) for spec in parts)))
        for _, _, path in self.places():
            costs = torch.tensor([0.0 if path.specs[name] is None else lut(_spec(path, name)) for name in path.choices])
            total = total + (path.probabilities() * costs.to(path.alpha)).sum().to(total)
        return total

    @torch.no_grad()
    def load_checkpoint(self, state_dict: Mapping[str, Any]) -> Inherited:
        """Take the weights of a trained L1, L3 or L7 (timm's, the authors' or our names) wherever shapes allow.

        Block k of a stage goes to the MetaPath at k, under its own kind. Raises CheckpointMismatch for a checkpoint that is none
        of a published network.
        """
        source = _read(state_dict, self.config)
        taken: list[str] = []
        left: dict[str, str] = {}
        stage, position = 0, 0
        for block in source.blocks:
            assert isinstance(block, Block)
            kind = block.spec.kind
            if kind == "embedding":
                stage, position = stage + 1, 0
                self._take(f"embedding {stage}", self.embeddings[stage - 1], block, taken, left)
            elif kind in ("stem", "head"):
                self._take(kind, self.stem if kind == "stem" else self.head, block, taken, left)
            elif kind in (MB4D.name, MB3D.name):
                name = f"stage {stage + 1} block {position + 1} {kind}"
                if position >= self.config.depths[stage] or kind not in self.paths(stage)[position].branches:
                    left[name] = "the supernet has no such choice there"
                else:
                    self._take(name, self.paths(stage)[position].branch(kind), block, taken, left)
                position += 1
        return Inherited(tuple(taken), left)

    def _take(self, name: str, to: nn.Module, block: Block, taken: list[str], left: dict[str, str]) -> None:
        own, theirs = to.state_dict(), block.state_dict()
        unlike = [key for key in own if key not in theirs or own[key].shape != theirs[key].shape]
        if unlike:
            key = unlike[0]
            there = tuple(theirs[key].shape) if key in theirs else "not there"
            left[name] = f"{key} is {there}, not {tuple(own[key].shape)}"
            return
        to.load_state_dict(theirs if len(theirs) == len(own) else {key: theirs[key] for key in own})
        taken.append(name)


def _choices(tokens: bool) -> tuple[str, ...]:
    return ("MB4D", "MB3D", IDENTITY) if tokens else ("MB4D", IDENTITY)


def _spec(path: MetaPath, name: str) -> BlockSpec:
    spec = path.specs[name]
    assert spec is not None
    return spec


def _fixed(config: Config) -> dict[str, BlockSpec]:
    """Return the blocks that are no choice, by name."""
    found: dict[str, BlockSpec] = {}
    for block in network(replace(config, mb3d=0)).blocks:
        if block.kind == "embedding":
            found[f"embedding{sum(name.startswith('embedding') for name in found) + 1}"] = block
        elif block.kind in ("stem", "head"):
            found[block.kind] = block
    return found


def _read(state_dict: Mapping[str, Any], like: Config) -> EfficientFormer:
    """Return the published network of a checkpoint, loaded strictly; raise CheckpointMismatch where it is none."""
    weights = state_dict["model"] if isinstance(state_dict.get("model"), Mapping) else state_dict
    classes = next((len(value) for name, value in weights.items() if name.endswith("head.weight")), like.classes)
    distillation = any("dist" in name for name in weights)
    refusals = []
    for config in CONFIGS.values():
        with torch.random.fork_rng(devices=[]):
            model = EfficientFormer(network(replace(config, classes=classes, distillation=distillation)))
        try:
            checkpoints.load(model, weights)
        except checkpoints.CheckpointMismatch as error:
            refusals.append(f"{config.name}: {error}")
        else:
            return model
    raise checkpoints.CheckpointMismatch("a checkpoint of no published network: " + "; ".join(refusals))


def _stages(value: Sequence[Sequence[int]]) -> tuple[Stage, Stage, Stage, Stage]:
    a, b, c, d = (tuple(int(one) for one in stage) for stage in value)
    return a, b, c, d
