"""A network as the composer builds it: from an address or from sliders, as text to copy, and what each stage costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgelut import wire
from edgelut.blocks import EMBEDDING, FLAT, HEAD, STEM
from edgelut.efficientformer import CONFIGS, Config, network
from edgelut.errors import InvalidSpec
from edgelut.notation import format_block, parse_blocks, shorten
from edgelut.quality import NetworkLatency, PartLatency
from edgelut.types import BlockSpec, NetworkSpec, Target

from .address import Address

STAGES = 4
WIDTH_STEP = 16
MOST_DEPTH = (8, 8, 20, 12)
MOST_WIDTH = (128, 256, 512, 1024)
RESOLUTIONS = (160, 192, 224, 256, 288, 320, 384)
MOST_CLASSES = 100_000
DEFAULT = "efficientformer-l1"
SEGMENTS = ("stem", "stage 1", "stage 2", "stage 3", "stage 4", "embeddings", "flat and head")


def config_of(address: Address) -> Config:
    """Return the network that an address asks for; what it leaves out, or has wrong, is the preset's.

    `network` is a preset; `widths`, `depths`, `mb3d`, `resolution`, `stem_stride`, `classes` and `distillation` are what differs
    from it.
    """
    base = CONFIGS[address.one_of("network", CONFIGS, DEFAULT)]
    widths, depths = _numbers(address.get("widths"), base.widths), _numbers(address.get("depths"), base.depths)
    mb3d, resolution = address.number("mb3d"), address.number("resolution")
    try:
        return replace(
            base,
            widths=widths,
            depths=depths,
            mb3d=min(base.mb3d if mb3d is None else mb3d, sum(depths[2:])),
            resolution=resolution or base.resolution,
            stem_stride=address.number("stem_stride") or base.stem_stride,
            classes=min(address.number("classes") or base.classes, MOST_CLASSES),
            distillation=address.flag("distillation", base.distillation),
        )
    except InvalidSpec:
        return base


def address_of(config: Config) -> dict[str, str | None]:
    """Return the parameters of an address that `config_of` reads as that network; a published one is its name alone."""
    base = CONFIGS[config.name]
    changed = {
        "widths": _text(config.widths) if config.widths != base.widths else None,
        "depths": _text(config.depths) if config.depths != base.depths else None,
        "mb3d": str(config.mb3d) if config.mb3d != base.mb3d else None,
    }
    for name in ("resolution", "stem_stride", "classes", "distillation"):
        value = int(getattr(config, name))
        changed[name] = str(value) if value != int(getattr(base, name)) else None
    named = config.name if config.name != DEFAULT or any(changed.values()) else None
    return {"network": named, **changed}


def is_published(config: Config) -> bool:
    """Say whether a network is a preset as it was published."""
    return config == CONFIGS.get(config.name)


def title(config: Config) -> str:
    """Return a network in a few words."""
    short = config.name.rpartition("-")[2].upper()
    return f"EfficientFormer-{short}" if is_published(config) else f"changed from EfficientFormer-{short}"


def unusual(config: Config) -> str:
    """Return what of a network differs from the published ones beside widths, depths and MB3D; empty for nothing."""
    usual = CONFIGS[DEFAULT]
    words = {"stem_stride": f"stem stride {config.stem_stride}", "classes": f"{config.classes:,} classes"}
    words["distillation"] = "with distillation" if config.distillation else "one head"
    return "".join(f"; {said}" for name, said in words.items() if getattr(config, name) != getattr(usual, name))


def line(blocks: Sequence[BlockSpec]) -> str:
    """Return blocks as a line that reads back as the same blocks, parameters at their defaults left out."""
    parts: list[list[str | int]] = []
    for spec in blocks:
        text = shorten([spec])
        if parse_blocks(text) != (spec,):
            text = format_block(spec)
        if parts and parts[-1][0] == text:
            parts[-1][1] = int(parts[-1][1]) + 1
        else:
            parts.append([text, 1])
    return " + ".join(f"{copies}*{text}" if int(copies) > 1 else f"{text}" for text, copies in parts)


def request_body(config: Config, target: Target, estimate: bool = False) -> dict[str, object]:
    """Return what POST /networks/latency is asked: a published network by its name, any other as a line."""
    asked: dict[str, object] = {"target": target_body(target)}
    if estimate:
        asked["estimate"] = True
    if is_published(config):
        return asked | {"network": config.name}
    return asked | {"blocks": line(network(config).blocks)}


def target_body(target: Target) -> dict[str, object]:
    """Return a target as a request names it."""
    found: dict[str, object] = wire.dump(target)
    found.pop("key", None)
    return found


def curl(config: Config, targets: Sequence[Target], url: str, guarded: bool, estimate: bool = False) -> str:
    """Return the calls that add a network up on each target."""
    header = ' \\\n    -H "Authorization: Bearer $EDGELUT_TOKEN"' if guarded else ""
    return "\n".join(
        f"curl \"{url}/networks/latency\"{header} \\\n    -d '{json.dumps(request_body(config, target, estimate))}'"
        for target in targets
    )


def python(config: Config, targets: Sequence[Target], url: str, estimate: bool = False) -> str:
    """Return a program that adds a network up on each target."""
    if is_published(config):
        build = f'network(get_config("{config.name}"))'
        imports = "from edgelut.efficientformer import get_config, network"
    else:
        usual = CONFIGS[DEFAULT]
        names = ("resolution", "stem_stride", "classes", "distillation")
        differing = [name for name in names if getattr(config, name) != getattr(usual, name)]
        changed = "".join(f", {name}={getattr(config, name)!r}" for name in differing)
        build = f"network(Config({config.widths}, {config.depths}, mb3d={config.mb3d}{changed}))"
        imports = "from edgelut.efficientformer import Config, network"
    listed = "".join(f"\n    {target!r}," for target in targets)
    option = ", estimate=True" if estimate else ""
    return f"""import os

