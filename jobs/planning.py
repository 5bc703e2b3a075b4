"""From a request and a fleet to batches of points: what can never run is refused before anything is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod

from db.jobs import MOST_IN_BATCH, PlannedBatch
from edgelut.errors import InvalidSpec
from edgelut.jobs import MOST_POINTS, Agent, Baseline, BatchPoint, FleetDevice, JobRequest, RuntimeInfo, families
from edgelut.plan import Point
from edgelut.types import BlockSpec, Scalar, Target

Planned = tuple[Target, str]  # and the format of the file that the runtime reads


def plan(request: JobRequest, fleet: Sequence[FleetDevice]) -> list[PlannedBatch]:
    """Return the batches of a request, device by device; raise InvalidSpec, which says what there is.

    Points are numbered through all batches. A family (`edgelut.jobs.families`) stays in one batch, with all its targets of the
    device, unless that alone is more than MOST_IN_BATCH. Blocks that repeat come first.
    """
    request.policy()  # its own limits
    devices = choose(request, fleet)
    targets = {device.info.name: list(_targets(request, device)) for device in devices}
    on = sum(map(len, targets.values()))
    if not on:
        raise InvalidSpec("name at least one runtime, one precision and one number of threads")
    _require_few(_least_blocks(request), on)
    specs = request.blocks_asked()
    _require_few(len(specs), on)
    together = families(specs)
    found: list[PlannedBatch] = []
    number = 0
    for name, planned in targets.items():
        for points in _batches(request, together, planned):
            numbered = [BatchPoint(number + index, point) for index, point in enumerate(points)]
            number += len(points)
            found.append(PlannedBatch(name, tuple(numbered)))
    return found


def with_baselines(
    batches: Sequence[PlannedBatch], baselines: Mapping[tuple[BlockSpec, Target], Baseline]
) -> list[PlannedBatch]:
    """Return the batches with what each point is compared with; a point that has nothing stays as it is."""
    return [
        PlannedBatch(
            batch.device,
            tuple(
                BatchPoint(one.number, one.point, baselines.get((one.point.spec, one.point.target)))
                for one in batch.points
            ),
        )
        for batch in batches
    ]


def check_environment(
    request: JobRequest, batches: Sequence[PlannedBatch], fleet: Sequence[FleetDevice], agents: Sequence[Agent]
) -> None:
    """Raise InvalidSpec where the agent of a planned device has not the environment that is asked for."""
    of_device = {device.info.name: device.agent for device in fleet}
    environments = {agent.name: agent.environments for agent in agents}
    for name in dict.fromkeys(of_device[batch.device] for batch in batches):
        there = environments.get(name, ())
        if request.environment not in there:
            says = f"it has {', '.join(there)}" if there else "it has none"
            raise InvalidSpec(f"agent {name} has no environment {request.environment!r}; {says}")


def choose(request: JobRequest, fleet: Sequence[FleetDevice]) -> list[FleetDevice]:
    """Return the devices that a request names, then those that its selector matches; raise InvalidSpec with what there is.

    A device that is named may be away: the job waits for it. A selector takes what is there to be measured on.
    """
    known = {device.info.name: device for device in fleet}
    unknown = [name for name in request.devices if name not in known]
    if unknown:
        raise InvalidSpec(f"no device {', '.join(map(repr, unknown))}; {_there_are(fleet)}")
    chosen = {name: known[name] for name in request.devices}
    if request.selector:
        matching = [device for device in fleet if _matches(device, request.selector)]
        present = [device for device in matching if device.state in ("idle", "measuring")]
        if not present:
            asked = ", ".join(f"{name}={value}" for name, value in request.selector.items())
            if matching:
                absent = ", ".join(f"{device.info.name} ({_why(device)})" for device in matching)
                raise InvalidSpec(f"no device with {asked} can be measured on now: {absent}; name one to wait for it")
            raise InvalidSpec(f"no device has {asked}; {_facts_there_are(fleet, request.selector)}")
        chosen.update({device.info.name: device for device in present})
    return list(chosen.values())


def _least_blocks(request: JobRequest) -> int:
    """Return a lower bound of how many blocks are asked for, without making them: widths times resolutions can be billions."""
    ranges = (request.blocks, request.widths, request.resolutions, request.batches)
    return prod(map(len, ranges)) * max(1, len(request.widths_out)) if request.blocks else len(request.specs)


def _require_few(blocks: int, targets: int) -> None:
    if blocks * targets > MOST_POINTS:
        raise InvalidSpec(
            f"a job may have {MOST_POINTS:,} points, and this one has {blocks * targets:,}: {blocks:,} blocks on "
            f"{targets:,} targets; ask for fewer, or in several jobs"
        )


def _targets(request: JobRequest, device: FleetDevice) -> Iterator[Planned]:
    """Yield a device's targets with the format that each is given in; raise InvalidSpec for what it cannot do."""
    name = device.info.name
    runtimes = {runtime.name: runtime for runtime in device.info.runtimes}
    for wanted in dict.fromkeys(request.runtimes):
        runtime = runtimes.get(wanted)
        if runtime is None:
            there = f"it has {', '.join(runtimes)}" if runtimes else f"it has none: {_why(device)}"
            raise InvalidSpec(f"device {name} has no runtime {wanted!r}; {there}")
        format_ = _format(request, runtime)
        _require(request.precisions, runtime.precisions, f"{wanted} on {name} runs", "precision")
        _require([request.unit], runtime.units, f"{wanted} on {name} runs on", "unit")
        for precision, threads in product(dict.fromkeys(request.precisions), dict.fromkeys(request.threads)):
            yield Target(name, wanted, precision, threads, request.unit), format_