from edgelut import Target
{imports}
from edgelut.http import HttpTable

net = {build}
targets = [{listed}
]
with HttpTable("{url}", os.environ.get("EDGELUT_TOKEN")) as table:
    for target in targets:
        found = table.network_latency(net, target{option})
        low, high = found.interval_ms
        print(f"{{target}}: {{found.latency_ms:.2f}} ms, {{low:.2f}} to {{high:.2f}}")
"""


def segments(config: Config) -> list[str]:
    """Return for each block of a network, in order, the segment of the stacked bar that it belongs to."""
    stage, found = 0, []
    for spec in network(config).blocks:
        if spec.kind == EMBEDDING.name:
            stage += 1
            found.append("embeddings")
        elif spec.kind == STEM.name:
            found.append("stem")
        elif spec.kind in (FLAT.name, HEAD.name):
            found.append("flat and head")
        else:
            found.append(f"stage {stage + 1}")
    return found


def shares(config: Config, found: NetworkLatency) -> dict[str, float]:
    """Return how many milliseconds each segment adds; they add up to the sum. A flat that is folded away may be below zero."""
    each = {part.block: part.each_ms for part in found.parts}
    total = dict.fromkeys(SEGMENTS, 0.0)
    for spec, segment in zip(network(config).blocks, segments(config), strict=True):
        total[segment] += each.get(spec, 0.0)
    return total


@dataclass(frozen=True, slots=True)
class Total:
    """What one target says of a network: its sum, or what is missing, or why there is none."""

    target: Target
    found: NetworkLatency | None = None
    missing: tuple[BlockSpec, ...] = ()
    error: str = ""

    @property
    def blocks(self) -> Mapping[str, int]:
        """Count the distinct blocks by how they are known: measured, doubtful, estimated (by kind) and missing."""
        counted: dict[str, int] = {}
        for part in self.found.parts if self.found is not None else ():
            name = known_as(part)
            counted[name] = counted.get(name, 0) + 1
        if self.missing:
            counted["missing"] = len(self.missing)
        return counted


def known_as(part: PartLatency) -> str:
    """Return how a block of a sum is known: measured, doubtful, or the kind of its estimate."""
    if part.kind != "measured":
        return part.kind
    return "measured" if part.stable else "doubtful"


def distinct(net: NetworkSpec) -> int:
    """Return how many different blocks a network has."""
    return len(set(net.blocks))


def _numbers(text: str, otherwise: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    try:
        one, two, three, four = (int(part) for part in text.split(","))
    except ValueError:
        return otherwise
    found = (one, two, three, four)
    return found if all(1 <= number <= 4096 for number in found) else otherwise


def _text(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