def _format(request: JobRequest, runtime: RuntimeInfo) -> str:
    wanted = [name for name in request.formats if name in runtime.formats]
    if (request.formats and not wanted) or not runtime.formats:
        raise InvalidSpec(
            f"{runtime.name} reads {', '.join(runtime.formats) or 'no format'}, not {', '.join(request.formats)}"
        )
    return wanted[0] if wanted else runtime.formats[0]


def _require(asked: Sequence[str], there: Sequence[str], says: str, what: str) -> None:
    for one in asked:
        if one not in there:
            raise InvalidSpec(f"{says} {', '.join(there) or 'nothing'}, not {one!r}: give another {what}")


def _batches(
    request: JobRequest, together: Sequence[Sequence[BlockSpec]], planned: Sequence[Planned]
) -> Iterator[list[Point]]:
    """Yield the points of one device's batches: families in order, filled up evenly so that no batch is left with a rest."""
    total = len(planned) * sum(map(len, together))
    count = -(-total // MOST_IN_BATCH)
    full = -(-total // max(1, count))
    batch: list[Point] = []
    for family in together:
        for targets in _pieces(planned, max(1, MOST_IN_BATCH // len(family))):
            points = [Point(spec, target, format_, request.options) for spec in family for target, format_ in targets]
            if batch and (len(batch) >= full or len(batch) + len(points) > MOST_IN_BATCH):
                yield batch
                batch = []
            batch += points
    if batch:
        yield batch


def _pieces(items: Sequence[Planned], size: int) -> Iterable[Sequence[Planned]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _matches(device: FleetDevice, selector: Mapping[str, Scalar]) -> bool:
    """Say whether a device's facts say so; 4 and "4" are alike, for a command line has only text."""
    facts = device.info.facts
    return all(name in facts and str(facts[name]) == str(value) for name, value in selector.items())


def _why(device: FleetDevice) -> str:
    return device.state + (f": {device.info.reason}" if device.info.reason else "")


def _there_are(fleet: Sequence[FleetDevice]) -> str:
    if not fleet:
        return "no agent has announced one: start `edgelut agent` on the host that has it"
    return f"there are {', '.join(sorted(device.info.name for device in fleet))}"


def _facts_there_are(fleet: Sequence[FleetDevice], selector: Mapping[str, Scalar]) -> str:
    """Say which values the asked facts take."""
    if not fleet:
        return _there_are(fleet)
    said = []
    for name in selector:
        values = sorted({str(device.info.facts[name]) for device in fleet if name in device.info.facts})
        said.append(f"{name} is {', '.join(values)}" if values else f"no device says its {name}")
    return "; ".join(said)
